//! Holds an event stream's beginning back until its first event shows that the answer begins (`retry.hold_first_event_ms`).
//!
//! ```text
//!   head, heartbeats ──► held in the replayed session ─┬─ first event good, or the time is up ──► client, byte for byte
//!                                                      ├─ first event a failure of the key ─────► dropped, the next key is tried
//!                                                      └─ the upstream dies ────────────────────► dropped, a proper status
//! ```
//!
//! Nothing is held that no other key could better: the last key's answer, JSON, a compressed stream, a body that can't be sent again.

use std::time::Instant;

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use crate::domain::upstream::first_event::{FirstEvent, Opening};
use crate::edge::context::{Arrival, Context};
use crate::edge::deliver::Delivery;
use crate::edge::judge::may_try_another;

/// Begins to hold a stream that another credential could answer in place of this one.
pub fn begin(delivery: &Delivery, another_credential: bool, arrival: &Arrival) -> Option<Box<FirstEvent>> {
    let limit = arrival.settings.retry.hold_first_event;
    if limit.is_zero() || !another_credential || !delivery.must_have_events() {
        return None;
    }
    arrival.exchange.hold_until(Instant::now() + limit);
    Some(Box::default())
}

/// Looks at the next bytes of a held stream, before they are delivered.
///
/// # Errors
/// When the attempt failed and another credential is tried.
pub fn look(chunk: Option<&Bytes>, ctx: &mut Context) -> Result<()> {
    let (Some(first_event), Some(chunk)) = (&mut ctx.attempt.first_event, chunk) else { return Ok(()) };
    let opening = first_event.push(chunk);
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let nothing_seen = arrival.exchange.held_until().is_some();
    match opening {
        Opening::Open if nothing_seen => return Ok(()),
        Opening::Fails { status } if nothing_seen && may_try_another(ctx, arrival, routed) => {
            log::warn!(
                "request {}: upstream {} answered 200 and then {status} as its first event: another credential is tried",
                arrival.id,
                routed.route.upstream.name
            );
            arrival.exchange.forget_answer();
            ctx.attempt.first_event = None;
            ctx.attempt.tries_next_credential = true;
            let mut again = Error::explain(ErrorType::HTTPStatus(status), "another credential is tried").into_up();
            again.set_retry(true);
            return Err(again);
        }
        Opening::Open | Opening::Begins | Opening::Fails { .. } => {}
    }
    arrival.exchange.end_hold();
    ctx.attempt.first_event = None;
    Ok(())
}

/// Writes what was held for its whole time. The empty piece in the middle of a request's body is the replayed session's signal.
pub async fn release_due(session: &mut Session, chunk: Option<&Bytes>, end: bool) -> Result<()> {
    if !end && chunk.is_some_and(Bytes::is_empty) {
        session.write_response_tasks(Vec::new()).await?;
    }
    Ok(())
}
