//! U7: every word for an end and for a source stands in an entry, with all of its fields, and the access line agrees.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use trollbridge::domain::end::End;
use trollbridge::provider_mock::{After, How, Reply};

use super::{entries, expect_whole, until_entries};
use crate::answers::{CHAT, MESSAGES, Speaks, ask_main, main_that};
use crate::support::{Gate, Request, Shorthand};

/// The fields of an entry (DESIGN.md), by what they hold.
fn expect_fields(entry: &Value) {
    for field in ["id", "opened_at", "closed_at", "client", "model", "upstream", "endpoint", "key", "end", "source"] {
        assert!(entry[field].is_string() || field == "model" && entry[field].is_null(), "{field}: {entry}");
    }
    for field in [
        "attempts",
        "status",
        "input_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "cache_read_tokens",
        "output_tokens",
        "cost_nano_usd",
    ] {
        assert!(entry[field].is_u64(), "{field}: {entry}");
    }
    assert!(entry["stream"].is_boolean() && entry["multiplier"].is_number() && entry["total_ms"].is_number(), "{entry}");
    assert!(entry["first_byte_ms"].is_number() || entry["first_byte_ms"].is_null(), "{entry}");
    let tokens: u64 = ["input_tokens", "output_tokens"].iter().map(|field| entry[field].as_u64().unwrap()).sum();
    assert_eq!(tokens == 0, entry["source"] == "none", "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u7_every_word_for_an_end_and_a_source_is_written_with_all_fields() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let mut gateway = setup
        .set("/host_routes", json!([{ "host": "files.test", "upstream": "main" }]))
        .set("/limits", json!({ "body_read_s": 1 }))
        .start()
        .await;
    gateway.send(ask_main(CHAT, true)).await.expect(200);
    main.push(Reply::usual().deltas(6).cut(After::Events(4), How::Close));
    gateway.send(ask_main(MESSAGES, true)).await.expect(200);
    main.push(Reply::status(500));
    gateway.send(ask_main(CHAT, false)).await.expect(500);
    main.push(Reply::json(json!({ "id": "no usage", "choices": [] })));
    gateway.send(ask_main(CHAT, false)).await.expect(200);

    let arrived = main.counts().requests;
    main.push(Reply::hang());
    let mut leaving = gateway.client().await;
    tokio::select! {
        _ = leaving.open(ask_main(CHAT, false)) => panic!("an answer"),
        _ = main.wait_for(arrived + 1) => {}
    }
    leaving.abort();
    until_entries(&gateway, 5).await;

    // An upload that stops coming is refused by the gateway while it is on its way.
    let mut upload =
        Request::new(Method::POST, "/v1/files").bearer(crate::support::request::CLIENT_KEY).header("host", "files.test");
    upload = upload.header("content-type", "application/octet-stream");
    let (upload, feed) = upload.live();
    let mut uploading = gateway.client().await;
    let (answer, ()) = tokio::join!(uploading.attempt(upload), async {
        feed.send("begun".into()).await.unwrap();
    });
    assert_eq!(answer.expect("an answer").status, 408);
    until_entries(&gateway, 6).await;

    let gate = Gate::closed();
    main.push(Reply::usual().gated(&gate));
    let mut interrupted = gateway.client().await;
    let arriving = interrupted.open(ask_main(MESSAGES, true)).await.unwrap();
    gateway.kill_and_restart().await;
    drop(arriving);

    let books = entries(&gateway).await;
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &books {
        *ends.entry(entry["end"].as_str().unwrap()).or_default() += 1;
        expect_fields(entry);
    }
    let expected: BTreeMap<&str, usize> = End::ALL.iter().map(|end| (end.label(), if *end == End::Ok { 2 } else { 1 })).collect();
    assert_eq!(ends, expected, "{books:?}");
    let mut sources: Vec<&str> = books.iter().map(|entry| entry["source"].as_str().unwrap()).collect();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources, ["estimated", "final", "none", "partial"]);
    for entry in books.iter().filter(|entry| entry["end"] != "interrupted") {
        let id = entry["id"].as_str().unwrap();
        let line = gateway.wait_for_log(|line| line.starts_with('{') && line.contains(id)).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        for field in ["end", "source", "status", "attempts", "upstream", "key", "stream"] {
            assert_eq!(entry[field], line[field], "{field}: {entry} {line}");
        }
    }
    expect_whole(&gateway).await;
}
