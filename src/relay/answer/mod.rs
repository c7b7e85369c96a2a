//! Step 8: the answer's bytes on their way to the client.
//!
//! ```text
//!   upstream's chunk ─┬─► meter (through a decoder, should it be compressed: `clear`)
//!                     └─► guard (no key of ours leaves) ─► rewrite (only where asked for) ─► client
//! ```
//!
//! Without a rewrite every event passes as it came, at once. A stream that ends without its API's terminator gets an error event
//! in place of a clean end (`passing`); an upstream that breaks off is `relay::failure`'s. An error is heard to its end (`hearing`).

mod clear;
mod ending;
mod form;
mod hearing;
mod passing;

use std::time::Duration;

use bytes::Bytes;

use crate::domain::usage::Report;

pub use ending::cut_event;
pub use form::{Form, decoder_of};
pub use hearing::Hearing;
pub use passing::Passing;

/// What happens to the body of the answer under way.
#[derive(Default)]
pub enum Delivery {
    /// No head has come.
    #[default]
    Awaited,
    /// A good answer.
    Passing(Box<Passing>),
    /// A provider's error, on its way to become one of ours.
    Hearing(Box<Hearing>),
}

impl Delivery {
    /// Whether the client's body may be longer or shorter than the upstream's.
    pub fn changes_length(&self) -> bool {
        self.passing().is_none_or(Passing::changes_length)
    }

    pub fn is_sse(&self) -> bool {
        self.passing().is_some_and(Passing::is_sse)
    }

    /// Whether an event of ours may follow what the client has got so far.
    pub fn takes_events(&self) -> bool {
        self.passing().is_some_and(Passing::takes_events)
    }

    /// Whether the answer is a stream that is cut if it turns out to have no body at all.
    pub fn must_have_events(&self) -> bool {
        self.passing().is_some_and(Passing::must_have_events)
    }

    /// Whether the answer's last word, as its dialect knows it, went by: whatever the connection did next, it is whole.
    pub fn has_ended(&self) -> bool {
        self.passing().is_some_and(Passing::has_ended)
    }

    /// Whether it shows that an answer comes, of a good head.
    pub fn has_begun(&self) -> bool {
        self.passing().is_some_and(Passing::has_begun)
    }

    /// Whether a good head was followed by nothing of an answer, as far as it has come.
    pub fn is_no_answer(&self) -> bool {
        self.passing().is_some_and(Passing::is_no_answer)
    }

    /// Whether it would be none, or a damaged one, if it ended here.
    pub fn is_unfit(&self) -> bool {
        self.passing().is_some_and(Passing::is_unfit)
    }

    /// Whether nothing is missing but what the answer costs (P8).
    #[inline]
    pub fn awaits_usage(&self) -> bool {
        self.passing().is_some_and(Passing::awaits_usage)
    }

    /// What was kept back of an answer that has ended: the connection broke before it said so.
    pub fn rest(&mut self) -> Bytes {
        match self {
            Self::Passing(passing) => passing.rest(),
            Self::Awaited | Self::Hearing(_) => Bytes::new(),
        }
    }

    /// What the meter has read so far; `None`: no good answer began.
    pub fn report(&self) -> Option<Report> {
        self.passing().map(Passing::report)
    }

    /// Whether the provider reported an error in place of an answer, or within one.
    pub fn reports_error(&self) -> bool {
        match self {
            Self::Awaited => false,
            Self::Hearing(_) => true,
            Self::Passing(passing) => {
                let report = passing.report();
                report.error_event && (passing.is_sse() || report.usage.is_none())
            }
        }
    }

    /// How long the next chunk should be kept from coming; asked after each.
    pub fn take_pause(&mut self) -> Option<Duration> {
        match self {
            Self::Passing(passing) => passing.take_pause(),
            Self::Awaited | Self::Hearing(_) => None,
        }
    }

    /// Bytes of the answer's body that reached the client's side.
    pub fn bytes(&self) -> u64 {
        self.passing().map_or(0, Passing::bytes)
    }

    fn passing(&self) -> Option<&Passing> {
        match self {
            Self::Passing(passing) => Some(passing),
            Self::Awaited | Self::Hearing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
