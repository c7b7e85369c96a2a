//! U7, G1: what the gateway's own end costs a client whose answer it cuts off.

use serde_json::json;
use trollbridge::provider_mock::{After, How, Reply};

use super::{INPUT, OUTPUT, command, entries, expect_whole};
use crate::answers::{MESSAGES, Speaks, main_that};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Request, Shorthand};

/// A stream that is longer than the grace period is cut, and billed for what it has said: like one that its upstream cut.
#[tokio::test(flavor = "multi_thread")]
async fn u7_a_stream_that_a_graceful_stop_cuts_off_is_billed_for_what_was_observed() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let mut gateway = setup.set("/billing/on_upstream_cut", json!("estimate")).grace_seconds(0).start().await;
    main.push(Reply::usual().saying("pebbles and ").deltas(300).cut(After::Events(40), How::Stall));
    let body =
        json!({ "model": MAIN_MODEL, "max_tokens": 400, "stream": true, "messages": [{ "role": "user", "content": "go on" }] });
    let mut client = gateway.client().await;
    let mut arriving = client.open(Request::post(MESSAGES, &body)).await.unwrap();
    let mut seen = Vec::new();
    while seen.windows(2).filter(|window| window == b"\n\n").count() < 40 {
        seen.extend_from_slice(&arriving.chunk().await.unwrap().unwrap());
    }
    gateway.signal("TERM");
    gateway.ended().await;
    let entries = entries(&gateway).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(
        (&entry["end"], &entry["source"], &entry["stream"]),
        (&json!("interrupted"), &json!("estimated"), &json!(true)),
        "{entry}"
    );
    let (input, output) = (entry["input_tokens"].as_u64().unwrap(), entry["output_tokens"].as_u64().unwrap());
    assert!(input > 0 && output > 50, "{entry}");
    assert_eq!(entry["cost_nano_usd"].as_u64().unwrap(), input * INPUT + output * OUTPUT, "{entry}");
    expect_whole(&gateway).await;
    let report = command(&gateway, &["usage", "--json"]).await.expect(0).json();
    assert_eq!(report["total"]["requests"], 1, "{report}");
}
