//! What a key or a proxy is held to for what happened to a request, or to a check.
//!
//! Only an answer of the provider makes a key rest, and only a connection that failed, or a request that was lost and then carried by
//! another, counts against a proxy. A request that nobody carries proves nothing: its sender must not be able to take keys and proxies
//! from everybody else.

use crate::domain::moment::Moment;
use crate::domain::upstream::health::Flip;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::verdict::Blame;
use crate::domain::upstream::{Pick, Upstream};
use crate::relay::note::{Note, Subject};
use crate::relay::rotation::Rotation;

/// Of a model's name in the log: a client may have chosen it.
const MOST_CHARS: usize = 100;

/// Holds a key to what was said of it. A key without another beside it stays in use: the provider's own word is the better answer.
pub fn hold_key_to(blame: Blame, upstream: &Upstream, pick: Pick, model: Option<&str>, now: Moment) -> Option<Note> {
    let credential = upstream.credential(pick).filter(|_| upstream.rotates())?;
    let (id, name, standing) = (&credential.id, &upstream.name, &credential.standing);
    match blame {
        Blame::Dead(cause) => standing.kill(cause).then(|| {
            let label = cause.label();
            Note::error(Subject::Key, format!("key {id} of {name} is {label}: it is not used again until a reload"))
        }),
        Blame::Rests(cause, wait) => (!wait.is_zero() && standing.cool(now.after(wait), cause))
            .then(|| Note::warning(Subject::Key, format!("key {id} of {name} is {}: it cools for {wait:?}", cause.label()))),
        Blame::RestsForModel(cause, wait) => {
            let model = model?;
            (!wait.is_zero() && standing.cool_for(model, now.after(wait), cause, now)).then(|| {
                let (label, model) = (cause.label(), model.escape_debug().take(MOST_CHARS).collect::<String>());
                let text = format!("key {id} of {name} is {label} for the model {model}: it cools for that one for {wait:?}");
                Note::warning(Subject::Key, text)
            })
        }
    }
}

/// An attempt was answered: what is known of those before it comes true. A key that was refused what another one may
/// is dead or rests (T10, A1, A2), a
/// proxy that lost what another one carried counts as failed.
pub fn answered(
    upstream: &Upstream,
    pick: Pick,
    model: Option<&str>,
    rotation: &mut Rotation,
    now: Moment,
    notes: &mut Vec<Note>,
) {
    if let Some(proxy) = upstream.proxy(pick) {
        proxy.health.request_answered();
    }
    let lost = rotation.lost.drain(..);
    notes.extend(lost.filter_map(|pick| request_lost(upstream, pick, false, "it loses requests that others carry", now)));
    notes.extend(rotation.refused.drain(..).filter_map(|(pick, blame)| hold_key_to(blame, upstream, pick, model, now)));
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
