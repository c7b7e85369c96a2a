//! What an operator's tools read (L4): the metrics page against the ledger, its labels against clients' inventions, the dashboards and
//! alert rules against the page.

mod contrib;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trollbridge::provider_mock::{After, How, Reply, Rule};

use crate::answers::{CHAT, MESSAGES, RESPONSES, ask};
use crate::support::process;
use crate::support::setup::{ADMIN_TOKEN, MAIN_MODEL, NAMED_MODEL, OHMYGPT_MODEL, SECOND_MAIN_MODEL, TROLL_MODEL};
use crate::support::{Client, Exposition, Gate, Gateway, Mock, Request, Setup, Shorthand, soon};

const CLASSES: [(&str, &str); 5] = [
    ("input", "input_tokens"),
    ("cache_write", "cache_write_tokens"),
    ("cache_write_1h", "cache_write_1h_tokens"),
    ("cache_read", "cache_read_tokens"),
    ("output", "output_tokens"),
];
/// Keys of the URL map; each goes to `main` and has an answer of its own.
const CUT: &str = "main-cuts";
const FAILS: &str = "main-fails";
const STALLS: &str = "main-stalls";
/// As many as `compare` joins.
const CLIENTS: usize = 10;

struct Place {
    gateway: Gateway,
    _mocks: [Mock; 3],
}

impl Place {
    async fn start() -> Self {
        let mocks = [Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap()];
        let [main, troll, named] = &mocks;
        let cut = |how| Reply::usual().saying("pebbles and ").deltas(40).cut(After::Events(9), how);
        for (model, reply) in [(CUT, cut(How::Close)), (STALLS, cut(How::Stall)), (FAILS, Reply::status(500))] {
            main.rule(Rule { model: Some(model.to_owned()), reply, ..Rule::default() });
        }
        let targets = json!({ CUT: "main", FAILS: "main", STALLS: "main", "gemini-*": "named" });
        let setup = Setup::new()
            .main(main)
            .troll(troll)
            .named(named)
            .set("/model_routing", json!({ "enabled": true, "models": targets }))
            .set("/routing/unknown_model", json!("troll"));
        Self { gateway: setup.start().await, _mocks: mocks }
    }

    async fn page(&self) -> Exposition {
        Exposition::parse(&self.gateway.admin("/metrics").await.expect(200).text())
    }

    /// The page once nothing is under way any more.
    async fn page_at_rest(&self) -> Exposition {
        self.gateway.until_metric("requests_in_flight", |count| count == 0).await;
        self.gateway.until_metric("ledger_entries_open", |count| count == 0).await;
        self.page().await
    }

    async fn entries(&self) -> Vec<Value> {
        let exported = process::run(self.gateway.dir(), &["ledger", "export"], &self.gateway.env()).await.expect(0);
        exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The label that an entry's model has.
fn label(model: &str) -> &str {
    match model {
        _ if model.starts_with("gemini-") => "gemini-*",
        MAIN_MODEL | SECOND_MAIN_MODEL | TROLL_MODEL | NAMED_MODEL | CUT | FAILS | STALLS => model,
        _ => "other",
    }
}

/// One request of the mixture; `true`: it has an entry in the ledger.
async fn one_of_many(gateway: &Gateway, client: &mut Client, nth: usize) -> bool {
    let is_even_round = (nth / 12).is_multiple_of(2);
    let usual = |path, model: &str| ask(path, model, is_even_round);
    let (request, status) = match nth % 12 {
        0 | 1 => (usual(CHAT, MAIN_MODEL), 200),
        2 => (usual(MESSAGES, MAIN_MODEL), 200),
        3 => (usual(MESSAGES, SECOND_MAIN_MODEL), 200),
        4 => (usual(RESPONSES, NAMED_MODEL), 200),
        5 => (usual("/v1/embeddings", MAIN_MODEL), 200),
        6 => (usual("/v1/messages/count_tokens", MAIN_MODEL), 200),
        7 => (usual(CHAT, &format!("gemini-{nth}")), 200),
        8 => (usual(CHAT, &format!("invented-{nth}")), 200),
        9 => (usual(MESSAGES, FAILS), 500),
        10 if is_even_round => (Request::post_bytes(CHAT, "{\"model\":"), 400),
        10 => (usual(CHAT, MAIN_MODEL).bearer("wrong"), 401),
        _ => {
            let mut own = gateway.client().await;
            let (model, leaves) = if is_even_round { (CUT, false) } else { (STALLS, true) };
            let mut arriving = own.open(ask(MESSAGES, model, true)).await.unwrap();
            if leaves {
                arriving.until("content_block_delta").await;
                drop(arriving);
                own.abort();
            } else {
                arriving.finish().await;
            }
            return true;
        }
    };
    if !client.is_reusable().await {
        *client = gateway.client().await;
    }
    assert_eq!(client.send(request).await.status, status, "{nth}");
    status != 400 && status != 401
}

/// The sums of one field of the entries by label and upstream.
fn summed(entries: &[Value], field: &str) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for entry in entries {
        let key = (label(entry["model"].as_str().unwrap()).to_owned(), entry["upstream"].as_str().unwrap().to_owned());
        *sums.entry(key).or_default() += entry[field].as_u64().unwrap();
    }
    sums
}

/// The same of the page, in the unit of the entries.
fn shown(page: &Exposition, name: &str, labels: &[(&str, &str)], per_unit: f64) -> BTreeMap<(String, String), u64> {
    let sample = |sample: &crate::support::exposition::Sample| {
        (
            (sample.labels["model"].clone(), sample.labels["upstream"].clone()),
            format!("{:.0}", sample.value * per_unit).parse().unwrap(),
        )
    };
    page.of(name, labels).into_iter().map(sample).collect()
}

/// Sends the mixture and compares the page with the export, sum by sum.
async fn compare(requests: usize) -> Place {
    let place = Place::start().await;
    let sent = std::sync::atomic::AtomicUsize::new(0);
    let send = async |first: usize| {
        let mut client = place.gateway.client().await;
        let mut nth = first;
        while nth < requests {
            if one_of_many(&place.gateway, &mut client, nth).await {
                sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            nth += CLIENTS;
        }
    };
    tokio::join!(send(0), send(1), send(2), send(3), send(4), send(5), send(6), send(7), send(8), send(9));
    let page = place.page_at_rest().await;
    let entries = place.entries().await;
    assert_eq!(entries.len(), sent.into_inner());

    for (class, field) in CLASSES {
        assert_eq!(shown(&page, "trollbridge_tokens_total", &[("class", class)], 1.0), summed(&entries, field), "{class}");
    }
    assert_eq!(shown(&page, "trollbridge_cost_usd_total", &[], 1e9), summed(&entries, "cost_nano_usd"));
    let nano_usd: u64 = summed(&entries, "cost_nano_usd").into_values().sum();
    assert!(nano_usd > 0);
    say(&format!("{requests} requests: {} entries, {nano_usd} nano-dollars, the same on the page", entries.len()));
    let status = place.gateway.admin("/status.json").await.expect(200).json();
    assert_eq!(status["totals"]["cost_nano_usd"], nano_usd);
    for (class, field) in CLASSES {
        let sum: u64 = summed(&entries, field).into_values().sum();
        assert_eq!(status["totals"]["tokens"][class], sum, "{class}");
    }

    let count = |fits: &dyn Fn(&Value) -> bool| entries.iter().filter(|entry| fits(entry)).count() as f64;
    assert_eq!(page.sum("trollbridge_ledger_entries_total", &[]), count(&|_| true));
    for source in ["final", "partial", "estimated", "none"] {
        assert_eq!(page.sum("trollbridge_usage_source_total", &[("source", source)]), count(&|entry| entry["source"] == source));
    }
    for upstream in ["main", "troll", "named"] {
        let of_upstream = |entry: &Value| entry["upstream"] == upstream;
        for end in ["ok", "client_gone", "upstream_cut", "upstream_error", "refused", "interrupted"] {
            let shown = page.sum("trollbridge_upstream_requests_total", &[("upstream", upstream), ("end", end)]);
            assert_eq!(shown, count(&|entry| of_upstream(entry) && entry["end"] == end), "{upstream} {end}");
        }
        for name in ["request_attempts_count", "request_duration_seconds_count"] {
            assert_eq!(page.sum(&format!("trollbridge_{name}"), &[("upstream", upstream)]), count(&of_upstream), "{name}");
        }
        let good = count(&|entry| of_upstream(entry) && entry["status"] == 200);
        assert_eq!(page.sum("trollbridge_first_byte_seconds_count", &[("upstream", upstream)]), good, "{upstream}");
    }
    assert_eq!(page.sum("trollbridge_requests_total", &[]), requests as f64);
    assert_eq!(page.sum("trollbridge_requests_ended_total", &[]), requests as f64);
    let client_faults = page.sum("trollbridge_requests_total", &[("status", "4xx")]);
    let wrong_keys = page.sum("trollbridge_refusals_total", &[("reason", "wrong_key")]);
    assert_eq!(client_faults, wrong_keys + page.sum("trollbridge_parsing_errors_total", &[]));
    assert_eq!(page.sum("trollbridge_open_streams", &[]), 0.0);
    place
}

/// Tells a figure to whoever runs the test with its output.
#[expect(clippy::print_stderr, reason = "a figure to be read")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// TROLLBRIDGE_FULL_METRICS=1 sends ten thousand requests in place of five hundred, and as many invented models in place of three hundred.
fn full() -> bool {
    std::env::var_os("TROLLBRIDGE_FULL_METRICS").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn l4_the_pages_sums_are_the_ledgers_after_mixed_requests() {
    let place = Box::pin(compare(if full() { 10_000 } else { 504 })).await;
    let labels = place.page().await;
    let expected: BTreeSet<&str> =
        [MAIN_MODEL, SECOND_MAIN_MODEL, NAMED_MODEL, CUT, FAILS, STALLS, "gemini-*", "other"].into_iter().collect();
    assert_eq!(labels.values("model"), expected);
    assert!(!labels.values("model").contains(OHMYGPT_MODEL), "who was not asked has no series");
}

#[tokio::test(flavor = "multi_thread")]
async fn l4_invented_models_add_no_series() {
    let place = Place::start().await;
    let mut client = place.gateway.client().await;
    let mut ask_for = async |name: &str| {
        client.send(ask(CHAT, name, false)).await.expect(200);
    };
    ask_for("never-heard-of").await;
    ask_for("gemini-none").await;
    let series = |page: &Exposition| {
        let names = page.samples.iter().map(|sample| (sample.name.clone(), sample.labels.clone()));
        names.collect::<BTreeSet<_>>()
    };
    let before = series(&place.page_at_rest().await);
    let inventions = if full() { 10_000 } else { 300 };
    for nth in 0..inventions {
        let name = if nth % 2 == 0 { format!("invented-{nth}") } else { format!("gemini-\"{nth}\\") };
        ask_for(&name).await;
    }
    let page = place.page_at_rest().await;
    assert_eq!(series(&page), before);
    assert_eq!(page.sum("trollbridge_ledger_entries_total", &[]), (inventions + 2) as f64);
}

/// A stream under way is open and in flight; a scrape is answered while the gateway drains.
#[tokio::test(flavor = "multi_thread")]
async fn l4_open_streams_are_counted_and_a_scrape_is_answered_while_draining() {
    let main = Mock::http().await.unwrap();
    let gate = Gate::closed();
    main.push(Reply::usual().gated(&gate));
    let gateway = Setup::new().main(&main).grace_seconds(30).start().await;
    let mut scraper = Client::http1(gateway.admin_addr(), gateway.distrust()).await;
    let mut scrape = async || {
        let answer = scraper.send(Request::get("/metrics").bearer(ADMIN_TOKEN)).await.expect(200);
        Exposition::parse(&answer.text())
    };
    let mut client = gateway.client().await;
    let mut arriving = client.open(ask(MESSAGES, MAIN_MODEL, true)).await.unwrap();
    gate.let_out(1);
    arriving.until("message_start").await;
    let page = scrape().await;
    assert_eq!((page.sum("trollbridge_open_streams", &[]), page.sum("trollbridge_requests_in_flight", &[])), (1.0, 1.0));
    assert_eq!(page.sum("trollbridge_ready", &[]), 1.0);

    gateway.signal("TERM");
    gateway.wait_for_log(|line| line.contains("draining")).await;
    let page = scrape().await;
    assert_eq!((page.sum("trollbridge_ready", &[]), page.sum("trollbridge_open_streams", &[])), (0.0, 1.0));
    gate.let_out(1_000);
    soon("the stream's end", arriving.finish()).await.expect(200);
}

/// What `/status.json` says of a gateway that was reloaded well and badly.
#[tokio::test(flavor = "multi_thread")]
async fn l4_the_status_says_where_it_runs_and_how_the_last_reload_went() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let status = async || gateway.admin("/status.json").await.expect(200).json();
    let at_first = status().await;
    assert_eq!((&at_first["pid"], &at_first["state"]), (&json!(gateway.pid()), &json!("ready")));
    assert!(at_first["config"]["path"].as_str().unwrap().ends_with("config.json"), "{at_first}");
    assert_eq!((&at_first["config"]["last_reload"], &at_first["admin"]), (&json!(null), &json!(gateway.admin_addr())));
    assert_eq!(at_first["listeners"][0], json!({ "addr": gateway.addr(), "tls": false, "h2c": true }));
    assert!(
        at_first["process"]["open_fds"].as_u64().unwrap() > 5 && at_first["ledger"]["disk_free_bytes"].is_u64(),
        "{at_first}"
    );

    gateway.signal("HUP");
    gateway.until_metric("reloads_total{outcome=\"ok\"}", |count| count == 1).await;
    assert_eq!(status().await["config"]["last_reload"]["ok"], true);
    gateway.rewrite_config(|config| config["models"] = json!("none"));
    gateway.signal("HUP");
    gateway.until_metric("reloads_total{outcome=\"refused\"}", |count| count == 1).await;
    assert_eq!(gateway.metric("reload_last_ok").await, 0);
    let at_last = status().await;
    assert_eq!(at_last["config"]["last_reload"]["ok"], false);
    assert!(at_last["config"]["loaded_at"].as_str() > at_first["config"]["loaded_at"].as_str(), "{at_last}");
}
