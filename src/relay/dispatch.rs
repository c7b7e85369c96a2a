//! A request that goes out: the books are open and somebody carries it, from the first attempt to its end.
//!
//! ```text
//!   Admitted ─ dispatch ─► Dispatch ─ begin, connected, head, first_event, bytes, failed … ─ end ─► Ended ─ record (end.rs)
//! ```
//! The books are closed by value: [`Dispatch::end`] takes the request out of its open books, once, or it does not compile. What can
//! still happen after that (the rest of a stream behind its last word, a connection that breaks then) happens to the [`Walk`] within.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::answer::Refusal;
use crate::domain::billing::bill::Bill;
use crate::domain::end::End;
use crate::domain::moment::{Moment, Now};
use crate::domain::upstream::{Pick, Upstream};
use crate::ops::books::ledger::{Closed, Ledger};
use crate::ops::watch::counters::Phase;
use crate::relay::answer::Delivery;
use crate::relay::books::{Booked, Closing, OpenBooks, entry_of};
use crate::relay::note::{Note, Subject};
use crate::relay::rotation::{Because, NoTurn, Rotation, Turn};
use crate::relay::stage::{Admitted, Arrived, Attempt, Local};

/// A request with open books.
pub struct Dispatch {
    pub(super) walk: Box<Walk>,
    books: OpenBooks,
}

/// A request whose books are closed; bytes may still be on their way.
pub struct Ended {
    pub(super) walk: Box<Walk>,
    pub(super) booked: Booked,
}

/// What is known of a request that goes out.
pub struct Walk {
    pub(super) admitted: Admitted,
    pub(super) rotation: Rotation,
    pub(super) attempt: Attempt,
    pub(super) delivery: Delivery,
    /// The status that went to the client; `None`: none did.
    pub(super) status: Option<u16>,
    /// What the client will be told, once the error that is heard has ended.
    pub(super) decided: Option<Refusal>,
    /// Why the client got an answer of ours, or an end.
    pub(super) refusal: Option<Refusal>,
    pub(super) client_gone: bool,
    /// The client got the whole answer, whatever became of the upstream's connection.
    pub(super) complete: bool,
    pub(super) notes: Vec<Note>,
}

/// What becomes of an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another attempt follows; who carries it is decided.
    Again,
    Over,
}

/// Why a body does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// What the client is told is noted: an answer that was cut short or must not be shown, a request that is too long.
    Unfit,
    /// A good head is followed by nothing of an answer, and the client has seen nothing.
    NoAnswer,
    /// Bytes of an answer without a head.
    NoHead,
}

impl Admitted {
    /// Finds who carries the first attempt, and opens the books.
    ///
    /// # Errors
    ///
    /// The refusal: nobody can carry it (T4), the client's credit does not reach (G4), the ledger takes nothing (G3).
    pub fn dispatch(self, ledger: &Ledger, now: Moment) -> Result<Dispatch, Box<Local>> {
        let mut rotation = Rotation::default();
        let begun = rotation.begin(self.upstream(), self.upstream_model(), &self.arrived.settings.retry, now);
        let opened = begun.and_then(|pick| Ok((pick, OpenBooks::open(ledger, &self, pick)?)));
        let (pick, books) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return Err(self.refused(refusal, rotation.passed)),
        };
        let walk = Box::new(Walk {
            admitted: self,
            rotation,
            attempt: Attempt::first(pick),
            delivery: Delivery::default(),
            status: None,
            decided: None,
            refusal: None,
            client_gone: false,
            complete: false,
            notes: Vec::new(),
        });
        Ok(Dispatch { walk, books })
    }
}

impl Dispatch {
    /// Step 5: begins the first attempt, or the one that was decided after the last.
    pub fn begin(&mut self, now: Moment) -> &Attempt {
        self.walk.count_attempt();
        let Walk { rotation, attempt, delivery, decided, .. } = &mut *self.walk;
        attempt.begin(rotation.take_next(), now);
        *delivery = Delivery::Awaited;
        *decided = None;
        attempt
    }

    /// Whether an attempt is under way.
    pub fn has_begun(&self) -> bool {
        self.walk.attempt.began.is_some()
    }

    /// The connection stands.
    pub fn connected(&mut self, now: Moment) {
        let walk = &mut *self.walk;
        walk.attempt.connect = walk.attempt.age(now);
        let counters = walk.arrived().in_flight.counters();
        walk.attempt.connect.into_iter().for_each(|took| counters.phase(Phase::Connect, took));
    }

    /// Closes the books; the last byte waits for [`Closed`].
    pub fn end(self, end: End, now: Now) -> (Ended, Closed) {
        let Self { mut walk, books } = self;
        walk.count_attempt();
        // No attempt follows closed books, so there is nothing to look for any more.
        walk.attempt.first_event = None;
        let (booked, closed) = books.close(Closing {
            admitted: &walk.admitted,
            attempt: &walk.attempt,
            status: walk.status,
            end,
            report: walk.delivery.report().filter(|_| end != End::UpstreamError || !walk.delivery.is_no_answer()),
            is_sse: walk.delivery.is_sse(),
            bytes: walk.delivery.bytes(),
            now,
        });
        walk.warn_of_unpriced(&booked.bill);
        (Ended { walk, booked }, closed)
    }

    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    #[inline]
    pub fn walk_mut(&mut self) -> &mut Walk {
        &mut self.walk
    }
}

impl Ended {
    pub fn walk_mut(&mut self) -> &mut Walk {
        &mut self.walk
    }
}

impl Walk {
    /// Says once a model what its answers report and its prices don't know.
    fn warn_of_unpriced(&mut self, bill: &Bill) {
        for unpriced in &bill.unpriced {
            let pattern = entry_of(&self.admitted);
            if self.admitted.arrived.in_flight.counters().unpriced(&pattern, unpriced.kind()) {
                let model =
                    pattern.as_ref().map_or_else(|| "a model without an entry".to_owned(), |name| format!("model \"{name}\""));
                self.notes
                    .push(Note::warning(Subject::Price, format!("{model}: an answer reports {unpriced} (said once a model)")));
            }
        }
    }

    pub fn arrived(&self) -> &Arrived {
        &self.admitted.arrived
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        self.admitted.upstream()
    }

    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    pub fn pick(&self) -> Pick {
        self.attempt.pick
    }

    /// Whether the attempt has a connection that served nobody before.
    pub fn is_on_its_own(&self) -> bool {
        self.attempt.on_its_own
    }

    /// The status that went to the client; `None`: none did.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the last attempt went out with a body that was read to its end: what still comes from the client is its leaving.
    pub fn may_have_left(&self) -> bool {
        self.attempt.began.is_some() && self.admitted.way.length.is_some()
    }

    /// Whether a head has come that stands: nothing of the next attempt is decided.
    pub fn is_answered(&self) -> bool {
        !matches!(self.delivery, Delivery::Awaited) && !self.rotation.has_turned()
    }

    /// Whether an error is heard that the client knows nothing of yet.
    #[inline]
    pub fn is_hearing(&self) -> bool {
        matches!(self.delivery, Delivery::Hearing(_)) && self.status.is_none()
    }

    /// Whether the client's connection is good for another request although the attempt failed: its body was read, and what failed was the
    /// end of a provider's error.
    pub fn keeps_connection(&self) -> bool {
        matches!(self.delivery, Delivery::Hearing(_)) && self.admitted.way.length.is_some()
    }

    /// Whether the answer is a stream that must have an event.
    pub fn must_have_events(&self) -> bool {
        self.delivery.must_have_events()
    }

    /// Whether the answer's beginning is looked at before the client gets it.
    #[inline]
    pub fn looks_at_first_event(&self) -> bool {
        self.attempt.first_event.is_some()
    }

    /// Holds a body that passes through unread to the limit of those that are read.
    ///
    /// # Errors
    ///
    /// It is too long; the client is told so.
    pub fn count_passing(&mut self, bytes: usize) -> Result<(), Broken> {
        let Admitted { arrived, ask, way, .. } = &mut self.admitted;
        if way.length.is_some() {
            return Ok(());
        }
        ask.bytes += bytes;
        let limit_bytes = arrived.settings.limits.max_body_bytes;
        if ask.bytes <= limit_bytes {
            return Ok(());
        }
        self.refusal = Some(Refusal::BodyTooLarge { limit_bytes });
        Err(Broken::Unfit)
    }

    /// Whether it is open yet that an answer follows.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.attempt.is_awaited
    }

    /// Step 8: passes one chunk on; `held`: the client has seen nothing of the answer yet (asked at its end, and until it begins). `Ok(Some(_))`: the answer is over with this
    /// chunk, and the books are to be closed before it leaves.
    ///
    /// # Errors
    ///
    /// The answer can't go on.
    pub fn bytes(&mut self, chunk: &mut Option<Bytes>, end: bool, held: bool) -> Result<Option<End>, Broken> {
        let Self { admitted, delivery, refusal, notes, .. } = self;
        let arrived = &admitted.arrived;
        let passing = match delivery {
            Delivery::Awaited => return Err(Broken::NoHead),
            Delivery::Passing(passing) => passing,
            // Heard by now: a head without a body may have been given one all the same.
            Delivery::Hearing(hearing) => {
                *chunk = if end { hearing.take_body() } else { None };
                return Ok(None);
            }
        };
        match passing.pass(chunk, end, held, arrived, notes) {
            Err(Refusal::NoAnswer) if held => Err(Broken::NoAnswer),
            Ok(ended_short) => {
                let is_over = passing.is_over(end);
                if ended_short.is_some() {
                    *refusal = ended_short;
                }
                Ok(is_over.then(|| self.end_by_its_word()))
            }
            Err(unfit) => {
                if unfit == Refusal::LeakStopped {
                    let text =
                        format!("request {}: ALARM: an upstream sent our own key back, the answer was stopped", arrived.id);
                    notes.push(Note::error(Subject::Answer, text));
                }
                *refusal = Some(unfit);
                Err(Broken::Unfit)
            }
        }
    }

    /// How long the next chunk of the answer should be kept from coming, after this one (A7).
    #[inline]
    pub fn take_pause(&mut self) -> Option<Duration> {
        self.delivery.take_pause()
    }

    /// Whether anything is to be said in the log.
    #[inline]
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// What is to be said in the log.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// What bounds the attempt that could follow this one.
    pub(super) fn turn_now(&self, now: Moment) -> Turn<'_> {
        turn_of(&self.admitted, &self.attempt, now)
    }

    /// Turns to the next attempt.
    pub(super) fn turn(&mut self, because: Because, now: Moment) -> Result<Pick, NoTurn> {
        let Self { admitted, rotation, attempt, .. } = self;
        let pick = rotation.turn(because, &turn_of(admitted, attempt, now))?;
        attempt.left = Some(because);
        Ok(pick)
    }

    /// Counts an attempt that is over for its key and its proxy: by then it is known whether it was one.
    fn count_attempt(&self) {
        if !self.attempt.is_one() {
            return;
        }
        let (upstream, pick) = (self.upstream(), self.attempt.pick);
        if let Some(credential) = upstream.credential(pick) {
            credential.standing.count_attempt();
        }
        if let Some(proxy) = upstream.proxy(pick) {
            proxy.health.count_attempt();
        }
    }

    /// Whether another key could carry the request, were this attempt to fail.
    pub(super) fn could_turn(&self, now: Moment) -> bool {
        self.rotation.could_turn(&self.turn_now(now))
    }

    /// Notes that an answer has begun; whether that was not known before.
    pub fn begins(&mut self, now: Moment) -> bool {
        if !self.attempt.is_awaited || self.attempt.first_event.is_some() || !self.delivery.has_begun() {
            return false;
        }
        self.is_served(now);
        true
    }

    /// Whether all has passed that the client waits for, but not what it costs (P8).
    #[inline]
    pub fn awaits_usage(&self) -> bool {
        self.delivery.awaits_usage()
    }

    /// How an answer ended that ended by its own word, or without one.
    fn end_by_its_word(&self) -> End {
        match &self.refusal {
            _ if self.delivery.is_unfit() => End::UpstreamError,
            Some(_) => End::UpstreamCut,
            None if self.delivery.reports_error() => End::UpstreamError,
            None => End::Ok,
        }
    }
}

fn turn_of<'t>(admitted: &'t Admitted, attempt: &Attempt, now: Moment) -> Turn<'t> {
    let age: Duration = admitted.arrived.age(now);
    Turn {
        upstream: admitted.upstream(),
        model: admitted.upstream_model(),
        retry: &admitted.arrived.settings.retry,
        before: attempt.pick,
        attempts: attempt.count(),
        age,
        can_send_again: admitted.way.length.is_some(),
        now,
    }
}
