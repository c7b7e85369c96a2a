//! What an answer says of how it was made, where prices depend on it.

use std::fmt;

/// The words of an answer that can change its price; each is empty where the answer says nothing, or says what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `service_tier`: `flex`, `priority`, `batch`, …
    pub service_tier: Label,
    /// Anthropic's `usage.speed`: `fast`.
    pub speed: Label,
    /// Anthropic's `usage.inference_geo`: `us`, …
    pub region: Label,
    /// The most input of one of the calls that the usage sums up; 0: it is one call's.
    pub longest_prompt: u64,
}

/// A short word, held where it stands: at most [`Label::MAX_BYTES`] bytes in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    text: [u8; Self::MAX_BYTES],
    len: u8,
}

/// Words that say that nothing is special.
const USUAL: [&[u8]; 8] = [b"default", b"standard", b"auto", b"on_demand", b"global", b"not_available", b"normal", b"null"];

impl Label {
    pub const MAX_BYTES: usize = 23;
    pub const EMPTY: Self = Self { text: [0; Self::MAX_BYTES], len: 0 };

    /// A word in lower case, cut where it is too long; what is usual is empty.
    pub fn of(word: &[u8]) -> Self {
        let mut label = Self::EMPTY;
        for (to, from) in label.text.iter_mut().zip(word) {
            *to = if from.is_ascii_graphic() { from.to_ascii_lowercase() } else { b'?' };
            label.len += 1;
        }
        if USUAL.contains(&label.bytes()) { Self::EMPTY } else { label }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        self.text.get(..self.len.into()).unwrap_or_default()
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_what_is_usual_is_no_fact_and_a_word_is_bounded() {
        for usual in ["", "default", "Standard", "auto", "global", "not_available"] {
            assert!(Label::of(usual.as_bytes()).is_empty(), "{usual}");
        }
        assert_eq!(Label::of(b"Priority").as_str(), "priority");
        assert_eq!(Label::of("é x".as_bytes()).as_str(), "???x");
        assert_eq!(Label::of(&[b'x'; 99]).as_str().len(), Label::MAX_BYTES);
    }
}
