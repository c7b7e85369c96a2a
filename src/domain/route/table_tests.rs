//! Each rule of the table, its place in the order, and that lookups agree with a plain search.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::guard::KeyGuard;
use crate::domain::route::considered::{Asked, Considered, Fate};
use crate::domain::upstream::{AuthHeader, Timeouts};

fn upstream(name: &str) -> Arc<Upstream> {
    let second = Duration::from_secs(1);
    Arc::new(Upstream {
        name: name.into(),
        endpoint: None,
        credentials: Vec::new(),
        pool: None,
        cooldowns: Default::default(),
        retry_budget: Default::default(),
        hides_limits: false,
        requires_key: false,
        auth_header: AuthHeader::Authorization,
        connect_to: None,
        ca_file: None,
        http2: true,
        timeouts: Timeouts { connect: second, first_byte: second, idle: second },
        pass_client_faults: true,
        guard: KeyGuard::new(std::iter::empty()),
    })
}

fn model(id: &str, upstream: &Arc<Upstream>, aliases: &[&str]) -> Model {
    Model {
        id: id.into(),
        aliases: aliases.iter().map(|alias| Arc::from(*alias)).collect(),
        upstream: upstream.clone(),
        upstream_model_id: Some(format!("{id}-at-{}", upstream.name).into()),
        price: None,
        max_output_tokens: None,
    }
}

fn plan(change: impl FnOnce(&mut Plan)) -> RoutingTable {
    let (troll, main, url) = (upstream("troll"), upstream("main"), upstream("url"));
    let target = |pattern: &str| (NamePattern::parse(pattern).unwrap(), url.clone());
    let mut plan = Plan {
        model_based: true,
        unknown_model: UnknownModel::Troll,
        troll: troll.clone(),
        models: vec![model("opus", &troll, &["opus-latest"]), model("sonnet", &main, &[])],
        url_map: Some(UrlMap {
            enabled: true,
            default_target: Some(upstream("default")),
            targets: vec![
                target("gpt-4"),
                target("sonnet"),
                target("gpt-*"),
                (NamePattern::Prefix("gpt-4-".into()), upstream("long")),
            ],
        }),
        hosts: Vec::new(),
    };
    change(&mut plan);
    RoutingTable::new(plan)
}

fn went(table: &RoutingTable, name: Option<&str>) -> (String, Rule) {
    let route = table.by_model(name).unwrap();
    (route.upstream.name.to_string(), route.rule)
}

/// M1, M2, M5: the order of section M.
#[test]
fn the_first_rule_that_matches_decides() {
    let table = plan(|_| {});
    for (name, upstream, rule) in [
        (Some("opus"), "troll", Rule::Model),
        (Some("opus-latest"), "troll", Rule::Model),
        (Some("sonnet"), "main", Rule::Model),
        (Some("gpt-4"), "url", Rule::Exact),
        (Some("gpt-4-turbo"), "long", Rule::Prefix),
        (Some("gpt-4-"), "long", Rule::Prefix),
        (Some("gpt-5"), "url", Rule::Prefix),
        (Some("gpt"), "default", Rule::DefaultTarget),
        (Some("Opus"), "default", Rule::DefaultTarget),
        (Some(""), "default", Rule::DefaultTarget),
        (Some("gpté"), "default", Rule::DefaultTarget),
        (None, "default", Rule::DefaultTarget),
    ] {
        assert_eq!(went(&table, name), (upstream.to_owned(), rule), "{name:?}");
    }
    assert_eq!(table.by_model(Some("opus-latest")).unwrap().model.unwrap().id.as_ref(), "opus");
    assert_eq!(table.for_invalid_json().unwrap().rule, Rule::DefaultTarget);
}

/// K5: a map that is off, or not there, is not asked.
#[test]
fn url_routing_is_off_unless_enabled() {
    for table in [plan(|plan| plan.url_map = None), plan(|plan| plan.url_map.as_mut().unwrap().enabled = false)] {
        assert!(!table.enabled());
        for name in [Some("gpt-4"), Some("unknown"), None] {
            assert_eq!(went(&table, name), ("troll".to_owned(), Rule::UnknownToTroll), "{name:?}");
        }
        assert_eq!(went(&table, Some("sonnet")), ("main".to_owned(), Rule::Model));
        assert!(table.for_invalid_json().is_none());
    }
}

/// M, rule 3
#[test]
fn an_unknown_model_is_rejected_where_the_file_says_so_and_no_default_target_takes_it() {
    let reject = plan(|plan| {
        plan.unknown_model = UnknownModel::Reject;
        plan.url_map.as_mut().unwrap().default_target = None;
    });
    assert_eq!(reject.by_model(Some("x")).unwrap_err(), Refusal::UnknownModel { model: Some("x".into()) });
    assert_eq!(reject.by_model(None).unwrap_err(), Refusal::UnknownModel { model: None });
    assert_eq!(went(&reject, Some("gpt-4")).1, Rule::Exact);
    assert!(reject.for_invalid_json().is_none());
    let with_default = plan(|plan| plan.unknown_model = UnknownModel::Reject);
    assert_eq!(went(&with_default, Some("x")).1, Rule::DefaultTarget);
}

/// K14, U1: the old behaviour, with each model's own price but no other upstream's name for it.
#[test]
fn without_model_routing_everything_goes_to_troll() {
    let table = plan(|plan| plan.model_based = false);
    for name in [Some("opus"), Some("sonnet"), Some("gpt-4"), Some("x"), None] {
        assert_eq!(went(&table, name), ("troll".to_owned(), Rule::ModelRoutingOff), "{name:?}");
    }
    let renamed = |name| table.by_model(Some(name)).unwrap().model.unwrap().upstream_model_id.clone();
    assert_eq!(renamed("opus").as_deref(), Some("opus-at-troll"));
    assert_eq!(renamed("sonnet"), None);
    assert!(table.for_invalid_json().is_none());
    assert_eq!(table.listed().map(|model| &*model.id).collect::<Vec<_>>(), ["opus", "sonnet"]);
}

/// M7, M16: requests without a JSON body.
#[test]
fn a_host_is_found_by_name_then_by_its_longest_suffix() {
    let host = |pattern: &str, name: &str| (HostPattern::parse(pattern).unwrap(), upstream(name));
    let table = plan(|plan| {
        plan.hosts = vec![
            host("*.Example.com", "wide"),
            host("*.internal.example.com", "narrow"),
            host("api.example.com", "exact"),
            host("::1", "six"),
        ];
    });
    for (asked, found) in [
        ("api.example.com", Some("exact")),
        ("API.EXAMPLE.COM:8443", Some("exact")),
        ("api.example.com.", Some("exact")),
        ("a.internal.example.com", Some("narrow")),
        ("a.b.internal.example.com:80", Some("narrow")),
        ("internal.example.com", Some("wide")),
        ("example.com", None),
        ("evilexample.com", None),
        ("api.example.com.evil.net", None),
        ("[::1]:8080", Some("six")),
        ("::1", Some("six")),
        ("", None),
        ("[", None),
    ] {
        let name = table.by_host(asked).map(|route| route.upstream.name.to_string());
        assert_eq!(name.as_deref(), found, "{asked}");
    }
    assert!(plan(|_| {}).by_host("api.example.com").is_none());
}

/// M14, K12
#[test]
fn lists_models_then_the_exact_names_of_the_map() {
    let table = plan(|_| {});
    assert_eq!(table.listed().map(|model| &*model.id).collect::<Vec<_>>(), ["opus", "sonnet", "gpt-4"]);
    assert_eq!(table.models_configured(), 6);
    assert_eq!(table.find("opus-latest").map(|model| &*model.id), Some("opus"));
    assert_eq!(table.default_target().as_deref(), Some("default"));
}

#[test]
fn l4_a_route_is_named_by_the_configuration_alone() {
    let named = |table: &RoutingTable, asked: Option<&str>| {
        let route = table.by_model(asked).unwrap();
        table.pattern_of(&route, asked).map(|pattern| pattern.to_string())
    };
    let table = plan(|_| ());
    for (asked, name) in [
        ("opus", Some("opus")),
        ("opus-latest", Some("opus")),
        ("gpt-4", Some("gpt-4")),
        ("gpt-4-turbo", Some("gpt-4-*")),
        ("gpt-5", Some("gpt-*")),
        ("invented", None),
    ] {
        assert_eq!(named(&table, Some(asked)).as_deref(), name, "{asked}");
    }
    assert_eq!(named(&table, None), None);
    let off = plan(|plan| plan.model_based = false);
    assert_eq!((named(&off, Some("sonnet")).as_deref(), named(&off, Some("gpt-4"))), (Some("sonnet"), None));
}

#[test]
fn patterns_that_mean_nothing_are_refused() {
    for name in ["", "a*b", "**", "*x"] {
        assert!(NamePattern::parse(name).is_err(), "{name}");
    }
    assert_eq!(NamePattern::parse("*"), Ok(NamePattern::Prefix("".into())));
    for host in ["", "*", "*.", "a*.example.com", "https://h", "h:80", "h/x", "a..b", "*.*.b"] {
        assert!(HostPattern::parse(host).is_err(), "{host}");
    }
}

proptest! {
    /// P9: the buckets by length answer as a search through all prefixes would.
    #[test]
    fn the_longest_prefix_wins(prefixes in proptest::collection::hash_set("[ab]{0,4}", 0..12), name in "[ab]{0,6}") {
        let table = plan(|plan| {
            let targets = prefixes.iter().map(|prefix| (NamePattern::Prefix(prefix.as_str().into()), upstream(prefix))).collect();
            plan.url_map = Some(UrlMap { enabled: true, default_target: None, targets });
        });
        let longest = prefixes.iter().filter(|prefix| name.starts_with(prefix.as_str())).max_by_key(|prefix| prefix.len());
        let expected = longest.map_or(("troll".to_owned(), Rule::UnknownToTroll), |prefix| (prefix.clone(), Rule::Prefix));
        prop_assert_eq!(went(&table, Some(&name)), expected);
    }
}

/// L1: the reason holds words of the configuration alone.
#[test]
fn a_reason_names_the_entry_that_matched_where_several_could() {
    let table = plan(|plan| {
        plan.hosts = vec![
            (HostPattern::parse("API.example.com").unwrap(), upstream("one")),
            (HostPattern::parse("*.example.com").unwrap(), upstream("two")),
        ];
    });
    for (name, reason) in [
        (Some("opus"), "model"),
        (Some("opus-latest"), "alias:opus"),
        (Some("gpt-4"), "exact"),
        (Some("gpt-5"), "prefix:gpt-*"),
        (Some("gpt-4-turbo"), "prefix:gpt-4-*"),
        (Some("unheard-of"), "default_target"),
        (None, "default_target"),
    ] {
        assert_eq!(table.by_model(name).unwrap().reason(), reason, "{name:?}");
    }
    assert_eq!(table.by_host("api.Example.com:443").unwrap().reason(), "host:api.example.com");
    assert_eq!(table.by_host("x.y.example.com").unwrap().reason(), "host:*.example.com");
    let old = plan(|plan| plan.model_based = false);
    assert_eq!(old.by_model(Some("opus-latest")).unwrap().reason(), "model_routing_off");
}

/// What decided in the explanation is what decides.
#[test]
fn the_rule_that_is_told_to_have_matched_is_the_one_that_matches() {
    let tables = [
        plan(|_| {}),
        plan(|plan| plan.model_based = false),
        plan(|plan| plan.url_map = None),
        plan(|plan| plan.url_map.as_mut().unwrap().enabled = false),
        plan(|plan| plan.url_map.as_mut().unwrap().default_target = None),
        plan(|plan| {
            plan.url_map = None;
            plan.unknown_model = UnknownModel::Reject;
        }),
        plan(|plan| plan.hosts = vec![(HostPattern::parse("*.h").unwrap(), upstream("below"))]),
    ];
    let decided = |considered: Vec<Considered>| -> Option<(&'static str, Fate)> {
        let mut decided = considered.iter().filter(|one| matches!(one.fate, Fate::Matched | Fate::Refused));
        let found = decided.next().map(|one| (one.rule, one.fate));
        assert!(decided.next().is_none(), "{considered:?}");
        found
    };
    let matched = |route: Route| (route.rule.label(), Fate::Matched);
    for table in &tables {
        for name in [Some("opus"), Some("opus-latest"), Some("sonnet"), Some("gpt-4"), Some("gpt-4-x"), Some("zzz"), None] {
            let expected = table.by_model(name).map_or((Rule::UnknownToTroll.label(), Fate::Refused), matched);
            assert_eq!(decided(table.considered(Asked::Model(name))), Some(expected), "{name:?} {table:?}");
        }
        let invalid = decided(table.considered(Asked::InvalidJson { is_ambiguous: false }));
        assert_eq!(invalid, table.for_invalid_json().map(matched));
        assert_eq!(decided(table.considered(Asked::InvalidJson { is_ambiguous: true })), None);
        for host in [Some("a.h"), Some("h"), None] {
            let expected = host.and_then(|host| table.by_host(host)).map(matched);
            assert_eq!(decided(table.considered(Asked::NoJson(host))), expected, "{host:?}");
        }
    }
}

#[test]
fn every_rule_that_did_not_decide_says_why() {
    let told = plan(|_| {}).considered(Asked::Model(Some("sonnet")));
    let told: Vec<_> = told.iter().map(|one| (one.rule, one.fate.label(), one.why.as_str())).collect();
    assert_eq!(
        told,
        [
            ("model_routing_off", "skipped", "routing.model_based is on"),
            ("model", "matched", "models[] has the id \"sonnet\""),
            ("exact", "too_late", "model_routing.models has exactly this name, but an earlier rule decided"),
            ("prefix", "skipped", "model_routing.models has no prefix of \"sonnet\""),
            ("default_target", "too_late", "model_routing.default_target takes what nothing names, but an earlier rule decided"),
            (
                "unknown_to_troll",
                "too_late",
                "routing.unknown_model is \"troll\", which takes what nothing names, but an earlier rule decided"
            ),
            ("host", "skipped", "the request has a JSON body, so its model decides"),
        ]
    );
}
