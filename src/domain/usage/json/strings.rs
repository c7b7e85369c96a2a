//! Reads the few strings that mean something: an event's type, why an answer is at its end, and the text that is counted.

use super::event::{Event, EventKind};
use super::place::{Place, Tally};
use super::{KeyScanner, State};
use crate::domain::json::scan::closing::text_run;

impl KeyScanner {
    pub(super) fn kind<'a>(&mut self, bytes: &'a [u8], event: &mut Event) -> &'a [u8] {
        let (run, end, rest) = text_run(bytes);
        match end {
            Some(b'"') => {
                let word = self.word.join(run);
                event.answers |= self.in_stream && word != Some(b"ping");
                event.kind = word.map_or(EventKind::Other, EventKind::of);
                self.goto(State::After, rest)
            }
            Some(_) => {
                self.word.spoil();
                self.goto(State::KindEscape, rest)
            }
            None => {
                self.word.push(run);
                rest
            }
        }
    }

    pub(super) fn text<'a>(&mut self, bytes: &'a [u8], event: &mut Event) -> &'a [u8] {
        let (run, end, rest) = text_run(bytes);
        self.count(run.len(), event);
        match end {
            Some(b'"') => self.goto(State::After, rest),
            Some(_) => self.goto(State::TextEscape, rest),
            None => rest,
        }
    }

    pub(super) fn count(&self, bytes: usize, event: &mut Event) {
        let sum = match self.tally {
            Tally::Text => &mut event.text_bytes,
            Tally::Echo => &mut event.echo_bytes,
            Tally::Whole => &mut event.whole_bytes,
        };
        *sum = sum.saturating_add(bytes as u64);
    }

    /// Some servers write an empty reason into every chunk: it is none.
    pub(super) fn finish<'a>(&mut self, bytes: &'a [u8], event: &mut Event) -> &'a [u8] {
        let (run, end, rest) = text_run(bytes);
        let is_reason = self.word.join(run).is_none_or(|reason| !reason.is_empty());
        match end {
            Some(b'"') => {
                self.choice.1 |= is_reason && self.place == Place::Choice;
                event.stops |= is_reason && self.place == Place::Delta;
                self.goto(State::After, rest)
            }
            Some(_) => {
                self.word.spoil();
                self.goto(State::FinishEscape, rest)
            }
            None => {
                self.word.push(run);
                rest
            }
        }
    }
}
