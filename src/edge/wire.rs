//! What the three owners of one request share: the front that owns the connection, the replayed session inside Pingora, and the
//! hooks that decide.
//!
//! ```text
//!   front ── creates ──► Wire ◄── reads and rewinds ── replay (inside Pingora's Session)
//!     ▲                     ▲
//!     └─ takes the session  └─ body, deadlines, closing answer ── hooks (found in the request's extensions)
//!        back at the end
//! ```
//!
//! Nothing here waits; every lock is held for a few instructions and never across an await.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::sync::Notify;

use crate::ops::books::ledger::Closed;
use crate::ops::host::body_budget::BodyPermit;

/// One request's shared state.
#[derive(Default)]
pub struct Wire {
    state: Mutex<State>,
    /// The client's connection ends with this answer.
    close: AtomicBool,
    /// The client may use the gateway: its key was found valid.
    known: AtomicBool,
    /// The client took nothing of its answer for too long.
    given_up: AtomicBool,
    /// The answer's last word has gone by, and what it costs has not.
    awaits_usage: AtomicBool,
    trust: Option<Arc<Trust>>,
}

/// Whether anybody on a connection has shown a valid key, or is one without that does not take its answer.
#[derive(Default)]
pub struct Trust {
    is_earned: AtomicBool,
    earned: Notify,
    lost: Notify,
}

#[derive(Default)]
struct State {
    body: Option<Kept>,
    watch: Watch,
    /// When a body that passes through unread must be complete.
    body_due: Option<Instant>,
    /// Written when the upstream's answer turns out to have no body of its own, and the client's must have one.
    tail: Option<Bytes>,
    tail_taken: bool,
    /// The answer's beginning is kept from the client, at most until then.
    hold_until: Option<Instant>,
    /// An error is heard; nothing of it goes to the client.
    hears: bool,
    /// The head that goes to the client in place of the error's.
    head: Option<Box<ResponseHeader>>,
    returned: Option<Returned>,
    /// The ledger's entry on its way to the disk; the answer's last byte waits for it.
    closed: Option<Closed>,
}

/// A body kept for replay, and its share of the process-wide budget.
struct Kept {
    chunks: Arc<[Bytes]>,
    _permit: BodyPermit,
}

/// The real session, back from Pingora.
pub struct Returned {
    pub session: ServerSession,
    /// The answer was written to its end: the connection may carry another request.
    pub finished: bool,
}

/// Which deadline the upstream is held to at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub enum Watch {
    #[default]
    Off,
    /// The complete response head, or the end of an error's body, is due; a dripped byte does not extend it.
    Until { by: Instant },
    /// The next piece of the body is due this long after the one before.
    Idle { limit: Duration },
}

impl Trust {
    fn earn(&self) {
        if !self.is_earned.swap(true, Ordering::Relaxed) {
            self.earned.notify_one();
        }
    }

    /// Waits for the first valid key; for one waiter.
    pub async fn earned(&self) {
        self.earned.notified().await;
    }

    /// Waits for an answer that nobody takes who has shown no key; for one waiter.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Wire {
    /// `trust`: of the connection, where requests share one.
    pub fn new(trust: Option<Arc<Trust>>) -> Arc<Self> {
        Arc::new(Self { trust, ..Self::default() })
    }

    /// Notes that the client may use the gateway.
    pub fn know_client(&self) {
        self.known.store(true, Ordering::Relaxed);
        if let Some(trust) = &self.trust {
            trust.earn();
        }
    }

    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Notes that the client takes nothing of its answer: nobody lingers for it.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
        if let Some(trust) = self.trust.as_ref().filter(|_| !self.is_known()) {
            trust.lost.notify_one();
        }
    }

    pub fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Notes whether all has passed that the client waits for, but not what it costs.
    pub fn await_usage(&self, awaits: bool) {
        self.awaits_usage.store(awaits, Ordering::Relaxed);
    }

    pub fn awaits_usage(&self) -> bool {
        self.awaits_usage.load(Ordering::Relaxed)
    }

    /// Keeps the request's body for replay; every attempt starts at its first byte.
    pub fn keep_body(&self, chunks: Vec<Bytes>, permit: BodyPermit) {
        self.state().body = Some(Kept { chunks: chunks.into(), _permit: permit });
    }

    pub fn body(&self) -> Option<Arc<[Bytes]>> {
        self.state().body.as_ref().map(|kept| kept.chunks.clone())
    }

    /// Lets the body go: an answer is on its way, so no attempt follows. A stream may live for hours, its prompt need not.
    pub fn release_body(&self) {
        self.state().body = None;
    }

    pub fn expect_body_by(&self, due: Instant) {
        self.state().body_due = Some(due);
    }

    pub fn body_due(&self) -> Option<Instant> {
        self.state().body_due
    }

    pub fn watch(&self, watch: Watch) {
        self.state().watch = watch;
    }

    pub fn watched(&self) -> Watch {
        self.state().watch
    }

    pub fn set_tail(&self, tail: Bytes) {
        self.state().tail = Some(tail);
    }

    pub fn take_tail(&self) -> Option<Bytes> {
        let mut state = self.state();
        let tail = state.tail.take();
        state.tail_taken |= tail.is_some();
        tail
    }

    /// Whether the answer that the client got had the tail as its body.
    pub fn tail_taken(&self) -> bool {
        self.state().tail_taken
    }

    /// Keeps the answer's beginning from the client until [`Wire::end_hold`], at most until `due`.
    pub fn hold_until(&self, due: Instant) {
        self.state().hold_until = Some(due);
    }

    /// When the hold ends by itself; `None`: nothing is held.
    pub fn held_until(&self) -> Option<Instant> {
        self.state().hold_until
    }

    /// What is held may go to the client, and what follows.
    pub fn end_hold(&self) {
        self.state().hold_until = None;
    }

    /// Forgets what was prepared for the answer of an attempt of which the client sees nothing.
    pub fn forget_answer(&self) {
        let mut state = self.state();
        (state.hold_until, state.tail, state.hears) = (None, None, false);
    }

    /// Keeps an error from the client until [`Wire::answer_by`].
    pub fn hear(&self) {
        self.state().hears = true;
    }

    pub fn hears(&self) -> bool {
        self.state().hears
    }

    /// The error has ended: this head goes to the client, and the body that follows it.
    pub fn answer_by(&self, head: ResponseHeader) {
        let mut state = self.state();
        (state.hears, state.head) = (false, Some(Box::new(head)));
    }

    pub fn take_head(&self) -> Option<Box<ResponseHeader>> {
        self.state().head.take()
    }

    pub fn wait_before_writing(&self, closed: Closed) {
        self.state().closed = Some(closed);
    }

    /// What has to be on the disk before anything more is written.
    pub fn entry_under_way(&self) -> Option<Closed> {
        self.state().closed.take()
    }

    /// Makes the coming answer the connection's last one.
    pub fn close_after_answer(&self) {
        self.close.store(true, Ordering::Relaxed);
    }

    pub fn closes(&self) -> bool {
        self.close.load(Ordering::Relaxed)
    }

    pub fn give_back(&self, session: ServerSession, finished: bool) {
        self.state().returned = Some(Returned { session, finished });
    }

    pub fn take_back(&self) -> Option<Returned> {
        self.state().returned.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
