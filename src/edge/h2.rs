//! Owns a client's HTTP/2 connection: from its preface to its end, every wait within a deadline.
//!
//! Pingora's own loop waits for the preface without one. Here the preface has the time of a head, the first request that of another,
//! and a connection without a request under way its idle time; frames that are no request (PING, SETTINGS, half a HEADERS) extend
//! nothing. A connection on which nobody has shown a valid key has the smallest window and one request at a time: it holds 64 KiB of
//! bodies, whatever it sends, and is closed when it does not take its answer. What the wait of a request with a key may take is the
//! business of whoever serves it.

use std::future::poll_fn;
use std::sync::Arc;

use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora_core::protocols::{Digest, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::domain::settings::Limits;
use crate::edge::wire::Trust;
use crate::ops::host::drain::PARTING;

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const TRUSTED_WINDOW_BYTES: u32 = 4 << 20;
/// Of one stream's answer, between the upstream and the socket: what a client that reads nothing holds.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// As in Pingora's own loop: each of them costs work, and no request of a sound client is one.
const MOST_MALFORMED: usize = 32;

/// Serves a connection; `request` serves one request of it.
pub async fn serve<F, R>(stream: Stream, limits: &Limits, shutdown: &ShutdownWatch, request: F)
where
    F: Fn(ServerSession, Arc<Trust>) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut conn = match timeout(limits.header_read, handshake(stream, Some(options()))).await {
        Ok(Ok(conn)) => conn,
        Ok(Err(error)) => return log::debug!("no HTTP/2 after all: {error}"),
        Err(_) => return log::debug!("HTTP/2's preface did not come in time"),
    };
    let (trust, mut stop) = (Arc::new(Trust::default()), shutdown.clone());
    let (mut streams, mut malformed) = (JoinSet::new(), 0);
    let (mut parting, mut is_trusted) = (false, false);
    let mut due = Instant::now() + limits.header_read;
    loop {
        let waits = !is_trusted && !streams.is_empty();
        let next = async {
            if waits {
                // Drives the connection and takes no request from it.
                poll_fn(|context| conn.poll_closed(context)).await.ok();
                return Ok(None);
            }
            HttpSession::from_h2_conn(&mut conn, digest.clone()).await
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !parting => {
                conn.graceful_shutdown();
                (parting, due) = (true, Instant::now() + PARTING);
            }
            () = trust.earned(), if !is_trusted => {
                conn.set_target_window_size(TRUSTED_WINDOW_BYTES);
                is_trusted = true;
            }
            () = trust.lost(), if !is_trusted => break,
            Some(_) = streams.join_next(), if !streams.is_empty() => {
                due = Instant::now() + limits.keepalive;
            }
            accepted = next => match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    streams.spawn(request(ServerSession::new_http2(session), trust.clone()));
                }
                Ok(Some(H2Accept::Rejected)) if malformed < MOST_MALFORMED => malformed += 1,
                Ok(Some(H2Accept::Rejected) | None) | Err(_) => break,
            },
            // A request that crosses the end of its connection is served: the client is told first, and gets a moment.
            () = sleep_until(due), if streams.is_empty() => {
                if parting {
                    break;
                }
                conn.graceful_shutdown();
                (parting, due) = (true, Instant::now() + PARTING);
            }
        }
    }
    // What is under way sees by itself that its client is gone, and is billed accordingly.
    streams.detach_all();
}

fn options() -> H2Options {
    let mut options = default_h2_options();
    options.initial_window_size(STREAM_WINDOW_BYTES).max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}
