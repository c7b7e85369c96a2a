//! `contrib/`: what is there can be loaded, and asks for nothing that the page does not have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::answers::{CHAT, ask};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Exposition, Mock, Setup};

fn contrib(file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "contrib", file].iter().collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&contrib("grafana/trollbridge.json")).unwrap()
}

fn alerts() -> Value {
    serde_yaml::from_str(&contrib("prometheus/alerts.yml")).unwrap()
}

/// The names of metrics in a text; a histogram's without the part that names its series.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("trollbridge_") || word.starts_with("process_"));
    names
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned())
        .collect()
}

/// Every `expr` in the document, wherever it stands.
fn expressions(document: &Value) -> Vec<String> {
    match document {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// A page that has every family: keys and proxies to rotate, a refusal, an answer.
async fn whole_page() -> Exposition {
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let setup = Setup::new()
        .main(&main)
        .troll(&troll)
        .secret_env("TROLL_SECOND", "sk-troll-second-planted-5b0e7d21c8")
        .set("/upstreams/troll/keys/-", serde_json::json!({ "id": "k2", "key": "${TROLL_SECOND}" }))
        .set("/upstreams/troll/proxies", serde_json::json!([{ "id": "p1", "kind": "reverse", "addr": troll.addr() }]));
    let gateway = setup.start().await;
    gateway.send(ask(CHAT, MAIN_MODEL, true)).await.expect(200);
    gateway.send(ask(CHAT, MAIN_MODEL, true).bearer("wrong")).await.expect(401);
    gateway.until_metric("requests_in_flight", |count| count == 0).await;
    Exposition::parse(&gateway.admin("/metrics").await.expect(200).text())
}

#[tokio::test(flavor = "multi_thread")]
async fn l4_dashboard_and_alerts_ask_only_for_what_the_page_has() {
    let page = whole_page().await;
    for (file, expressions) in [("dashboard", expressions(&dashboard())), ("alerts", expressions(&alerts()))] {
        let asked: BTreeSet<String> = expressions.iter().flat_map(|expression| names(expression)).collect();
        assert!(asked.len() > 10, "{file}: {asked:?}");
        let missing: Vec<_> = asked.iter().filter(|name| !page.families().contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{file}: the page has no {missing:?}");
        for expression in expressions {
            let balance = |open, close| expression.matches(open).count() == expression.matches(close).count();
            assert!(balance('(', ')') && balance('{', '}') && balance('[', ']'), "{file}: {expression}");
        }
    }
}

/// README's table of metrics is the page's, name by name.
#[tokio::test(flavor = "multi_thread")]
async fn l4_the_readme_names_every_family_and_no_other() {
    let page = whole_page().await;
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let told: BTreeSet<String> = names(&readme).into_iter().filter(|name| name != "trollbridge_" && name != "process_").collect();
    let shown: BTreeSet<String> = page.families().into_iter().map(str::to_owned).collect();
    assert_eq!(told, shown);
}

#[test]
fn l4_every_alert_says_what_happened_and_what_to_do() {
    let alerts = alerts();
    let rules: Vec<&Value> =
        alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 10);
    let mut known = BTreeSet::new();
    for rule in rules {
        let text =
            |pointer: &str| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}: {rule}"));
        assert!(known.insert(text("/alert")), "twice: {rule}");
        assert!(["page", "ticket"].contains(&text("/labels/severity")), "{rule}");
        assert!(text("/annotations/summary").len() > 20 && text("/annotations/runbook").len() > 40, "{rule}");
    }
}

#[test]
fn l4_every_panel_has_its_place_and_its_unit() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "trollbridge");
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(panel["gridPos"]["w"].as_u64().unwrap() <= 24 && !panel["title"].as_str().unwrap().is_empty(), "{panel}");
        if panel["type"] != "row" {
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel}");
            assert!(!expressions(&panel["targets"]).is_empty(), "{panel}");
        }
    }
}
