//! The standings of keys and proxies, which outlive the configuration that names them (T13).
//!
//! Every configuration asks here for the standing of each key and each proxy it names; the same key, under the same id of the same
//! upstream, gets the same standing, whether it was named a minute ago by an older file or twice by this one. What no configuration
//! holds any more is forgotten.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::domain::secret::Secret;
use crate::domain::upstream::health::Health;
use crate::domain::upstream::standing::KeyStanding;

/// Hands out standings; one for the process.
#[derive(Debug, Default)]
pub struct Registry {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
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
    fn what_nobody_holds_is_forgotten() {
        let registry = Registry::default();
        for nth in 0..1_000 {
            registry.proxy("troll", "p1", &nth);
        }
        assert!(registry.known.lock().unwrap().proxies.len() <= 1);
    }
}
