//! Step 3's reading: the whole body within its deadline and limits, scanned while it arrives, kept in as few pieces as it came.

use std::mem;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::time::timeout;

use crate::domain::answer::Refusal;
use crate::domain::headers::framing::declared_length;
use crate::domain::json::{PeekError, Peeker};
use crate::domain::settings::Limits;
use crate::edge::context::Context;
use crate::edge::waits::STOPPING;
use crate::ops::host::body_budget::{BodyPermit, Full};
use crate::relay::admit::ReadBody;

/// Pieces smaller than this are joined: a body that is dripped byte by byte must not cost a hundred times its size.
const SMALL_PIECE_BYTES: usize = 8 * 1024;
/// Pingora's word for broken chunked framing (`v1/body.rs`).
const INVALID_CHUNK: ErrorType = ErrorType::Custom("InvalidChunk");
const JOINED_BYTES: usize = 64 * 1024;

/// A body that was read to its end.
pub struct Body {
    pub read: ReadBody,
    pub permit: BodyPermit,
}

/// Why a body was not read.
pub enum Unread {
    Refused(Refusal),
    Broken(Box<Error>),
}

/// Reads and scans the body. A body that is ambiguous is refused at once, one that is merely broken is read on: it may have a
/// default target. It takes memory as it arrives, whatever length was declared (A4).
pub async fn read(session: &mut Session, limits: &Limits, permit: BodyPermit) -> Result<Body, Unread> {
    let limit_bytes = limits.max_body_bytes;
    let declared = declared_length(&session.req_header().headers);
    if declared.is_some_and(|bytes| bytes > limit_bytes) {
        return Err(Unread::Refused(Refusal::BodyTooLarge { limit_bytes }));
    }
    let mut reading = Intake { pieces: Pieces::default(), peeker: Ok(Peeker::new()), took: Duration::ZERO, permit };
    match timeout(limits.body_read, reading.run(session, limit_bytes)).await {
        Ok(Ok(())) => Ok(reading.finish()),
        Ok(Err(unread)) => Err(unread),
        Err(_) => Err(Unread::Refused(Refusal::BodyTooSlow { limit: limits.body_read })),
    }
}

/// Holds a body that passes through unread to the limit of those that are read.
pub fn count_passing(chunk: Option<&Bytes>, ctx: &mut Context) -> Result<()> {
    let (_, walk) = ctx.walk("request_body_filter")?;
    let counted = walk.count_passing(chunk.map_or(0, Bytes::len));
    counted.map_err(|_| Error::explain(ErrorType::HTTPStatus(413), "a passing body beyond the limit").into_down())
}

struct Intake {
    pieces: Pieces,
    peeker: Result<Peeker, PeekError>,
    took: Duration,
    permit: BodyPermit,
}

impl Intake {
    async fn run(&mut self, session: &mut Session, limit_bytes: usize) -> Result<(), Unread> {
        let mut total = 0;
        loop {
            let chunk = match session.as_downstream_mut().read_request_body().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(()),
                Err(error) => return Err(unread(error)),
            };
            total += chunk.len();
            if total > limit_bytes {
                return Err(Unread::Refused(Refusal::BodyTooLarge { limit_bytes }));
            }
            self.permit.grow(chunk.len()).map_err(|full| {
                Unread::Refused(match full {
                    Full::Budget => Refusal::OutOfBodyMemory,
                    Full::Share => Refusal::OutOfBodyShare,
                })
            })?;
            self.scan(&chunk);
            self.pieces.push(chunk);
            if self.peeker.as_ref().is_err_and(PeekError::is_ambiguous) {
                return Ok(());
            }
        }
    }

    fn scan(&mut self, chunk: &Bytes) {
        let Ok(peeker) = &mut self.peeker else { return };
        let began = Instant::now();
        if let Err(error) = peeker.push(chunk) {
            self.peeker = Err(error);
        }
        self.took += began.elapsed();
    }

    fn finish(self) -> Body {
        let began = Instant::now();
        let peeked = self.peeker.and_then(Peeker::finish);
        let took = self.took + began.elapsed();
        Body { read: ReadBody { chunks: self.pieces.finish(), peeked, took }, permit: self.permit }
    }
}

/// The body's pieces, small ones joined.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    joined: BytesMut,
}

impl Pieces {
    fn push(&mut self, chunk: Bytes) {
        if chunk.len() >= SMALL_PIECE_BYTES {
            self.close();
            self.done.push(chunk);
        } else {
            // Copied: in HTTP/2 a piece keeps all of the connection's buffer that it was read into, and counts with its own size alone.
            self.joined.extend_from_slice(&chunk);
            if self.joined.len() >= JOINED_BYTES {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if !self.joined.is_empty() {
            self.done.push(mem::take(&mut self.joined).freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }
}

/// A body that was not read: the gateway stops, the client's framing is wrong, or the client is gone.
fn unread(error: Box<Error>) -> Unread {
    if *error.etype() == STOPPING {
        return Unread::Refused(Refusal::Stopping);
    }
    if matches!(error.etype(), ErrorType::InvalidHTTPHeader) || *error.etype() == INVALID_CHUNK {
        return Unread::Refused(Refusal::BadHead { reason: "The request's chunked body is malformed." });
    }
    Unread::Broken(error.into_down())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(sizes: &[usize]) -> Vec<usize> {
        let mut pieces = Pieces::default();
        for &size in sizes {
            pieces.push(Bytes::from(vec![b'x'; size]));
        }
        pieces.finish().iter().map(Bytes::len).collect()
    }

    #[test]
    fn one_piece_stays_one_piece() {
        assert_eq!(pieces(&[100]), [100]);
        assert_eq!(pieces(&[65536, 65536, 9]), [65536, 65536, 9]);
    }

    #[test]
    fn a_dripped_body_is_joined() {
        let joined = pieces(&[1; 100_000]);
        assert_eq!(joined.iter().sum::<usize>(), 100_000);
        assert!(joined.len() <= 2, "{joined:?}");
    }

    #[test]
    fn order_is_kept_between_small_and_large() {
        assert_eq!(pieces(&[10, 20, 9000, 5, 9000]), [30, 9000, 5, 9000]);
    }
}
