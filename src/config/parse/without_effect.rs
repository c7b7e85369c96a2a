//! Keys that are read and checked, and do nothing yet. Each is said aloud: a setting without effect must not look like one with.

use crate::config::parse::Context;
use crate::config::raw::{Config, LedgerSync, OnLoss};
use crate::config::source::At;
use crate::domain::route::table::HostPattern;

pub fn warn(raw: &Config, cx: &mut Context<'_, '_>) {
    let (root, billing) = (At::Root, At::Key(&At::Root, "billing"));
    rates(raw, cx);
    if let Some(ledger) = &raw.ledger {
        let at = root.key("ledger");
        if ledger.interval_ms.is_some() && ledger.sync != LedgerSync::Interval {
            cx.fault(&at.key("interval_ms"), "belongs to `\"sync\": \"interval\"`");
        }
        cx.warn(&at, "has no effect yet: the ledger is not built; usage stands in the access log");
    }
    for (key, is_changed) in [
        ("on_client_gone", raw.billing.on_client_gone != OnLoss::Estimate),
        ("on_upstream_cut", raw.billing.on_upstream_cut != OnLoss::Observed),
    ] {
        if is_changed {
            cx.warn(&billing.key(key), "has no effect yet: the access log shows what was observed, the ledger is not built");
        }
    }
    let tests = root.key("tests");
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
