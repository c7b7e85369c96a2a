//! A command's side of the control socket: one question, one answer.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What the gateway said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket, or the directory it is in, is another user's.
    #[error("{}: this user may not talk to the gateway", path.display())]
    Forbidden { path: PathBuf },
    #[error("{}: the gateway has no control socket there: {error}", path.display())]
    Unreachable { path: PathBuf, error: io::Error },
    #[error("the gateway did not answer within {} seconds", within.as_secs())]
    Late { within: Duration },
    #[error("the gateway's answer can't be read: {0}")]
    Unreadable(String),
}

/// Asks the gateway and waits for its answer; not for an async thread.
///
/// # Errors
///
/// Why there is no answer. It may have done what was asked all the same, where it is late.
pub fn ask(socket: &Path, method: Method, page: &str, within: Duration) -> Result<Answer, AskError> {
    let unreachable = |error: io::Error| match error.kind() {
        ErrorKind::PermissionDenied => AskError::Forbidden { path: socket.to_owned() },
        _ => AskError::Unreachable { path: socket.to_owned(), error },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
        exchange(stream, method, page).await.map_err(|error| AskError::Unreadable(error.to_string()))
    };
    runtime.block_on(async { timeout(within, asked).await.unwrap_or(Err(AskError::Late { within })) })
}

async fn exchange(stream: UnixStream, method: Method, page: &str) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().method(method).uri(page).header(header::HOST, "trollbridge").body(Empty::<Bytes>::new())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Answer { status, body })
    };
    // The connection's own end says nothing that the answer does not.
    let (answer, _) = tokio::join!(answered, connection);
    Ok(answer?)
}
