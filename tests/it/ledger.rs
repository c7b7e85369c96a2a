//! The ledger's commands on files that a gateway's ledger wrote: reports, the export, the proof.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use trollbridge::domain::billing::{Decimal, NanoUsd};
use trollbridge::domain::end::End;
use trollbridge::domain::ledger::{Close, Open, Sent};
use trollbridge::domain::settings::{LedgerSettings, LedgerSync};
use trollbridge::domain::usage::{Source, Usage};
use trollbridge::ops::books::ledger::Ledger;

use crate::support::process::{self, Ended};

/// 2026-01-01T00:00:00Z
const NOW: u64 = 1_767_225_600_000;
const HOUR: u64 = 3_600_000;

/// A directory with a config.json that names its state directory.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), json!({ "state_dir": "my-state", "models": [] }).to_string()).unwrap();
    dir
}

fn ledger(dir: &TempDir) -> Ledger {
    let settings = LedgerSettings { sync: LedgerSync::Process, segment_bytes: 8_192, retention: None };
    Ledger::start(&dir.path().join("my-state"), settings, false, NOW).unwrap().0
}

fn sent(nth: u64) -> Sent<'static> {
    Sent {
        id: format!("019b7000-0000-7000-8000-{nth:012x}").into(),
        opened_at_unix_ms: NOW + nth * HOUR,
        client: (!nth.is_multiple_of(4)).then(|| "team-a".into()),
        client_key: None,
        model: Some(["gpt-5", "evil\u{1b}[2J,\"name\""][(nth % 2) as usize].to_owned().into()),
        listed_as: None,
        upstream: "troll".into(),
        endpoint: Some("llm.example.com:443".into()),
        proxy: None,
        key: Some(format!("k{}", nth % 3).into()),
    }
}

fn open(ledger: &Ledger, nth: u64) -> trollbridge::ops::books::ledger::Ticket {
    ledger.open(&Open { sent: sent(nth), reservation: NanoUsd::ZERO }).unwrap()
}

/// One request in each hour, each of 1 000 000 001 nano-dollars.
fn entry(ledger: &Ledger, nth: u64) {
    drop(open(ledger, nth).close(&Close {
        sent: sent(nth),
        closed_at_unix_ms: NOW + nth * HOUR,
        attempts: 1,
        status: 200,
        end: End::Ok,
        stream: true,
        source: Source::Final,
        usage: Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() },
        lines: (&[]).into(),
        conditions: Vec::new(),
        cost: NanoUsd::from_nanos(1_000_000_001),
        multiplier: Decimal::ONE,
        first_byte: None,
        total: Duration::from_millis(5),
    }));
}

async fn trollbridge(dir: &Path, args: &[&str]) -> Ended {
    process::run(dir, args, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_usage_sums_up_what_is_written_by_now() {
    let dir = directory();
    let ledger = ledger(&dir);
    (0..48).for_each(|nth| entry(&ledger, nth));
    let ask = async |args: &[&str]| trollbridge(dir.path(), &[&["usage", "--json"], args].concat()).await.expect(0).json();

    let by_day = ask(&["--by", "day"]).await;
    let days: Vec<_> =
        by_day["rows"].as_array().unwrap().iter().map(|row| (row["day"].clone(), row["requests"].clone())).collect();
    assert_eq!(days, [(json!("2026-01-01"), json!(24)), (json!("2026-01-02"), json!(24))]);
    let total = json!({ "requests": 48, "input_tokens": 480, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, "cache_read_tokens": 0,
        "output_tokens": 96, "audio_input_tokens": 0, "audio_output_tokens": 0, "image_input_tokens": 0, "image_output_tokens": 0,
        "web_search_calls": 0, "web_fetch_calls": 0, "code_execution_calls": 0, "file_search_calls": 0, "image_generation_calls": 0,
        "other_calls": 0, "cost_nano_usd": 48_000_000_048u64, "cost_usd": "48.000000048" });
    assert_eq!(by_day["total"], total);
    for (by, rows) in [("model", 2), ("client", 2), ("upstream", 1), ("key", 3), ("day", 2)] {
        let told = ask(&["--by", by]).await;
        assert_eq!((told["rows"].as_array().unwrap().len(), &told["total"]), (rows, &total), "{by}");
    }
    let clients = ask(&["--by", "client"]).await;
    assert_eq!((&clients["rows"][0]["client"], &clients["rows"][1]["client"]), (&json!("team-a"), &Value::Null));

    // A running gateway goes on; the next report has it.
    (48..50).for_each(|nth| entry(&ledger, nth));
    assert_eq!(ask(&[]).await["total"]["requests"], 50);
    let second_day = ask(&["--since", "2026-01-02", "--until", "2026-01-03"]).await;
    assert_eq!((&second_day["total"]["requests"], &second_day["since"]), (&json!(24), &json!("2026-01-02T00:00:00.000Z")));
    assert_eq!(ask(&["--since", "2026-01-02T05:00:00Z"]).await["total"]["requests"], 21);
    assert_eq!(ask(&["--until", "2025-12-31"]).await["total"]["requests"], 0);

    let table = trollbridge(dir.path(), &["usage"]).await.expect(0).out;
    assert!(table.lines().next().unwrap().starts_with("model") && table.contains("50.00000005"), "{table}");
    assert!(!table.contains('\u{1b}'), "a model's name moves no cursor: {table:?}");
    let csv = trollbridge(dir.path(), &["usage", "--csv"]).await.expect(0).out;
    assert!(csv.starts_with("model,requests,input_tokens") && csv.contains("\n\"evil\u{1b}[2J,\"\"name\"\"\",25,250"), "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_export_prints_each_ended_request_once() {
    let dir = directory();
    let ledger = ledger(&dir);
    (0..30).for_each(|nth| entry(&ledger, nth));
    let in_flight = open(&ledger, 99);
    let out = trollbridge(dir.path(), &["ledger", "export"]).await.expect(0).out;
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 30);
    assert_eq!(lines[3]["model"], sent(3).model.unwrap().into_owned());
    let names: Vec<_> = lines[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut contract = [
        "id",
        "opened_at",
        "closed_at",
        "client",
        "client_key",
        "model",
        "upstream",
        "endpoint",
        "proxy",
        "key",
        "attempts",
        "status",
        "end",
        "stream",
        "source",
        "input_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "cache_read_tokens",
        "output_tokens",
        "lines",
        "listed_as",
        "conditions",
        "cost_nano_usd",
        "multiplier",
        "first_byte_ms",
        "total_ms",
    ];
    contract.sort_unstable();
    assert_eq!(names, contract);
    let late = trollbridge(dir.path(), &["ledger", "export", "--since", "2026-01-02"]).await.expect(0).out;
    assert_eq!(late.lines().count(), 6);
    drop(in_flight);
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_verify_proves_live_files_and_lists_damage() {
    let dir = directory();
    let ledger = ledger(&dir);
    (0..30).for_each(|nth| entry(&ledger, nth));
    let in_flight = open(&ledger, 99);
    let verify = async || trollbridge(dir.path(), &["ledger", "verify"]).await;
    assert!(verify().await.expect(0).out.contains("no database yet"));
    trollbridge(dir.path(), &["usage"]).await.expect(0);
    let good = verify().await.expect(0).out;
    assert!(good.contains("31 requests opened, 30 closed, 1 in flight") && good.ends_with("the ledger is whole\n"), "{good}");

    let mut segments: Vec<_> = std::fs::read_dir(ledger.directory()).unwrap().map(|file| file.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.sort();
    assert!(segments.len() > 1);
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    // Within an open: no roll-up misses it.
    let within = memchr::memmem::find(&bytes, b"\"record\":\"open\"").unwrap() + 40;
    bytes[within] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
    let damaged = verify().await.expect(70).out;
    assert!(damaged.contains(segments[0].file_name().unwrap().to_str().unwrap()), "{damaged}");
    assert!(damaged.contains("checksum") && damaged.contains("the ledger is damaged"), "{damaged}");
    let told = trollbridge(dir.path(), &["ledger", "verify", "--json"]).await.expect(70).json();
    assert!(told["ok"] == false && told["findings"][0]["byte"].is_u64(), "{told}");
    let exported = trollbridge(dir.path(), &["ledger", "export"]).await.expect(70);
    assert!(exported.out.lines().count() >= 29 && exported.err.contains("1 damaged lines"), "{exported:?}");
    drop(in_flight);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_ledger_the_commands_say_so_and_make_nothing() {
    let dir = directory();
    for command in [&["usage"][..], &["ledger", "export"], &["ledger", "verify"]] {
        let said = trollbridge(dir.path(), command).await.expect(64).err;
        assert!(said.contains("There is no ledger in my-state"), "{said}");
        let elsewhere = trollbridge(dir.path(), &[command, &["--state-dir", "other"]].concat()).await.expect(64).err;
        assert!(elsewhere.contains("There is no ledger in other"), "{elsewhere}");
    }
    assert!(!dir.path().join("my-state").exists() && !dir.path().join("other").exists());
    drop(ledger(&dir));
    let said = trollbridge(dir.path(), &["usage", "--since", "yesterday"]).await.expect(64).err;
    assert!(said.contains("24h"), "{said}");
    assert_eq!(trollbridge(dir.path(), &["usage", "--json"]).await.expect(0).json()["total"]["requests"], 0);
}
