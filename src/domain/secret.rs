//! Secrets: values that authenticate somebody, typed so that no log line, error or dump can print them.
//!
//! A [`Secret`] prints as `*****` in every format. The only way to the text is [`Secret::expose`], which is called where a header
//! is written and nowhere else.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// A secret's text; cheap to clone, never printed.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text that is not empty; an empty one counts as unset everywhere in the configuration.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The text itself, for the one place that writes it into a header or searches for it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in constant time for texts of equal length; the length of a key is no secret.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_no_secret() {
        assert!(Secret::new("").is_none());
    }

    #[test]
    fn never_prints_its_text() {
        let secret = Secret::new("canary-7").unwrap();
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)).matches("canary").count(), 0);
    }

    #[test]
    fn matches_only_the_whole_text() {
        let secret = Secret::new("abc").unwrap();
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"ab"));
        assert!(!secret.matches(b"abcd"));
        assert!(!secret.matches(b"abd"));
    }
}
