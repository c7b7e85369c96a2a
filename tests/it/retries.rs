//! T2, T9: when a request may be sent again, and when it must not.

use std::time::Duration;

use serde_json::json;
use trollbridge::provider_mock::Reply;

use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_MODEL, TROLL_MODEL};
use crate::support::{Gateway, Mock, Request, Setup, Shorthand};

async fn two_keys() -> (Gateway, Mock) {
    let troll = Mock::http().await.unwrap();
    let setup = Setup::new()
        .troll(&troll)
        .secret_env("TROLL_SECOND", "troll-second-key-0002")
        .set("/upstreams/troll/keys/-", json!({ "id": "k2", "key": "${TROLL_SECOND}" }));
    (setup.start().await, troll)
}

fn body() -> serde_json::Value {
    json!({ "model": TROLL_MODEL, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
}

/// T2: the interim 100 is no answer, so it does not stand in a retry's way.
#[tokio::test(flavor = "multi_thread")]
async fn t2_the_next_key_is_tried_for_a_client_that_expects_100_continue() {
    let (gateway, troll) = two_keys().await;
    troll.push(Reply::status(429));
    let text = body().to_string();
    let mut client = gateway.raw().await;
    client
        .send(format!(
            "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {CLIENT_KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            text.len()
        ))
        .await;
    client.read_until("100 Continue\r\n\r\n").await;
    client.send(text).await;
    assert_eq!(client.read_answer().await.status, 200);
    assert_eq!(troll.counts().requests, 2);
    let line = gateway.wait_for_log(|line| line.contains("attempts=2")).await;
    assert!(line.contains("key=k2") && line.contains("end=ok"), "{line}");
}

/// T9, G1: a provider that took the request on a kept connection and gave up later may have worked on it: it is not asked twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_late_is_not_sent_again() {
    let (gateway, troll) = two_keys().await;
    gateway.send(Request::post("/v1/messages", &body())).await.expect(200);
    troll.push(Reply::close().delayed(Duration::from_millis(1500)));
    gateway.send(Request::post("/v1/messages", &body())).await.expect(502);
    assert_eq!(troll.counts().requests, 2);
}

/// O4: an account of ours without money is nothing that a client could wait for, not even an hour.
#[tokio::test(flavor = "multi_thread")]
async fn o4_keys_without_money_are_a_502_beforehand_too() {
    let main = Mock::http().await.unwrap();
    let setup = Setup::new()
        .set("/upstreams/main/base_url", json!(main.base_url()))
        .secret_env("FIRST", "main-first-key-0001")
        .secret_env("SECOND", "main-second-key-0002")
        .set("/upstreams/main/keys", json!([{ "id": "k1", "key": "${FIRST}" }, { "id": "k2", "key": "${SECOND}" }]));
    let gateway = setup.start().await;
    main.always(Reply::status(402));
    let body = json!({ "model": MAIN_MODEL, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    for asked in [2, 2] {
        let answer = gateway.send(Request::post("/v1/messages", &body)).await.expect(502);
        assert_eq!(answer.json()["error"]["type"], "api_error");
        assert_eq!(main.counts().requests, asked, "the second request is refused before anybody is asked");
    }
}

/// T2, O5: a target without a key has no other key: it is asked once, and the client hears what it said.
#[tokio::test(flavor = "multi_thread")]
async fn o5_a_target_without_a_key_is_asked_once() {
    let target = Mock::http().await.unwrap();
    let routing = json!({ "enabled": true, "models": { "local-model": format!("http://{}", target.addr()) } });
    let gateway = Setup::new().set("/model_routing", routing).start().await;
    let body = json!({ "model": "local-model", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    for (status, answer) in [(429, 429), (503, 503), (529, 529), (401, 502), (402, 502), (403, 502)] {
        target.push(Reply::status(status));
        gateway.send(Request::post("/v1/messages", &body)).await.expect(answer);
    }
    assert_eq!(target.counts().requests, 6, "one attempt each");
    gateway.send(Request::post("/v1/messages", &body)).await.expect(200);
}
