//! Step 7: what the head of an answer means, and what the client gets for it.
//!
//! | the head | comes next |
//! |---|---|
//! | good (2xx) | [`Next::Pass`] |
//! | an error whose status says all, and another attempt may follow | [`Next::Again`] |
//! | any other error | [`Next::Hear`]: its body first, then [`Heard::Again`] or [`Heard::Replace`] |
//! | an error without a body | [`Next::Again`] or [`Next::Replace`] |
//! | framed so that its end can't be told, or encoded so that nobody here can read it (A8) | [`Next::Unusable`] |
//!
//! What each status and its words mean stands in `domain::upstream::verdict`; who is next, in `rotation`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName};
use http::{HeaderValue, Method};

use crate::domain::answer::{Answer, Refusal};
use crate::domain::headers;
use crate::domain::moment::{Moment, Now};
use crate::domain::upstream::advice::retry_after;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::verdict::{self, Blame, Meaning, Proof};
use crate::relay::answer::{Delivery, Form, Hearing, Passing, cut_event};
use crate::relay::blame;
use crate::relay::dispatch::{Dispatch, Walk};
use crate::relay::rotation::Because;

/// How long a provider may take to end the body of an error: the client waits for it.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);
/// The same where another attempt waits.
const REFUSAL_BODY_TIME: Duration = Duration::from_secs(1);

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
    /// It is an error: nothing of it reaches the client, and its body is waited for so long, at most.
    Hear { patience: Duration },
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
    /// The provider's headers that go with it.
    pub advice: HeaderMap,
    pub body: Bytes,
}

/// What becomes of an error that is heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It goes on.
    More,
    /// Nothing of it reaches the client: the next attempt follows.
    Again { status: u16 },
    /// It has ended: the answer is ours.
    Replace(Box<Replacement>),
    /// It does not end where an error does.
    TooLong,
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
        if (200..300).contains(&seen.status) {
            let form = Form::of(seen.headers, seen.version);
            if let Some(detail) = form.unreadable().filter(|_| !walk.upstream().guard.is_empty()) {
                walk.refusal = Some(Refusal::Unreadable { detail });
                return Next::Unusable { reason: "an encoding that can't be read" };
            }
            return Next::Pass(walk.pass(&seen, form, now.moment));
        }
        let from_proxy = walk.upstream().proxy(walk.attempt.pick).is_some_and(Proxy::speaks_http);
        walk.delivery = Delivery::Hearing(Box::new(Hearing::new(seen.status, from_proxy, seen.headers)));
        let is_wordless = walk.has_no_body(&seen);
        if verdict::needs_words(seen.status) && !is_wordless {
            let waits = if walk.could_turn(now.moment) { REFUSAL_BODY_TIME } else { ERROR_BODY_TIME };
            return Next::Hear { patience: walk.upstream().timeouts.idle.min(waits) };
        }
        match walk.conclude(now) {
            Ok(()) => Next::Again,
            Err(refusal) if is_wordless => Next::Replace(walk.replace(refusal)),
            Err(refusal) => {
                walk.decided = Some(refusal);
                Next::Hear { patience: walk.upstream().timeouts.idle.min(ERROR_BODY_TIME) }
            }
        }
    }

    /// Hears the next bytes of an error.
    pub fn hear(&mut self, chunk: Option<&Bytes>, end: bool, now: Now) -> Heard {
        let walk = &mut *self.walk;
        let Delivery::Hearing(hearing) = &mut walk.delivery else { return Heard::More };
        let (status, is_short) = (hearing.status, hearing.read(chunk.map_or(&[], |bytes| bytes)));
        if !end {
            return if is_short { Heard::More } else { Heard::TooLong };
        }
        match walk.conclude(now) {
            Ok(()) => Heard::Again { status },
            Err(refusal) => Heard::Replace(walk.replace(refusal)),
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

    /// The request was carried: what is known of the attempts before comes true.
    pub(super) fn is_served(&mut self, now: Moment) {
        self.attempt.is_awaited = false;
        let Self { admitted, rotation, attempt, notes, .. } = self;
        blame::answered(admitted.upstream(), attempt.pick, admitted.upstream_model(), rotation, now, notes);
    }

    /// Decides what follows an error, by as much of it as has come: `Ok`, the next attempt.
    ///
    /// # Errors
    ///
    /// No attempt follows; what the client is told.
    pub(super) fn conclude(&mut self, now: Now) -> Result<(), Refusal> {
        if let Some(decided) = self.decided.take() {
            return Err(decided);
        }
        let Self { admitted, rotation, attempt, delivery: Delivery::Hearing(hearing), notes, .. } = self else {
            return Err(Refusal::Internal { detail: "no error is heard".to_owned() });
        };
        let (upstream, model, pick) = (admitted.upstream(), admitted.upstream_model(), attempt.pick);
        let meaning = hearing.meaning(model);
        hearing.shows_message = upstream.pass_client_faults && verdict::shows_message(hearing.status, meaning);
        let last = verdict::refusal(hearing.status, meaning, retry_after(&hearing.headers, now.wall()));
        match Blame::of(meaning, &upstream.cooldowns, &hearing.headers, now.wall()) {
            Some((blame, Proof::Word)) => notes.extend(blame::hold_key_to(blame, upstream, pick, model, now.moment)),
            Some((blame, Proof::Another)) => rotation.refused.push((pick, blame)),
            None => {}
        }
        let because = match meaning {
            Meaning::Key(..) | Meaning::Model(_, Proof::Word) => Because::Key,
            Meaning::Model(_, Proof::Another) => Because::Model,
            Meaning::Size { .. } => Because::Size,
            Meaning::Page => Because::Page,
            Meaning::Overloaded => Because::Overloaded,
            Meaning::Proxy => {
                rotation.lost.push(pick);
                Because::Proxy
            }
            Meaning::Good | Meaning::Request | Meaning::Unusable => return Err(last),
        };
        match self.turn(because, now.moment) {
            Ok(_) => Ok(()),
            Err(none) => Err(none.refusal(&self.turn_now(now.moment), because, last)),
        }
    }

    /// Makes the answer ours.
    fn replace(&mut self, refusal: Refusal) -> Box<Replacement> {
        let Self { admitted, delivery, notes, .. } = self;
        let (arrived, upstream) = (&admitted.arrived, admitted.upstream());
        let (answer, advice, body) = match delivery {
            Delivery::Hearing(hearing) => {
                let answer = hearing.answer(&refusal, arrived, upstream, notes);
                (answer, hearing.advice(&refusal, upstream), hearing.body())
            }
            Delivery::Awaited | Delivery::Passing(_) => (refusal.answer(), HeaderMap::new(), Bytes::new()),
        };
        self.status = Some(answer.status);
        self.refusal = Some(refusal);
        Box::new(Replacement { answer, advice, body })
    }

    /// Whether nothing follows the head.
    fn has_no_body(&self, seen: &HeadSeen<'_>) -> bool {
        let length = seen.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
        self.arrived().method == Method::HEAD || seen.status == 304 || length == Some(b"0")
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
