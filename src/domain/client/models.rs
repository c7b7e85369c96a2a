//! Which models a client may use: exact names and `prefix*`.
//!
//! A model goes by several names: its id, its aliases, the word that the request uses. One of them in the list is enough: a client that
//! may use an alias may use its model, and the other way round. An alias is another name for one thing at one price, so a list
//! that told them apart would only make a client fail on the day its operator renames a model.

use std::fmt;

use crate::domain::route::table::NamePattern;

/// The models of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    All,
    /// Never empty.
    Only(Vec<ModelPattern>),
}

/// One entry: a name, or a prefix and `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern(NamePattern);

impl Models {
    /// Reads the entries of a list; an empty one means all models.
    ///
    /// # Errors
    ///
    /// The entry that is no name and no prefix, and why.
    pub fn parse<'t>(entries: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let patterns: Result<Vec<_>, String> = entries
            .into_iter()
            .map(|entry| ModelPattern::parse(entry).map_err(|why| format!("models: \"{entry}\": {why}")))
            .collect();
        Ok(match patterns? {
            none if none.is_empty() => Self::All,
            some => Self::Only(some),
        })
    }

    /// Whether one of a model's names is allowed. Without a name (a request that names no model) only all models will do.
    pub fn allow<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => names.into_iter().any(|name| patterns.iter().any(|pattern| pattern.fits(name))),
        }
    }

    /// The entries as they were written; empty for all models.
    pub fn entries(&self) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Only(patterns) => patterns.iter().map(ToString::to_string).collect(),
        }
    }
}

impl ModelPattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err("a model's name must not begin or end with a space, nor hold control characters");
        }
        NamePattern::parse(text).map(Self)
    }

    fn fits(&self, name: &str) -> bool {
        match &self.0 {
            NamePattern::Exact(exact) => **exact == *name,
            NamePattern::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m14_exact_names_and_prefixes_are_told_apart() {
        let models = Models::parse(["gpt-4", "claude-*"]).unwrap();
        for (name, allowed) in
            [("gpt-4", true), ("gpt-4o", false), ("GPT-4", false), ("claude-", true), ("claude-x", true), ("claude", false)]
        {
            assert_eq!(models.allow([name]), allowed, "{name}");
        }
        assert!(models.allow(["alias", "gpt-4"]), "one of a model's names is enough");
        assert!(!models.allow([]), "a request without a model");
        assert_eq!(models.entries(), ["gpt-4", "claude-*"]);
    }

    #[test]
    fn an_empty_list_is_all_models() {
        let all = Models::parse([]).unwrap();
        assert_eq!(all, Models::All);
        assert!(all.allow(["x"]) && all.allow([]) && all.entries().is_empty());
        assert!(Models::parse(["*"]).unwrap().allow(["anything"]));
    }

    #[test]
    fn an_entry_that_is_no_name_is_refused_by_its_text() {
        for bad in ["", "a*b", "*a", " a", "a\u{7}"] {
            assert!(Models::parse(["ok", bad]).unwrap_err().contains(bad), "{bad:?}");
        }
    }
}
