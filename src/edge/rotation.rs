//! Between two attempts: what the last one means for its key and its proxy, and who carries the next one.
//!
//! | what happened | what it means | who is next |
//! |---|---|---|
//! | 429, 402, 401 | the key rests, or is dead | the same proxy's next key, else the next proxy |
//! | 403 | the key is dead if the next one serves the request | the same |
//! | 503, 529 | nothing rests | the same |
//! | no connection | the proxy failed | the next proxy |
//! | a lost one; 407, 502, 503 by a reverse proxy | the proxy failed if another one carries the request | the next proxy, a lost one once |
//! | a kept connection was stale, or refused the request unread | nothing | another proxy, else the same |
//!
//! The next carrier is chosen at the moment of the failure: without one there is no retry, and the client gets an answer that keeps
//! its connection.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::domain::answer::Refusal;
use crate::domain::upstream::passed::PassedOver;
use crate::domain::upstream::standing::{Cause, KeyState};
use crate::domain::upstream::status::whole_seconds;
use crate::domain::upstream::{Out, Pick, Upstream};
use crate::edge::checks;
use crate::edge::context::{Arrival, Context, Rotation};
use crate::ops::host::clock;

/// Why an attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The provider refused the key, which rests now.
    Key,
    /// The provider has too much to do; another key may be luckier.
    Overloaded,
    /// The proxy can't be used.
    Proxy,
    /// The connection could not be opened, or not by this address.
    Connection,
    /// The connection had been closed before the request went out on it.
    Stale,
    /// The connection refused the request unread (HTTP/2), or speaks another protocol than was offered.
    Unread,
}

/// Why no attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Attempts, time or the share of retries are used up, or the body can't be sent again.
    Limit,
    /// Nobody is left.
    Out(Out),
}

impl Stop {
    /// What the client is told; `last`: what the last attempt alone would say.
    pub fn refusal(self, ctx: &Context, because: Because, last: Refusal) -> Refusal {
        let Some(routed) = ctx.routed.as_deref() else { return last };
        let upstream = &routed.route.upstream;
        let is_ours = upstream.hides_limits && upstream.rotates();
        match self {
            // The provider's load is no limit of ours.
            _ if !is_ours || because == Because::Overloaded => last,
            // Nobody rests: every key was refused this one request (O4).
            Self::Out(Out::Until(at)) if at <= clock::now() && matches!(last, Refusal::KeyRefused { .. }) => last,
            Self::Out(out @ Out::Until(_)) => beforehand(upstream, out),
            // Others may be ready: one key's long wait is not the pool's.
            Self::Limit if matches!(last, Refusal::UpstreamStatus { status: 429, .. }) => {
                beforehand(upstream, Out::Until(clock::now()))
            }
            Self::Out(Out::KeysDead) | Self::Limit => last,
        }
    }
}

/// What a request is told that nobody can carry.
fn beforehand(upstream: &Upstream, out: Out) -> Refusal {
    let Out::Until(back_at) = out else { return Refusal::KeyRefused { status: 401 } };
    let now = clock::now();
    let wait = Duration::from_secs(whole_seconds(now, back_at));
    let rests_for = |cause| {
        let mut states = upstream.credentials.iter().map(|credential| credential.standing.state(now));
        states.any(|state| matches!(state, KeyState::Cooling { cause: found, .. } if found == cause))
    };
    match upstream.hides_limits {
        // Our money, and no limit that a client could keep (O4).
        false if rests_for(Cause::Exhausted) && !rests_for(Cause::RateLimited) => Refusal::KeyRefused { status: 402 },
        true => Refusal::PoolOut { upstream: upstream.name.to_string(), wait },
        // As the last key's own answer was (O5).
        false => Refusal::UpstreamStatus { status: 429, message: None, retry_after: Some(wait) },
    }
}

/// Chooses who carries the first attempt; refuses, before anybody is contacted, when nobody can (T4).
pub fn begin(ctx: &mut Context) -> Result<(), Refusal> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    let upstream = &routed.route.upstream;
    upstream.retry_budget.pay_in(arrival.settings.retry.max_share_percent);
    let Rotation { tried, next, passed, .. } = &mut ctx.rotation;
    match upstream.pick_and_note(tried, clock::now(), passed) {
        Ok(pick) => {
            *next = Some(pick);
            Ok(())
        }
        Err(out) => Err(beforehand(upstream, out)),
    }
}

/// Turns to whoever carries the next attempt.
///
/// # Errors
/// [`Stop`] when no attempt may follow.
pub fn turn(ctx: &mut Context, because: Because) -> Result<(), Stop> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Err(Stop::Limit) };
    let (upstream, retry, now) = (&routed.route.upstream, &arrival.settings.retry, clock::now());
    let within_limits = is_within_limits(ctx, arrival);
    let (Rotation { tried, next, passed, .. }, before) = (&mut ctx.rotation, ctx.attempt.pick);
    let mut over = PassedOver::default();
    let pick = match because {
        Because::Key | Because::Overloaded => {
            tried.key(before);
            upstream.pick_and_note(tried, now, &mut over)
        }
        Because::Proxy | Because::Connection => {
            tried.proxy(before);
            upstream.pick_and_note(tried, now, &mut over)
        }
        // The connection was at fault, not who carried it: where nobody else is left, a new one will do.
        Because::Stale => Ok(upstream.pick_beside(before, tried, now).unwrap_or(before)),
        Because::Unread => Ok(before),
    };
    let pick = match pick {
        Ok(pick) => pick,
        Err(out) => {
            passed.append(over);
            return Err(Stop::Out(out));
        }
    };
    // Before a connection stands nothing of the body is sent.
    let can_send_again = routed.length.is_some() || because == Because::Connection;
    let is_free = matches!(because, Because::Key | Because::Stale);
    if !can_send_again || !within_limits || !(is_free || upstream.retry_budget.take(retry.max_share_percent, now)) {
        return Err(Stop::Limit);
    }
    note_left(upstream, before, because, passed);
    passed.append(over);
    *next = Some(pick);
    Ok(())
}

/// Notes for the access line why the request went on without who carried the last attempt.
fn note_left(upstream: &Upstream, before: Pick, because: Because, passed: &mut PassedOver) {
    match because {
        Because::Key => {
            let state = upstream.credential(before).map(|credential| credential.standing.state(clock::now()));
            passed.left_key(
                before,
                match state {
                    Some(KeyState::Cooling { cause, .. } | KeyState::Dead { cause }) => cause.label(),
                    Some(KeyState::Ready) | None => "refused",
                },
            );
        }
        Because::Overloaded => passed.left_key(before, "overloaded"),
        Because::Proxy => passed.left_proxy(before, "failed"),
        Because::Connection => passed.left_proxy(before, "unreachable"),
        Because::Stale | Because::Unread => {}
    }
}

/// Whether another key could carry the request, were this attempt to fail; nobody is chosen yet.
pub fn could_turn(ctx: &Context) -> bool {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return false };
    let mut tried = ctx.rotation.tried.clone();
    tried.key(ctx.attempt.pick);
    is_within_limits(ctx, arrival) && routed.length.is_some() && routed.route.upstream.has_another(&tried, clock::now())
}

fn is_within_limits(ctx: &Context, arrival: &Arrival) -> bool {
    let retry = &arrival.settings.retry;
    ctx.attempt.number < retry.max_attempts && arrival.at.elapsed() < retry.budget
}

/// Lets the key of a refused attempt rest. A key without another beside it stays in use: the provider's own word is the better answer.
pub fn rest(upstream: &Upstream, pick: Pick, cause: Cause, headers: &HeaderMap) {
    let Some(credential) = upstream.credential(pick).filter(|_| upstream.rotates()) else { return };
    let (name, id, label) = (&upstream.name, &credential.id, cause.label());
    match cause {
        Cause::RateLimited | Cause::Exhausted => {
            let wait = upstream.cooldowns.rest_of(cause, headers, SystemTime::now());
            if !wait.is_zero() && credential.standing.cool(clock::now().after(wait), cause) {
                log::warn!("key {id} of {name} is {label}: it cools for {wait:?}");
            }
        }
        Cause::Unauthorized => kill(upstream, pick, cause),
        // Of one key only; of a second one it is rather this request that nobody may make.
        Cause::Forbidden => {}
    }
}

/// An attempt was answered: what is known of those before it comes true. A key that was forbidden what another one may is dead (T10), a
/// proxy that lost what another one carried counts as failed. A request that nobody carries proves nothing: its sender must not be able
/// to take proxies and keys from everybody else.
pub fn answered(ctx: &mut Context) {
    let Some(routed) = ctx.routed.as_deref() else { return };
    let upstream = &routed.route.upstream;
    if let Some(proxy) = upstream.proxy(ctx.attempt.pick) {
        proxy.health.request_answered();
    }
    for pick in ctx.rotation.lost.drain(..) {
        checks::request_lost(upstream, pick, false, "it loses requests that others carry");
    }
    for pick in ctx.rotation.forbidden.drain(..) {
        kill(upstream, pick, Cause::Forbidden);
    }
}

fn kill(upstream: &Upstream, pick: Pick, cause: Cause) {
    let Some(credential) = upstream.credential(pick) else { return };
    if credential.standing.kill(cause) {
        log::error!("key {} of {} is {}: it is not used again until a reload", credential.id, upstream.name, cause.label());
    }
}
