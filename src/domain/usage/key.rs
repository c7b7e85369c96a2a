//! Tells whether a key is worth a look, by a search for its quoted text and without reading JSON.

use std::sync::LazyLock;

use memchr::memmem::Finder;

pub(super) static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""usage""#));

/// Whether a quoted key stands anywhere in the JSON with a value other than null. OpenAI writes `"usage":null` into every chunk.
pub(super) fn has_value(quoted_key: &Finder<'_>, mut json: &[u8]) -> bool {
    while let Some(rest) = quoted_key.find(json).and_then(|at| json.get(at + quoted_key.needle().len()..)) {
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if !value.is_some_and(|value| value.starts_with(b"null")) {
            return true;
        }
        json = rest;
    }
    false
}
