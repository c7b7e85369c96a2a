//! The pieces of an answer between Pingora and the client's session: what is left out, put in, or kept.

use http::header;
use pingora_core::protocols::http::HttpTask;
use pingora_core::{Error, ErrorType, Result};

use crate::edge::wire::Wire;

/// An error came without the body that it was to be judged by.
const NO_WORDS: ErrorType = ErrorType::Custom("NoWords");

/// A good head came, and nothing of an answer behind it.
pub const NO_ANSWER: ErrorType = ErrorType::Custom("NoAnswer");

/// An interim answer (1xx) is the upstream's word to the gateway: what it tells of the upstream is not for clients, a client of
/// HTTP/1.0 must not get one, and `Expect` was answered when the body was read.
pub fn is_interim(task: &HttpTask) -> bool {
    matches!(task, HttpTask::Header(head, _) if head.status.is_informational())
}

/// The pieces of an error that is heard, to be kept.
///
/// # Errors
///
/// It broke off, or ended with its head: then it was not heard, and is judged as one that broke off.
pub fn of_an_error(mut tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
    if let Some(HttpTask::Failed(error)) = tasks.pop_if(|task| matches!(task, HttpTask::Failed(_))) {
        return Err(error);
    }
    if tasks.iter().any(HttpTask::is_end) {
        return Err(Error::explain(NO_WORDS, "an error without a body").into_up());
    }
    Ok(tasks)
}

/// The beginning of an answer, of which the client has seen nothing.
///
/// # Errors
///
/// It failed, or it ended with its head, where nothing of the body's filters could see it.
pub fn of_an_answer(mut tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
    if let Some(HttpTask::Failed(error)) = tasks.pop_if(|task| matches!(task, HttpTask::Failed(_))) {
        return Err(error);
    }
    match tasks.as_slice() {
        [HttpTask::Header(_, true)] | [HttpTask::Header(..), HttpTask::Done] => {
            Err(Error::explain(NO_ANSWER, "a head without a body").into_up())
        }
        _ => Ok(tasks),
    }
}

/// Puts our head in the place of an error's.
pub fn put_head(tasks: &mut [HttpTask], wire: &Wire) {
    if let (Some(HttpTask::Header(head, _)), Some(ours)) = (tasks.first_mut(), wire.take_head()) {
        *head = ours;
    }
}

/// Gives a head that came without a body the one that stands ready for this case, where HTTP allows one.
pub fn append_tail(tasks: &mut Vec<HttpTask>, wire: &Wire, may_have_body: bool) -> Result<()> {
    let Some(HttpTask::Header(head, end @ true)) = tasks.first_mut() else { return Ok(()) };
    if !may_have_body || matches!(head.status.as_u16(), 204 | 304) {
        return Ok(());
    }
    let Some(tail) = wire.take_tail() else { return Ok(()) };
    head.remove_header(&header::TRANSFER_ENCODING);
    head.set_content_length(tail.len())?;
    *end = false;
    tasks.push(HttpTask::Body(Some(tail), true));
    Ok(())
}
