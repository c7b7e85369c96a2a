//! Between two attempts: who carries the next one, as a table of what happened, who stands how, who was tried, the limits, the moment.
//!
//! | what happened | what it means | who is next |
//! |---|---|---|
//! | refused for the key's sake, or for the model on that key | `domain::upstream::verdict` | the same proxy's next key, else the next proxy |
//! | too large for what the key may have; 503, 529 | nothing rests | the same |
//! | no connection | the proxy failed | the next proxy; without proxies the same way again |
//! | a lost one; 407, 502, 503 by a reverse proxy | the proxy failed if another one carries the request | the next proxy, a lost one once |
//! | a kept connection was stale, or refused it unread | nothing, and it was no attempt | another proxy, else the same, by a new connection |
//! | a new one refused it unread | nothing | the same, by another new connection |
//! | another protocol is spoken | nothing | the same |
//!
//! The next carrier is chosen at the moment of the failure: without one there is no retry, and the client gets an answer that keeps
//! its connection. What a key or a proxy is held to for it stands in `blame`.

use std::time::Duration;

use crate::domain::answer::Refusal;
use crate::domain::moment::Moment;
use crate::domain::settings::Retry;
use crate::domain::upstream::passed::PassedOver;
use crate::domain::upstream::standing::{Cause, KeyState};
use crate::domain::upstream::status::whole_seconds;
use crate::domain::upstream::verdict::Blame;
use crate::domain::upstream::{Out, Pick, Search, Tried, Upstream};

/// Why an attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The provider refused the key, which rests now, or may be held to it should another one serve the request.
    Key,
    /// The key may not use the model, if another one may.
    Model,
    /// The request is larger than what the key may have; another key may have more.
    Size,
    /// Something before the provider refused the way.
    Page,
    /// The provider has too much to do; another key may be luckier.
    Overloaded,
    /// The proxy can't be used.
    Proxy,
    /// The connection could not be opened, or not by this address.
    Connection,
    /// A kept connection had been closed before the request went out on it, or refused it unread: nobody was asked (A6).
    Stale,
    /// A new connection refused the request unread (HTTP/2).
    Unread,
    /// The peer speaks another protocol than was offered.
    Protocol,
}

/// Why no attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// Attempts, time or the share of retries are used up, or the body can't be sent again.
    Limit,
    /// Nobody is left.
    Out(Out),
}

/// Who was tried, and who comes next.
#[derive(Debug, Default)]
pub struct Rotation {
    tried: Tried,
    /// Who does not carry the request, and why, for the access line.
    pub passed: PassedOver,
    /// Who took the request and lost it: a proxy's fault if another one brings the answer, the provider's if none does.
    pub lost: Vec<Pick>,
    /// Whose keys were refused, and what they are held to if another key may what they may not (A1).
    pub refused: Vec<(Pick, Blame)>,
    next: Option<Pick>,
}

/// The attempt that failed, and what bounds the one that could follow.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'t> {
    pub upstream: &'t Upstream,
    /// The model as the upstream calls it.
    pub model: Option<&'t str>,
    pub retry: &'t Retry,
    /// Who carried it.
    pub before: Pick,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Since the request arrived.
    pub age: Duration,
    /// Whether the body is kept.
    pub can_send_again: bool,
    pub now: Moment,
}

impl Rotation {
    /// Chooses who carries the first attempt; refuses, before anybody is contacted, when nobody can (T4).
    pub fn begin(&mut self, upstream: &Upstream, model: Option<&str>, retry: &Retry, now: Moment) -> Result<Pick, Refusal> {
        upstream.retry_budget.pay_in(retry.max_share_percent);
        let search = Search { tried: &self.tried, model, now };
        upstream.pick_and_note(&search, &mut self.passed).map_err(|out| beforehand(upstream, model, out, now))
    }

    /// Turns to whoever carries the next attempt.
    ///
    /// # Errors
    ///
    /// [`NoTurn`] when no attempt may follow.
    pub fn turn(&mut self, because: Because, turn: &Turn<'_>) -> Result<Pick, NoTurn> {
        let Turn { upstream, model, before, now, .. } = *turn;
        let mut over = PassedOver::default();
        let pick = match because {
            Because::Key | Because::Model | Because::Size | Because::Overloaded => {
                self.tried.key(before);
                upstream.pick_and_note(&Search { tried: &self.tried, model, now }, &mut over)
            }
            Because::Page if before.proxy.is_none() => {
                self.tried.key(before);
                upstream.pick_and_note(&Search { tried: &self.tried, model, now }, &mut over)
            }
            Because::Page | Because::Proxy | Because::Connection => {
                self.tried.proxy(before);
                upstream.pick_and_note(&Search { tried: &self.tried, model, now }, &mut over)
            }
            // The connection was at fault, not who carried it: where nobody else is left, a new one to the same will do.
            Because::Stale => Ok(upstream.pick_beside(before, &Search { tried: &self.tried, model, now }).unwrap_or(before)),
            Because::Unread | Because::Protocol => Ok(before),
        };
        let pick = match pick {
            Ok(pick) => pick,
            Err(out) => {
                self.passed.append(over);
                return Err(NoTurn::Out(out));
            }
        };
        if !turn.allows(because) {
            return Err(NoTurn::Limit);
        }
        self.note_left(turn, because);
        self.passed.append(over);
        self.next = Some(pick);
        Ok(pick)
    }

    /// Who carries the attempt to come; `None`: whoever carried the last one.
    pub fn take_next(&mut self) -> Option<Pick> {
        self.next.take()
    }

    /// Who would carry it.
    #[cfg(test)]
    pub fn peek_next(&self) -> Option<Pick> {
        self.next
    }

    /// Whether an attempt to come was decided.
    pub fn has_turned(&self) -> bool {
        self.next.is_some()
    }

    /// Whether another key could carry the request, were this attempt to fail; nobody is chosen yet.
    pub fn could_turn(&self, turn: &Turn<'_>) -> bool {
        let mut tried = self.tried.clone();
        tried.key(turn.before);
        let search = Search { tried: &tried, model: turn.model, now: turn.now };
        turn.is_within_limits() && turn.can_send_again && turn.upstream.has_another(&search)
    }

    /// Notes for the access line why the request went on without who carried the last attempt.
    fn note_left(&mut self, turn: &Turn<'_>, because: Because) {
        let before = turn.before;
        let refused_as = self.refused.iter().rev().find(|(pick, _)| *pick == before).map(|(_, blame)| blame.word());
        let passed = &mut self.passed;
        match because {
            Because::Key | Because::Model => {
                let credential = turn.upstream.credential(before);
                let word = match credential.map(|credential| credential.standing.state_for(turn.model, turn.now)) {
                    Some(KeyState::Cooling { cause, .. } | KeyState::Dead { cause }) => cause.label(),
                    Some(KeyState::Ready) | None => refused_as.unwrap_or("refused"),
                };
                passed.left_key(before, word);
            }
            Because::Size => passed.left_key(before, "too_large"),
            Because::Page if before.proxy.is_none() => passed.left_key(before, "blocked"),
            Because::Page => passed.left_proxy(before, "blocked"),
            Because::Overloaded => passed.left_key(before, "overloaded"),
            Because::Proxy => passed.left_proxy(before, "failed"),
            Because::Connection => passed.left_proxy(before, "unreachable"),
            Because::Stale | Because::Unread | Because::Protocol => {}
        }
    }
}

impl Turn<'_> {
    fn is_within_limits(&self) -> bool {
        self.attempts < self.retry.max_attempts && self.age < self.retry.budget
    }

    /// Whether limits, body and budget let an attempt follow; takes it out of the budget where it is not free.
    fn allows(&self, because: Because) -> bool {
        // Before a connection stands nothing of the body is sent.
        let can_send_again = self.can_send_again || because == Because::Connection;
        match because {
            // No attempt was made. It happens once before each: the next one's connection is new.
            Because::Stale => can_send_again,
            // What one client can bring about at will is not paid from what all share.
            Because::Key | Because::Model | Because::Size | Because::Page => can_send_again && self.is_within_limits(),
            Because::Overloaded | Because::Proxy | Because::Connection | Because::Unread | Because::Protocol => {
                can_send_again
                    && self.is_within_limits()
                    && self.upstream.retry_budget.take(self.retry.max_share_percent, self.now)
            }
        }
    }
}

impl NoTurn {
    /// What the client is told; `last`: what the last attempt alone would say.
    pub fn refusal(self, turn: &Turn<'_>, because: Because, last: Refusal) -> Refusal {
        let Turn { upstream, model, now, .. } = *turn;
        let is_ours = upstream.hides_limits && upstream.rotates();
        match self {
            // The provider's load is no limit of ours, nor is what nobody may.
            _ if !is_ours || matches!(because, Because::Overloaded | Because::Model | Because::Size | Because::Page) => last,
            // Nobody rests: every key was refused this one request (O4).
            Self::Out(Out::Until(at)) if at <= now && matches!(last, Refusal::KeyRefused { .. }) => last,
            Self::Out(out @ Out::Until(_)) => beforehand(upstream, model, out, now),
            // Others may be ready: one key's long wait is not the pool's.
            Self::Limit if matches!(last, Refusal::UpstreamStatus { status: 429, .. }) => {
                beforehand(upstream, model, Out::Until(now), now)
            }
            Self::Out(Out::KeysDead) | Self::Limit => last,
        }
    }
}

/// What a request is told that nobody can carry.
fn beforehand(upstream: &Upstream, model: Option<&str>, out: Out, now: Moment) -> Refusal {
    let Out::Until(back_at) = out else { return Refusal::KeyRefused { status: 401 } };
    let wait = Duration::from_secs(whole_seconds(now, back_at));
    let rests_for = |cause| {
        let mut states = upstream.credentials.iter().map(|credential| credential.standing.state_for(model, now));
        states.any(|state| matches!(state, KeyState::Cooling { cause: found, .. } if found == cause))
    };
    match upstream.hides_limits {
        // Our money, and no limit that a client could keep (O4).
        false if rests_for(Cause::Exhausted) && !rests_for(Cause::RateLimited) => Refusal::KeyRefused { status: 402 },
        false if rests_for(Cause::NoAccess) && !rests_for(Cause::RateLimited) => Refusal::KeyRefused { status: 403 },
        true => Refusal::PoolOut { upstream: upstream.name.to_string(), wait },
        // As the last key's own answer was (O5).
        false => Refusal::UpstreamStatus { status: 429, message: None, retry_after: Some(wait) },
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
