//! What is said when it went wrong: an answer of ours while nothing was sent, an error event within a stream, a cut otherwise.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use crate::domain::answer::{Fault, Refusal, body::error_body, body::error_event};
use crate::domain::end::End;
use crate::edge::accounting;
use crate::edge::context::Context;
use crate::edge::deliver::Delivery;
use crate::edge::finish;
use crate::edge::judge::head_due;
use crate::edge::replay::{BODY_TOO_SLOW, STOPPING, UPSTREAM_TOO_LATE};
use crate::edge::respond;
use crate::edge::rotation::{self, Because};

/// Answers a request that never got an upstream; the connection stays usable where its framing is sure.
pub async fn refuse(session: &mut Session, ctx: &mut Context, refusal: Refusal) -> Result<()> {
    let Some(arrival) = &ctx.arrival else { return Ok(()) };
    if matches!(refusal, Refusal::BadHead { .. } | Refusal::BodyTooSlow { .. } | Refusal::Stopping) {
        arrival.exchange.close_after_answer();
    }
    let answer = refusal.answer();
    match refusal.fault() {
        Fault::Client => log::debug!("request {}: {refusal}", arrival.id),
        Fault::Gateway | Fault::Upstream => log::warn!("request {}: {refusal}", arrival.id),
    }
    ctx.outcome.status = answer.status;
    ctx.outcome.refusal = Some(refusal);
    respond::refuse(session.as_downstream_mut(), &answer, arrival.dialect, &arrival.id).await
}

/// How soon a connection that was closed before our request shows it: a round trip, with room.
const STALE_SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// Decides whether a failed attempt may be followed by another. Never once a final status went to the client, never when the body
/// could not be sent again.
pub fn may_retry(session: &Session, mut error: Box<Error>, ctx: &mut Context, reused: bool) -> Box<Error> {
    // Judged already: who comes next is known, or nobody does.
    if matches!(error.etype(), ErrorType::HTTPStatus(_)) && ctx.rotation.next.is_some() && !has_begun(session) {
        return error;
    }
    let is_lost = ctx.attempt.first_byte.is_none() && lost_connection(&error);
    // A kept connection that the upstream had closed shows it at once. One that breaks later broke under the request, which the
    // provider may have worked on: sent again, it would be paid for twice.
    let shows_at_once = reused && ctx.attempt.began.is_some_and(|began| began.elapsed() < STALE_SHOWS_WITHIN);
    error.retry.decide_reuse(shows_at_once);
    let because = if is_lost && shows_at_once {
        Because::Stale
    } else if error.retry() {
        // Pingora's own reasons: a stream that HTTP/2 refused, a protocol that the peer does not speak after all.
        Because::Unread
    } else if is_lost && ctx.attempt.pick.proxy.is_some() {
        // It is the proxy that broke, for all we can see, and a dead proxy is nothing that a client should notice. But once: what is lost
        // by two of them may be lost by the provider, which had it twice by then.
        let is_first = ctx.rotation.lost.is_empty();
        ctx.rotation.lost.push(ctx.attempt.pick);
        if !is_first {
            error.set_retry(false);
            return error;
        }
        Because::Proxy
    } else {
        error.set_retry(false);
        return error;
    };
    if has_begun(session) {
        error.set_retry(false);
        return error;
    }
    let turned = rotation::turn(ctx, because);
    error.set_retry(turned.is_ok());
    if let Err(stop) = turned
        && because == Because::Proxy
    {
        let last = Refusal::UpstreamFailed { detail: cause(&error, ctx) };
        ctx.outcome.refusal = Some(stop.refusal(ctx, because, last));
    }
    error
}

/// Whether a final head went to the client. An interim `100 Continue` is none.
fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational())
}

/// Whether the upstream's connection broke. Pingora marks this as worth a retry while the head is sent or awaited, but not while the
/// body is written, which is where a closed connection shows first when the body is large.
fn lost_connection(error: &Error) -> bool {
    matches!(error.esource(), ErrorSource::Upstream)
        && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed)
}

/// Answers for a failed proxying, in whatever form the client can still understand.
pub async fn answer(session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
    let refusal = refusal_of(error, ctx);
    let Some(arrival) = &ctx.arrival else { return FailToProxy { error_code: 500, can_reuse_downstream: false } };
    let Some(refusal) = refusal else {
        ctx.outcome.client_gone = true;
        if arrival.exchange.held_until().is_some() {
            ctx.outcome.status = 0;
        }
        session.as_downstream_mut().shutdown().await;
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    arrival.exchange.close_after_answer();
    let begun = has_begun(session);
    if begun && ctx.delivery.has_ended() && refusal != Refusal::LeakStopped {
        // The stream said its last word before the connection broke: nothing is missing.
        let rest = ctx.delivery.rest();
        let end = if ctx.delivery.reports_error() { End::UpstreamError } else { End::Ok };
        accounting::close(ctx, end);
        ctx.outcome.complete = session.as_downstream_mut().write_response_body(rest, true).await.is_ok();
        return FailToProxy { error_code: ctx.outcome.status, can_reuse_downstream: false };
    }
    log::warn!("request {}: {refusal}", arrival.id);
    let answer = match &mut ctx.delivery {
        // The provider's error broke off, but ours is known.
        Delivery::Replacing(replacing) => replacing.answer(arrival),
        Delivery::None | Delivery::Passing(_) => refusal.answer(),
    };
    if !begun {
        ctx.outcome.status = answer.status;
    }
    accounting::close(ctx, finish::end_by(&refusal, ctx));
    let Some(arrival) = &ctx.arrival else { return FailToProxy { error_code: 500, can_reuse_downstream: false } };
    let written = if !begun {
        respond::refuse(session.as_downstream_mut(), &answer, arrival.dialect, &arrival.id).await
    } else if ctx.delivery.takes_events() {
        let event = Bytes::from(error_event(arrival.api, &answer, &arrival.id));
        session.as_downstream_mut().write_response_body(event, true).await
    } else if let Delivery::Replacing(_) = &ctx.delivery {
        let body = Bytes::from(error_body(arrival.dialect, &answer, &arrival.id));
        session.as_downstream_mut().write_response_body(body, true).await
    } else {
        // A body without events has no room for an error: the client must see that it is cut.
        session.as_downstream_mut().shutdown().await;
        Ok(())
    };
    if let Err(gone) = written {
        log::debug!("request {}: the client left before it could be told: {gone}", arrival.id);
        ctx.outcome.client_gone = true;
    }
    ctx.outcome.refusal.get_or_insert(refusal);
    FailToProxy { error_code: ctx.outcome.status, can_reuse_downstream: false }
}

/// Pingora's account of a failure, fit for the log: it quotes a head that it could not read, raw and whole.
pub fn cause(error: &Error, ctx: &Context) -> String {
    const MOST_CHARS: usize = 300;
    let text = error.to_string();
    let unquoted = text.split(" buf: ").next().unwrap_or_default();
    let short: String = unquoted.chars().take(MOST_CHARS).collect();
    match ctx.routed.as_deref() {
        Some(routed) => routed.route.upstream.guard.mask(&short),
        None => short,
    }
}

/// What the failure means; `None`: the client is gone and nobody is left to answer.
fn refusal_of(error: &Error, ctx: &Context) -> Option<Refusal> {
    if let Some(known) = &ctx.outcome.refusal {
        return Some(known.clone());
    }
    if *error.etype() == STOPPING {
        return Some(Refusal::Stopping);
    }
    if *error.etype() == BODY_TOO_SLOW {
        let limit = ctx.arrival.as_ref().map(|arrival| arrival.settings.limits.body_read).unwrap_or_default();
        return Some(Refusal::BodyTooSlow { limit });
    }
    if *error.etype() == UPSTREAM_TOO_LATE {
        return Some(match (ctx.attempt.first_byte, head_due(ctx)) {
            (None, Some((_, limit))) => Refusal::FirstByteTooLate { limit },
            _ => Refusal::Cut { detail: "the upstream fell silent within its answer".to_owned() },
        });
    }
    match error.esource() {
        ErrorSource::Downstream => match error.etype() {
            ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectError
            | ErrorType::ReadTimedout
            | ErrorType::H2Error
            | ErrorType::H1Error => None,
            _ => Some(Refusal::BadHead { reason: "The request could not be read." }),
        },
        ErrorSource::Upstream => {
            let detail = cause(error, ctx);
            Some(match (ctx.attempt.first_byte, error.etype()) {
                // Another credential was to be tried, and could not be.
                (_, ErrorType::HTTPStatus(_)) => Refusal::UpstreamFailed { detail },
                (Some(_), _) => Refusal::Cut { detail },
                (None, ErrorType::ReadTimedout) => {
                    let limit = head_due(ctx).map(|(_, limit)| limit).unwrap_or_default();
                    Refusal::FirstByteTooLate { limit }
                }
                (None, _) => Refusal::UpstreamFailed { detail },
            })
        }
        ErrorSource::Internal | ErrorSource::Unset => Some(Refusal::Internal { detail: cause(error, ctx) }),
    }
}
