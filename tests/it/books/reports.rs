//! G5: three tellings of the same requests, the access lines, the entries and the reports, say the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trollbridge::provider_mock::{Reply, Rule};

use super::{add_client, command, entries, expect_whole};
use crate::answers::{CHAT, MESSAGES, RESPONSES};
use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_MODEL, SECOND_MAIN_MODEL, TROLL_KEY, TROLL_MODEL};
use crate::support::{Gateway, Mock, Request, ScriptedProxy, Setup, Shorthand, soon};

const FIELDS: [&str; 6] =
    ["input_tokens", "cache_write_tokens", "cache_write_1h_tokens", "cache_read_tokens", "output_tokens", "cost_nano_usd"];
const SECOND_KEY: &str = "sk-troll-second-planted-77aa03be15";

type Sums = BTreeMap<Option<String>, (u64, [u64; 6])>;

/// Adds the counts of each record to those of what it is `by`.
fn summed<'r>(records: impl IntoIterator<Item = &'r Value>, by: impl Fn(&Value) -> Option<String>) -> Sums {
    let mut sums = Sums::new();
    for record in records {
        let (requests, fields) = sums.entry(by(record)).or_default();
        *requests += record.get("requests").and_then(Value::as_u64).unwrap_or(1);
        for (sum, name) in fields.iter_mut().zip(FIELDS) {
            *sum += record.get(name).and_then(Value::as_u64).unwrap_or(0);
        }
    }
    sums
}

fn text(record: &Value, field: &str) -> Option<String> {
    record.get(field).and_then(Value::as_str).map(str::to_owned)
}

fn access_lines(gateway: &Gateway) -> Vec<Value> {
    let lines = gateway.log_lines().into_iter().filter(|line| line.starts_with(r#"{"opened_at""#));
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

/// Two proxies and two keys, so that the entries can name them.
async fn troll(setup: Setup, troll: &Mock) -> (Setup, [ScriptedProxy; 2]) {
    let proxies = [ScriptedProxy::connect().await, ScriptedProxy::socks5().await];
    let listed: Value = [("p1", "connect"), ("p2", "socks5")]
        .iter()
        .zip(&proxies)
        .map(|((id, kind), proxy)| {
            proxy.connect_to(troll.addr());
            json!({ "id": id, "kind": kind, "addr": proxy.addr() })
        })
        .collect();
    let setup = setup
        .troll(troll)
        .secret_env("TROLL_SECOND", SECOND_KEY)
        .set("/upstreams/troll/keys/-", json!({ "id": "k2", "key": "${TROLL_SECOND}" }))
        .set("/upstreams/troll/proxies", listed);
    (setup, proxies)
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_reports_entries_and_access_lines_agree_by_model_client_upstream_key_and_day() {
    let (main, far) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let setup = Setup::new().main(&main).set("/log/format", json!("json")).set("/ledger", json!({ "segment_bytes": 8_192 }));
    let (setup, _proxies) = troll(setup, &far).await;
    let mut gateway = setup.start().await;
    let keys = [
        CLIENT_KEY.to_owned(),
        add_client(&mut gateway, "alice", Some("100")).await,
        add_client(&mut gateway, "bob", None).await,
    ];
    soon("bob to be known", async { while gateway.send(Request::get("/v1/models").bearer(&keys[2])).await.status == 401 {} })
        .await;
    let mut billed = 0;
    for nth in 0..72usize {
        let path = [CHAT, MESSAGES, RESPONSES][nth % 3];
        let model = [MAIN_MODEL, SECOND_MAIN_MODEL, TROLL_MODEL][nth / 3 % 3];
        let words = "w ".repeat(nth);
        let mut body = json!({ "model": model, "max_tokens": 3 + nth, "stream": nth % 2 == 0 });
        match path {
            RESPONSES => body["input"] = words.into(),
            MESSAGES => {
                body["messages"] = json!([{ "role": "user", "content": [
                    { "type": "text", "text": words, "cache_control": { "type": "ephemeral" } },
                    { "type": "text", "text": "", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
                ] }]);
            }
            _ => body["messages"] = json!([{ "role": "user", "content": words }]),
        }
        if nth % 10 == 7 && model != TROLL_MODEL {
            main.push(Reply::status(500));
        }
        let answer = gateway.send(Request::post(path, &body).bearer(&keys[nth / 9 % 3])).await;
        assert!(answer.status == 200 || answer.status == 500, "{}", answer.text());
        assert_eq!(answer.broken, None);
        billed += 1;
    }
    gateway.wait_for_logs(billed, |line| line.starts_with(r#"{"opened_at""#) && line.contains("\"POST\"")).await;
    let lines: Vec<Value> = access_lines(&gateway).into_iter().filter(|line| line["method"] == "POST").collect();
    let books = entries(&gateway).await;
    assert_eq!((lines.len(), books.len()), (billed, billed));
    assert!(
        books.iter().any(|entry| entry["end"] == "upstream_error")
            && books.iter().any(|entry| entry["cache_write_1h_tokens"] != 0)
    );

    for by in ["model", "client", "upstream", "key", "day"] {
        let report = command(&gateway, &["usage", "--json", "--by", by]).await.expect(0).json();
        let told = summed(report["rows"].as_array().unwrap(), |row| text(row, by));
        let of =
            |record: &Value| if by == "day" { text(record, "closed_at").map(|at| at[..10].to_owned()) } else { text(record, by) };
        assert_eq!(told, summed(&books, of), "{by}: the report and the entries");
        let rows = if by == "day" { 1 } else { 2 };
        assert!(told.len() >= rows, "{by}: {told:?}");
        if by != "day" {
            assert_eq!(told, summed(&lines, of), "{by}: the report and the access lines");
        }
        let total = summed([&report["total"]], |_| None);
        assert_eq!(total, summed(&lines, |_| None), "{by}: the total");
        let csv = command(&gateway, &["usage", "--csv", "--by", by]).await.expect(0).out;
        assert_eq!(csv.lines().count(), told.len() + 1, "{csv}");
    }

    // Each entry says where it went, as its access line does.
    for entry in &books {
        let line = lines.iter().find(|line| line["id"] == entry["id"]).unwrap();
        for field in ["client", "model", "upstream", "endpoint", "proxy", "key", "attempts", "status", "end", "stream", "source"]
        {
            assert_eq!(entry[field], line.get(field).cloned().unwrap_or_default(), "{field}: {entry} {line}");
        }
        let is_troll = entry["upstream"] == "troll";
        assert_eq!(entry["proxy"].is_string(), is_troll, "{entry}");
        let key = entry["key"].as_str().unwrap();
        assert!(if is_troll { ["k1", "k2"].contains(&key) } else { key == "main" }, "{entry}");
        assert_eq!(entry["client_key"].is_string(), entry["client"] != "static", "{entry}");
    }
    for proxy in ["p1", "p2"] {
        assert!(books.iter().any(|entry| entry["proxy"] == proxy), "{proxy} served nothing");
    }
    expect_whole(&gateway).await;
}

/// One request, two attempts, one bill: of the attempt that answered.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_request_that_was_tried_twice_has_one_entry_with_the_key_that_answered() {
    for (path, stream) in [(CHAT, true), (MESSAGES, false)] {
        let far = Mock::http().await.unwrap();
        let (setup, _proxies) = troll(Setup::new(), &far).await;
        let gateway = setup.start().await;
        let reply = Reply::status(429).header("retry-after", "1");
        far.push_rule(Rule { key: Some(TROLL_KEY.to_owned()), reply, ..Rule::default() });
        let body =
            json!({ "model": TROLL_MODEL, "max_tokens": 9, "stream": stream, "messages": [{ "role": "user", "content": "hi" }] });
        let answer = gateway.send(Request::post(path, &body)).await.expect(200);
        assert_eq!(far.counts().requests, 2);
        let books = entries(&gateway).await;
        let of_it: Vec<_> = books.iter().filter(|entry| entry["id"] == answer.header("x-request-id")).collect();
        assert_eq!(of_it.len(), 1, "{of_it:?}");
        let told = far.requests().last().unwrap().usage.unwrap();
        assert!(far.requests()[1].header("authorization")[0].contains(SECOND_KEY));
        let entry = of_it[0];
        assert_eq!((&entry["attempts"], &entry["key"], &entry["end"]), (&json!(2), &json!("k2"), &json!("ok")), "{entry}");
        assert!(entry["proxy"].is_string());
        assert_eq!(
            (&entry["input_tokens"], &entry["output_tokens"]),
            (&told.input_tokens.into(), &told.output_tokens.into()),
            "{entry}"
        );
        assert_eq!(books.len(), 1);
        expect_whole(&gateway).await;
    }
}
