//! Reads a request's head of HTTP/1 within its total deadline, and refuses what two readers could understand in two ways.
//!
//! Pingora has a deadline per read; here it is one for the whole head, so a dripped byte extends nothing.

use std::future::Future;

use http::{Method, Version, header};
use pingora_core::ErrorType;
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use tokio::time::timeout;

use crate::domain::answer::Refusal;
use crate::domain::headers::framing::is_plain_or_chunked;
use crate::domain::settings::Limits;

const BAD_HEAD: Refusal = Refusal::BadHead {
    reason: "The request's head is malformed, ambiguous or too large. Send one Host, one framing (Content-Length or \
             Transfer-Encoding: chunked), at most 256 headers and 1 MiB of them.",
};

/// What the wait for a head brought.
pub enum Head {
    Read,
    /// Bytes came that can't be a request of ours; whether Pingora made a head of them at all.
    Refused {
        refusal: Refusal,
        was_read: bool,
    },
    /// The client left or took too long.
    None,
}

/// Rides with a kept connection: its next head may take the idle time as well.
struct KeptAlive;

/// Reads the next head; HTTP/2 has read it already. What comes back borrows the session alone.
pub fn read<'s>(session: &'s mut ServerSession, limits: &Limits) -> impl Future<Output = Head> + Send + use<'s> {
    let kept = session.take_connection_user_context().is_some_and(|mark| mark.is::<KeptAlive>());
    let limit = if kept { limits.keepalive + limits.header_read } else { limits.header_read };
    // One deadline is enough: Pingora's own for the wait between requests would be a second timer.
    session.set_keepalive(Some(0));
    async move {
        match timeout(limit, session.read_request()).await {
            Err(_) | Ok(Ok(false)) => Head::None,
            Ok(Ok(true)) => judged(session),
            Ok(Err(error)) if *error.etype() == ErrorType::InvalidHTTPHeader => {
                Head::Refused { refusal: BAD_HEAD, was_read: false }
            }
            Ok(Err(_)) => Head::None,
        }
    }
}

/// The connection for its next request; `None`: it is closed.
pub async fn keep(session: ServerSession) -> Option<ReusedHttpStream> {
    let mut settings = HttpPersistentSettings::for_session(&session);
    settings.set_user_context(Box::new(KeptAlive));
    let stream = session.finish().await.ok().flatten()?;
    Some(ReusedHttpStream::from_reusable_stream(stream, settings))
}

fn judged(session: &ServerSession) -> Head {
    let request = session.req_header();
    let refusal = if request.method == Method::CONNECT {
        Refusal::WrongMethod { allow: "GET, HEAD, POST" }
    } else if has_length_beside_chunks(session) || !is_plain_or_chunked(&request.headers) || lacks_host(session) {
        BAD_HEAD
    } else {
        return Head::Read;
    };
    Head::Refused { refusal, was_read: true }
}

/// RFC 9112 §3.2: an HTTP/1.1 request names its host, whatever stands in its target.
fn lacks_host(session: &ServerSession) -> bool {
    let request = session.req_header();
    request.version >= Version::HTTP_11 && !request.headers.contains_key(header::HOST)
}

/// Pingora keeps the chunks and drops the length where a head has both; two readers in a row may not agree on that (RFC 9112 §6.1).
fn has_length_beside_chunks(session: &ServerSession) -> bool {
    const NAME: &[u8] = b"content-length:";
    let begins_with_name = |line: &[u8]| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME));
    session.req_header().headers.contains_key(header::TRANSFER_ENCODING)
        && session.to_h1_raw().split(|&byte| byte == b'\n').any(begins_with_name)
}

pub fn expects_continue(request: &RequestHeader) -> bool {
    request.headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
