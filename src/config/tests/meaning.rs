//! What the values of a file become: defaults, upstreams, targets, prices, warnings.

use std::time::Duration;

use super::faults::sample_machine;
use super::*;
use crate::domain::billing::OnLoss;
use crate::domain::route::Rule;
use crate::domain::settings::{LedgerSettings, LedgerSync, LogFormat};
use crate::domain::upstream::AuthHeader;

/// Every key of the documented file is accepted now; those without effect yet say so.
#[test]
fn the_documented_file_is_accepted_whole() {
    let loaded = sample_machine().load(include_str!("every_key.json")).unwrap_or_else(|faults| panic!("{faults}"));
    let warned = warnings(&loaded);
    assert!(warned.contains(": rate_limits: has no effect yet"), "{warned}");
    let settings = &loaded.settings;
    assert_eq!(keys(upstream(settings, "troll")), [("k2", "key-two-of-troll")]);
    let pool = upstream(settings, "troll").pool.as_ref().unwrap();
    let carried: Vec<_> = pool.proxies.iter().map(|proxy| (&*proxy.id, proxy.kind.label(), &*proxy.host, &*proxy.keys)).collect();
    assert_eq!(carried, [("p1", "connect", "10.0.0.11", &[0][..]), ("p2", "reverse", "10.0.0.12", &[0][..])]);
    assert_eq!(pool.check.request.as_ref().map(|request| (&*request.path, request.expected_status)), Some(("/health", 200)));
    let openai = upstream(settings, "openai");
    assert_eq!((openai.timeouts.connect, openai.timeouts.idle), (Duration::from_millis(100), Duration::from_secs(20)));
    assert_eq!(openai.ca_file.as_deref(), Some(Path::new("/etc/ssl/own-ca.pem")));
    assert_eq!(settings.routing.models_configured(), 5);
    assert_eq!(loaded.tests_passed, 1);
}

#[test]
fn a4_the_largest_body_fits_a_clients_share_however_small() {
    let share = |limits: &str| loaded(&format!(r#"{{"models": [], "limits": {limits}}}"#)).settings.limits.client_body_bytes;
    assert_eq!(share(r#"{"max_body_bytes": 1000, "inflight_body_bytes": 10000, "client_body_percent": 50}"#), 5_000);
    assert_eq!(share(r#"{"max_body_bytes": 1000, "inflight_body_bytes": 3000, "client_body_percent": 1}"#), 1_000);
    assert_eq!(share(r#"{"max_body_bytes": 1000, "inflight_body_bytes": 10000, "client_body_percent": 100}"#), 10_000);
}

/// H6
#[test]
fn h6_what_is_allowed_beside_this_machine_has_no_effect_with_keys() {
    let text = |mode: &str| {
        format!(r#"{{"models": [], "auth": {{"mode": "{mode}", "allowed_hosts": ["a"], "allowed_origins": ["app://*"]}}}}"#)
    };
    assert!(!warnings(&loaded(&text("none"))).contains("allowed_"));
    let warned = warnings(&loaded(&text("keys")));
    assert!(
        warned.contains("auth.allowed_hosts: has no effect") && warned.contains("auth.allowed_origins: has no effect"),
        "{warned}"
    );
}

/// K5, K11
#[test]
fn the_least_file_has_good_defaults() {
    let settings = loaded(r#"{"models": []}"#).settings;
    assert_eq!(settings.state_dir, Path::new("./state"));
    assert_eq!(settings.listeners.iter().map(|listener| listener.addr.to_string()).collect::<Vec<_>>(), ["127.0.0.1:8080"]);
    assert_eq!(settings.admin.addr.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!((settings.limits.max_body_bytes, settings.limits.inflight_body_bytes), (32 << 20, 1 << 30));
    assert_eq!(settings.limits.client_body_bytes, (1 << 30) / 100 * 25);
    assert_eq!((settings.limits.decode.chunk_bytes, settings.limits.decode.ratio), (1 << 20, 100));
    assert_eq!((settings.retry.max_attempts, settings.retry.budget), (4, Duration::from_secs(15)));
    assert_eq!(settings.retry.hold_first_event, Duration::ZERO);
    assert_eq!((settings.log_format, settings.inject_include_usage), (LogFormat::Text, true));
    assert_eq!((settings.billing.on_client_gone, settings.billing.on_upstream_cut), (OnLoss::Estimate, OnLoss::Observed));
    assert_eq!(settings.upstreams.iter().map(|upstream| &*upstream.name).collect::<Vec<_>>(), ["main", "troll", "ohmygpt"]);
    assert!(!settings.routing.enabled());
    let ohmygpt = upstream(&settings, "ohmygpt");
    assert_eq!(ohmygpt.endpoint.as_ref().unwrap().to_string(), "https://apic1.ohmycdn.com/api/v1/ai/openai/cc-omg");
    let passing: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.pass_client_faults).collect();
    assert_eq!(passing, [true, false, false]);
    assert!(settings.upstreams.iter().all(|upstream| upstream.requires_key && upstream.http2));
}

/// G2
#[test]
fn the_ledger_is_written_as_it_is_told() {
    let day = Duration::from_secs(86_400);
    for (written, sync, segment_bytes, retention) in [
        ("{}", LedgerSync::Process, 64 << 20, Some(90 * day)),
        (r#"{"sync": "process", "segment_bytes": 4096, "retention_days": null}"#, LedgerSync::Process, 4_096, None),
        (r#"{"sync": "interval"}"#, LedgerSync::Interval(Duration::from_millis(200)), 64 << 20, Some(90 * day)),
        (r#"{"sync": "interval", "interval_ms": 7}"#, LedgerSync::Interval(Duration::from_millis(7)), 64 << 20, Some(90 * day)),
        (r#"{"sync": "each", "retention_days": 1}"#, LedgerSync::Each, 64 << 20, Some(day)),
    ] {
        let settings = loaded(&format!(r#"{{"models": [], "ledger": {written}}}"#)).settings;
        assert_eq!(settings.ledger, LedgerSettings { sync, segment_bytes, retention }, "{written}");
    }
    for (wrong, said) in [
        (r#"{"interval_ms": 7}"#, "belongs to `\"sync\": \"interval\"`"),
        (r#"{"sync": "interval", "interval_ms": 0}"#, "ledger.interval_ms"),
        (r#"{"segment_bytes": 1}"#, "ledger.segment_bytes"),
        (r#"{"retention_days": 0}"#, "ledger.retention_days"),
        (r#"{"sync": "always"}"#, "ledger.sync"),
    ] {
        let text = format!(r#"{{"models": [], "ledger": {wrong}}}"#);
        let Err(faults) = sample_machine().load(&text) else { panic!("{wrong} was accepted") };
        assert!(faults.to_string().contains(said), "{wrong}\n{faults}");
    }
}

/// K1
#[test]
fn a_model_without_an_upstream_goes_to_troll() {
    let settings = loaded(r#"{"models": [{"id": "a"}, {"id": "b", "upstream": "${UNSET}"}]}"#).settings;
    for model in ["a", "b"] {
        assert_eq!(&*settings.routing.by_model(Some(model)).unwrap().upstream.name, "troll");
    }
}

/// K11: the address changes, what is said to it does not.
#[test]
fn connect_to_changes_the_address_only() {
    let settings = loaded(
        r#"{"models": [], "upstreams": {"ohmygpt": {"connect_to": "127.0.0.1:9443"}, "troll": {"connect_to": "[::1]:1", "base_url": "https://t"}}}"#,
    )
    .settings;
    let ohmygpt = upstream(&settings, "ohmygpt");
    assert_eq!(ohmygpt.connect_to.unwrap().to_string(), "127.0.0.1:9443");
    let endpoint = ohmygpt.endpoint.as_ref().unwrap();
    assert_eq!((endpoint.authority(), endpoint.sni()), ("apic1.ohmycdn.com", "apic1.ohmycdn.com"));
    assert_eq!(upstream(&settings, "troll").connect_to.unwrap().to_string(), "[::1]:1");
}

/// K4, K10: one upstream for each distinct URL, named by its host, or by more where that is not enough.
#[test]
fn url_targets_have_names_of_their_own() {
    let settings = loaded(
        r#"{"upstreams": {"known.example": {"base_url": "https://elsewhere.example"}},
            "model_routing": {"enabled": true, "default_target": "https://one.example/v1/", "models": {
            "a": "https://one.example/v1", "b": "https://two.example/x", "c": "https://two.example/y", "d": "http://same.example/",
            "e": "https://same.example", "f": "https://known.example:443", "g": "https://[::1]:8443/v1", "h": "known.example"}}}"#,
    )
    .settings;
    let name = |model| settings.routing.by_model(Some(model)).unwrap().upstream.name.to_string();
    for (model, expected) in [
        ("a", "one.example"),
        ("other", "one.example"),
        ("b", "two.example/x"),
        ("c", "two.example/y"),
        ("d", "same.example"),
        ("e", "https://same.example"),
        ("f", "https://known.example"),
        ("g", "[::1]:8443"),
        ("h", "known.example"),
    ] {
        assert_eq!(name(model), expected, "{model}");
    }
    let names: std::collections::HashSet<_> = settings.upstreams.iter().map(|upstream| &upstream.name).collect();
    assert_eq!(names.len(), settings.upstreams.len());
    assert!(settings.routing.by_model(Some("a")).unwrap().upstream.pass_client_faults);
    assert_eq!(settings.routing.default_target().as_deref(), Some("https://one.example/v1"));
}

/// A target without a key is sent no credentials; one that equals an upstream has that one's key and connection, not its name.
#[test]
fn a_url_inherits_from_the_upstream_that_it_equals() {
    let text = r#"{"upstreams": {"own": {"base_url": "https://h/v1/", "key": "${KEY}", "auth_header": "x-api-key", "connect_to": "127.0.0.1:9"}},
        "model_routing": {"enabled": true, "models": {"a": "https://H:443/v1", "b": "https://h/v2"}}}"#;
    let settings = Machine::default().set("KEY", "key-of-own").load(text).unwrap().settings;
    let a = settings.routing.by_model(Some("a")).unwrap().upstream;
    assert_eq!((&*a.name, keys(&a), a.auth_header), ("h/v1", vec![("own", "key-of-own")], AuthHeader::XApiKey));
    assert_eq!(a.connect_to.unwrap().port(), 9);
    assert!(a.guard.contains(b"key-of-own"));
    let b = settings.routing.by_model(Some("b")).unwrap().upstream;
    assert_eq!((keys(&b), b.missing(), b.connect_to), (vec![], None, None));
}

/// K12
#[test]
fn start_up_has_a_line_for_each_upstream_and_never_a_key() {
    let text = r#"{"models": [{"id": "a"}], "upstreams": {"o": {"base_url": "${UNSET}"}, "p": {"base_url": "http://127.0.0.1:1/v1"}},
        "model_routing": {"models": {"x": "p", "y-*": "p"}}}"#;
    let lines =
        Machine::default().set("MAIN_TARGET_SERVER", "https://m").set("MAIN_UPSTREAM_KEY", "canary-key").load(text).unwrap();
    assert_eq!(
        lines.settings.startup_lines(),
        [
            "upstream main: configured, https://m, 1 key",
            "upstream troll: not configured (no base_url), no key",
            "upstream ohmygpt: not configured (no key), https://apic1.ohmycdn.com/api/v1/ai/openai/cc-omg, no key",
            "upstream o: not configured (no base_url), no key",
            "upstream p: configured, http://127.0.0.1:1/v1, no key",
            "model routing: 3 models configured",
        ]
    );
}

/// U1, U2: the price belongs to the model, whatever its upstream.
#[test]
fn a_route_has_its_models_price_or_the_default() {
    let text = r#"{"models": [
        {"id": "a", "upstream": "main", "input_price_per_mtok": 3, "output_price_per_mtok": 15, "billing_multiplier": 1.2},
        {"id": "b", "upstream": "ohmygpt", "input_price_per_mtok": 3, "output_price_per_mtok": 15, "billing_multiplier": 1.2},
        {"id": "c"}, {"id": "d", "billing_multiplier": 2}]}"#;
    let loaded = loaded(text);
    let price = |model| {
        let route = loaded.settings.routing.by_model(Some(model)).unwrap();
        loaded.settings.price_of(&route).clone()
    };
    assert_eq!(price("a").to_string(), "in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok, ×1.2");
    assert_eq!(price("a"), price("b"));
    assert_eq!(price("c").to_string(), "in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok");
    assert_eq!(price("unknown"), price("c"));
    assert_eq!(price("d").multiplier().to_string(), "2");
    assert!(warnings(&loaded).contains("models: without prices of their own, at billing.default_price: c, d"));
    let own = r#"{"models": [{"id": "c"}], "billing": {"default_price": {"input_price_per_mtok": 0.1, "output_price_per_mtok": 0.30}}}"#;
    assert_eq!(super::loaded(own).settings.billing.default_price.rates().output.to_string(), "0.3");
}

/// U1: nothing is billed at a price that nobody wrote without a word about it.
#[test]
fn u1_targets_at_the_default_price_are_warned_about_until_it_is_written() {
    let text = |more: &str| {
        format!(
            r#"{{"models": [{{"id": "a", "input_price_per_mtok": 1, "output_price_per_mtok": 2}}],
            "upstreams": {{"o": {{"base_url": "https://h"}}, "troll": {{"base_url": "https://t", "keys": [{{"id": "k", "key": "${{KEY}}"}}]}}}},
            "host_routes": [{{"host": "h", "upstream": "o"}}] {more}}}"#
        )
    };
    let warned = |more: &str| warnings(&Machine::default().set("KEY", "long-enough").load(&text(more)).unwrap());
    let map = r#", "model_routing": {"enabled": true, "default_target": "o", "models": {"x-*": "o"}}"#;
    let written = r#", "billing": {"default_price": {"input_price_per_mtok": 1, "output_price_per_mtok": 1}}"#;
    assert!(warned("").contains("go to troll and are billed at the default price of 3 / 15"));
    let of_map = warned(map);
    assert!(
        of_map.contains("model_routing: billed at the default price")
            && of_map.contains(": x-*, unknown models (default_target)")
    );
    assert!(!of_map.contains("go to troll"), "{of_map}");
    assert_eq!(warned(&format!("{map}{written}")), "");
    assert_eq!(warned(r#", "routing": {"unknown_model": "reject"}"#), "");
    let required = warned(&format!(r#"{map}, "billing": {{"require_price": true}}"#));
    assert!(
        required.contains("model_routing: refused with 404")
            && required.contains("host_routes: requests without a model are refused")
    );
}

/// U1
#[test]
fn u1_a_required_price_that_a_listed_model_lacks_is_a_fault() {
    let text = r#"{"models": [{"id": "a", "billing_multiplier": 2}], "billing": {"require_price": true}}"#;
    assert!(faults(text).contains("models[0]: model \"a\" has no price, and billing.require_price"));
}

/// G4
#[test]
fn g4_what_a_reservation_counts_with_has_defaults_and_settings() {
    use crate::domain::dialect::Api;
    use crate::domain::json::AskedOutput;
    let reserved = |text: &str, bytes| {
        let settings = loaded(text).settings;
        let route = settings.routing.by_model(Some("a")).unwrap();
        settings.reservation(&route, Api::Messages, bytes, AskedOutput::default()).nanos()
    };
    let model = |more: &str, billing: &str| {
        format!(
            r#"{{"models": [{{"id": "a", "input_price_per_mtok": 1, "output_price_per_mtok": 10{more}}}], "billing": {{{billing}}}}}"#
        )
    };
    assert_eq!(reserved(&model("", ""), 0), 32_000 * 10_000);
    assert_eq!(reserved(&model("", r#""max_output_tokens": 5"#), 0), 5 * 10_000);
    assert_eq!(reserved(&model(r#", "max_output_tokens": 7"#, r#""max_output_tokens": 5"#), 0), 7 * 10_000);
    let one = r#""max_output_tokens": 1"#;
    assert_eq!(reserved(&model("", one), usize::MAX), 200_000 * 2_000 + 10_000);
    assert_eq!(reserved(&model("", &format!(r#"{one}, "max_input_tokens": 3"#)), usize::MAX), 3 * 2_000 + 10_000);
}

/// G4
#[test]
fn g4_required_credits_are_said_aloud_where_nobody_can_have_them() {
    let none = r#"{"models": [], "auth": {"mode": "none"}, "billing": {"require_credits": true}}"#;
    assert!(faults(none).contains("auth.mode: `none` knows no clients"));
    let with_static =
        Machine::default().set("PROXY_API_KEY", "client-key").load(r#"{"models": [], "billing": {"require_credits": true}}"#);
    assert!(warnings(&with_static.unwrap()).contains("auth.static_key: has no balance"));
}

/// K14
#[test]
fn model_based_routing_can_be_switched_off() {
    let text = r#"{"models": [{"id": "a", "upstream": "main"}], "routing": {"model_based": false},
        "model_routing": {"enabled": true, "default_target": "https://h", "models": {"b": "main"}}}"#;
    let settings = loaded(text).settings;
    for model in [Some("a"), Some("b"), Some("c"), None] {
        let route = settings.routing.by_model(model).unwrap();
        assert_eq!((&*route.upstream.name, route.rule), ("troll", Rule::ModelRoutingOff));
    }
}

#[test]
fn doubtful_settings_are_warned_about() {
    let text = r#"{"models": [{"id": "a", "upstream": "main"}, {"id": "b", "upstream": "main"}],
        "upstreams": {"o": {"base_url": "http://10.0.0.1", "key": "${KEY}"}, "p": {"base_url": "https://${HOST}/v1"}},
        "model_routing": {"enabled": true, "models": {"a": "o"}}}"#;
    let loaded = Machine::default().set("KEY", "short").load(text).unwrap();
    let text = warnings(&loaded);
    for part in [
        "config.json:2:22: upstreams.main: \"main\" is not configured (MAIN_TARGET_SERVER is not set), but requests go there: a, b",
        "\"troll\" is not configured (it has no base_url), but requests go there: unknown models",
        "the key of \"o\" travels unencrypted",
        "a key of \"o\" is shorter than 6 characters",
        "upstreams.p.base_url: the variable HOST is not set, so this whole value counts as unset",
        "model_routing.models.a: is never used: models[0] has this name and comes first",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// P9: a large file loads in one pass; names are found through a map, not by search.
#[test]
fn many_models_load() {
    let models: Vec<String> =
        (0..20_000).map(|nth| format!(r#"{{"id": "model-{nth}", "id_aliases": ["alias-{nth}"]}}"#)).collect();
    let settings = loaded(&format!(r#"{{"models": [{}]}}"#, models.join(","))).settings;
    assert_eq!(settings.routing.models_configured(), 20_000);
    assert_eq!(&*settings.routing.by_model(Some("alias-19999")).unwrap().model.unwrap().id, "model-19999");
}

#[test]
fn p4_prices_by_condition_are_read_and_what_can_not_be_is_a_fault() {
    let model = |more: &str| {
        format!(
            r#"{{"models": [{{"id": "m", "input_price_per_mtok": 3, "output_price_per_mtok": 15, "tool_prices": {{"web_search": 0.01}}, {more}}}]}}"#
        )
    };
    let loaded = super::loaded(&model(
        r#""prices": [{"above_input_tokens": 200000, "input_price_per_mtok": 6.000000001}, {"service_tier": "flex", "multiplier": 0.5}]"#,
    ));
    let price = loaded.settings.price_of(&loaded.settings.routing.by_model(Some("m")).unwrap()).clone();
    let rows: Vec<String> = price.rows().iter().map(ToString::to_string).collect();
    assert_eq!(rows, ["more than 200000 input tokens: input 6.000000001", "service tier flex: × 0.5"]);
}
