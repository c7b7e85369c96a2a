//! Step 8, as far as it touches the wire: each chunk goes through the relay, and the books are closed before the last one leaves.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use crate::domain::end::End;
use crate::edge::context::{Context, out_of_turn};
use crate::edge::judge::own_head;
use crate::edge::pingora_errors::again;
use crate::edge::tasks::NO_ANSWER;
use crate::edge::tell::tell;
use crate::ops::host::clock;
use crate::relay::dispatch::Broken;
use crate::relay::hold::Held;
use crate::relay::judge::Heard;

/// An answer ended before it was complete, in a way that Pingora can't see.
const UPSTREAM_CUT: ErrorType = ErrorType::Custom("UpstreamCut");

const HOOK: &str = "response_body_filter";

/// Passes one chunk on; gives the time for which Pingora is to take no other, should it have been much work.
pub fn deliver(chunk: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<Option<Duration>> {
    let (wire, walk) = ctx.walk(HOOK)?;
    if walk.is_hearing() {
        return hear(chunk, end, ctx).map(|()| None);
    }
    let (wire, walk) = match chunk {
        Some(bytes) if walk.looks_at_first_event() => {
            look(bytes, ctx)?;
            ctx.walk(HOOK)?
        }
        _ => (wire, walk),
    };
    // Asked where it matters alone: the answer stands behind a lock.
    let is_awaited = walk.is_awaited();
    let held = (end || is_awaited) && wire.held_until().is_some();
    let passed = walk.bytes(chunk, end, held);
    wire.await_usage(walk.awaits_usage());
    if is_awaited && walk.begins(clock::now()) {
        wire.end_hold();
    }
    if walk.has_notes() {
        tell(walk.take_notes());
    }
    match passed {
        Ok(Some(end)) => {
            if walk.looks_at_first_event() {
                // The answer is over: whatever was held is the answer.
                wire.end_hold();
            }
            ctx.close(end);
            Ok(None)
        }
        Ok(None) => Ok(walk.take_pause()),
        Err(Broken::Unfit) => Err(Error::explain(UPSTREAM_CUT, "the answer can't go on").into_up()),
        Err(Broken::NoAnswer) => Err(Error::explain(NO_ANSWER, "nothing of an answer").into_up()),
        Err(Broken::NoHead) => Err(out_of_turn(HOOK)),
    }
}

/// Hears an error; where it has ended and nothing follows, the answer is ours.
fn hear(chunk: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
    let (wire, dispatch) = ctx.out(HOOK)?;
    let heard = dispatch.hear(chunk.take().as_ref(), end, clock::step());
    let walk = dispatch.walk_mut();
    tell(walk.take_notes());
    match heard {
        Heard::More => Ok(()),
        Heard::Again { status } => {
            wire.forget_answer();
            Err(again(status, "another key or proxy is tried"))
        }
        Heard::Replace(replacement) => {
            let mut head = own_head(&replacement, walk)?;
            head.set_content_length(replacement.body.len())?;
            wire.answer_by(head);
            *chunk = Some(replacement.body);
            ctx.close(End::UpstreamError);
            Ok(())
        }
        Heard::TooLong => Err(Error::explain(UPSTREAM_CUT, "an error without an end").into_up()),
    }
}

/// Looks at the beginning of a stream that is held.
fn look(chunk: &[u8], ctx: &mut Context) -> Result<()> {
    let (wire, dispatch) = ctx.out(HOOK)?;
    let held = dispatch.first_event(chunk, wire.held_until().is_some(), clock::step());
    tell(dispatch.walk_mut().take_notes());
    match held {
        Held::Keep => Ok(()),
        Held::Release => {
            wire.end_hold();
            Ok(())
        }
        Held::Again { status } => {
            wire.forget_answer();
            Err(again(status, "another key is tried"))
        }
    }
}

/// Writes what was held for its whole time. The empty piece in the middle of a request's body is the replayed session's signal.
pub async fn release_due(session: &mut Session, chunk: Option<&Bytes>, end: bool) -> Result<()> {
    if !end && chunk.is_some_and(Bytes::is_empty) {
        session.write_response_tasks(Vec::new()).await?;
    }
    Ok(())
}
