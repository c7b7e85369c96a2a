//! What a key or a proxy is held to for what happened to a request, or to a check.
//!
//! Only an answer of the provider makes a key rest, and only a connection that failed, or a request that was lost and then carried by
//! another, counts against a proxy. A request that nobody carries proves nothing: its sender must not be able to take keys and proxies
//! from everybody else.

use http::HeaderMap;

use crate::domain::moment::{Moment, Now};
use crate::domain::upstream::health::Flip;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::standing::Cause;
use crate::domain::upstream::{Pick, Upstream};
use crate::relay::note::{Note, Subject};
use crate::relay::rotation::Rotation;

/// Lets the key of a refused attempt rest. A key without another beside it stays in use: the provider's own word is the better answer.
pub fn rest(upstream: &Upstream, pick: Pick, cause: Cause, headers: &HeaderMap, now: Now) -> Option<Note> {
    let credential = upstream.credential(pick).filter(|_| upstream.rotates())?;
    match cause {
        Cause::RateLimited | Cause::Exhausted => {
            let wait = upstream.cooldowns.rest_of(cause, headers, now.wall());
            let begins = !wait.is_zero() && credential.standing.cool(now.moment.after(wait), cause);
            begins.then(|| {
                let (id, name, label) = (&credential.id, &upstream.name, cause.label());
                Note::warning(Subject::Key, format!("key {id} of {name} is {label}: it cools for {wait:?}"))
            })
        }
        // Of one key only; of a second one it is rather this request that nobody may make: a client can ask for what no key may (A1).
        Cause::Unauthorized | Cause::Forbidden => None,
    }
}

/// An attempt was answered: what is known of those before it comes true. A key that was refused what another one may is dead (T10, A1), a
/// proxy that lost what another one carried counts as failed.
pub fn answered(upstream: &Upstream, pick: Pick, rotation: &mut Rotation, now: Moment, notes: &mut Vec<Note>) {
    if let Some(proxy) = upstream.proxy(pick) {
        proxy.health.request_answered();
    }
    let lost = rotation.lost.drain(..);
    notes.extend(lost.filter_map(|pick| request_lost(upstream, pick, false, "it loses requests that others carry", now)));
    notes.extend(rotation.refused.drain(..).filter_map(|(pick, cause)| kill(upstream, pick, cause)));
}

/// Counts a connection that a request did not get, against its proxy and never against its key (T10).
pub fn connection_failed(upstream: &Upstream, pick: Pick, is_certain: bool, detail: &str, now: Moment) -> Option<Note> {
    if let Some(proxy) = upstream.proxy(pick) {
        proxy.health.count_connect_failure();
    }
    request_lost(upstream, pick, is_certain, detail, now)
}

/// Says where a failure takes the proxy down, and once a minute where only the operator can help.
pub fn told(upstream: &Upstream, proxy: &Proxy, flip: Option<Flip>, is_certain: bool, detail: &str, now: Moment) -> Option<Note> {
    let (id, name) = (&proxy.id, &upstream.name);
    if is_certain {
        let tells = || Note::error(Subject::Proxy, format!("proxy {id} of {name} is not used until a check passes: {detail}"));
        return proxy.health.may_tell(now).then(tells);
    }
    (flip == Some(Flip::WentDown)).then(|| Note::warning(Subject::Proxy, format!("proxy {id} of {name} is down: {detail}")))
}

/// Counts a request that a proxy took and lost.
fn request_lost(upstream: &Upstream, pick: Pick, is_certain: bool, detail: &str, now: Moment) -> Option<Note> {
    let (pool, proxy) = (upstream.pool.as_ref()?, upstream.proxy(pick)?);
    let flip = proxy.health.request_failed(is_certain, &pool.check, now);
    told(upstream, proxy, flip, is_certain, detail, now)
}

fn kill(upstream: &Upstream, pick: Pick, cause: Cause) -> Option<Note> {
    let credential = upstream.credential(pick)?;
    let (id, name, label) = (&credential.id, &upstream.name, cause.label());
    let tells = || Note::error(Subject::Key, format!("key {id} of {name} is {label}: it is not used again until a reload"));
    credential.standing.kill(cause).then(tells)
}
