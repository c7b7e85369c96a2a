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
use http::HeaderMap;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use crate::domain::upstream::first_event::{FirstEvent, Opening};
use crate::domain::upstream::verdict::{self, Meaning};
use crate::edge::context::Context;
use crate::edge::deliver::Delivery;
use crate::edge::rotation::{self, Because};

/// Begins to hold a stream that another key could answer in place of this one.
pub fn begin(delivery: &Delivery, ctx: &Context) -> Option<Box<FirstEvent>> {
    let arrival = ctx.arrival.as_ref()?;
    let limit = arrival.settings.retry.hold_first_event;
    if limit.is_zero() || !delivery.must_have_events() || !rotation::could_turn(ctx) {
        return None;
    }
    arrival.exchange.hold_until(Instant::now() + limit);
    Some(Box::default())
}

/// Looks at the next bytes of a held stream, before they are delivered.
///
/// # Errors
/// When the attempt failed and another key is tried.
pub fn look(chunk: Option<&Bytes>, ctx: &mut Context) -> Result<()> {
    let (Some(first_event), Some(chunk)) = (&mut ctx.attempt.first_event, chunk) else { return Ok(()) };
    let opening = first_event.push(chunk);
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let (exchange, upstream) = (arrival.exchange.clone(), routed.route.upstream.clone());
    let nothing_seen = exchange.held_until().is_some();
    match opening {
        Opening::Open if nothing_seen => return Ok(()),
        Opening::Fails { status } if nothing_seen => {
            let because = match verdict::meaning(status, false) {
                Meaning::Key(cause) => {
                    rotation::rest(&upstream, ctx.attempt.pick, cause, &HeaderMap::new());
                    Because::Key
                }
                _ => Because::Overloaded,
            };
            if rotation::turn(ctx, because).is_ok() {
                log::warn!("upstream {} answered 200 and then {status} as its first event: another key is tried", upstream.name);
                exchange.forget_answer();
                ctx.attempt.first_event = None;
                let mut again = Error::explain(ErrorType::HTTPStatus(status), "another key is tried").into_up();
                again.set_retry(true);
                return Err(again);
            }
        }
        Opening::Open | Opening::Begins | Opening::Fails { .. } => {}
    }
    exchange.end_hold();
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
