//! The handshake with an HTTP CONNECT proxy, over a connection that stands.
//!
//! httparse reads the answer. hyper-util's `Tunnel` would do it all, but it drops what the target sends right behind the answer, has
//! one error for a refusal and for garbage, and keeps its error types to itself.
//!
//! Memory: at most [`MAX_HEAD`] bytes, whatever the proxy sends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::domain::upstream::forward::{Login, Target};
use crate::edge::tunnel::failure::{TunnelFailure, said};

/// The longest head of an answer; real ones have some hundred bytes.
const MAX_HEAD: usize = 8 * 1024;
/// The most header lines of an answer.
const MAX_LINES: usize = 64;

/// Asks for a tunnel; returns what the target has sent behind the answer already.
pub(super) async fn handshake<S>(proxy: &mut S, target: &Target, login: Option<&Login>) -> Result<Vec<u8>, TunnelFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let token = login.map(|login| STANDARD.encode(format!("{}:{}", login.username(), login.expose_password())));
    proxy.write_all(request(target, token.as_deref()).as_bytes()).await?;

    let mut read = Vec::with_capacity(512);
    loop {
        let room = MAX_HEAD.saturating_sub(read.len());
        if room == 0 {
            return Err(TunnelFailure::Garbage("its answer has no end"));
        }
        let count = (&mut *proxy).take(room as u64).read_buf(&mut read).await?;
        if count == 0 {
            return Err(TunnelFailure::Unreachable(std::io::ErrorKind::UnexpectedEof));
        }
        let mut lines = [EMPTY_HEADER; MAX_LINES];
        let mut answer = Response::new(&mut lines);
        match answer.parse(&read) {
            Ok(Status::Partial) => {}
            Ok(Status::Complete(head)) => {
                judge(&answer, token.as_deref(), login)?;
                return Ok(read.split_off(head));
            }
            Err(_) => return Err(TunnelFailure::Garbage("its answer is no HTTP/1")),
        }
    }
}

fn request(target: &Target, token: Option<&str>) -> String {
    let login = token.map(|token| format!("Proxy-Authorization: Basic {token}\r\n")).unwrap_or_default();
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n")
}

/// Any 2xx opens the tunnel, and framing headers mean nothing in it (RFC 9110, 9.3.6).
fn judge(answer: &Response, token: Option<&str>, login: Option<&Login>) -> Result<(), TunnelFailure> {
    match answer.code.unwrap_or_default() {
        200..=299 => Ok(()),
        // tinyproxy 1.11 says 407 without credentials and 401 to wrong ones.
        401 | 407 if login.is_some() => Err(TunnelFailure::AuthRefused("it does not take this username and password")),
        401 | 407 => Err(TunnelFailure::AuthRefused("it wants a username and password")),
        code @ 300..=599 => {
            let words = format!("{code} {}", answer.reason.unwrap_or_default());
            let (username, password) = login.map_or(("", ""), |login| (login.username(), login.expose_password()));
            Err(TunnelFailure::TargetRefused(said(&words, &[token.unwrap_or_default(), password, username])))
        }
        _ => Err(TunnelFailure::Garbage("its answer has a strange status")),
    }
}
