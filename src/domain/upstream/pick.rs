//! Who carries the next attempt: which proxy of the pool, and which of its keys.
//!
//! ```text
//!   turn ──► p1 ──► p2 ──► p3 ──► p1 …      round-robin over the proxies that are up and have a key that is ready
//!             │
//!             ├─ k1  primary        429/402: cools, the same proxy's next key is tried (T2)
//!             └─ k2  secondary      429/402: cools, the next proxy is tried (T3)
//! ```
//!
//! A proxy has no quota of its own: it is exhausted while all its keys rest. A key may rest for one model alone, and carry all others. A key that two proxies carry has one standing, so a rest
//! it earned through one counts for the other. Without proxies the keys alone rotate, the primary first.
//!
//! Picking reads a few atomic words and takes no lock.

use std::sync::atomic::Ordering::Relaxed;

use crate::domain::moment::Moment;
use crate::domain::upstream::Upstream;
use crate::domain::upstream::carrier::{Out, Pick, Search, Tried};
use crate::domain::upstream::credential::Credential;
use crate::domain::upstream::passed::{Candidate, PassedOver};
use crate::domain::upstream::pool::Pool;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::standing::KeyState;

impl Pool {
    fn pick(&self, credentials: &[Credential], search: &Search<'_>, passed: &mut PassedOver) -> Option<Pick> {
        let mut of = |place: usize| {
            let pick = self.of_proxy(place, credentials, search);
            self.note(place, pick, credentials, search, passed);
            pick
        };
        if let Some(pick) = search.tried.stay.and_then(&mut of) {
            return Some(pick);
        }
        let count = self.proxies.len().max(1);
        // Each proxy that is passed over costs a turn, so that its share goes to all the others and not to its neighbour alone.
        let by_turn = (0..count).find_map(|_| of(self.turn.fetch_add(1, Relaxed) % count));
        // Others take turns at the same time, so a lap may have missed the only one that is left.
        by_turn.or_else(|| (0..count).find_map(of))
    }

    /// Notes who is passed over at this proxy: itself, or the keys before the one that is picked. What this request tried itself is
    /// noted by whoever knows what came of it.
    fn note(&self, place: usize, pick: Option<Pick>, credentials: &[Credential], search: &Search<'_>, passed: &mut PassedOver) {
        let Some(proxy) = self.proxies.get(place) else { return };
        match pick {
            Some(pick) => note_keys_before(pick.credential, proxy.keys.iter().copied(), credentials, search, passed),
            None if search.tried.proxies.contains(&place) => {}
            None => passed.note(Candidate::Proxy(place), if proxy.health.is_up() { "exhausted" } else { "down" }),
        }
    }

    fn of_proxy(&self, place: usize, credentials: &[Credential], search: &Search<'_>) -> Option<Pick> {
        let proxy = self.proxies.get(place)?;
        if !proxy.health.is_up() || search.tried.proxies.contains(&place) {
            return None;
        }
        let credential = first_ready(proxy.keys.iter().copied(), credentials, search)?;
        Some(Pick { proxy: Some(place), credential: Some(credential) })
    }

    /// Whether no proxy can be reached, as far as this request knows.
    fn is_down(&self, tried: &Tried) -> bool {
        self.proxies.iter().enumerate().all(|(place, proxy)| !proxy.health.is_up() || tried.proxies.contains(&place))
    }

    /// When the first proxy is back; a proxy that is down may be so after its next check.
    fn back_at(&self, credentials: &[Credential], search: &Search<'_>) -> Option<Moment> {
        self.proxies
            .iter()
            .filter_map(|proxy| {
                let key_at = ready_at(proxy.keys.iter().copied(), credentials, search)?;
                Some(if proxy.health.is_up() { key_at } else { key_at.max(proxy.health.may_be_up_at(&self.check, search.now)) })
            })
            .min()
    }
}

impl Upstream {
    /// Chooses who carries the next attempt.
    ///
    /// A single key without proxies is always chosen: there is nothing to rotate to, and the provider's own answer is a better one
    /// than ours.
    ///
    /// # Errors
    ///
    /// [`Out`] when everybody rests, is down, or was tried by this request.
    pub fn pick(&self, search: &Search<'_>) -> Result<Pick, Out> {
        self.pick_and_note(search, &mut PassedOver::default())
    }

    /// [`Self::pick`] that also notes who was out of the running, and why.
    ///
    /// # Errors
    ///
    /// As [`Self::pick`].
    pub fn pick_and_note(&self, search: &Search<'_>, passed: &mut PassedOver) -> Result<Pick, Out> {
        let tried = search.tried;
        let all = 0..self.credentials.len();
        let direct = |credential| Pick { proxy: None, credential };
        let (picked, back_at) = match &self.pool {
            None if !self.rotates() && tried.keys.is_empty() && !tried.without_key => (Some(direct(all.clone().next())), None),
            None => {
                let key = first_ready(all.clone(), &self.credentials, search);
                note_keys_before(key, all.clone(), &self.credentials, search, passed);
                let picked = key.map(|key| direct(Some(key)));
                (picked, picked.map_or_else(|| ready_at(all, &self.credentials, search), |_| None))
            }
            Some(pool) => {
                let by_proxy = pool.pick(&self.credentials, search, passed);
                let picked = by_proxy.or_else(|| {
                    let goes_direct = pool.allow_direct_when_down && pool.is_down(tried);
                    let key = first_ready(all, &self.credentials, search).filter(|_| goes_direct)?;
                    Some(direct(Some(key)))
                });
                (picked, picked.map_or_else(|| pool.back_at(&self.credentials, search), |_| None))
            }
        };
        picked.ok_or_else(|| back_at.map_or(Out::KeysDead, Out::Until))
    }

    /// Chooses another proxy for a request whose connection through this one was of no use; never the direct way.
    pub fn pick_beside(&self, pick: Pick, search: &Search<'_>) -> Option<Pick> {
        let mut beside = search.tried.clone();
        beside.proxy(pick);
        self.pool.as_ref()?.pick(&self.credentials, &Search { tried: &beside, ..*search }, &mut PassedOver::default())
    }

    /// Whether anybody is left to carry an attempt; costs nobody a turn.
    pub fn has_another(&self, search: &Search<'_>) -> bool {
        match &self.pool {
            Some(pool) => (0..pool.proxies.len()).any(|place| pool.of_proxy(place, &self.credentials, search).is_some()),
            None => first_ready(0..self.credentials.len(), &self.credentials, search).is_some(),
        }
    }

    /// Whether there is anything to rotate: then a rest is kept, and requests that nobody can carry are refused beforehand.
    pub fn rotates(&self) -> bool {
        self.pool.is_some() || self.credentials.len() > 1
    }

    pub fn proxy(&self, pick: Pick) -> Option<&Proxy> {
        self.pool.as_ref()?.proxies.get(pick.proxy?)
    }

    pub fn credential(&self, pick: Pick) -> Option<&Credential> {
        self.credentials.get(pick.credential?)
    }
}

fn first_ready(mut keys: impl Iterator<Item = usize>, credentials: &[Credential], search: &Search<'_>) -> Option<usize> {
    let is_ready = |key: &Credential| key.standing.state_for(search.model, search.now) == KeyState::Ready;
    keys.find(|key| credentials.get(*key).is_some_and(is_ready) && !search.tried.keys.contains(key))
}

/// Notes the keys that are out, up to the picked one; all of them where none was.
fn note_keys_before(
    picked: Option<usize>,
    keys: impl Iterator<Item = usize>,
    credentials: &[Credential],
    search: &Search<'_>,
    passed: &mut PassedOver,
) {
    for key in keys.take_while(|key| Some(*key) != picked).filter(|key| !search.tried.keys.contains(key)) {
        let state = credentials.get(key).map(|credential| credential.standing.state_for(search.model, search.now));
        if let Some(why) = state.and_then(KeyState::why_out) {
            passed.note(Candidate::Key(key), why);
        }
    }
}

/// When the first of the keys is ready; `None`: never.
fn ready_at(keys: impl Iterator<Item = usize>, credentials: &[Credential], search: &Search<'_>) -> Option<Moment> {
    keys.filter_map(|key| match credentials.get(key)?.standing.state_for(search.model, search.now) {
        KeyState::Ready => Some(search.now),
        KeyState::Cooling { until, .. } => Some(until),
        KeyState::Dead { .. } => None,
    })
    .min()
}

#[cfg(test)]
#[path = "pick_tests.rs"]
mod tests;
