//! The standings of keys and proxies, which outlive the configuration that names them (T13).
//!
//! Every configuration asks here for the standing of each key and each proxy it names; the same key, under the same id of the same
//! upstream, gets the same standing, whether it was named a minute ago by an older file or twice by this one. What no configuration
//! holds any more is forgotten.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::domain::moment::Moment;
use crate::domain::secret::Secret;
use crate::domain::upstream::health::Health;
use crate::domain::upstream::inheritance::{DownProxy, Inheritance, RestingKey};
use crate::domain::upstream::standing::{Cause, KeyStanding, KeyState};

/// Hands out standings; one for the process.
#[derive(Debug, Default)]
pub struct Registry {
    known: Mutex<Standings>,
}

#[derive(Debug, Default)]
struct Standings {
    keys: HashMap<Identity, Weak<KeyStanding>>,
    proxies: HashMap<Identity, Weak<Health>>,
    turns: HashMap<Box<str>, Arc<AtomicUsize>>,
}

/// Upstream, id, and a hash of what makes it another key or proxy under the same id.
type Identity = (Box<str>, Box<str>, u64);

impl Registry {
    /// A key with another text is another key, also under the same id.
    pub fn key(&self, upstream: &str, id: &str, key: &Secret) -> Arc<KeyStanding> {
        let identity = (upstream.into(), id.into(), hash_of(&key.expose()));
        find_or_make(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner).keys, identity)
    }

    /// `definition`: all that decides whether the proxy can be reached.
    pub fn proxy(&self, upstream: &str, id: &str, definition: &impl Hash) -> Arc<Health> {
        let identity = (upstream.into(), id.into(), hash_of(definition));
        find_or_make(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner).proxies, identity)
    }

    /// Whose turn it is in an upstream's pool: a reload must not begin with the first one every time.
    pub fn turn(&self, upstream: &str) -> Arc<AtomicUsize> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).turns.entry(upstream.into()).or_default().clone()
    }

    /// What a successor has to know.
    pub fn bequeath(&self, now: Moment) -> Inheritance {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = known.keys.iter().filter_map(|(identity, key)| Some((identity, key.upgrade()?))).flat_map(
            |((upstream, id, hash), key)| {
                let of = |model, until, cause: Cause| RestingKey {
                    upstream: upstream.clone(),
                    id: id.clone(),
                    hash: *hash,
                    rests_ms: millis(now.until(until)),
                    cause: cause.label().into(),
                    model,
                };
                let whole = match key.state(now) {
                    KeyState::Cooling { until, cause } => Some(of(None, until, cause)),
                    KeyState::Ready | KeyState::Dead { .. } => None,
                };
                // A reload lets a key try again what it may not use, and so does an upgrade.
                let models = key.resting_models(now).into_iter().filter(|rest| rest.cause != Cause::NoAccess);
                whole.into_iter().chain(models.map(|rest| of(Some(rest.model), rest.until, rest.cause))).collect::<Vec<_>>()
            },
        );
        let down = known.proxies.iter().filter_map(|((upstream, id, hash), proxy)| {
            let proxy = proxy.upgrade().filter(|proxy| !proxy.is_up())?;
            Some(DownProxy { upstream: upstream.clone(), id: id.clone(), hash: *hash, down_ms: millis(proxy.since().until(now)) })
        });
        Inheritance { keys: resting.collect(), proxies: down.collect() }
    }

    /// Takes over what a predecessor knew of the keys and proxies that are named here too; returns how many of each there were.
    pub fn inherit(&self, left: &Inheritance, now: Moment) -> (usize, usize) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = left.keys.iter().filter(|left| {
            let identity = (left.upstream.clone(), left.id.clone(), left.hash);
            let (Some(key), Some(cause)) = (known.keys.get(&identity).and_then(Weak::upgrade), Cause::of_label(&left.cause))
            else {
                return false;
            };
            let until = now.after(Duration::from_millis(left.rests_ms));
            match &left.model {
                Some(model) => key.cool_for(model, until, cause, now),
                None => key.cool(until, cause),
            }
        });
        let proxies = left.proxies.iter().filter(|left| {
            let identity = (left.upstream.clone(), left.id.clone(), left.hash);
            let Some(proxy) = known.proxies.get(&identity).and_then(Weak::upgrade) else { return false };
            proxy.inherit_down(Moment::from_millis(now.millis().saturating_sub(left.down_ms)));
            true
        });
        (keys.count(), proxies.count())
    }
}

fn find_or_make<T: Default>(known: &mut HashMap<Identity, Weak<T>>, identity: Identity) -> Arc<T> {
    if let Some(standing) = known.get(&identity).and_then(Weak::upgrade) {
        return standing;
    }
    known.retain(|_, standing| standing.strong_count() > 0);
    let standing = Arc::new(T::default());
    known.insert(identity, Arc::downgrade(&standing));
    standing
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    #[test]
    fn t13_the_same_key_has_one_standing_and_another_text_another() {
        let registry = Registry::default();
        let first = registry.key("troll", "k1", &secret("one"));
        assert!(Arc::ptr_eq(&first, &registry.key("troll", "k1", &secret("one"))));
        assert!(!Arc::ptr_eq(&first, &registry.key("troll", "k1", &secret("two"))));
        assert!(!Arc::ptr_eq(&first, &registry.key("troll", "k2", &secret("one"))));
        assert!(!Arc::ptr_eq(&first, &registry.key("main", "k1", &secret("one"))));
    }

    #[test]
    fn t13_a_successor_knows_which_keys_rest_and_which_proxies_are_down() {
        let now = Moment::from_millis(1_800_000_000_000);
        let later = now.after(std::time::Duration::from_secs(60));
        let (old, new) = (Registry::default(), Registry::default());
        let names = |registry: &Registry| {
            let key = |id, text| registry.key("troll", id, &secret(text));
            (
                key("k1", "one"),
                key("k2", "two"),
                key("k3", "three"),
                registry.proxy("troll", "p1", &1),
                registry.proxy("troll", "p2", &2),
            )
        };
        let (k1, _k2, k3, p1, _p2) = names(&old);
        k1.cool(later, Cause::Exhausted);
        k3.kill(Cause::Unauthorized);
        p1.check_failed(true, &Default::default(), now);
        let left = old.bequeath(now);
        let left: Inheritance = serde_json::from_str(&serde_json::to_string(&left).unwrap()).unwrap();

        let (k1, k2, k3, p1, p2) = names(&new);
        assert_eq!(new.inherit(&left, now), (1, 1));
        assert_eq!(k1.state(now), KeyState::Cooling { until: later, cause: Cause::Exhausted });
        assert_eq!((k2.state(now), k3.state(now)), (KeyState::Ready, KeyState::Ready));
        assert_eq!((p1.is_up(), p1.since(), p2.is_up()), (false, now, true));
    }

    #[test]
    fn t13_a_successor_knows_which_models_a_key_rests_for() {
        let now = Moment::from_millis(1_800_000_000_000);
        let later = now.after(std::time::Duration::from_secs(60));
        let (old, new) = (Registry::default(), Registry::default());
        let before = old.key("troll", "k1", &secret("one"));
        before.cool_for("big", later, Cause::RateLimited, now);
        before.cool_for("forbidden", later, Cause::NoAccess, now);
        let left: Inheritance = serde_json::from_str(&serde_json::to_string(&old.bequeath(now)).unwrap()).unwrap();
        let after = new.key("troll", "k1", &secret("one"));
        assert_eq!(new.inherit(&left, now), (1, 0));
        assert_eq!(after.state_for(Some("big"), now), KeyState::Cooling { until: later, cause: Cause::RateLimited });
        assert_eq!(after.state_for(Some("forbidden"), now), KeyState::Ready, "as after a reload");
        assert_eq!(after.state(now), KeyState::Ready);
        // A predecessor of an older version knows nothing of models.
        let old: RestingKey =
            serde_json::from_str(r#"{"upstream":"u","id":"k","hash":1,"rests_ms":2,"cause":"exhausted"}"#).unwrap();
        assert_eq!(old.model, None);
    }

    #[test]
    fn t13_another_key_under_the_same_id_inherits_nothing() {
        let now = Moment::from_millis(1_800_000_000_000);
        let (old, new) = (Registry::default(), Registry::default());
        let before = old.key("troll", "k1", &secret("one"));
        before.cool(now.after(std::time::Duration::from_secs(60)), Cause::RateLimited);
        let after = new.key("troll", "k1", &secret("another"));
        assert_eq!(new.inherit(&old.bequeath(now), now), (0, 0));
        assert_eq!(after.state(now), KeyState::Ready);
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let registry = Registry::default();
        for nth in 0..1_000 {
            registry.proxy("troll", "p1", &nth);
        }
        assert!(registry.known.lock().unwrap().proxies.len() <= 1);
    }
}
