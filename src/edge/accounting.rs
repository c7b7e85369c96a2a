//! The books of one request: opened before it goes out, closed before the last byte of its answer does (G1).
//!
//! ```text
//!   route ──► open: credit reserved, ledger `open` ──► … ──► close: bill, ledger `close`, credit settled ──► the last byte
//! ```
//!
//! Whichever step sees the end first closes: the terminator of a stream, the end of a body, an answer of ours in place of the
//! provider's, or at the latest the request's own end. The books are closed once; later steps find them closed.

use std::borrow::Cow;

use crate::domain::answer::Refusal;
use crate::domain::billing::bill::{Bill, Seen};
use crate::domain::credit::Reservation;
use crate::domain::end::End;
use crate::domain::ledger::{Close, Dispatch, Open};
use crate::edge::context::{Arrival, Booked, Context, Routed};
use crate::edge::gateway::Gateway;
use crate::ops::clock;
use crate::ops::ledger::{Closed, Ticket};

/// What is to be closed.
pub struct OpenBooks {
    ticket: Ticket,
    reservation: Option<Reservation>,
}

/// Reserves the client's credit and writes that the request is about to go out.
///
/// # Errors
/// When the credit does not reach, or when the ledger takes nothing: then nothing may be served (G3).
pub fn open(gateway: &Gateway, ctx: &mut Context) -> Result<(), Refusal> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let account = ctx.client.as_ref().and_then(|caller| caller.account());
    // Until the open is written: the other process of an upgrade sees it before it reserves.
    let _turn = account.and_then(|_| gateway.ledger.turn());
    let reservation = match account {
        Some(account) => {
            let (bytes, output) = (ctx.asked.body_bytes, ctx.asked.output);
            let amount = arrival.settings.reservation(&routed.route, arrival.api, bytes, output);
            Some(account.reserve(amount).map_err(|short| Refusal::NoCredit { missing: short.missing })?)
        }
        None => None,
    };
    let client_key = client_key(ctx);
    let open = Open {
        dispatch: dispatch(ctx, arrival, routed, client_key.as_deref()),
        reservation: reservation.as_ref().map(Reservation::amount).unwrap_or_default(),
    };
    let unwritable = |error: crate::ops::ledger::Unwritable| Refusal::LedgerUnwritable { detail: error.to_string() };
    let ticket = gateway.ledger.open(&open).map_err(unwritable)?;
    ctx.books = Some(Box::new(OpenBooks { ticket, reservation }));
    Ok(())
}

/// Writes what the request costs, and settles the client's credit. The first call counts.
pub fn close(ctx: &mut Context, end: End) {
    let Some(books) = ctx.books.take() else { return };
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return };
    let price = arrival.settings.price_of(&routed.route);
    let seen = Seen {
        spoken: arrival.api,
        end,
        report: ctx.delivery.report(),
        was_sent: ctx.attempt.connect.is_some(),
        request_bytes: ctx.asked.body_bytes as u64,
        json_bytes: if ctx.delivery.is_sse() { 0 } else { ctx.delivery.bytes() },
    };
    let bill = Bill::of(&seen, &arrival.settings.billing, price);
    let usage = bill.usage.unwrap_or_default();
    // Counted here and nowhere else, so that the metrics' sums are the ledger's.
    let pattern = arrival.settings.routing.pattern_of(&routed.route, ctx.asked.model.as_deref());
    arrival.in_flight.counters().booked(&routed.route.upstream.name, &pattern, bill.source, &usage, bill.cost);
    let client_key = client_key(ctx);
    let closed = books.ticket.close(&Close {
        dispatch: dispatch(ctx, arrival, routed, client_key.as_deref()),
        closed_at_unix_ms: clock::now_unix_ms(),
        attempts: ctx.attempt.number,
        status: ctx.outcome.status,
        end,
        stream: ctx.delivery.is_sse(),
        source: bill.source,
        usage,
        cost: bill.cost,
        multiplier: price.multiplier(),
        first_byte: ctx.attempt.first_byte,
        total: arrival.at.elapsed(),
    });
    if let Some(reservation) = books.reservation {
        reservation.settle(bill.cost);
    }
    match closed {
        Closed::Written => {}
        Closed::Flushing(_) | Closed::Kept(_) => arrival.exchange.wait_before_writing(closed),
    }
    ctx.outcome.booked = Some(Booked { bill, end });
}

fn client_key(ctx: &Context) -> Option<String> {
    ctx.client.as_ref()?.client().map(|client| client.key.fingerprint())
}

fn dispatch<'c>(ctx: &'c Context, arrival: &'c Arrival, routed: &'c Routed, client_key: Option<&'c str>) -> Dispatch<'c> {
    let (upstream, model) = (&*routed.route.upstream, routed.route.model.as_ref());
    let before_any = ctx.rotation.next.filter(|_| ctx.attempt.number == 0);
    let pick = before_any.unwrap_or(ctx.attempt.pick);
    Dispatch {
        id: Cow::Borrowed(arrival.id.as_str()),
        opened_at_unix_ms: arrival.unix_ms,
        client: ctx.client.as_ref().map(|caller| Cow::Borrowed(caller.name())),
        client_key: client_key.map(Cow::Borrowed),
        model: model.map(|model| &*model.id).or(ctx.asked.model.as_deref()).map(Cow::Borrowed),
        upstream: Cow::Borrowed(&upstream.name),
        endpoint: upstream.endpoint.as_ref().map(|endpoint| Cow::Borrowed(endpoint.authority())),
        proxy: upstream.proxy(pick).map(|proxy| Cow::Borrowed(&*proxy.id)),
        key: upstream.credential(pick).map(|credential| Cow::Borrowed(&*credential.id)),
    }
}
