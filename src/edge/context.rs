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
use crate::ops::host::clock;
use crate::relay::dispatch::{Dispatch, Ended, Walk};
use crate::relay::failure::Failure;
use crate::relay::stage::{Arrived, Local, Reading};

/// One request from its first byte to its access line.
#[derive(Default)]
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

    /// A request that may go out, whether or not an attempt has begun.
    pub fn ready(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, &mut Dispatch)> {
        match self {
            Self::On { wire, stage: Stage::Out(dispatch) } => Ok((wire, dispatch)),
            _ => Err(out_of_turn(hook)),
        }
    }

    /// A request with an attempt under way and open books.
    pub fn out(&mut self, hook: &'static str) -> Result<(&Arc<Wire>, &mut Dispatch)> {
        let (wire, dispatch) = self.ready(hook)?;
        if dispatch.has_begun() { Ok((wire, dispatch)) } else { Err(out_of_turn(hook)) }
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

    /// What an attempt failed under; no dispatch where the books are closed, so that nothing can follow.
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

    /// Closes the books, where they are open; the answer's last byte waits for them.
    pub fn close(&mut self, end: End) {
        let Self::On { wire, stage } = self else { return };
        *stage = match mem::replace(stage, Stage::Gone) {
            Stage::Out(dispatch) => {
                let (ended, closed) = dispatch.end(end, clock::step());
                wire.wait_before_writing(closed);
                Stage::Ended(ended)
            }
            other => other,
        };
    }

    /// Step 9: closes what is open and writes the access line. `failed`: the engine says that the request did not come to its end.
    pub fn finish(&mut self, failed: bool) {
        if let Self::On { wire, stage: Stage::Out(_) | Stage::Ended(_) } = self
            && wire.tail_taken()
            && let Ok((_, walk)) = self.walk("logging")
        {
            walk.had_no_event();
        }
        if let Self::On { stage: Stage::Out(dispatch), .. } = self {
            let end = dispatch.walk().how_it_ended(failed);
            self.close(end);
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

/// A request that is dropped before its end (the process ends, a panic) is billed for what was seen of it, and has its line.
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
