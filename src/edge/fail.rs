//! What is done when it went wrong: another attempt, or the last word, in whatever form the client can still understand. Which of them
//! stands in `relay::failure`.

use pingora_core::Error;
use pingora_proxy::{FailToProxy, Session};

use crate::domain::answer::Refusal;
use crate::domain::dialect::{Api, Dialect};
use crate::edge::admit;
use crate::edge::context::{Context, Stage};
use crate::edge::pingora_errors::failure;
use crate::edge::respond;
use crate::edge::tell::tell;
use crate::ops::host::clock;
use crate::ops::host::drain::Drain;
use crate::relay::dispatch::Then;
use crate::relay::failure::{Failure, LastWord, Reached};
use crate::relay::stage::Says;

const HOOK: &str = "fail_to_proxy";

/// Decides whether a failed attempt may be followed by another.
pub fn may_retry(session: &Session, mut error: Box<Error>, ctx: &mut Context, reused: bool) -> Box<Error> {
    let (wire, dispatch) = match ctx.attempt("error_while_proxy") {
        Ok(attempt) => attempt,
        Err(out_of_turn) => return out_of_turn,
    };
    let reached = Reached { begun: has_begun(session), held: wire.held_until().is_some() };
    let retry = dispatch.map_or(Then::Over, |dispatch| {
        let retry = dispatch.failed(&failure(&error, reused), reached, clock::step());
        tell(dispatch.walk_mut().take_notes());
        retry
    });
    error.set_retry(retry == Then::Again);
    error
}

/// Answers for a failed proxying.
pub async fn answer(drain: &Drain, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
    let failure = match failure(error, false) {
        // The end of the runtime fails a write that waits for a client; nobody has left.
        Failure::ClientGone if drain.is_cut() => Failure::Stopping,
        failure => failure,
    };
    let status = match ctx {
        Context::On { stage: Stage::Out(_) | Stage::Ended(_), .. } => say_last_word(session, &failure, ctx).await,
        Context::On { stage: Stage::Arrived(_) | Stage::Reading(_), .. } => refuse(session, &failure, ctx).await,
        Context::On { stage: Stage::Local(_), .. } if failure.is_of_the_client() => say_again(session, ctx).await,
        Context::On { stage: Stage::Local(_) | Stage::Gone, .. } | Context::New => say_out_of_turn(session, ctx).await,
    };
    FailToProxy { error_code: status.unwrap_or(0), can_reuse_downstream: false }
}

/// Nothing was decided yet: the gateway answers itself, should anybody be left.
async fn refuse(session: &mut Session, failure: &Failure, ctx: &mut Context) -> Option<u16> {
    ctx.wire(HOOK).ok()?.close_after_answer();
    let local = ctx.fail_unanswered(failure)?;
    if let Says::Refusal(refusal) = local.says() {
        log::warn!("request {}: {refusal}", local.arrived().id);
    }
    let status = local.status();
    if admit::say(session, ctx, local).await.is_err() {
        ctx.client_left();
    }
    status
}

/// An answer of ours could not be written whole. A refusal is tried once more, should its head not have gone out.
async fn say_again(session: &mut Session, ctx: &mut Context) -> Option<u16> {
    let begun = has_begun(session);
    let Context::On { wire, stage: Stage::Local(local) } = ctx else { return None };
    let (arrived, downstream) = (local.arrived(), session.as_downstream_mut());
    let Says::Refusal(refusal) = local.says() else {
        downstream.shutdown().await;
        ctx.client_left();
        return None;
    };
    wire.close_after_answer();
    log::warn!("request {}: {refusal}", arrived.id);
    let answer = refusal.answer();
    let status = answer.status;
    if begun {
        downstream.shutdown().await;
    } else if let Err(gone) = respond::refuse(downstream, &answer, arrived.dialect, &arrived.id).await {
        log::debug!("request {}: the client left before it could be told: {gone}", arrived.id);
        ctx.client_left();
    }
    Some(status)
}

/// A hook came out of turn, and no stage has an answer: ours is a 500, and the connection ends with it.
async fn say_out_of_turn(session: &mut Session, ctx: &mut Context) -> Option<u16> {
    let (id, dialect) = match ctx {
        Context::On { stage: Stage::Local(local), .. } => (local.arrived().id.clone(), local.arrived().dialect),
        Context::On { .. } | Context::New => (clock::new_request_id(), dialect_of(session)),
    };
    if let Ok(wire) = ctx.wire(HOOK) {
        wire.close_after_answer();
    }
    let answer = Refusal::Internal { detail: String::new() }.answer();
    if has_begun(session) {
        session.as_downstream_mut().shutdown().await;
    } else if let Err(gone) = respond::refuse(session.as_downstream_mut(), &answer, dialect, &id).await {
        log::debug!("request {id}: the client left before it could be told: {gone}");
    }
    Some(answer.status)
}

fn dialect_of(session: &Session) -> Dialect {
    let path = session.req_header().uri.path();
    Dialect::of(Api::of(path), path, false)
}

/// Whether a final head went to the client. An interim `100 Continue` is none.
fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational())
}

async fn say_last_word(session: &mut Session, failure: &Failure, ctx: &mut Context) -> Option<u16> {
    let begun = has_begun(session);
    let (wire, walk) = ctx.walk(HOOK).ok()?;
    let (word, end) = walk.last_word(failure, Reached { begun, held: wire.held_until().is_some() });
    let is_clean = matches!(word, LastWord::Whole(_)) && !failure.is_of_the_gateway() && walk.keeps_connection();
    if word != LastWord::Nothing && !is_clean {
        wire.close_after_answer();
    }
    tell(walk.take_notes());
    if let Some(end) = end {
        ctx.close(end);
    }
    let (_, walk) = ctx.walk(HOOK).ok()?;
    let (id, dialect) = (walk.arrived().id.clone(), walk.arrived().dialect);
    let downstream = session.as_downstream_mut();
    let written = match &word {
        LastWord::Nothing | LastWord::Cut => {
            downstream.shutdown().await;
            Ok(())
        }
        LastWord::Whole(answer) => respond::refuse(downstream, answer, dialect, &id).await,
        LastWord::Rest(bytes) | LastWord::Event(bytes) => downstream.write_response_body(bytes.clone(), true).await,
    };
    if let Err(gone) = &written {
        log::debug!("request {id}: the client left before it could be told: {gone}");
    }
    walk.said(&word, written.is_ok());
    walk.status().filter(|_| word != LastWord::Nothing)
}
