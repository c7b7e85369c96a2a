//! Who did not carry a request, and why: the keys and proxies that were passed over because they were out, and those that were left
//! after an attempt.
//!
//! ```text
//! p1:down,k1:cooling,k2:rate_limited        for the access line: ids of the configuration, words of ours, bounded
//! ```
//! A request that the first one in turn carries notes nothing and allocates nothing.

use std::fmt::Write;

use crate::domain::upstream::carrier::Pick;
use crate::domain::upstream::credential::Credential;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::standing::KeyState;

/// The most candidates that are named; `+more` stands for the rest.
const MOST: usize = 8;

/// A key or a proxy by its place in the upstream's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    Key(usize),
    Proxy(usize),
}

/// The candidates in the order in which they were noted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    noted: Vec<(Candidate, &'static str)>,
    is_cut: bool,
}

impl PassedOver {
    /// The first reason counts.
    pub fn note(&mut self, candidate: Candidate, why: &'static str) {
        if self.noted.iter().any(|(known, _)| *known == candidate) {
        } else if self.noted.len() < MOST {
            self.noted.push((candidate, why));
        } else {
            self.is_cut = true;
        }
    }

    /// The attempt's answer was about its key, or meant that another one may be luckier.
    pub fn left_key(&mut self, pick: Pick, why: &'static str) {
        if let Some(key) = pick.credential {
            self.note(Candidate::Key(key), why);
        }
    }

    /// The attempt failed for its proxy; a direct one leaves nobody.
    pub fn left_proxy(&mut self, pick: Pick, why: &'static str) {
        if let Some(proxy) = pick.proxy {
            self.note(Candidate::Proxy(proxy), why);
        }
    }

    pub fn append(&mut self, later: Self) {
        later.noted.into_iter().for_each(|(candidate, why)| self.note(candidate, why));
        self.is_cut |= later.is_cut;
    }

    /// The line's text, with the ids of the upstream's keys and proxies; `None`: nobody was passed over.
    pub fn text(&self, keys: &[Credential], proxies: &[Proxy]) -> Option<String> {
        let mut text = String::new();
        for (candidate, why) in &self.noted {
            let id = match candidate {
                Candidate::Key(place) => keys.get(*place).map(|key| &*key.id),
                Candidate::Proxy(place) => proxies.get(*place).map(|proxy| &*proxy.id),
            };
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string can't fail.
            let _ = write!(text, "{comma}{}:{why}", id.unwrap_or("?"));
        }
        if self.is_cut {
            text.push_str(",+more");
        }
        (!text.is_empty()).then_some(text)
    }
}

impl KeyState {
    /// The word for a key that is not asked because of it; `None`: it is ready.
    pub fn why_out(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::Cooling { .. } => Some("cooling"),
            Self::Dead { .. } => Some("dead"),
        }
    }
}
