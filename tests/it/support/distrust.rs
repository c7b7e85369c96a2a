//! What no answer may hold: headers beyond an allow-list, and the secrets of the test.

use http::HeaderMap;

/// The headers that an answer may carry (O7 and our own). A trailing `*` stands for any rest.
const ALLOWED: &[&str] = &[
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "cache-control",
    "date",
    "vary",
    "allow",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-request-id",
    "request-id",
    "x-accel-buffering",
    "x-content-type-options",
    "openai-model",
    "openai-processing-ms",
    "openai-version",
    "anthropic-ratelimit-*",
    "x-ratelimit-*",
];

/// The rules that a client holds every answer to.
#[derive(Clone, Debug)]
pub struct Distrust {
    /// `None`: every header may come (a client that talks to the provider itself).
    allowed: Option<&'static [&'static str]>,
    planted: Vec<String>,
}

impl Distrust {
    /// For a client of the gateway: the allow-list, and texts that must appear nowhere.
    pub fn gateway(planted: &[String]) -> Self {
        Self { allowed: Some(ALLOWED), planted: planted.to_vec() }
    }

    /// For a client of the provider: nothing is checked.
    pub fn nothing() -> Self {
        Self { allowed: None, planted: Vec::new() }
    }

    pub fn check_headers(&self, headers: &HeaderMap) {
        for (name, value) in headers {
            let allowed = self.allowed.is_none_or(|list| list.iter().any(|pattern| fits(pattern, name.as_str())));
            assert!(allowed, "the answer carries the header {name}: {value:?}");
            self.check(&format!("header {name}"), value.as_bytes());
        }
    }

    pub fn check_body(&self, body: &[u8]) {
        self.check("body", body);
    }

    /// Fails when one of the planted texts stands in `bytes`.
    pub fn check(&self, place: &str, bytes: &[u8]) {
        for secret in &self.planted {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} holds the planted text {secret:?}: {}", String::from_utf8_lossy(bytes));
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}
