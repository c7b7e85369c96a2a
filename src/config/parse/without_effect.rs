//! Keys that are read and checked, and do nothing yet. Each is said aloud: a setting without effect must not look like one with.

use crate::config::parse::Context;
use crate::config::raw::{Config, OnLoss};
use crate::config::source::At;
use crate::domain::route::table::HostPattern;

pub fn warn(raw: &Config, cx: &mut Context<'_, '_>) {
    let (root, upstreams, billing) = (At::Root, At::Key(&At::Root, "upstreams"), At::Key(&At::Root, "billing"));
    let troll = upstreams.key("troll");

    // Going direct where the operator wants a proxy would show the wrong address to the provider: no start.
    if !raw.upstreams.troll.proxies.is_empty() {
        cx.fault(
            &troll.key("proxies"),
            "the proxy pool is not built yet, and requests must not go out without the proxies that you ask for; \
             take the list out to connect directly",
        );
    }
    let pool = [
        ("health_check", raw.upstreams.troll.health_check.is_some()),
        ("cooldown", raw.upstreams.troll.cooldown.is_some()),
        ("allow_direct_when_down", raw.upstreams.troll.allow_direct_when_down),
    ];
    for (key, _) in pool.into_iter().filter(|(_, is_set)| *is_set) {
        cx.warn(&troll.key(key), "has no effect yet: the proxy pool is not built");
    }

    rates(raw, cx);
    for (key, is_set) in [("require_price", raw.billing.require_price), ("require_credits", raw.billing.require_credits)] {
        if is_set {
            cx.warn(&billing.key(key), "has no effect yet: client credits are not built");
        }
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
        cx.warn(&tests.item(nth).key("client"), "has no effect yet: no client has models or limits of its own");
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
