//! Step 7: what the head of an answer means, and what the client gets for it.
//!
//! | the head | comes next |
//! |---|---|
//! | good (2xx) | [`Next::Pass`] |
//! | about our key, the provider's load or the proxy, and another attempt may follow | [`Next::Again`] |
//! | the same, and none may; about the request; nothing that we can use | [`Next::Replace`] |
//! | framed so that its end can't be told, or encoded so that nobody here can read it (A8) | [`Next::Unusable`] |
//!
//! What each status means stands in `domain::upstream::verdict`; who is next, in `rotation`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::answer::body::error_body;
use crate::domain::answer::{Answer, Refusal};
use crate::domain::headers;
use crate::domain::moment::{Moment, Now};
use crate::domain::upstream::advice::retry_after;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::standing::Cause;
use crate::domain::upstream::verdict::{self, Meaning};
use crate::relay::answer::{Delivery, Form, Passing, Replacing, cut_event, decoder_of};
use crate::relay::blame;
use crate::relay::dispatch::{Dispatch, Walk};
use crate::relay::rotation::Because;

/// How long a provider may take to end the body of an error: the client waits for it.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// A final head, as it came.
#[derive(Clone, Copy, Debug)]
pub struct HeadSeen<'h> {
    pub status: u16,
    pub version: http::Version,
    pub headers: &'h HeaderMap,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing of this answer reaches the client: the next attempt follows.
    Again,
    /// The answer passes.
    Pass(HeadEdits),
    /// An answer of ours takes its place.
    Replace(Box<Replacement>),
    /// Its body could not be told from the next answer's, or not be searched for our keys.
    Unusable { reason: &'static str },
}

/// What changes in the head of an answer that passes.
#[derive(Debug, PartialEq, Eq)]
pub struct HeadEdits {
    /// What clients don't get to see.
    pub withheld: Vec<HeaderName>,
    /// The body may become longer or shorter.
    pub drops_length: bool,
    /// The body, should it turn out that there is none.
    pub tail: Option<Bytes>,
    /// Keep the beginning from the client for that long, at most.
    pub hold: Option<Duration>,
}

/// The answer of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Replacement {
    pub answer: Answer,
    /// The provider's headers that go.
    pub withheld: Vec<HeaderName>,
    /// The body, should the provider's have none; with one, ours follows when the provider's is complete.
    pub body: Bytes,
    /// How long the provider's body is waited for.
    pub patience: Duration,
}

impl Dispatch {
    /// Judges a final head.
    pub fn head(&mut self, seen: HeadSeen<'_>, now: Now) -> Next {
        let walk = &mut *self.walk;
        if let Some(reason) = unusable_framing(&seen) {
            walk.refusal = Some(Refusal::UpstreamFailed { detail: reason.to_owned() });
            return Next::Unusable { reason };
        }
        walk.note_head(&seen, now.moment);
        let Walk { admitted, rotation, attempt, notes, .. } = walk;
        let (upstream, pick) = (admitted.upstream(), attempt.pick);
        let from_proxy = upstream.proxy(pick).is_some_and(Proxy::speaks_http);
        let because = match verdict::meaning(seen.status, from_proxy) {
            Meaning::Good => {
                blame::answered(upstream, pick, rotation, now.moment, notes);
                let form = Form::of(seen.headers, seen.version);
                if let Some(detail) = form.unreadable().filter(|_| !upstream.guard.is_empty()) {
                    walk.refusal = Some(Refusal::Unreadable { detail });
                    return Next::Unusable { reason: "an encoding that can't be read" };
                }
                return Next::Pass(walk.pass(&seen, form, now.moment));
            }
            Meaning::Key(cause) => {
                notes.extend(blame::rest(upstream, pick, cause, seen.headers, now));
                if matches!(cause, Cause::Unauthorized | Cause::Forbidden) {
                    rotation.refused.push((pick, cause));
                }
                Because::Key
            }
            Meaning::Overloaded => Because::Overloaded,
            Meaning::Proxy => {
                rotation.lost.push(pick);
                Because::Proxy
            }
            Meaning::Request | Meaning::Unusable => {
                let refusal = verdict::refusal(seen.status, retry_after(seen.headers, now.wall()));
                return Next::Replace(walk.replace(&seen, refusal));
            }
        };
        match walk.turn(because, now.moment) {
            Ok(_) => Next::Again,
            Err(none) => {
                let last = verdict::refusal(seen.status, retry_after(seen.headers, now.wall()));
                let refusal = none.refusal(walk.upstream(), because, last, now.moment);
                Next::Replace(walk.replace(&seen, refusal))
            }
        }
    }
}

impl Walk {
    fn note_head(&mut self, seen: &HeadSeen<'_>, now: Moment) {
        self.attempt.first_byte = Some(self.arrived().age(now));
        let guard = &self.admitted.way.route.upstream.guard;
        let their_id = headers::response::upstream_request_id(seen.headers);
        self.attempt.upstream_request_id = their_id.filter(|id| !guard.contains(id.as_bytes())).map(Box::from);
    }

    /// A good answer: its head with what clients may see, its body as it comes.
    fn pass(&mut self, seen: &HeadSeen<'_>, form: Form, now: Moment) -> HeadEdits {
        let guard = &self.admitted.way.route.upstream.guard;
        let mut withheld = headers::response::names_to_withhold(seen.headers);
        let leaking = seen.headers.iter().filter(|(_, value)| guard.contains(value.as_bytes()));
        withheld.extend(leaking.map(|(name, _)| name.clone()));
        self.delivery = Delivery::Passing(Box::new(Passing::new(form, &self.admitted)));
        self.status = Some(seen.status);
        HeadEdits {
            withheld,
            drops_length: self.delivery.changes_length(),
            tail: self.delivery.must_have_events().then(|| cut_event(self.arrived())),
            hold: self.begin_to_hold(now),
        }
    }

    /// Makes the answer ours; the body follows when the provider's is complete, or stands already.
    fn replace(&mut self, seen: &HeadSeen<'_>, refusal: Refusal) -> Box<Replacement> {
        let (arrived, upstream) = (self.arrived(), self.upstream());
        let answer = refusal.answer();
        let shows_message = upstream.pass_client_faults && verdict::is_client_fault(seen.status);
        let keeps_advice = matches!(refusal, Refusal::UpstreamStatus { .. });
        let keeps = |name: &HeaderName, value: &HeaderValue| {
            keeps_advice && headers::response::is_advice(name) && !upstream.guard.contains(value.as_bytes())
        };
        let replacement = Replacement {
            withheld: seen.headers.iter().filter(|(name, value)| !keeps(name, value)).map(|(name, _)| name.clone()).collect(),
            body: Bytes::from(error_body(arrived.dialect, &answer, &arrived.id)),
            patience: upstream.timeouts.idle.min(ERROR_BODY_TIME),
            answer,
        };
        let decoder = decoder_of(seen.headers);
        let replacing = Replacing::new(refusal.clone(), seen.status, shows_message, decoder, upstream);
        self.delivery = Delivery::Replacing(Box::new(replacing));
        self.status = Some(replacement.answer.status);
        self.refusal = Some(refusal);
        Box::new(replacement)
    }
}

/// Why the body of this answer could not be told from the next one's; Pingora reads on to the connection's end instead.
fn unusable_framing(seen: &HeadSeen<'_>) -> Option<&'static str> {
    if seen.status == 101 {
        return Some("an upgrade that nobody asked for");
    }
    (!headers::framing::is_plain_or_chunked(seen.headers)).then_some("a transfer coding other than chunked")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
