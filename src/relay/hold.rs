//! Holds an answer's beginning back until it shows that it is one, and a stream's until its first event (`retry.hold_first_event_ms`).
//!
//! ```text
//!   head, heartbeats ──► held by the edge ─┬─ first event good, or the time is up ──► client, byte for byte
//!                                          ├─ first event what a key could cure ────► dropped, the next key is tried
//!                                          └─ the upstream dies ────────────────────► dropped, a proper status
//! ```
//!
//! For its first event nothing is held that no other key could better: the last key's answer, JSON, a compressed stream, a body that can't be
//! sent again. Of every other answer of a model the head waits for the first sign that it is one (`limits.hold_answer_ms`, P6): a 200 with nothing
//! behind it becomes a failure with a status.

use std::time::Duration;

use http::HeaderMap;

use crate::domain::moment::{Moment, Now};
use crate::domain::upstream::first_event::Opening;
use crate::domain::upstream::verdict::{self, Blame, Meaning, Said};
use crate::domain::upstream::words::Words;
use crate::relay::blame;
use crate::relay::dispatch::{Dispatch, Walk};
use crate::relay::note::{Note, Subject};
use crate::relay::rotation::Because;

/// What becomes of a held beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is not known yet what it is.
    Keep,
    /// It may go to the client, and what follows.
    Release,
    /// It is dropped: the next attempt follows. The status is that which the event amounts to.
    Again { status: u16 },
}

impl Walk {
    /// Begins to hold what may be no answer, and a stream that another key could answer in place of this one; how long, at most.
    pub(super) fn begin_to_hold(&mut self, now: Moment) -> Option<Duration> {
        self.attempt.is_awaited = true;
        let settings = &self.arrived().settings;
        let (first_event, answer) = (settings.retry.hold_first_event, settings.limits.hold_answer);
        if !first_event.is_zero() && self.delivery.must_have_events() && self.could_turn(now) {
            self.attempt.first_event = Some(Box::default());
            return Some(first_event);
        }
        if answer.is_zero() || self.delivery.has_begun() {
            self.is_served(now);
            return None;
        }
        Some(answer)
    }
}

impl Dispatch {
    /// Looks at the next bytes of a held stream, before they are delivered; `held`: the client has seen nothing of it.
    pub fn first_event(&mut self, chunk: &[u8], held: bool, now: Now) -> Held {
        let walk = &mut *self.walk;
        let Some(first_event) = &mut walk.attempt.first_event else { return Held::Release };
        let held = match first_event.push(chunk) {
            Opening::Open if held => return Held::Keep,
            Opening::Fails { status } if held => {
                let words = first_event.take_words();
                walk.fails_at_once(status, &words, now)
            }
            Opening::Open | Opening::Begins | Opening::Fails { .. } => Held::Release,
        };
        walk.attempt.first_event = None;
        if held == Held::Release {
            walk.is_served(now.moment);
        }
        held
    }
}

impl Walk {
    fn fails_at_once(&mut self, status: u16, words: &Words, now: Now) -> Held {
        let (upstream, model, pick) = (self.upstream(), self.admitted.upstream_model(), self.attempt.pick);
        let meaning = verdict::meaning(&Said { status, from_proxy: false, words, model, has_room: false });
        let because = match meaning {
            Meaning::Key(..) | Meaning::Model(..) => Because::Key,
            Meaning::Size { .. } => Because::Size,
            _ => Because::Overloaded,
        };
        let blame = Blame::of(meaning, &upstream.cooldowns, &HeaderMap::new(), now.wall());
        let note = blame.and_then(|(blame, _)| blame::hold_key_to(blame, upstream, pick, model, now.moment));
        self.notes.extend(note);
        if self.turn(because, now.moment).is_err() {
            return Held::Release;
        }
        let name = &self.upstream().name;
        let text = format!("upstream {name} answered 200 and then {status} as its first event: another key is tried");
        self.notes.push(Note::warning(Subject::FirstEvent, text));
        // Of this answer the client sees nothing.
        self.status = None;
        Held::Again { status }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
