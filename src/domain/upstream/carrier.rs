//! Who carries an attempt: places in an upstream's lists of proxies and keys, who was tried, and why nobody is left.

use crate::domain::moment::Moment;

/// Places in the upstream's lists of who carries an attempt. No proxy: the connection is direct. No credential: none is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    pub proxy: Option<usize>,
    pub credential: Option<usize>,
}

/// What a request learned from the attempts before: nobody is asked twice.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    pub(super) keys: Vec<usize>,
    pub(super) proxies: Vec<usize>,
    /// An attempt went out without a key: where there is none, there is no other one either.
    pub(super) without_key: bool,
    /// The proxy whose next key is to be tried first.
    pub(super) stay: Option<usize>,
}

/// A search for whoever carries the next attempt.
#[derive(Clone, Copy, Debug)]
pub struct Search<'s> {
    pub tried: &'s Tried,
    /// The model as the upstream calls it: keys rest for single ones.
    pub model: Option<&'s str>,
    pub now: Moment,
}

/// Why nobody can carry the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// Somebody will be back: the first one then.
    Until(Moment),
    /// The provider refused every key for good; only a reload helps.
    KeysDead,
}

impl Tried {
    /// The answer was about the key: the same proxy's next key is tried before another proxy.
    pub fn key(&mut self, pick: Pick) {
        self.keys.extend(pick.credential);
        self.without_key |= pick.credential.is_none();
        self.stay = pick.proxy;
    }

    /// The proxy could not be used.
    pub fn proxy(&mut self, pick: Pick) {
        self.proxies.extend(pick.proxy);
        self.stay = None;
    }
}
