//! The books of one request: opened before it is dispatched, closed once, by value.
//!
//! ```text
//!   admitted ─► reserve the client's credit ─► ledger: open ─► dispatched (never before, G3)
//!   ended    ─► bill ─► ledger: close ─► settle the credit ─► the last byte is released (never before, G1)
//! ```
//! During an upgrade the other process sees the open before it reserves: both are made in one turn.

use std::borrow::Cow;

use crate::domain::answer::Refusal;
use crate::domain::billing::bill::{Bill, Seen};
use crate::domain::credit::Reservation;
use crate::domain::end::End;
use crate::domain::ledger::{Close, Open, Sent, UNLISTED};
use crate::domain::moment::Now;
use crate::domain::route::table::NamePattern;
use crate::domain::upstream::Pick;
use crate::domain::usage::Report;
use crate::ops::books::ledger::{Closed, Ledger, Ticket, Unwritable};
use crate::relay::stage::{Admitted, Attempt};

/// What is to be closed.
pub struct OpenBooks {
    ticket: Ticket,
    reservation: Option<Reservation>,
}

/// What the ledger has of the request.
#[derive(Clone, Debug)]
pub struct Booked {
    pub bill: Bill,
    pub end: End,
}

/// What is known of the request at its end.
pub struct Closing<'c> {
    pub admitted: &'c Admitted,
    pub attempt: &'c Attempt,
    /// The status that went to the client; `None`: none did.
    pub status: Option<u16>,
    pub end: End,
    /// `None`: no good answer began.
    pub report: Option<Report>,
    pub is_sse: bool,
    /// Of the answer's body, as the client got it.
    pub bytes: u64,
    pub now: Now,
}

impl OpenBooks {
    /// Reserves the client's credit and writes that the request is about to go out by `pick`.
    ///
    /// # Errors
    ///
    /// When the credit does not reach, or when the ledger takes nothing: then nothing may be served (G3).
    pub fn open(ledger: &Ledger, admitted: &Admitted, pick: Pick) -> Result<Self, Refusal> {
        // Until the open is written: the other process of an upgrade sees it before it reserves.
        let _turn = admitted.caller.account().and_then(|_| ledger.turn());
        let (ask, route) = (&admitted.ask, &admitted.way.route);
        let reservation = admitted.gate().reserve(route, ask.bytes, ask.output)?;
        let client_key = client_key(admitted);
        let open = Open {
            sent: sent(admitted, &entry_of(admitted), client_key.as_deref(), pick),
            reservation: reservation.as_ref().map(Reservation::amount).unwrap_or_default(),
        };
        let unwritable = |error: Unwritable| Refusal::LedgerUnwritable { detail: error.to_string() };
        let ticket = ledger.open(&open).map_err(unwritable)?;
        Ok(Self { ticket, reservation })
    }

    /// Writes what the request costs, and settles the client's credit. [`Closed`] tells what the last byte has to wait for.
    pub fn close(self, closing: Closing<'_>) -> (Booked, Closed) {
        let Closing { admitted, attempt, end, is_sse, now, .. } = closing;
        let Admitted { arrived, ask, way, .. } = admitted;
        let price = arrived.settings.price_of(&way.route);
        let seen = Seen {
            spoken: way.spoken,
            end,
            report: closing.report,
            was_sent: attempt.connect.is_some(),
            request_bytes: ask.bytes as u64,
            json_bytes: if is_sse { 0 } else { closing.bytes },
        };
        let bill = Bill::of(&seen, &arrived.settings.billing, &arrived.settings.prices_of(&way.route));
        let usage = bill.usage.unwrap_or_default();
        // Counted here and nowhere else, so that the metrics' sums are the ledger's.
        let pattern = entry_of(admitted);
        arrived.in_flight.counters().booked(&way.route.upstream.name, &pattern, bill.source, &usage, bill.cost);
        let client_key = client_key(admitted);
        let closed = self.ticket.close(&Close {
            sent: sent(admitted, &pattern, client_key.as_deref(), attempt.pick),
            closed_at_unix_ms: now.unix_ms,
            attempts: attempt.count(),
            status: closing.status.unwrap_or(0),
            end,
            stream: is_sse,
            source: bill.source,
            usage,
            lines: Cow::Borrowed(&bill.lines),
            conditions: bill.conditions.iter().map(|(when, _)| Cow::Owned(when.to_string())).collect(),
            cost: bill.cost,
            multiplier: price.multiplier(),
            first_byte: attempt.first_byte,
            total: arrived.age(now.moment),
        });
        if let Some(reservation) = self.reservation {
            reservation.settle(bill.cost);
        }
        (Booked { bill, end }, closed)
    }
}

/// What in the configuration named the model.
pub(super) fn entry_of(admitted: &Admitted) -> Option<NamePattern> {
    let Admitted { arrived, ask, way, .. } = admitted;
    arrived.settings.routing.pattern_of(&way.route, ask.model.as_deref())
}

/// The model in sums, as in the metrics.
fn listed_as<'c>(admitted: &'c Admitted, entry: &Option<NamePattern>) -> Option<Cow<'c, str>> {
    let name = admitted.model()?;
    Some(match entry {
        // Nearly always: it is what the line says already.
        Some(NamePattern::Exact(id)) if **id == *name => Cow::Borrowed(name),
        Some(pattern) => Cow::Owned(pattern.to_string()),
        None => Cow::Borrowed(UNLISTED),
    })
}

fn client_key(admitted: &Admitted) -> Option<String> {
    admitted.caller.client().map(|client| client.key.fingerprint())
}

fn sent<'c>(admitted: &'c Admitted, entry: &Option<NamePattern>, client_key: Option<&'c str>, pick: Pick) -> Sent<'c> {
    let Admitted { arrived, caller, way, .. } = admitted;
    let upstream = &*way.route.upstream;
    Sent {
        id: Cow::Borrowed(arrived.id.as_str()),
        opened_at_unix_ms: arrived.unix_ms,
        client: Some(Cow::Borrowed(caller.name())),
        client_key: client_key.map(Cow::Borrowed),
        model: admitted.model().map(Cow::Borrowed),
        listed_as: listed_as(admitted, entry),
        upstream: Cow::Borrowed(&upstream.name),
        endpoint: Some(Cow::Borrowed(way.endpoint.authority())),
        proxy: upstream.proxy(pick).map(|proxy| Cow::Borrowed(&*proxy.id)),
        key: upstream.credential(pick).map(|credential| Cow::Borrowed(&*credential.id)),
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
