//! What a failure means: another attempt, or what the client is told in whatever form it can still understand.
//!
//! | failure | another attempt | else the client is told |
//! |---|---|---|
//! | no connection, no address of a proxy | the next proxy, or the same way again, within the limits | the provider failed |
//! | TLS that can't be trusted | by the next proxy: a reverse one's own fault; behind a tunnel once; without proxies: no | the provider failed |
//! | a kept connection that breaks at once, or refuses it unread | by another proxy or the same way, by a new connection; it was no attempt | the provider failed |
//! | a connection that breaks before the head | by the next proxy, once; without a proxy: no | the provider failed |
//! | a new one that refuses it unread | by another new connection | the provider failed |
//! | another protocol than was offered | the same way | the provider failed |
//! | a good head with nothing of an answer behind it | by the next proxy, once; without a proxy: no | the provider failed |
//! | a deadline | no | too late; within an answer: cut |
//! | any of these within a provider's error | as what has come of it says | as it says |
//! | a connection that breaks within an answer | no | cut, unless the last word had gone by |
//! | the client left | no | nothing |
//!
//! Never once a final status went to the client; never when the body could not be sent again, unless no connection stood yet. A stream that
//! ends by itself and too soon is found in `answer::passing`.

use std::time::Duration;

use bytes::Bytes;

use crate::domain::answer::{Answer, Refusal, body::error_event};
use crate::domain::end::End;
use crate::domain::moment::{Moment, Now};
use crate::relay::answer::Delivery;
use crate::relay::blame;
use crate::relay::dispatch::{Dispatch, Then, Walk};
use crate::relay::end::end_by;
use crate::relay::note::{Note, Subject};
use crate::relay::rotation::Because;
use crate::relay::stage::{Arrived, Local, Reading, Says};

/// How soon a connection that was closed before our request shows it: a round trip, with room.
const STALE_SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// What went wrong, in words that are nobody's engine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name of whoever would be connected to has no address.
    NoAddress {
        detail: String,
    },
    /// A connection did not come about.
    NoConnection {
        why: NoWay,
        detail: String,
    },
    /// The attempt broke off.
    Broke(Broke),
    /// A head was judged, and what comes next is decided.
    Judged {
        detail: String,
    },
    /// A good head was followed by nothing of an answer.
    NoAnswer,
    /// The upstream did not keep its deadline for the head, or for the next piece.
    TooLate,
    /// The client did not keep its deadline for a body that passes through.
    BodyTooSlow,
    /// The client's request could not be read on.
    Unreadable,
    ClientGone,
    /// The gateway's drain was cut.
    Stopping,
    Internal {
        detail: String,
    },
}

/// Whether the same way, tried again, may lead somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// It may.
    Now,
    /// The proxy refuses our login, and will.
    Login,
    /// The certificate there can't be trusted, or there is no TLS at all.
    Tls,
}

/// An attempt that broke off at the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broke {
    /// The connection itself was lost, and not what came over it.
    pub is_lost: bool,
    /// It had served another request before.
    pub was_kept: bool,
    /// A read took too long.
    pub timed_out: bool,
    /// The engine's own reasons to send the request again.
    pub offer: Offer,
    pub detail: String,
}

/// Whether the request may be sent again without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    No,
    /// Where the connection was a kept one that shows at once that it is gone.
    IfStale,
    /// Nobody read it: HTTP/2 refused the stream, or was shutting the connection down before it.
    Unread,
    /// The peer does not speak the protocol that was offered.
    OtherProtocol,
}

/// How far the answer got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// A final head went to the client.
    pub begun: bool,
    /// A head waits, and the client has seen nothing.
    pub held: bool,
}

/// The last thing that the client gets.
#[derive(Debug, PartialEq, Eq)]
pub enum LastWord {
    /// Nobody is left to tell.
    Nothing,
    /// The answer is whole but for this: it ends here.
    Rest(Bytes),
    /// Nothing went out yet: an answer of ours.
    Whole(Box<Answer>),
    /// An event within a stream.
    Event(Bytes),
    /// A body without events has no room for an error: the client must see that it is cut.
    Cut,
}

impl Failure {
    /// Whether it is the gateway's own.
    pub fn is_of_the_gateway(&self) -> bool {
        matches!(self, Self::Stopping | Self::Internal { .. })
    }

    /// Whether it happened on the client's side of the connection.
    pub fn is_of_the_client(&self) -> bool {
        matches!(self, Self::ClientGone | Self::Unreadable | Self::BodyTooSlow)
    }
}

impl Dispatch {
    /// Decides whether a failed attempt is followed by another.
    pub fn failed(&mut self, failure: &Failure, reached: Reached, now: Now) -> Then {
        let walk = &mut *self.walk;
        match failure {
            Failure::Judged { .. } if walk.rotation.has_turned() && !reached.begun => Then::Again,
            // A provider's error that does not come to its end means what has come of it.
            Failure::Broke(_) | Failure::TooLate if walk.is_hearing() && !reached.begun => walk.heard_so_far(now),
            Failure::NoAddress { detail } => walk.no_address(detail, now.moment),
            Failure::NoConnection { why, detail } => walk.no_connection(*why, detail, now.moment),
            Failure::Broke(broke) => walk.broke(broke, reached, now.moment),
            Failure::NoAnswer => walk.no_answer(reached, now.moment),
            Failure::Judged { .. }
            | Failure::TooLate
            | Failure::BodyTooSlow
            | Failure::Unreadable
            | Failure::ClientGone
            | Failure::Stopping
            | Failure::Internal { .. } => Then::Over,
        }
    }
}

impl Walk {
    fn no_address(&mut self, detail: &str, now: Moment) -> Then {
        if self.upstream().proxy(self.attempt.pick).is_some() {
            return self.no_connection(NoWay::Now, detail, now);
        }
        self.refusal = Some(Refusal::UpstreamFailed { detail: detail.to_owned() });
        Then::Over
    }

    /// By another proxy, or at another address.
    fn no_connection(&mut self, why: NoWay, detail: &str, now: Moment) -> Then {
        let detail = self.masked(detail);
        let pick = self.attempt.pick;
        let Some(proxy) = self.upstream().proxy(pick) else {
            if why == NoWay::Tls {
                self.refusal = Some(Refusal::UpstreamFailed { detail });
                return Then::Over;
            }
            return self.turn_or_tell(Because::Connection, detail, now);
        };
        if why == NoWay::Tls && !proxy.speaks_http() {
            return self.no_trust_behind_a_tunnel(detail, now);
        }
        let note = blame::connection_failed(self.upstream(), pick, why != NoWay::Now, &detail, now);
        self.notes.extend(note);
        self.turn_or_tell(Because::Connection, detail, now)
    }

    /// The certificate is the endpoint's, or that of a proxy which breaks TLS open: another proxy tells, once, as with a lost request.
    fn no_trust_behind_a_tunnel(&mut self, detail: String, now: Moment) -> Then {
        let is_first = self.rotation.lost.is_empty();
        self.rotation.lost.push(self.attempt.pick);
        if is_first && self.turn(Because::Connection, now).is_ok() {
            return Then::Again;
        }
        self.refusal = Some(Refusal::UpstreamFailed { detail });
        Then::Over
    }

    fn broke(&mut self, broke: &Broke, reached: Reached, now: Moment) -> Then {
        let is_lost = broke.is_lost && self.attempt.first_byte.is_none();
        // A kept connection that the upstream had closed shows it at once. One that breaks later broke under the request, which the
        // provider may have worked on: sent again, it would be paid for twice.
        let was_kept = broke.was_kept && !self.attempt.on_its_own;
        let is_stale = was_kept && self.attempt.age(now).is_some_and(|age| age < STALE_SHOWS_WITHIN);
        let offered = match broke.offer {
            Offer::IfStale if is_stale => Some(Because::Stale),
            // What a kept connection takes no more of, a new one may: that is no word of the provider's yet.
            Offer::Unread if was_kept => Some(Because::Stale),
            Offer::Unread => Some(Because::Unread),
            Offer::OtherProtocol => Some(Because::Protocol),
            Offer::No | Offer::IfStale => None,
        };
        let because = if is_lost && is_stale {
            Because::Stale
        } else if let Some(because) = offered {
            because
        } else if is_lost && self.attempt.pick.proxy.is_some() {
            // It is the proxy that broke, for all we can see, and a dead proxy is nothing that a client should notice. But once: what is
            // lost by two of them may be lost by the provider, which had it twice by then.
            let is_first = self.rotation.lost.is_empty();
            self.rotation.lost.push(self.attempt.pick);
            if !is_first {
                return Then::Over;
            }
            Because::Proxy
        } else {
            return Then::Over;
        };
        if reached.begun {
            return Then::Over;
        }
        match because {
            Because::Proxy => self.turn_or_tell(because, self.masked(&broke.detail), now),
            _ if self.turn(because, now).is_ok() => Then::Again,
            _ => Then::Over,
        }
    }

    /// What brings nothing has lost the request, for all we can see: as with a lost connection, another proxy tells, once.
    fn no_answer(&mut self, reached: Reached, now: Moment) -> Then {
        if reached.begun || self.attempt.pick.proxy.is_none() {
            return Then::Over;
        }
        let is_first = self.rotation.lost.is_empty();
        self.rotation.lost.push(self.attempt.pick);
        if is_first && self.turn(Because::Proxy, now).is_ok() {
            // Of this answer the client sees nothing.
            self.status = None;
            return Then::Again;
        }
        Then::Over
    }

    /// Turns to the next attempt; where there is none, keeps what the client is told.
    fn turn_or_tell(&mut self, because: Because, detail: String, now: Moment) -> Then {
        match self.turn(because, now) {
            Ok(_) => Then::Again,
            Err(none) => {
                let last = Refusal::UpstreamFailed { detail };
                self.refusal = Some(none.refusal(&self.turn_now(now), because, last));
                Then::Over
            }
        }
    }

    /// As much of a provider's error as has come decides.
    fn heard_so_far(&mut self, now: Now) -> Then {
        match self.conclude(now) {
            Ok(()) => Then::Again,
            Err(refusal) => {
                self.refusal = Some(refusal);
                Then::Over
            }
        }
    }

    /// What the client gets when nothing follows, and how the books are to be closed, if they are open: before it is said.
    pub fn last_word(&mut self, failure: &Failure, reached: Reached) -> (LastWord, Option<End>) {
        let Some(refusal) = self.refusal_of(failure) else {
            self.client_gone = true;
            if reached.held {
                self.status = None;
            }
            return (LastWord::Nothing, None);
        };
        let is_stopped = matches!(refusal, Refusal::LeakStopped | Refusal::Unreadable { .. });
        if reached.begun && self.delivery.has_ended() && !is_stopped {
            // The stream said its last word before the connection broke: nothing is missing.
            let end = if self.delivery.reports_error() { End::UpstreamError } else { End::Ok };
            return (LastWord::Rest(self.delivery.rest()), Some(end));
        }
        let Self { admitted, delivery, notes, .. } = self;
        let arrived = &admitted.arrived;
        notes.push(Note::warning(Subject::Failure, format!("request {}: {refusal}", arrived.id)));
        let answer = match delivery {
            // The provider's error broke off, but ours is known.
            Delivery::Hearing(hearing) => hearing.answer(&refusal, arrived, admitted.upstream(), notes),
            Delivery::Awaited | Delivery::Passing(_) => refusal.answer(),
        };
        let end = end_by(&refusal, self.attempt.count());
        let word = if !reached.begun {
            self.status = Some(answer.status);
            LastWord::Whole(Box::new(answer))
        } else if delivery.takes_events() {
            LastWord::Event(Bytes::from(error_event(arrived.asked, &answer, &arrived.id)))
        } else {
            LastWord::Cut
        };
        self.refusal = Some(refusal);
        (word, Some(end))
    }

    /// Whether the last word reached the client's side.
    pub fn said(&mut self, word_was: &LastWord, written: bool) {
        match word_was {
            LastWord::Rest(_) => self.complete = written,
            _ => self.client_gone |= !written,
        }
    }

    /// What the failure means; `None`: the client is gone and nobody is left to answer.
    fn refusal_of(&self, failure: &Failure) -> Option<Refusal> {
        if let Some(known) = &self.refusal {
            return Some(known.clone());
        }
        let (has_head, limit) = (self.attempt.first_byte.is_some(), self.upstream().timeouts.first_byte);
        Some(match failure {
            Failure::TooLate if has_head => {
                Refusal::Cut { detail: "the upstream fell silent within its answer".to_owned() }
            }
            Failure::TooLate => Refusal::FirstByteTooLate { limit },
            Failure::NoAnswer => Refusal::NoAnswer,
            Failure::Broke(broke) if has_head => Refusal::Cut { detail: self.masked(&broke.detail) },
            Failure::Broke(broke) if broke.timed_out => Refusal::FirstByteTooLate { limit },
            Failure::Broke(Broke { detail, .. })
            | Failure::NoAddress { detail }
            | Failure::NoConnection { detail, .. }
            // Another credential was to be tried, and could not be.
            | Failure::Judged { detail } => Refusal::UpstreamFailed { detail: self.masked(detail) },
            Failure::Internal { detail } => Refusal::Internal { detail: self.masked(detail) },
            Failure::BodyTooSlow | Failure::Unreadable | Failure::Stopping | Failure::ClientGone => {
                return before_an_upstream(failure, self.arrived().settings.limits.body_read);
            }
        })
    }

    fn masked(&self, detail: &str) -> String {
        self.admitted.way.route.upstream.guard.mask(detail)
    }
}

impl Arrived {
    /// It failed before anything was decided: the gateway answers itself, should anybody be left.
    pub fn failed(self: Box<Self>, failure: &Failure) -> Box<Local> {
        match before_an_upstream(failure, self.settings.limits.body_read) {
            Some(refusal) => self.refused(refusal),
            None => {
                let mut local = self.answered(Says::Nothing);
                local.left();
                local
            }
        }
    }
}

impl Reading {
    /// As [`Arrived::failed`].
    pub fn failed(self, failure: &Failure) -> Box<Local> {
        let Self { arrived, caller } = self;
        Box::new(Local { caller: Some(caller), ..*arrived.failed(failure) })
    }
}

/// What a failure means that needs no upstream; `None`: the client is gone.
fn before_an_upstream(failure: &Failure, body_read: Duration) -> Option<Refusal> {
    Some(match failure {
        Failure::ClientGone => return None,
        Failure::BodyTooSlow => Refusal::BodyTooSlow { limit: body_read },
        Failure::Unreadable => Refusal::BadHead { reason: "The request could not be read." },
        Failure::Stopping => Refusal::Stopping,
        Failure::NoAddress { detail }
        | Failure::NoConnection { detail, .. }
        | Failure::Broke(Broke { detail, .. })
        | Failure::Judged { detail } => Refusal::UpstreamFailed { detail: detail.clone() },
        Failure::TooLate => Refusal::Cut { detail: String::new() },
        Failure::NoAnswer => Refusal::NoAnswer,
        Failure::Internal { detail } => Refusal::Internal { detail: detail.clone() },
    })
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
