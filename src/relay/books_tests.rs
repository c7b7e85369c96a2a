//! What the books say of a request, by how it ended; and what becomes of the client's credit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::domain::end::End;
use crate::ops::books::clients::Directory;
use crate::ops::books::clients::operations::{self, NewClient};
use crate::ops::books::store::Store;
use crate::relay::dispatch::Dispatch;
use crate::relay::failure::{Broke, Failure, Offer, Reached};
use crate::relay::judge::{HeadSeen, Heard};
use crate::relay::testing::{House, ONE_KEY, START, headers, later, troll_direct};

const MESSAGES: &str = "/v1/messages";
const USAGE: &str = r#"{"usage":{"input_tokens":1000,"output_tokens":500}}"#;

fn good_head(dispatch: &mut Dispatch, content_type: &str) {
    let headers = headers(&[("content-type", content_type), ("content-length", "51")]);
    dispatch.head(
        HeadSeen { status: 200, version: http::Version::HTTP_11, headers: &headers },
        later(START, Duration::from_millis(40)),
    );
}

fn bytes(dispatch: &mut Dispatch, text: &str, end: bool) -> Option<End> {
    let mut chunk = Some(Bytes::copy_from_slice(text.as_bytes()));
    dispatch.walk_mut().bytes(&mut chunk, end, false).unwrap()
}

/// Begins an attempt whose connection stands.
fn begun(house: &House, path: &str) -> Dispatch {
    let mut dispatch = house.dispatch(path).unwrap_or_else(|_| panic!("it can be carried"));
    dispatch.begin(START.moment);
    dispatch.connected(later(START, Duration::from_millis(10)).moment);
    dispatch
}

/// Closes and writes down; the entry.
fn closed(house: &House, dispatch: Dispatch, end: End) -> serde_json::Value {
    let now = later(START, Duration::from_millis(100));
    let (ended, _) = dispatch.end(end, now);
    ended.record(now.moment);
    let mut closes = house.closes();
    assert_eq!(closes.len(), 1, "one entry, whatever happened");
    closes.remove(0)
}

#[test]
fn g1_a_whole_answer_is_billed_as_the_provider_counted_it() {
    let house = House::new(ONE_KEY);
    let mut dispatch = begun(&house, MESSAGES);
    good_head(&mut dispatch, "application/json");
    let end = bytes(&mut dispatch, USAGE, true).unwrap();
    let entry = closed(&house, dispatch, end);
    let told = |name: &str| entry[name].to_string();
    assert_eq!([told("end"), told("source"), told("status"), told("attempts")], [r#""ok""#, r#""final""#, "200", "1"]);
    assert_eq!([told("input_tokens"), told("output_tokens")], ["1000", "500"]);
    assert_eq!(told("cost_nano_usd"), "2000000", "1000 at 1 and 500 at 2 a million");
    assert_eq!([told("first_byte_ms"), told("total_ms")], ["40.0", "100.0"]);
    assert_eq!([told("upstream"), told("model")], [r#""main""#, r#""m""#]);
}

#[test]
fn u7_what_is_billed_follows_from_how_it_ended() {
    // How it ended; whether a stream began; what is billed, and from where.
    let rows: &[(End, bool, &str, u64)] = &[
        (End::Ok, true, "estimated", 13_000),
        (End::ClientGone, true, "estimated", 13_000),
        (End::ClientGone, false, "estimated", 11_000),
        (End::UpstreamCut, true, "none", 0),
        (End::UpstreamError, false, "none", 0),
        (End::Refused, false, "none", 0),
        (End::Interrupted, true, "estimated", 13_000),
        (End::Interrupted, false, "none", 0),
    ];
    for (end, began, source, cost) in rows {
        let house = House::new(ONE_KEY);
        let mut dispatch = begun(&house, MESSAGES);
        if *began {
            good_head(&mut dispatch, "text/event-stream");
            bytes(
                &mut dispatch,
                "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"word\"}}\n\n",
                false,
            );
        }
        let entry = closed(&house, dispatch, *end);
        assert_eq!((entry["end"].as_str(), entry["source"].as_str()), (Some(end.label()), Some(*source)), "{end:?}, {began}");
        assert_eq!(entry["cost_nano_usd"].as_u64(), Some(*cost), "{end:?}, {began}");
    }
}

#[test]
fn g1_every_attempt_of_a_request_is_in_one_entry() {
    let house = House::new(&troll_direct(""));
    let mut dispatch = begun(&house, MESSAGES);
    let none = HeaderMap::new();
    for _ in 0..2 {
        dispatch.head(HeadSeen { status: 429, version: http::Version::HTTP_11, headers: &none }, START);
        assert_eq!(dispatch.hear(None, true, START), Heard::Again { status: 429 });
        dispatch.begin(START.moment);
        dispatch.connected(START.moment);
    }
    good_head(&mut dispatch, "application/json");
    let end = bytes(&mut dispatch, USAGE, true).unwrap();
    let entry = closed(&house, dispatch, end);
    assert_eq!((entry["attempts"].as_u64(), entry["key"].as_str()), (Some(3), Some("k3")), "the one that counted");
}

#[test]
fn g1_a_failure_behind_the_last_word_changes_nothing_in_the_books() {
    let house = House::new(ONE_KEY);
    let mut dispatch = begun(&house, MESSAGES);
    good_head(&mut dispatch, "application/json");
    let end = bytes(&mut dispatch, USAGE, true).unwrap();
    let (mut ended, _) = dispatch.end(end, START);
    let broke = Broke { is_lost: true, was_kept: false, timed_out: false, offer: Offer::No, detail: String::new() };
    ended.walk_mut().last_word(&Failure::Broke(broke), Reached { begun: true, held: false });
    ended.record(START.moment);
    let closes = house.closes();
    assert_eq!((closes.len(), closes[0]["end"].as_str(), closes[0]["cost_nano_usd"].as_u64()), (1, Some("ok"), Some(2_000_000)));
}

#[test]
fn t4_g4_what_nobody_can_carry_or_pay_for_opens_nothing() {
    let house = House::new(&troll_direct(""));
    let upstream = house.settings.upstreams.iter().find(|upstream| &*upstream.name == "troll").unwrap();
    for key in &upstream.credentials {
        key.standing.cool(START.moment.after(Duration::from_secs(30)), crate::domain::upstream::standing::Cause::RateLimited);
    }
    let local = house.dispatch(MESSAGES).err().unwrap();
    assert_eq!((local.status(), local.end()), (Some(503), End::Refused));
    local.record(End::Refused, START.moment);
    assert!(house.ledger_lines().iter().all(|line| line["record"] == "segment"));
}

/// A house with one client that has this much credit, and the client's key.
fn with_client(credits: &str) -> (House, String) {
    let mut house = House::new(&ONE_KEY.replace(r#"{"mode":"none"}"#, r#"{"mode":"keys"}"#));
    let store = Store::open(house.state.path()).unwrap();
    let new = NewClient { name: "alice".to_owned(), credits: Some(credits.to_owned()), ..NewClient::default() };
    let (_, key) = operations::add(&store, &new).unwrap();
    house.directory = Arc::new(Directory::load(house.state.path(), &HashMap::new()).unwrap());
    (house, key.reveal().to_owned())
}

/// Free and balance of the one client, in nano-dollars.
fn credit(house: &House, key: &str) -> (i64, i64) {
    let known = house.directory.find(key.as_bytes()).unwrap();
    let account = known.account.as_ref().unwrap();
    (account.free_nano_usd(), account.balance_nano_usd())
}

#[test]
fn g4_credit_is_reserved_with_the_dispatch_and_settled_with_the_end() {
    let (house, key) = with_client("0.01");
    let bearer = format!("Bearer {key}");
    let admit = || house.admit(MESSAGES, &headers(&[("authorization", &bearer)]), r#"{"model":"m","max_tokens":1000}"#);
    let (admitted, _) = admit().unwrap_or_else(|_| panic!("admitted"));
    let mut dispatch = admitted.dispatch(&house.ledger, START.moment).unwrap_or_else(|_| panic!("dispatched"));
    assert!(credit(&house, &key).0 < 8_000_000, "1000 tokens of output at 2 a million are set aside");
    assert_eq!(credit(&house, &key).1, 10_000_000);
    dispatch.begin(START.moment);
    good_head(&mut dispatch, "application/json");
    let end = bytes(&mut dispatch, USAGE, true).unwrap();
    let entry = closed(&house, dispatch, end);
    assert_eq!(entry["client"].as_str(), Some("alice"));
    assert_eq!(credit(&house, &key), (8_000_000, 8_000_000), "0.002 of it is spent, and nothing is set aside any more");
}

#[test]
fn g4_credit_that_does_not_reach_is_no_dispatch() {
    let (house, key) = with_client("0.001");
    let bearer = format!("Bearer {key}");
    let (admitted, _) = house
        .admit(MESSAGES, &headers(&[("authorization", &bearer)]), r#"{"model":"m","max_tokens":1000}"#)
        .unwrap_or_else(|_| panic!("admitted"));
    let local = admitted.dispatch(&house.ledger, START.moment).err().unwrap();
    assert_eq!(local.status(), Some(402));
    assert_eq!(credit(&house, &key), (1_000_000, 1_000_000), "nothing stays set aside");
    assert!(house.ledger_lines().iter().all(|line| line["record"] == "segment"));
}

#[test]
fn l4_a_model_is_listed_as_the_configuration_names_it_and_an_invented_one_as_other() {
    const NAMES: &str = r#"{"auth":{"mode":"none"},"models":[{"id":"m","upstream":"main","id_aliases":["short"]}],
      "model_routing":{"enabled":true,"models":{"gemini-*":"https://url.example.com/v1"}},
      "upstreams":{"main":{"base_url":"https://main.example.com","key":"canary-main-key"},"troll":{"base_url":"https://t.example.com","keys":[{"id":"k1","key":"canary-troll-key"}]}}}"#;
    for (asked, model, listed_as) in
        [("m", "m", "m"), ("short", "m", "m"), ("gemini-9", "gemini-9", "gemini-*"), ("invented", "invented", "other")]
    {
        let house = House::new(NAMES);
        let body = format!(r#"{{"model":"{asked}","max_tokens":9}}"#);
        let (admitted, _) = house.admit(MESSAGES, &HeaderMap::new(), &body).unwrap_or_else(|_| panic!("{asked} is admitted"));
        let dispatch = admitted.dispatch(&house.ledger, START.moment).unwrap_or_else(|_| panic!("{asked} can be carried"));
        let entry = closed(&house, dispatch, End::UpstreamError);
        assert_eq!((entry["model"].as_str(), entry["listed_as"].as_str()), (Some(model), Some(listed_as)));
    }
}
