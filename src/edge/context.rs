//! Where a request stands between two hooks: its stage, and the wire that it came by.
//!
//! Pingora calls the hooks in its own order, which no type can hold. Here that order is checked, once, for all of them: a hook that
//! finds the request in another stage than it belongs to gets an error, the client a 500, and the log a line. It fails shut.

use std::mem;
use std::sync::Arc;

use pingora_core::{Error, ErrorType, Result};

use crate::domain::end::End;
use crate::edge::tell::tell;
use crate::edge::wire::Wire;
use crate::ops::books::ledger::Closed;
use crate::ops::host::clock;
use crate::relay::dispatch::{Dispatch, Ended, Walk};
use crate::relay::failure::Failure;
use crate::relay::stage::{Arrived, Local, Reading};

/// One request from its first byte to its access line.
#[derive(Default)]
#[expect(clippy::large_enum_variant, reason = "there is one for each request, and it stays where it is")]
pub enum Context {
    /// Nothing has arrived.
    #[default]
    New,
    On {
        wire: Arc<Wire>,
        stage: Stage,
    },
}

/// How far the request has come.
pub enum Stage {
    Arrived(Box<Arrived>),
    /// Its body is read.
    Reading(Reading),
    /// It is to go out, or has: the books are open.
    Out(Dispatch),
    /// The books are closed; bytes may still be on their way.
    Ended(Ended),
    /// The gateway answers it.
    Local(Box<Local>),
    /// A step has it, or it has its access line.
    Gone,
}

impl Context {
    pub fn begin(wire: Arc<Wire>, arrived: Box<Arrived>) -> Self {
        Self::On { wire, stage: Stage::Arrived(arrived) }
    }

    /// The request that has arrived, for the step that takes it.
    pub fn take_arrived(&mut self, hook: &'static str) -> Result<Box<Arrived>> {
        match self.take() {
            Some(Stage::Arrived(arrived)) => Ok(arrived),
            other => Err(self.put_back(hook, other)),
        }
    }

    /// The request whose body is read by now.
    pub fn take_reading(&mut self, hook: &'static str) -> Result<Reading> {
        match self.take() {
            Some(Stage::Reading(reading)) => Ok(reading),
            other => Err(self.put_back(hook, other)),
        }
    }

    /// A request that may go out: no answer to it is under way.
    pub fn ready(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, &mut Dispatch)> {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } if !dispatch.walk().is_answered() => Ok((wire, dispatch)),
            _ => Err(out_of_turn(hook)),
        }
    }

    /// A request with an attempt under way and open books.
    pub fn out(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, &mut Dispatch)> {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } if dispatch.has_begun() => Ok((wire, dispatch)),
            _ => Err(out_of_turn(hook)),
        }
    }

    /// A request whose attempt waits for its head.
    pub fn asked(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, &mut Dispatch)> {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } if dispatch.has_begun() && !dispatch.walk().is_answered() => {
                Ok((wire, dispatch))
            }
            _ => Err(out_of_turn(hook)),
        }
    }

    /// A request that is to go out, has, or is over.
    #[inline]
    pub fn walk(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, &mut Walk)> {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } => Ok((wire, dispatch.walk_mut())),
            Self::On { wire, stage: Stage::Ended(ended) } => Ok((wire, ended.walk_mut())),
            _ => Err(out_of_turn(hook)),
        }
    }

    /// A request whose attempt failed; no dispatch where its books are closed: nothing follows.
    pub fn attempt(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, Option<&mut Dispatch>)> {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } => Ok((wire, Some(dispatch))),
            Self::On { wire, stage: Stage::Ended(_) } => Ok((wire, None)),
            _ => Err(out_of_turn(hook)),
        }
    }

    /// A request that failed before anything was decided about it: what the gateway answers itself.
    pub fn fail_unanswered(&mut self, failure: &Failure) -> Option<Box<Local>> {
        match self.take()? {
            Stage::Arrived(arrived) => Some(arrived.failed(failure)),
            Stage::Reading(reading) => Some(reading.failed(failure)),
            other => {
                self.come_to(other);
                None
            }
        }
    }

    pub fn wire(&self, hook: &'static str) -> Result<&Arc<Wire>> {
        match self {
            Self::On { wire, .. } => Ok(wire),
            Self::New => Err(out_of_turn(hook)),
        }
    }

    /// Comes to another stage. Only a request that has arrived has one.
    pub fn come_to(&mut self, next: Stage) {
        if let Self::On { stage, .. } = self {
            *stage = next;
        }
    }

    /// Closes the books, where they are open; the answer's last byte waits for what is not yet as safe as it is to be.
    pub fn close(&mut self, end: End) {
        let Self::On { wire, stage } = self else { return };
        *stage = match mem::replace(stage, Stage::Gone) {
            Stage::Out(dispatch) => {
                let (ended, closed) = dispatch.end(end, clock::step());
                match closed {
                    Closed::Written => {}
                    Closed::Flushing(_) | Closed::Kept(_) => wire.wait_before_writing(closed),
                }
                Stage::Ended(ended)
            }
            other => other,
        };
    }

    /// The client left before it had the gateway's own answer.
    pub fn client_left(&mut self) {
        if let Self::On { stage: Stage::Local(local), .. } = self {
            local.left();
        }
    }

    /// Step 9: closes what is open and writes the access line. `failed`: the engine says that the request did not come to its end.
    pub fn finish(&mut self, failed: bool) {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } => {
                note_empty_stream(wire, dispatch.walk_mut());
                let end = dispatch.walk().how_it_ended(failed);
                self.close(end);
            }
            Self::On { wire, stage: Stage::Ended(ended) } => note_empty_stream(wire, ended.walk_mut()),
            Self::On { .. } | Self::New => {}
        }
        self.record(None);
    }

    /// Writes the access line of what has none; `cut`: how a request ended whose end nobody saw.
    fn record(&mut self, cut: Option<End>) {
        let Some(stage) = self.take() else { return };
        let now = clock::now();
        match stage {
            Stage::Arrived(arrived) => arrived.interrupted(now),
            Stage::Reading(reading) => reading.interrupted(now),
            Stage::Local(local) => {
                let end = cut.unwrap_or_else(|| local.end());
                local.record(end, now);
            }
            Stage::Ended(mut ended) => {
                tell(ended.walk_mut().take_notes());
                ended.record(now);
            }
            Stage::Out(_) | Stage::Gone => {}
        }
    }

    /// Whoever is in another stage stays there.
    fn put_back(&mut self, hook: &'static str, stage: Option<Stage>) -> Box<Error> {
        stage.into_iter().for_each(|stage| self.come_to(stage));
        out_of_turn(hook)
    }

    fn take(&mut self) -> Option<Stage> {
        match self {
            Self::New => None,
            Self::On { stage, .. } => Some(mem::replace(stage, Stage::Gone)),
        }
    }
}

/// The answer had to have events, and the client got the one that says that there was none.
fn note_empty_stream(wire: &Wire, walk: &mut Walk) {
    if walk.must_have_events() && wire.tail_taken() {
        walk.had_no_event();
    }
}

/// A request that is dropped before its end (the process ends, its connection is torn off) is billed for what was seen of it, and has its
/// line. One that a step had in hand when it panicked is left to the next start: its open entry is closed there as interrupted.
impl Drop for Context {
    fn drop(&mut self) {
        self.close(End::Interrupted);
        self.record(Some(End::Interrupted));
    }
}

/// The error of a hook that found the request in another stage than it belongs to.
pub fn out_of_turn(hook: &'static str) -> Box<Error> {
    log::error!("{hook} came out of turn: the request is answered with 500");
    Error::explain(ErrorType::InternalError, "a hook out of turn")
}
