//! Step 7, as far as it touches the wire: a good head becomes the client's, an error's is kept back, the deadlines move on. What it means
//! stands in `relay::judge`.

use std::time::Instant;

use http::header::{self, HeaderName};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use crate::domain::end::End;
use crate::edge::context::Context;
use crate::edge::pingora_errors::again;
use crate::edge::respond;
use crate::edge::tell::tell;
use crate::edge::wire::{Watch, Wire};
use crate::ops::host::clock;
use crate::relay::dispatch::Walk;
use crate::relay::judge::{HeadEdits, HeadSeen, Next, Replacement};

/// Judges the head and rewrites it into the client's.
pub fn judge(head: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    let (wire, dispatch) = ctx.asked("upstream_response_filter")?;
    if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let status = head.status.as_u16();
    let seen = HeadSeen { status, version: head.version, headers: &head.headers };
    let next = dispatch.head(seen, clock::step());
    let walk = dispatch.walk_mut();
    tell(walk.take_notes());
    match next {
        Next::Again => {
            wire.watch(Watch::Idle { limit: walk.upstream().timeouts.idle });
            Err(again(status, "another key or proxy is tried"))
        }
        Next::Pass(edits) => pass(head, edits, wire, walk),
        Next::Hear { patience } => {
            wire.hear();
            wire.watch(Watch::Until { by: Instant::now() + patience });
            Ok(())
        }
        Next::Replace(replacement) => {
            *head = own_head(&replacement, walk)?;
            wire.set_tail(replacement.body);
            ctx.close(End::UpstreamError);
            Ok(())
        }
        Next::Unusable { reason } => Err(Error::explain(ErrorType::InvalidHTTPHeader, reason).into_up()),
    }
}

/// A good answer: its head with what clients may see (O7, O8).
fn pass(head: &mut ResponseHeader, edits: HeadEdits, wire: &Wire, walk: &Walk) -> Result<()> {
    let HeadEdits { withheld, drops_length, tail, hold } = edits;
    withhold(head, &withheld);
    if drops_length {
        head.remove_header(&header::CONTENT_LENGTH);
    }
    wire.watch(Watch::Idle { limit: walk.upstream().timeouts.idle });
    let arrived = walk.arrived();
    respond::name_request(head, arrived.dialect, &arrived.id)?;
    if let Some(tail) = tail {
        wire.set_tail(tail);
    }
    if let Some(limit) = hold {
        wire.hold_until(Instant::now() + limit);
    }
    Ok(())
}

/// The head of the answer that takes an error's place, without its length.
pub fn own_head(replacement: &Replacement, walk: &Walk) -> Result<ResponseHeader> {
    let arrived = walk.arrived();
    let mut head = respond::refusal_head(&replacement.answer, arrived.dialect, &arrived.id)?;
    for (name, value) in &replacement.advice {
        // What ours says itself stands.
        if !head.headers.contains_key(name) {
            head.append_header(name, value)?;
        }
    }
    Ok(head)
}

fn withhold(head: &mut ResponseHeader, names: &[HeaderName]) {
    // The phrase beside the status is text of the provider's as well.
    let _ = head.set_reason_phrase(None);
    for name in names {
        head.remove_header(name);
    }
}
