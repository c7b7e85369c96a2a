//! Owns a client's connection: from the wait for a request's first byte to its reuse or its end.
//!
//! The TLS handshake, the look for HTTP/2's preface and a head have a total deadline each, so a dripped byte extends nothing; Pingora's
//! own are per read, or a minute, or none. Each request goes into Pingora wrapped in a [`ReplaySession`] and comes back through its [`Wire`]; what is then
//! left of the request's body is read and dropped within a bound, so that a client that is still sending sees its answer and not a
//! broken pipe.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::header;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
#[cfg(feature = "rustls")]
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
#[cfg(feature = "rustls")]
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::time::timeout;

use crate::domain::dialect::{Api, Dialect};
use crate::domain::settings::{Limits, Settings};
use crate::edge::h2;
use crate::edge::head::{self, Head, expects_continue};
use crate::edge::linger::{LINGER, linger};
use crate::edge::outlet::close;
use crate::edge::replay::ReplaySession;
use crate::edge::respond;
use crate::edge::shared::Gateway;
use crate::edge::wire::{Returned, Trust, Wire};
use crate::ops::host::clock;
use crate::ops::host::drain::{Drain, Open, PARTING};
use crate::relay::end::record_head;
use crate::relay::stage::Records;

/// A rest of a refused body up to this size is read to keep the connection; a larger one ends it.
const SMALL_REST_BYTES: usize = 64 * 1024;
/// RFC 9113 §3.4.
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The service behind every listener.
pub struct Front {
    door: Arc<Door>,
    places: Vec<Place>,
    settings: Arc<ArcSwap<Settings>>,
}

/// One listener: where it is, and what is spoken there.
pub struct Place {
    pub addr: SocketAddr,
    pub speaks: Speaks,
}

/// What a listener's connections begin with.
pub enum Speaks {
    Plain,
    /// HTTP/1, or HTTP/2's preface.
    PlainOrH2c,
    #[cfg(feature = "rustls")]
    Tls(Acceptor),
    /// Pingora's own handshake went before, with its minute: it keeps OpenSSL's acceptor to itself.
    #[cfg(not(feature = "rustls"))]
    AfterTls,
}

/// Takes requests, one after the other or those of one connection at the same time.
struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    settings: Arc<ArcSwap<Settings>>,
    records: Records,
    drain: Arc<Drain>,
}

impl Front {
    pub fn new(
        proxy: HttpProxy<Gateway>,
        places: Vec<Place>,
        settings: Arc<ArcSwap<Settings>>,
        records: Records,
        drain: Arc<Drain>,
    ) -> Self {
        let door = Arc::new(Door { proxy: Arc::new(proxy), settings: settings.clone(), records, drain });
        Self { door, places, settings }
    }

    /// What the listener of this connection speaks; an address of its own counts before that of all interfaces.
    fn speaks(&self, stream: &Stream) -> Option<&Speaks> {
        let digest = stream.get_socket_digest()?;
        let local = *digest.local_addr()?.as_inet()?;
        let ip = local.ip().to_canonical();
        let here = || self.places.iter().filter(|place| place.addr.port() == local.port());
        let own = here().find(|place| place.addr.ip().to_canonical() == ip);
        let of_family = || here().find(|place| place.addr.ip().is_unspecified() && place.addr.is_ipv4() == ip.is_ipv4());
        let of_all = || here().find(|place| place.addr.ip().is_unspecified());
        own.or_else(of_family).or_else(of_all).map(|place| &place.speaks)
    }

    async fn serve_h2(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let limits = self.settings.load().limits;
        let request = |session, trust| {
            let (door, shutdown) = (self.door.clone(), shutdown.clone());
            async move {
                door.serve(session, &shutdown, Some(trust)).await;
            }
        };
        h2::serve(stream, &limits, shutdown, request).await;
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let limit = self.settings.load().limits.header_read;
        let is_h2 = match self.speaks(&stream) {
            Some(Speaks::Plain) => false,
            Some(Speaks::PlainOrH2c) => timeout(limit, begins_http2(&mut stream)).await.ok()?.ok()?,
            #[cfg(feature = "rustls")]
            Some(Speaks::Tls(acceptor)) => {
                stream = timeout(limit, handshake(acceptor, stream)).await.ok()??;
                matches!(stream.selected_alpn_proto(), Some(ALPN::H2))
            }
            #[cfg(not(feature = "rustls"))]
            Some(Speaks::AfterTls) => matches!(stream.selected_alpn_proto(), Some(ALPN::H2)),
            // Never TLS in plain text by mistake.
            None => {
                log::error!("a connection to no listener was closed");
                return None;
            }
        };
        if is_h2 {
            self.serve_h2(stream, shutdown).await;
            return None;
        }
        self.door.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.door.proxy.http_cleanup().await;
    }
}

/// Pingora's own wait for a handshake is a fixed minute, and each failed one a line of its log at the level of errors.
#[cfg(feature = "rustls")]
async fn handshake(acceptor: &Acceptor, stream: Stream) -> Option<Stream> {
    let stream = stream.into_any().downcast::<L4Stream>().ok()?;
    match acceptor.tls_handshake(*stream).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            log::debug!("a TLS handshake failed: {error}");
            None
        }
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
    async fn process_new_http(self: &Arc<Self>, session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        self.serve(session, shutdown, None).await
    }
}

impl Door {
    /// Serves one request; `trust`: of the connection that it shares with others.
    async fn serve(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
        trust: Option<Arc<Trust>>,
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
                let answer = refusal.answer();
                let said = respond::refuse_head(&mut session, &answer, dialect, &id);
                // Nothing better can be done for a client whose connection is already gone, or that takes nothing.
                let _ = timeout(limits.header_read, said).await;
                let head = was_read.then(|| (session.req_header().method.as_str(), session.req_header().uri.path()));
                record_head(&self.records, &id, head, dialect, &refusal, clock::step());
                linger(session).await;
                return None;
            }
            Head::None => {
                close(&mut session).await;
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

        let wire = Wire::new(trust);
        session.req_header_mut().extensions_mut().insert(wire.clone());
        let replay = ReplaySession::new(Box::new(session), wire.clone(), self.drain.clone(), &limits);
        self.proxy.process_new_http(ServerSession::new_custom(Box::new(replay)), shutdown).await;
        let (returned, closes, is_stuck) = (wire.take_back()?, wire.closes(), wire.has_given_up());
        // The body and its share of the budget go now, not after the client's last byte.
        drop(wire);
        if is_stuck && !returned.session.is_http2() {
            return None;
        }
        Self::part(returned, closes).await
    }

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
        let mut stopping = shutdown.clone();
        let stopped = async {
            let _ = stopping.wait_for(|stop| *stop).await;
            *parting = Some(self.drain.enter());
            tokio::time::sleep(PARTING).await;
        };
        tokio::select! {
            biased;
            head = head::read(session, limits) => head,
            () = stopped => Head::None,
        }
    }

    /// Ends the request: the connection goes on to its next one, or is closed after the client could read its answer.
    async fn part(returned: Returned, closes: bool) -> Option<ReusedHttpStream> {
        let Returned { mut session, finished } = returned;
        if session.is_http2() {
            if finished {
                session.finish().await.ok();
            } else {
                close(&mut session).await;
            }
            return None;
        }
        let reusable = finished && session.get_keepalive().is_some();
        if !reusable {
            if session.response_written().is_some() && (closes || !session.is_body_done()) {
                linger(session).await;
            } else {
                close(&mut session).await;
            }
            return None;
        }
        head::keep(session).await
    }
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
