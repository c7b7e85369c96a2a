//! Owns a client's connection: from the wait for a request's first byte to its reuse or its end.
//!
//! Pingora reads a head with a deadline per read and has none for the h2c peek; here both are total, so a dripped byte extends
//! nothing. Each request goes into Pingora wrapped in a [`ReplaySession`] and comes back through its [`Wire`]; what is then
//! left of the request's body is read and dropped within a bound, so that a client that is still sending sees its answer and not a
//! broken pipe.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{Method, header};
use pingora_core::ErrorType;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::domain::answer::Refusal;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::headers::framing::is_plain_or_chunked;
use crate::domain::settings::{Limits, Listener, Settings};
use crate::edge::replay::{ReplaySession, expects_continue};
use crate::edge::respond;
use crate::edge::shared::Gateway;
use crate::edge::wire::{Returned, Wire};
use crate::ops::host::clock;
use crate::ops::host::drain::{Drain, Open, PARTING};
use crate::relay::end::record_head;
use crate::relay::stage::Records;

/// A rest of a refused body up to this size is read to keep the connection; a larger one ends it.
const SMALL_REST_BYTES: usize = 64 * 1024;
/// How long, and how much, a refused client may go on sending what nobody wants.
const LINGER: Duration = Duration::from_secs(5);
const MOST_DROPPED_BYTES: usize = 64 << 20;
const SCRATCH_BYTES: usize = 16 << 10;
/// RFC 9113 §3.4.
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const BAD_HEAD: Refusal = Refusal::BadHead {
    reason: "The request's head is malformed, ambiguous or too large. Send one Host, one framing (Content-Length or \
             Transfer-Encoding: chunked), at most 256 headers and 1 MiB of them.",
};

/// The service behind every listener.
pub struct Front {
    plain: Arc<Door>,
    h2c: Arc<Door>,
    h2c_addrs: Vec<SocketAddr>,
    settings: Arc<ArcSwap<Settings>>,
}

/// Takes requests of one connection, with or without HTTP/2 on plain TCP.
struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    settings: Arc<ArcSwap<Settings>>,
    records: Records,
    drain: Arc<Drain>,
}

/// What the wait for a head brought.
enum Head {
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

impl Front {
    pub fn new(proxy: HttpProxy<Gateway>, settings: Arc<ArcSwap<Settings>>, records: Records, drain: Arc<Drain>) -> Self {
        let proxy = Arc::new(proxy);
        let now = settings.load();
        let door = |h2c| {
            let mut options = HttpServerOptions::default();
            options.h2c = h2c;
            options.h2_idle_timeout = Some(now.limits.keepalive);
            let (settings, records, drain) = (settings.clone(), records.clone(), drain.clone());
            Arc::new(Door { proxy: proxy.clone(), options, settings, records, drain })
        };
        let h2c_addrs = now.listeners.iter().filter(|l| l.h2c && l.tls.is_none()).map(|l: &Listener| l.addr).collect();
        Self { plain: door(false), h2c: door(true), h2c_addrs, settings: settings.clone() }
    }

    fn speaks_h2c(&self, stream: &Stream) -> bool {
        if self.h2c_addrs.is_empty() || stream.get_ssl_digest().is_some() {
            return false;
        }
        let digest = stream.get_socket_digest();
        let Some(local) = digest.as_ref().and_then(|d| d.local_addr()).and_then(|a| a.as_inet()) else { return false };
        self.h2c_addrs.iter().any(|a| a.port() == local.port() && (a.ip().is_unspecified() || a.ip() == local.ip()))
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        if self.speaks_h2c(&stream) {
            let limit = self.settings.load().limits.header_read;
            if timeout(limit, begins_http2(&mut stream)).await.ok()?.ok()? {
                return self.h2c.process_new(stream, shutdown).await;
            }
        }
        self.plain.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.plain.proxy.http_cleanup().await;
    }
}

/// Whether HTTP/2's preface comes first. Pingora's own look at it has no deadline and waits for 24 bytes whatever comes, so that a
/// shorter request would hang; no method of HTTP/1 begins with these three.
async fn begins_http2(stream: &mut Stream) -> io::Result<bool> {
    let mut first = [0; 3];
    if !stream.try_peek(&mut first).await? || &first != b"PRI" {
        return Ok(false);
    }
    let mut preface = [0; H2_PREFACE.len()];
    Ok(stream.try_peek(&mut preface).await? && preface == *H2_PREFACE)
}

#[async_trait]
impl HttpServerApp for Door {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let limits = self.settings.load().limits;
        let mut parting = None;
        let head = self.read_head(&mut session, &limits, shutdown, &mut parting).await;
        let _open = parting.unwrap_or_else(|| self.drain.enter());
        match head {
            Head::Read => {}
            Head::Refused { refusal, was_read } => {
                log::debug!("head refused: {refusal}");
                session.set_keepalive(None);
                let (id, dialect) = (clock::new_request_id(), dialect_of(&session));
                // Nothing better can be done for a client whose connection is already gone.
                let _ = respond::refuse_head(&mut session, &refusal.answer(), dialect, &id).await;
                let head = was_read.then(|| (session.req_header().method.as_str(), session.req_header().uri.path()));
                record_head(&self.records, &id, head, dialect, &refusal, clock::step());
                linger(session).await;
                return None;
            }
            Head::None => {
                session.shutdown().await;
                return None;
            }
        }
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        if rest_is_small(&session) {
            session.set_close_on_response_before_downstream_finish(false);
        }
        session.set_total_drain_timeout(Some(LINGER));
        // Without it a second request that arrives early ends the first one's answer.
        session.set_pipelining_enabled(true);

        let wire = Wire::new();
        session.req_header_mut().extensions_mut().insert(wire.clone());
        let replay = ReplaySession::new(Box::new(session), wire.clone(), self.drain.clone());
        self.proxy.process_new_http(ServerSession::new_custom(Box::new(replay)), shutdown).await;
        let (returned, closes) = (wire.take_back()?, wire.closes());
        // The body and its share of the budget go now, not after the client's last byte.
        drop(wire);
        Self::part(returned, closes).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
        Some(options)
    }
}

impl Door {
    /// Reads the head within its total deadline. While the process drains, a connection that may still send one counts as open:
    /// `parting`.
    async fn read_head(
        &self,
        session: &mut ServerSession,
        limits: &Limits,
        shutdown: &ShutdownWatch,
        parting: &mut Option<Open>,
    ) -> Head {
        if session.is_http2() {
            return Head::Read;
        }
        let kept = session.take_connection_user_context().is_some_and(|mark| mark.is::<KeptAlive>());
        let limit = if kept { limits.keepalive + limits.header_read } else { limits.header_read };
        // One deadline is enough: Pingora's own for the wait between requests would be a second timer.
        session.set_keepalive(Some(0));
        let mut stopping = shutdown.clone();
        let stopped = async {
            let _ = stopping.wait_for(|stop| *stop).await;
            *parting = Some(self.drain.enter());
            tokio::time::sleep(PARTING).await;
        };
        let read = tokio::select! {
            biased;
            read = timeout(limit, session.read_request()) => read,
            () = stopped => return Head::None,
        };
        match read {
            Err(_) | Ok(Ok(false)) => Head::None,
            Ok(Ok(true)) if session.req_header().method == Method::CONNECT => {
                Head::Refused { refusal: Refusal::WrongMethod { allow: "GET, HEAD, POST" }, was_read: true }
            }
            Ok(Ok(true)) if has_length_beside_chunks(session) || !is_plain_or_chunked(&session.req_header().headers) => {
                Head::Refused { refusal: BAD_HEAD, was_read: true }
            }
            Ok(Ok(true)) => Head::Read,
            Ok(Err(error)) if *error.etype() == ErrorType::InvalidHTTPHeader => {
                Head::Refused { refusal: BAD_HEAD, was_read: false }
            }
            Ok(Err(_)) => Head::None,
        }
    }

    /// Ends the request: the connection goes on to its next one, or is closed after the client could read its answer.
    async fn part(returned: Returned, closes: bool) -> Option<ReusedHttpStream> {
        let Returned { mut session, finished } = returned;
        if session.is_http2() {
            if finished {
                session.finish().await.ok();
            } else {
                session.shutdown().await;
            }
            return None;
        }
        let reusable = finished && session.get_keepalive().is_some();
        if !reusable {
            if session.response_written().is_some() && (closes || !session.is_body_done()) {
                linger(session).await;
            } else {
                session.shutdown().await;
            }
            return None;
        }
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(KeptAlive));
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// Pingora keeps the chunks and drops the length where a head has both; two readers in a row may not agree on that (RFC 9112 §6.1).
fn has_length_beside_chunks(session: &ServerSession) -> bool {
    const NAME: &[u8] = b"content-length:";
    let begins_with_name = |line: &[u8]| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME));
    session.req_header().headers.contains_key(header::TRANSFER_ENCODING)
        && session.to_h1_raw().split(|&byte| byte == b'\n').any(begins_with_name)
}

/// The dialect of a head's path, as far as there is one. The summary is the only view of a head that Pingora gives without a panic
/// where it understood none: `METHOD PATH, Host: HOST`.
fn dialect_of(session: &ServerSession) -> Dialect {
    let summary = session.request_summary();
    let target = summary.split(' ').nth(1).unwrap_or_default().trim_end_matches(',');
    let path = target.split('?').next().unwrap_or_default();
    Dialect::of(Api::of(path), path, false)
}

/// Whether what is left of the body may be read after an early answer, so that the connection stays usable.
fn rest_is_small(session: &ServerSession) -> bool {
    let request = session.req_header();
    let declared =
        request.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    !request.headers.contains_key(header::TRANSFER_ENCODING)
        && !expects_continue(request)
        && declared.is_none_or(|bytes| bytes <= SMALL_REST_BYTES)
}

/// Closes a connection on which the client may still be sending: our side ends, then what comes is read and dropped within a bound.
///
/// Unread bytes at the close would be answered with a TCP reset, which can overtake the answer.
async fn linger(mut session: ServerSession) {
    session.shutdown().await;
    let ServerSession::H1(session) = session else { return };
    let mut stream = session.into_inner();
    let rest = async {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut dropped = 0;
        while dropped < MOST_DROPPED_BYTES {
            match stream.read(&mut scratch).await {
                Ok(count @ 1..) => dropped += count,
                Ok(0) | Err(_) => return,
            }
        }
    };
    // Past the bound the connection is closed, with whatever the client still sends.
    let _ = timeout(LINGER, rest).await;
}
