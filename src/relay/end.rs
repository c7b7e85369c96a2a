//! Step 9: the request in one access line, and in the counters.
//!
//! The line says what the books say: a client that hangs up behind the last byte counts as served.

use std::time::Duration;

use crate::domain::answer::{Fault, Refusal};
use crate::domain::billing::bill::Bill;
use crate::domain::client::Caller;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::end::End;
use crate::domain::id::RequestId;
use crate::domain::moment::{Moment, Now};
use crate::domain::route::Route;
use crate::domain::upstream::passed::PassedOver;
use crate::domain::usage::{Report, Source};
use crate::ops::watch::access_log::AccessEntry;
use crate::ops::watch::counters::Went;
use crate::relay::answer::Delivery;
use crate::relay::dispatch::{Ended, Walk};
use crate::relay::stage::{Admitted, Arrived, Ask, Attempt, Local, Reading, Records, Says};

/// What is told of a request, whichever stage it came to.
struct Told<'t> {
    arrived: &'t Arrived,
    caller: Option<&'t Caller>,
    ask: &'t Ask,
    route: Option<&'t Route>,
    passed: &'t PassedOver,
    /// `None`: it never went out.
    attempt: Option<&'t Attempt>,
    delivery: &'t Delivery,
    status: Option<u16>,
    refusal: Option<&'t Refusal>,
    bill: &'t Bill,
    end: End,
    now: Moment,
}

impl Walk {
    /// How a request ended whose books nobody has closed yet (U7). `failed`: the engine says that it did not come to its end.
    pub fn how_it_ended(&self, failed: bool) -> End {
        match &self.refusal {
            // SDKs hang up on an error event: that is no leaving.
            _ if self.client_gone && self.delivery.reports_error() => End::UpstreamError,
            _ if self.client_gone => End::ClientGone,
            Some(refusal) => end_by(refusal, self.attempt.count()),
            None if failed && !self.complete => End::ClientGone,
            None if self.delivery.reports_error() || self.delivery.is_unfit() => End::UpstreamError,
            None => End::Ok,
        }
    }

    /// The answer was a stream without an event: the client got the event that says so.
    pub fn had_no_event(&mut self) {
        self.refusal = Some(Refusal::NoAnswer);
    }
}

impl Ended {
    /// Writes the access line and counts the request.
    pub fn record(self, now: Moment) {
        let Self { walk, booked } = &self;
        let Walk { admitted, rotation, attempt, delivery, status, refusal, .. } = &**walk;
        let Admitted { arrived, caller, ask, way } = admitted;
        Told {
            arrived,
            caller: Some(caller),
            ask,
            route: Some(&way.route),
            passed: &rotation.passed,
            attempt: Some(attempt).filter(|attempt| attempt.count() > 0),
            delivery,
            status: *status,
            refusal: refusal.as_ref(),
            bill: &booked.bill,
            end: booked.end,
            now,
        }
        .record();
    }
}

impl Local {
    /// How it ended.
    pub fn end(&self) -> End {
        match &self.says {
            _ if self.client_gone => End::ClientGone,
            Says::Refusal(refusal) => end_by(refusal, 0),
            Says::Json(_) => End::Ok,
            Says::Nothing => End::Interrupted,
        }
    }

    /// As [`Ended::record`].
    pub fn record(self, end: End, now: Moment) {
        let refusal = match &self.says {
            Says::Refusal(refusal) => Some(refusal),
            Says::Json(_) | Says::Nothing => None,
        };
        Told {
            arrived: &self.arrived,
            caller: self.caller.as_ref(),
            ask: &self.ask,
            route: self.route.as_ref(),
            passed: &self.passed,
            attempt: None,
            delivery: &Delivery::Awaited,
            status: self.status(),
            refusal,
            bill: &Bill::NOTHING,
            end,
            now,
        }
        .record();
    }
}

impl Arrived {
    /// It was dropped before anything was said.
    pub fn interrupted(self: Box<Self>, now: Moment) {
        self.answered(Says::Nothing).record(End::Interrupted, now);
    }
}

impl Reading {
    /// As [`Arrived::interrupted`].
    pub fn interrupted(self, now: Moment) {
        self.answered(Says::Nothing).record(End::Interrupted, now);
    }
}

/// How a request ended that an answer of ours ended, after so many attempts.
pub fn end_by(refusal: &Refusal, attempts: u32) -> End {
    match (refusal, refusal.fault()) {
        (Refusal::Cut { .. } | Refusal::LeakStopped | Refusal::Unreadable { .. }, _) => End::UpstreamCut,
        (Refusal::Stopping, _) if attempts > 0 => End::Interrupted,
        (_, Fault::Upstream) if attempts > 0 => End::UpstreamError,
        (_, Fault::Client | Fault::Gateway | Fault::Upstream) => End::Refused,
    }
}

/// Writes the line of a head that was refused before it became a request, and counts it; method and path as far as they could be read.
pub fn record_head(records: &Records, id: &RequestId, head: Option<(&str, &str)>, dialect: Dialect, refusal: &Refusal, now: Now) {
    let (status, end) = (refusal.answer().status, End::Refused);
    records.counters.finished(status, end);
    records.counters.refused(refusal);
    let (method, path) = head.unwrap_or(("-", "-"));
    records.access_log.write(&AccessEntry {
        id,
        opened_at_unix_ms: now.unix_ms,
        client: None,
        method,
        path,
        api: Api::Unknown,
        dialect,
        model: None,
        upstream_model: None,
        rule: None,
        skipped: None,
        upstream: None,
        endpoint: None,
        proxy: None,
        key: None,
        upstream_request_id: None,
        attempts: 0,
        status,
        end,
        refusal: Some(refusal),
        stream: false,
        source: Source::None,
        usage: None,
        cost: None,
        request_bytes: 0,
        response_bytes: 0,
        peek: None,
        connect: None,
        first_byte: None,
        total: Duration::ZERO,
    });
}

impl Told<'_> {
    fn record(&self) {
        self.count();
        let Self { arrived, ask, attempt, bill, .. } = self;
        let upstream = self.route.map(|route| &*route.upstream);
        let skipped = upstream.and_then(|upstream| self.passed.text(&upstream.credentials, upstream.proxies()));
        let carried = upstream.zip(*attempt);
        let credential = carried.and_then(|(upstream, attempt)| upstream.credential(attempt.pick));
        let proxy = carried.and_then(|(upstream, attempt)| upstream.proxy(attempt.pick));
        let model = self.route.and_then(|route| route.model.as_ref());
        arrived.access_log.write(&AccessEntry {
            id: &arrived.id,
            opened_at_unix_ms: arrived.unix_ms,
            client: self.caller.map(Caller::name),
            method: arrived.method.as_str(),
            path: arrived.uri.path(),
            api: arrived.asked,
            dialect: arrived.dialect,
            model: ask.model.as_deref(),
            upstream_model: model.and_then(|model| model.upstream_model_id.as_deref()),
            rule: self.route.map(Route::reason),
            skipped: skipped.as_deref(),
            upstream: upstream.map(|upstream| &*upstream.name),
            endpoint: upstream.and_then(|upstream| upstream.endpoint.as_ref()).map(|endpoint| endpoint.authority()),
            proxy: proxy.map(|proxy| &*proxy.id),
            key: credential.map(|credential| &*credential.id),
            upstream_request_id: attempt.and_then(|attempt| attempt.upstream_request_id.as_deref()),
            attempts: attempt.map_or(0, Attempt::count),
            status: self.status.unwrap_or(0),
            end: self.end,
            refusal: self.refusal,
            stream: self.delivery.is_sse(),
            source: bill.source,
            usage: bill.usage,
            cost: bill.usage.map(|_| bill.cost),
            request_bytes: ask.bytes as u64,
            response_bytes: self.delivery.bytes(),
            peek: ask.peek.filter(|took| !took.is_zero()),
            connect: attempt.and_then(|attempt| attempt.connect),
            first_byte: attempt.and_then(|attempt| attempt.first_byte),
            total: arrived.age(self.now),
        });
    }

    fn count(&self) {
        let (arrived, end, status) = (self.arrived, self.end, self.status.unwrap_or(0));
        let counters = arrived.in_flight.counters();
        counters.finished(status, end);
        if let Some(refusal) = self.refusal {
            counters.refused(refusal);
        }
        if let Some(Report { clamped: clamped @ 1.., .. }) = self.delivery.report() {
            counters.usage_clamped(clamped.into());
        }
        if let Some(route) = self.route {
            let first_byte = self.attempt.and_then(|attempt| attempt.first_byte).filter(|_| (200..300).contains(&status));
            let attempts = self.attempt.map_or(0, Attempt::count);
            counters.finished_at(&route.upstream.name, &Went { end, attempts, first_byte, total: arrived.age(self.now) });
        }
    }
}

#[cfg(test)]
#[path = "end_tests.rs"]
mod tests;
