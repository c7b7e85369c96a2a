//! The stages of one request, each a value that exists only because the one before it succeeded.
//!
//! ```text
//!   Arrived ──► Reading ──► Routed ──► Admitted ──► Dispatch ──► Ended        (Dispatch and Ended: dispatch.rs)
//!      │           │           │           │
//!      └───────────┴───────────┴───────────┴──► Local: the gateway answers itself
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};

use crate::domain::answer::Refusal;
use crate::domain::client::Caller;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::id::RequestId;
use crate::domain::json::{AskedOutput, PeekError, Peeked};
use crate::domain::moment::Moment;
use crate::domain::route::Route;
use crate::domain::settings::Settings;
use crate::domain::upstream::first_event::FirstEvent;
use crate::domain::upstream::passed::PassedOver;
use crate::domain::upstream::{Endpoint, Pick, Upstream};
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::{Counters, InFlight};
use crate::relay::gate::{Gate, Whose};
use crate::relay::rotation::Because;

/// Where finished requests are written down and counted.
#[derive(Clone)]
pub struct Records {
    pub counters: Arc<Counters>,
    pub access_log: Arc<AccessLog>,
}

/// Step 1: what the head's first line tells.
pub struct Arrived {
    pub id: RequestId,
    pub at: Moment,
    pub unix_ms: u64,
    pub method: Method,
    pub uri: Uri,
    /// The API that the client called. What its upstream speaks is [`Way::spoken`].
    pub asked: Api,
    pub dialect: Dialect,
    /// The settings this request lives under, whatever a reload does meanwhile.
    pub settings: Arc<Settings>,
    /// Counts the request as in flight until it is dropped.
    pub in_flight: InFlight,
    pub access_log: Arc<AccessLog>,
}

/// Step 2, for a request whose body names the model: its body is to be read.
pub struct Reading {
    pub arrived: Box<Arrived>,
    pub caller: Caller,
}

/// Step 3: the body is read and a route is decided, for good or not.
pub struct Routed {
    pub(super) known: Known,
    pub(super) chunks: Vec<Bytes>,
    pub(super) peeked: Result<Peeked, PeekError>,
    pub(super) route: Result<Route, Refusal>,
}

/// Who asks, and for what.
pub struct Known {
    pub arrived: Box<Arrived>,
    pub caller: Caller,
    pub ask: Ask,
}

/// What the body asks for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub model: Option<String>,
    pub bytes: usize,
    /// What the scan took; `None`: the body passes through unread.
    pub peek: Option<Duration>,
    pub output: AskedOutput,
}

/// Where a request goes, and how. There is an upstream that can be asked, or there is no such value.
pub struct Way {
    pub route: Route,
    pub endpoint: Arc<Endpoint>,
    /// The API that the upstream speaks: how its answer's usage is read and how its stream ends.
    pub spoken: Api,
    /// `Content-Length` upstream; `None`: the body passes through as it comes, and can't be sent again.
    pub length: Option<usize>,
    /// The name the client asked by, where the answer has to say it in place of the upstream's.
    pub asked_model: Option<String>,
    /// `stream_options.include_usage` was put in by us: the chunk it brings is taken out again.
    pub usage_asked_by_us: bool,
}

/// Step 4: who, what and where are known and allowed.
pub struct Admitted {
    pub arrived: Box<Arrived>,
    pub caller: Caller,
    pub ask: Ask,
    pub way: Way,
}

/// One attempt: chosen, and once it has begun, under way.
#[derive(Default)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The proxy and the credential that carry it.
    pub pick: Pick,
    /// `None`: it is chosen and nobody was asked yet.
    pub began: Option<Moment>,
    /// A kept connection was of no use, or a new one read nothing: this one has a connection of its own.
    pub on_its_own: bool,
    /// Why another one follows.
    pub left: Option<Because>,
    pub connect: Option<Duration>,
    /// From the request's arrival.
    pub first_byte: Option<Duration>,
    /// Reads the beginning of an answer that is held.
    pub first_event: Option<Box<FirstEvent>>,
    /// It is not known yet whether an answer follows the good head.
    pub is_awaited: bool,
    /// The provider's own id of the request, for the log alone.
    pub upstream_request_id: Option<Box<str>>,
}

/// A request that the gateway answers itself, with what was known of it by then.
pub struct Local {
    pub(super) arrived: Box<Arrived>,
    pub(super) caller: Option<Caller>,
    pub(super) ask: Ask,
    pub(super) route: Option<Route>,
    pub(super) passed: PassedOver,
    pub(super) says: Says,
    pub(super) client_gone: bool,
}

/// What the gateway says for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    Json(Bytes),
    Refusal(Refusal),
    /// The client left before there was anything to say.
    Nothing,
}

impl Arrived {
    /// How long ago it arrived.
    pub fn age(&self, now: Moment) -> Duration {
        self.at.until(now)
    }

    fn gate<'g>(&'g self, caller: &'g Caller) -> Gate<'g> {
        Gate { settings: &self.settings, whose: Whose::Callers(caller), asked: self.asked }
    }

    /// Answers it here and now.
    pub fn answered(self: Box<Self>, says: Says) -> Box<Local> {
        Box::new(Local {
            arrived: self,
            caller: None,
            ask: Ask::default(),
            route: None,
            passed: PassedOver::default(),
            says,
            client_gone: false,
        })
    }

    pub fn refused(self: Box<Self>, refusal: Refusal) -> Box<Local> {
        self.answered(Says::Refusal(refusal))
    }
}

impl Reading {
    /// What this request is asked.
    pub fn gate(&self) -> Gate<'_> {
        self.arrived.gate(&self.caller)
    }

    pub fn answered(self, says: Says) -> Box<Local> {
        Box::new(Local { caller: Some(self.caller), ..*self.arrived.answered(says) })
    }

    pub fn refused(self, refusal: Refusal) -> Box<Local> {
        self.answered(Says::Refusal(refusal))
    }
}

impl Known {
    /// As [`Reading::gate`].
    pub fn gate(&self) -> Gate<'_> {
        self.arrived.gate(&self.caller)
    }

    pub fn refused(self, route: Option<Route>, refusal: Refusal) -> Box<Local> {
        let Self { arrived, caller, ask } = self;
        Box::new(Local { caller: Some(caller), ask, route, ..*arrived.refused(refusal) })
    }
}

impl Admitted {
    /// As [`Reading::gate`].
    pub fn gate(&self) -> Gate<'_> {
        self.arrived.gate(&self.caller)
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.way.route.upstream
    }

    /// The model as the configuration names it, else as the client wrote it.
    pub fn model(&self) -> Option<&str> {
        self.way.route.model.as_ref().map(|model| &*model.id).or(self.ask.model.as_deref())
    }

    /// The model as the upstream is asked for it.
    pub fn upstream_model(&self) -> Option<&str> {
        self.ask.model.as_deref().map(|name| self.way.route.upstream_model(name))
    }

    /// Refuses what nobody can carry, or what can't be booked.
    pub fn refused(self, refusal: Refusal, passed: PassedOver) -> Box<Local> {
        let Self { arrived, caller, ask, way } = self;
        Box::new(Local { passed, ..*Known { arrived, caller, ask }.refused(Some(way.route), refusal) })
    }
}

impl Attempt {
    /// The first of a request.
    pub fn first(pick: Pick) -> Self {
        Self { number: 1, pick, ..Self::default() }
    }

    /// Goes on to the next one where this one has begun; begins it.
    pub fn begin(&mut self, next: Option<Pick>, now: Moment) {
        let number = if self.is_one() { self.number + 1 } else { self.number };
        // Behind a request that a proxy lost too: a dead connection there would make it be sent once more.
        let on_its_own = matches!(self.left, Some(Because::Stale | Because::Unread | Because::Proxy));
        *self = Self { number, pick: next.unwrap_or(self.pick), began: Some(now), on_its_own, ..Self::default() };
    }

    /// Whether somebody was asked, for all we know: it has begun, and did not meet a kept connection that was dead already (A6).
    pub fn is_one(&self) -> bool {
        self.began.is_some() && self.left != Some(Because::Stale)
    }

    /// How many attempts were begun, this one included.
    pub fn count(&self) -> u32 {
        if self.is_one() { self.number } else { self.number.saturating_sub(1) }
    }

    /// How long ago it began.
    pub fn age(&self, now: Moment) -> Option<Duration> {
        Some(self.began?.until(now))
    }
}

impl Local {
    pub fn says(&self) -> &Says {
        &self.says
    }

    pub fn arrived(&self) -> &Arrived {
        &self.arrived
    }

    /// Whether the connection can't be trusted with another request after this answer.
    pub fn closes(&self) -> bool {
        let Says::Refusal(refusal) = &self.says else { return false };
        matches!(refusal, Refusal::BadHead { .. } | Refusal::BodyTooSlow { .. } | Refusal::Stopping | Refusal::UpgradeRequested)
    }

    /// The status that the client gets.
    pub fn status(&self) -> Option<u16> {
        match &self.says {
            Says::Json(_) => Some(200),
            Says::Refusal(refusal) => Some(refusal.answer().status),
            Says::Nothing => None,
        }
    }

    /// The client left before it had its answer.
    pub fn left(&mut self) {
        self.client_gone = true;
    }
}
