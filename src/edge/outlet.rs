//! Writes to the client, each given up when the client takes nothing of it for too long.
//!
//! A client that has shown a valid key gets as much time as `limits.write_stall_s` and `limits.write_bytes_per_s` say; one that has not
//! gets `limits.header_read_s` for its whole answer. A write that is done at once costs no timer and no system call.
//!
//! What the client took is what its TCP acknowledged; a stream of HTTP/2 has a window of its own, so there it is what went out in
//! pieces of one frame.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::protocols::SocketDigest;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::{Error, ErrorType, Result};
use tokio::time::timeout;

use crate::domain::patience::Patience;
use crate::domain::settings::Limits;
use crate::edge::wire::Wire;

/// The usual size of a frame: what goes out in one of them is counted at once.
const PIECE_BYTES: usize = 16 << 10;
/// For the end of a connection to be written to a client that may not read.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long the client of one request may keep its answer waiting.
pub struct Outlet {
    wire: Arc<Wire>,
    patience: Patience,
    /// In total, for a client that is not known.
    unknown: Duration,
    unknown_until: Option<Instant>,
    /// Tells what the client's TCP has acknowledged; none where streams share a connection.
    socket: Option<Arc<SocketDigest>>,
    acked: u64,
    given_up: bool,
}

impl Outlet {
    pub fn new(session: &ServerSession, wire: Arc<Wire>, limits: &Limits) -> Self {
        let socket = if session.is_http2() { None } else { session.digest().and_then(|digest| digest.socket_digest.clone()) };
        Self {
            wire,
            patience: Patience::new(limits.write_stall, limits.write_bytes_per_s),
            unknown: limits.header_read,
            unknown_until: None,
            socket,
            acked: 0,
            given_up: false,
        }
    }

    /// Waits for one write.
    ///
    /// # Errors
    /// When it fails, or when the client let it wait for too long: then the answer is over, and so is every later write.
    pub async fn write<T>(&mut self, bytes: usize, write: impl Future<Output = Result<T>>) -> Result<T> {
        if self.given_up {
            return Err(stalled());
        }
        let mut write = pin!(write);
        let at_once = poll_fn(|context| {
            Poll::Ready(match write.as_mut().poll(context) {
                Poll::Ready(written) => Some(written),
                Poll::Pending => None,
            })
        });
        let written = match at_once.await {
            Some(written) => written,
            None => {
                self.acked_meanwhile(Duration::ZERO);
                loop {
                    let (began, left) = (Instant::now(), self.left());
                    let written = timeout(left, &mut write).await;
                    self.acked_meanwhile(began.elapsed());
                    match written {
                        Ok(written) => break written,
                        Err(_) if self.left().is_zero() => {
                            self.given_up = true;
                            self.wire.give_up();
                            return Err(stalled());
                        }
                        Err(_) => {}
                    }
                }
            }
        };
        if self.socket.is_none() {
            self.patience.spend(Duration::ZERO, bytes as u64);
        }
        written
    }

    /// Writes a body, over HTTP/2 in pieces.
    pub async fn body(&mut self, session: &mut ServerSession, mut data: Bytes, end: bool) -> Result<()> {
        while session.is_http2() && data.len() > PIECE_BYTES {
            let piece = data.split_to(PIECE_BYTES);
            self.write(piece.len(), session.write_response_body(piece, false)).await?;
        }
        self.write(data.len(), session.write_response_body(data, end)).await
    }

    /// Writes what an upstream's answer brought, over HTTP/2 in pieces.
    pub async fn tasks(&mut self, session: &mut ServerSession, tasks: Vec<HttpTask>) -> Result<bool> {
        let bytes = tasks.iter().map(size).sum();
        if !session.is_http2() || bytes <= PIECE_BYTES {
            return self.write(bytes, session.response_duplex_vec(tasks)).await;
        }
        let mut ended = false;
        for task in tasks {
            let task = match task {
                HttpTask::Body(Some(mut data), end) if data.len() > PIECE_BYTES => {
                    while data.len() > PIECE_BYTES {
                        let piece = HttpTask::Body(Some(data.split_to(PIECE_BYTES)), false);
                        self.write(PIECE_BYTES, session.response_duplex_vec(vec![piece])).await?;
                    }
                    HttpTask::Body(Some(data), end)
                }
                task => task,
            };
            ended |= self.write(size(&task), session.response_duplex_vec(vec![task])).await?;
        }
        Ok(ended)
    }

    /// Ends the connection or resets the stream. A connection that takes nothing has nothing to be told.
    pub async fn shutdown(&self, session: &mut ServerSession) {
        if session.is_http2() || !self.given_up {
            close(session).await;
        }
    }

    /// How much longer the answer waits if the client takes nothing.
    fn left(&mut self) -> Duration {
        if self.wire.is_known() {
            return self.patience.left();
        }
        let now = Instant::now();
        self.unknown_until.get_or_insert(now + self.unknown).saturating_duration_since(now)
    }

    fn acked_meanwhile(&mut self, waited: Duration) {
        let acked = self.socket.as_ref().and_then(|socket| socket.tcp_info()).map_or(self.acked, |info| info.tcpi_bytes_acked);
        self.patience.spend(waited, acked.saturating_sub(self.acked));
        self.acked = acked;
    }
}

/// Ends a session within a moment, whether or not its client reads.
pub async fn close(session: &mut ServerSession) {
    // What is past it has waited in vain: the socket is closed with the session.
    let _ = timeout(CLOSE_WITHIN, session.shutdown()).await;
}

/// The bytes of the body in a piece of an answer.
pub fn size(task: &HttpTask) -> usize {
    match task {
        HttpTask::Body(Some(data), _) | HttpTask::UpgradedBody(Some(data), _) => data.len(),
        _ => 0,
    }
}

fn stalled() -> Box<Error> {
    Error::explain(ErrorType::WriteTimedout, "the client takes nothing of its answer").into_down()
}
