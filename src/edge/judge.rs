//! Step 7: what the head of an answer means, and the head that the client gets for it.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use crate::domain::answer::Refusal;
use crate::domain::answer::body::error_body;
use crate::domain::end::End;
use crate::domain::headers;
use crate::domain::upstream::advice::retry_after;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::standing::Cause;
use crate::domain::upstream::verdict::{self, Meaning};
use crate::edge::accounting;
use crate::edge::context::{Context, Routed};
use crate::edge::deliver::{Delivery, cut_event};
use crate::edge::exchange::Watch;
use crate::edge::hold;
use crate::edge::respond;
use crate::edge::rotation::{self, Because};

/// How long a provider may take to end the body of an error: the client waits for it.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// Judges the head and rewrites it into the client's.
pub fn judge(head: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let upstream = &routed.route.upstream;
    if let Some(reason) = unusable_framing(head) {
        ctx.outcome.refusal = Some(Refusal::UpstreamFailed { detail: reason.to_owned() });
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, reason).into_up());
    }
    ctx.attempt.first_byte = Some(arrival.at.elapsed());
    arrival.exchange.watch(Watch::Idle { limit: upstream.timeouts.idle });

    let their_id = headers::response::upstream_request_id(&head.headers);
    ctx.attempt.upstream_request_id = their_id.filter(|id| !upstream.guard.contains(id.as_bytes())).map(Box::from);
    // The phrase beside the status is text of the provider's as well.
    let _ = head.set_reason_phrase(None);
    let status = head.status.as_u16();
    let from_proxy = upstream.proxy(ctx.attempt.pick).is_some_and(Proxy::speaks_http);
    let because = match verdict::meaning(status, from_proxy) {
        Meaning::Good => {
            rotation::answered(ctx);
            return pass(head, ctx);
        }
        Meaning::Key(cause) => {
            rotation::rest(upstream, ctx.attempt.pick, cause, &head.headers);
            if cause == Cause::Forbidden {
                ctx.rotation.forbidden.push(ctx.attempt.pick);
            }
            Because::Key
        }
        Meaning::Overloaded => Because::Overloaded,
        Meaning::Proxy => {
            ctx.rotation.lost.push(ctx.attempt.pick);
            Because::Proxy
        }
        Meaning::Request | Meaning::Unusable => {
            return replace(head, ctx, verdict::refusal(status, retry_after(&head.headers, SystemTime::now())));
        }
    };
    match rotation::turn(ctx, because) {
        Ok(()) => {
            let mut again = Error::explain(ErrorType::HTTPStatus(status), "another key or proxy is tried").into_up();
            again.set_retry(true);
            Err(again)
        }
        Err(stop) => {
            let last = verdict::refusal(status, retry_after(&head.headers, SystemTime::now()));
            let refusal = stop.refusal(ctx, because, last);
            replace(head, ctx, refusal)
        }
    }
}

/// A good answer: its head with what clients may see, its body as it comes.
fn pass(head: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let delivery = Delivery::passing(head, arrival, routed)?;
    keep_listed_headers(head, routed);
    if delivery.changes_length() {
        head.remove_header(&header::CONTENT_LENGTH);
    }
    respond::name_request(head, arrival.dialect, &arrival.id)?;
    if delivery.must_have_events() {
        arrival.exchange.set_tail(cut_event(arrival));
    }
    ctx.outcome.status = head.status.as_u16();
    ctx.attempt.first_event = hold::begin(&delivery, ctx);
    ctx.delivery = delivery;
    Ok(())
}

/// Makes the head ours; the body follows when the provider's is complete, or stands already.
fn replace(head: &mut ResponseHeader, ctx: &mut Context, refusal: Refusal) -> Result<()> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let upstream = &routed.route.upstream;
    let status = head.status.as_u16();
    let shows_message = upstream.pass_client_faults && verdict::is_client_fault(status);
    let answer = refusal.answer();
    // Without a message of the provider's the body is known now; with one it follows when the provider's is complete.
    let known = Bytes::from(error_body(arrival.dialect, &answer, &arrival.id));
    let encoding = head.headers.get(header::CONTENT_ENCODING).cloned();
    let keeps_advice = matches!(refusal, Refusal::UpstreamStatus { .. });
    clear(head, |name, value| keeps_advice && headers::response::is_advice(name) && !upstream.guard.contains(value.as_bytes()));
    head.set_status(answer.status)?;
    respond::write_refusal_headers(head, &answer, arrival.dialect, &arrival.id)?;
    arrival.exchange.set_tail(known);
    arrival.exchange.watch(Watch::Until { by: Instant::now() + upstream.timeouts.idle.min(ERROR_BODY_TIME) });
    ctx.outcome.status = answer.status;
    ctx.outcome.refusal = Some(refusal.clone());
    ctx.delivery = Delivery::replacing(refusal, status, shows_message, encoding.as_ref(), routed);
    accounting::close(ctx, End::UpstreamError);
    Ok(())
}

/// Why the body of this answer could not be told from the next one's; Pingora reads on to the connection's end instead.
fn unusable_framing(head: &ResponseHeader) -> Option<&'static str> {
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Some("an upgrade that nobody asked for");
    }
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let known = codings.next().is_none_or(is_chunked) && codings.next().is_none();
    (!known).then_some("a transfer coding other than chunked")
}

/// Removes what is not on the list, and what carries a key of ours (O7, O8).
fn keep_listed_headers(head: &mut ResponseHeader, routed: &Routed) {
    let guard = &routed.route.upstream.guard;
    let mut gone = headers::response::names_to_withhold(&head.headers);
    gone.extend(head.headers.iter().filter(|(_, value)| guard.contains(value.as_bytes())).map(|(name, _)| name.clone()));
    for name in gone {
        head.remove_header(&name);
    }
}

/// Removes every header that is not worth keeping; Pingora sets the framing again.
fn clear(head: &mut ResponseHeader, keeps: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    let names: Vec<HeaderName> =
        head.headers.iter().filter(|(name, value)| !keeps(name, value)).map(|(name, _)| name.clone()).collect();
    for name in names {
        head.remove_header(&name);
    }
}

/// When the attempt under way must have a head, for the error that says it had none.
pub fn head_due(ctx: &Context) -> Option<(Instant, Duration)> {
    let limit = ctx.routed.as_deref()?.route.upstream.timeouts.first_byte;
    Some((ctx.attempt.began? + limit, limit))
}
