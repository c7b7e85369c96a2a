//! Keys that are read and checked, and do nothing yet. Each is said aloud: a setting without effect must not look like one with.

use crate::config::parse::Context;
use crate::config::raw::{AuthMode, Config};
use crate::config::source::At;
use crate::domain::route::table::HostPattern;

pub fn warn(raw: &Config, cx: &mut Context<'_, '_>) {
    rates(raw, cx);
    let auth = At::Root.key("auth");
    for (key, list) in [("allowed_hosts", &raw.auth.allowed_hosts), ("allowed_origins", &raw.auth.allowed_origins)] {
        if raw.auth.mode == AuthMode::Keys && !list.is_empty() {
            cx.warn(&auth.key(key), "has no effect: with keys it is the key that says who may call");
        }
    }
    let tests = At::Root.key("tests");
    if let Some(nth) = raw.tests.iter().position(|test| test.client.is_some()) {
        cx.warn(
            &tests.item(nth).key("client"),
            "has no effect: clients and their models stand in the database, and these tests run without it",
        );
    }
}

fn rates(raw: &Config, cx: &mut Context<'_, '_>) {
    const NOT_YET: &str = "has no effect yet: rate limits are not built";
    let list = At::Root.key("rate_limits");
    for (nth, limit) in raw.rate_limits.iter().enumerate() {
        let at = list.item(nth);
        match HostPattern::parse(&limit.domain) {
            Ok(pattern) => {
                let same = |other: &&crate::config::raw::RateLimit| HostPattern::parse(&other.domain).as_ref() == Ok(&pattern);
                if raw.rate_limits.iter().take(nth).any(|other| same(&other)) {
                    cx.fault(&at.key("domain"), format!("\"{}\" has a rate already", limit.domain));
                }
            }
            Err(message) => cx.fault(&at.key("domain"), message),
        }
    }
    if !raw.rate_limits.is_empty() {
        cx.warn(&list, NOT_YET);
    }
    if raw.default_rate_limit.is_some() {
        cx.warn(&At::Root.key("default_rate_limit"), NOT_YET);
    }
}
