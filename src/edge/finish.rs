//! Step 9: the request in one access line, and in the counters.

use std::time::Duration;

use pingora_core::Error;
use pingora_http::RequestHeader;

use crate::domain::answer::{Fault, Refusal};
use crate::domain::billing::bill::Bill;
use crate::domain::client::Caller;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::id::RequestId;
use crate::domain::ledger::End;
use crate::domain::route::Route;
use crate::domain::usage::{Report, Source};
use crate::edge::accounting;
use crate::edge::context::{Arrival, Booked, Context};
use crate::edge::gateway::Records;
use crate::ops::host::clock;
use crate::ops::watch::access_log::AccessEntry;
use crate::ops::watch::counters::Went;

/// How a request ended (U7).
fn end_of(ctx: &Context, error: Option<&Error>) -> End {
    match &ctx.outcome.refusal {
        // SDKs hang up on an error event: that is no leaving.
        _ if ctx.outcome.client_gone && ctx.delivery.reports_error() => End::UpstreamError,
        _ if ctx.outcome.client_gone => End::ClientGone,
        Some(refusal) => end_by(refusal, ctx),
        None if error.is_some() && !ctx.outcome.complete => End::ClientGone,
        None if ctx.delivery.reports_error() => End::UpstreamError,
        None => End::Ok,
    }
}

/// How a request ended that an answer of ours ended.
pub fn end_by(refusal: &Refusal, ctx: &Context) -> End {
    match (refusal, refusal.fault()) {
        (Refusal::Cut { .. } | Refusal::LeakStopped, _) => End::UpstreamCut,
        (Refusal::Stopping, _) if ctx.attempt.number > 0 => End::Interrupted,
        (_, Fault::Upstream) if ctx.attempt.number > 0 => End::UpstreamError,
        (_, Fault::Client | Fault::Gateway | Fault::Upstream) => End::Refused,
    }
}

/// Ends a request that Pingora is done with.
pub fn finish(error: Option<&Error>, ctx: &mut Context) {
    let Some(arrival) = &ctx.arrival else { return };
    if ctx.delivery.must_have_events() && arrival.exchange.tail_taken() {
        ctx.outcome.refusal = Some(Refusal::Cut { detail: "a stream without an event".to_owned() });
    }
    end(ctx, end_of(ctx, error));
}

/// Closes the books, writes the access line and counts the request, once.
pub fn end(ctx: &mut Context, end: End) {
    if std::mem::replace(&mut ctx.outcome.is_recorded, true) {
        return;
    }
    // Whatever has not seen its end by now has none: a client that left, an attempt that nobody could finish.
    accounting::close(ctx, end);
    // The line says what the books say: a client that drops its connection behind the last byte has its answer.
    let Booked { bill, end } = ctx.outcome.booked.unwrap_or(Booked { bill: Bill::NOTHING, end });
    let Some(arrival) = &ctx.arrival else { return };
    count(ctx, arrival, end);
    let routed = ctx.routed.as_deref();
    let route = routed.map(|routed| &routed.route);
    let upstream = route.map(|route| &*route.upstream);
    let asked = upstream.filter(|_| ctx.attempt.number > 0);
    let skipped = upstream.and_then(|upstream| ctx.rotation.passed.text(upstream));
    let credential = asked.and_then(|upstream| upstream.credential(ctx.attempt.pick));
    let proxy = asked.and_then(|upstream| upstream.proxy(ctx.attempt.pick));

    arrival.access_log.write(&AccessEntry {
        id: &arrival.id,
        opened_at_unix_ms: arrival.unix_ms,
        client: ctx.client.as_ref().map(Caller::name),
        method: arrival.method.as_str(),
        path: arrival.uri.path(),
        api: arrival.api,
        dialect: arrival.dialect,
        model: ctx.asked.model.as_deref(),
        upstream_model: route.and_then(|route| route.model.as_ref()).and_then(|model| model.upstream_model_id.as_deref()),
        rule: route.map(Route::reason),
        skipped: skipped.as_deref(),
        upstream: upstream.map(|upstream| &*upstream.name),
        endpoint: upstream.and_then(|upstream| upstream.endpoint.as_ref()).map(|endpoint| endpoint.authority()),
        proxy: proxy.map(|proxy| &*proxy.id),
        key: credential.map(|credential| &*credential.id),
        upstream_request_id: ctx.attempt.upstream_request_id.as_deref(),
        attempts: ctx.attempt.number,
        status: ctx.outcome.status,
        end,
        refusal: ctx.outcome.refusal.as_ref(),
        stream: ctx.delivery.is_sse(),
        source: bill.source,
        usage: bill.usage,
        cost: bill.usage.map(|_| bill.cost),
        request_bytes: ctx.asked.body_bytes as u64,
        response_bytes: ctx.delivery.bytes(),
        peek: (!ctx.asked.peek.is_zero()).then_some(ctx.asked.peek),
        connect: ctx.attempt.connect,
        first_byte: ctx.attempt.first_byte,
        total: arrival.at.elapsed(),
    });
}

fn count(ctx: &Context, arrival: &Arrival, end: End) {
    let (counters, status) = (arrival.in_flight.counters(), ctx.outcome.status);
    counters.finished(status, end);
    if let Some(refusal) = &ctx.outcome.refusal {
        counters.refused(refusal);
    }
    if let Some(Report { clamped: clamped @ 1.., .. }) = ctx.delivery.report() {
        counters.usage_clamped(clamped.into());
    }
    if let Some(routed) = ctx.routed.as_deref() {
        let first_byte = ctx.attempt.first_byte.filter(|_| (200..300).contains(&status));
        let went = Went { end, attempts: ctx.attempt.number, first_byte, total: arrival.at.elapsed() };
        counters.finished_at(&routed.route.upstream.name, &went);
    }
}

/// Writes the line of a head that was refused before it became a request, and counts it; `head` as far as it could be read.
pub fn finish_head(records: &Records, id: &RequestId, head: Option<&RequestHeader>, dialect: Dialect, refusal: &Refusal) {
    let (status, end) = (refusal.answer().status, End::Refused);
    records.counters.finished(status, end);
    records.counters.refused(refusal);
    records.access_log.write(&AccessEntry {
        id,
        opened_at_unix_ms: clock::now_unix_ms(),
        client: None,
        method: head.map_or("-", |head| head.method.as_str()),
        path: head.map_or("-", |head| head.uri.path()),
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
