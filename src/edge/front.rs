//! Owns a client's connection: from the wait for a request's first byte to its reuse or its end.
//!
//! Pingora reads a head with a deadline per read and has none for the h2c peek; here both are total, so a dripped byte extends
//! nothing. Each request goes into Pingora wrapped in a [`ReplaySession`] and comes back through its [`Exchange`]; what is then
//! left of the request's body is read and dropped within a bound, so that a client that is still sending sees its answer and not a
//! broken pipe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{Method, header};
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_core::{Error, ErrorType};
use pingora_proxy::HttpProxy;
use tokio::time::timeout;

use crate::domain::answer::Refusal;
use crate::domain::dialect::Dialect;
use crate::domain::settings::{Limits, Listener, Settings};
use crate::edge::exchange::{Exchange, Returned};
use crate::edge::finish;
use crate::edge::gateway::{Gateway, Records};
use crate::edge::replay::{ReplaySession, expects_continue};
use crate::edge::respond;
use crate::ops::clock;

/// A rest of a refused body up to this size is read to keep the connection; a larger one ends it.
const SMALL_REST_BYTES: usize = 64 * 1024;
/// How long a refused client may go on sending what nobody reads.
const LINGER: Duration = Duration::from_secs(5);

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
}

/// Rides with a kept connection: its next head may take the idle time as well.
struct Kept;

impl Front {
    pub fn new(proxy: HttpProxy<Gateway>, settings: Arc<ArcSwap<Settings>>, records: Records) -> Self {
        let proxy = Arc::new(proxy);
        let now = settings.load();
        let door = |h2c| {
            let mut options = HttpServerOptions::default();
            options.h2c = h2c;
            options.h2_idle_timeout = Some(now.limits.keepalive);
            Arc::new(Door { proxy: proxy.clone(), options, settings: settings.clone(), records: records.clone() })
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
        if stream.get_ssl_digest().is_none() {
            // "PR" begins HTTP/2's preface and no method of HTTP/1 that is served here. Pingora's own peek waits for 24 bytes and
            // would hang on a shorter request.
            let limit = self.settings.load().limits.header_read;
            let mut first = [0u8; 2];
            if !timeout(limit, stream.try_peek(&mut first)).await.ok()?.ok()? {
                return self.plain.process_new(stream, shutdown).await;
            }
            if &first == b"PR" && self.speaks_h2c(&stream) {
                return self.h2c.process_new(stream, shutdown).await;
            }
        }
        self.plain.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.plain.proxy.http_cleanup().await;
    }
}

#[async_trait]
impl HttpServerApp for Door {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let limits = self.settings.load().limits;
        if !self.read_head(&mut session, &limits, shutdown).await {
            return None;
        }
        if *shutdown.borrow() {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            session.set_keepalive(Some(limits.keepalive.as_secs()));
        }
        if rest_is_small(&session) {
            session.set_close_on_response_before_downstream_finish(false);
        }
        session.set_total_drain_timeout(Some(LINGER));

        let exchange = Exchange::new();
        session.req_header_mut().extensions_mut().insert(exchange.clone());
        let replay = ReplaySession::new(Box::new(session), exchange.clone());
        self.proxy.process_new_http(ServerSession::new_custom(Box::new(replay)), shutdown).await;
        let returned = exchange.take_back()?;
        Self::part(returned, limits.max_body_bytes).await
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
    /// Reads the head within its total deadline; answers what can't be a request.
    async fn read_head(&self, session: &mut ServerSession, limits: &Limits, shutdown: &ShutdownWatch) -> bool {
        if session.is_http2() {
            return true;
        }
        let kept = session.take_connection_user_context().is_some_and(|mark| mark.is::<Kept>());
        let limit = if kept { limits.keepalive + limits.header_read } else { limits.header_read };
        let mut stopping = shutdown.clone();
        let read = tokio::select! {
            biased;
            read = timeout(limit, session.read_request()) => read,
            _ = stopping.wait_for(|stop| *stop) => return false,
        };
        let (refusal, head) = match read {
            Err(_) | Ok(Ok(false)) => {
                session.shutdown().await;
                return false;
            }
            Ok(Ok(true)) if session.req_header().method == Method::CONNECT => {
                (Refusal::WrongMethod { allow: "GET, HEAD, POST" }, Some(session.req_header().clone()))
            }
            Ok(Ok(true)) => return true,
            Ok(Err(error)) => match bad_head(&error) {
                Some(refusal) => (refusal, None),
                None => {
                    session.shutdown().await;
                    return false;
                }
            },
        };
        log::debug!("head refused: {refusal}");
        session.set_keepalive(None);
        let id = clock::new_request_id();
        // Nothing better can be done for a client whose connection is already gone.
        let _ = respond::refuse(session, &refusal.answer(), Dialect::OpenAi, &id).await;
        finish::finish_head(&self.records, &id, head.as_ref(), &refusal);
        session.shutdown().await;
        false
    }

    /// Ends the request: the connection goes on to its next one, or is closed after the client could read its answer.
    async fn part(returned: Returned, most_bytes: usize) -> Option<ReusedHttpStream> {
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
            if session.response_written().is_some() && !session.is_body_done() {
                drop_rest(&mut session, most_bytes).await;
            }
            session.shutdown().await;
            return None;
        }
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(Kept));
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
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

async fn drop_rest(session: &mut ServerSession, most_bytes: usize) {
    let rest = async {
        let mut dropped = 0;
        while dropped < most_bytes {
            match session.read_request_body().await {
                Ok(Some(chunk)) => dropped += chunk.len(),
                Ok(None) | Err(_) => return,
            }
        }
    };
    // Past the bound the connection is closed, with whatever the client still sends.
    let _ = timeout(LINGER, rest).await;
}

/// What a head that Pingora could not read is answered with; `None`: the client is gone.
fn bad_head(error: &Error) -> Option<Refusal> {
    match error.etype() {
        ErrorType::InvalidHTTPHeader => Some(Refusal::BadHead {
            reason: "The request's head is malformed, ambiguous or too large. Send one Host, one framing (Content-Length or \
                     Transfer-Encoding: chunked), at most 256 headers and 1 MiB of them.",
        }),
        _ => None,
    }
}
