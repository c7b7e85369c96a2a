//! An answer whose client left after its last word and before its usage: it is read on for the usage, within `limits.read_on_s` and
//! `read_on_bytes`, so that leaving at the right moment is no free ride (P8).
//!
//! ```text
//!   the client leaves ─┬─ something of the answer is missing ───► the attempt ends, as ever
//!                      └─ nothing but the usage ─► pieces are metered and dropped ─┬─ the end: as if it had stayed
//!                                                                                  └─ the bound, a failure, or the answer
//!                                                                                     goes on: the client has left
//! ```
//!
//! Nothing of Pingora's knows: to it the client still takes its answer. The request stays in flight, with its reservation, and a drain's cut
//! ends this wait like every other.

use std::sync::Arc;
use std::time::Instant;

use pingora_core::protocols::http::HttpTask;
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use crate::domain::settings::ReadOn;
use crate::edge::outlet::size;
use crate::edge::waits::STOPPING;
use crate::edge::wire::Wire;

/// What is read on, once the client has left.
pub struct Unattended {
    wire: Arc<Wire>,
    bound: ReadOn,
    left: Option<Left>,
}

struct Left {
    /// How the leaving showed.
    error: Option<Box<Error>>,
    by: Instant,
    room_bytes: usize,
}

impl Unattended {
    pub fn new(wire: Arc<Wire>, bound: ReadOn) -> Self {
        Self { wire, bound, left: None }
    }

    /// Whether the client has left and its answer is read on.
    pub fn is_on(&self) -> bool {
        self.left.is_some()
    }

    /// Begins, if it is the client that `error` speaks of, and if nothing but the usage is missing.
    ///
    /// # Errors
    ///
    /// The same error, otherwise.
    pub fn begin(&mut self, error: Box<Error>) -> Result<()> {
        let is_the_clients = *error.esource() != ErrorSource::Upstream && *error.etype() != STOPPING;
        if !is_the_clients || self.bound.time.is_zero() || !self.wire.awaits_usage() {
            return Err(error);
        }
        let by = Instant::now() + self.bound.time;
        self.left = Some(Left { error: Some(error), by, room_bytes: self.bound.bytes });
        Ok(())
    }

    /// Until when the next piece is waited for; `None`: the client is there.
    ///
    /// # Errors
    ///
    /// It is waited for no longer: the client's leaving.
    pub fn until(&mut self) -> Result<Option<Instant>> {
        match &self.left {
            None => Ok(None),
            Some(left) if Instant::now() < left.by && self.wire.awaits_usage() => Ok(Some(left.by)),
            Some(_) => Err(self.leaving()),
        }
    }

    /// Drops pieces that were metered; whether the answer is at its end.
    ///
    /// # Errors
    ///
    /// It broke off, or it is too much: the client's leaving.
    pub fn take(&mut self, tasks: &[HttpTask]) -> Result<bool> {
        if tasks.iter().any(|task| matches!(task, HttpTask::Failed(_))) {
            return Err(self.leaving());
        }
        let bytes: usize = tasks.iter().map(size).sum();
        let ends = tasks.iter().any(HttpTask::is_end);
        match &mut self.left {
            Some(left) if ends || bytes <= left.room_bytes => {
                left.room_bytes = left.room_bytes.saturating_sub(bytes);
                Ok(ends)
            }
            _ => Err(self.leaving()),
        }
    }

    fn leaving(&mut self) -> Box<Error> {
        let known = self.left.as_mut().and_then(|left| left.error.take());
        known.unwrap_or_else(|| Error::explain(ErrorType::ConnectionClosed, "the client has left")).into_down()
    }
}
