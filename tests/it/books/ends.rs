//! U7: answers that end otherwise than they should, and what they cost by each policy.

use serde_json::{Value, json};
use trollbridge::provider_mock::{After, How, Reply};

use super::{INPUT, OUTPUT, entries, expect_whole, until_entries};
use crate::answers::{BOTH, CHAT, MESSAGES, Speaks, client_that, main_that};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Gateway, Mock, Request, Setup, Shorthand};

/// What an estimate takes for a token.
const BYTES_PER_TOKEN: u64 = 4;

/// A body and its length.
fn ask(path: &str, stream: bool) -> (Request, u64) {
    let body = json!({ "model": MAIN_MODEL, "max_tokens": 400, "stream": stream,
        "messages": [{ "role": "user", "content": "tell me everything about the bridge" }] })
    .to_string();
    let bytes = body.len() as u64;
    debug_assert!(path == CHAT || path == MESSAGES);
    (Request::post_bytes(path, body), bytes)
}

async fn with_policy(policy: &Value) -> (Gateway, Mock) {
    let (setup, main) = main_that(Speaks::Http1).await;
    let mut setup: Setup = setup;
    if !policy.is_null() {
        setup = setup.set("/billing/on_client_gone", policy.clone()).set("/billing/on_upstream_cut", policy.clone());
    }
    (setup.start().await, main)
}

/// The bytes of text that stand in these events.
fn text_bytes(events: &[crate::support::sse::Event]) -> u64 {
    let text = |event: &Value| {
        let text = event.pointer("/choices/0/delta/content").or_else(|| event.pointer("/delta/text"));
        text.and_then(Value::as_str).map_or(0, str::len) as u64
    };
    events.iter().filter(|event| event.data.starts_with('{')).map(|event| text(&event.json())).sum()
}

/// Usage, source and cost of an entry.
fn bill(entry: &Value) -> (u64, u64, &str, u64) {
    let count = |name: &str| entry[name].as_u64().unwrap();
    (count("input_tokens"), count("output_tokens"), entry["source"].as_str().unwrap(), count("cost_nano_usd"))
}

fn cost(input: u64, output: u64) -> u64 {
    input * INPUT + output * OUTPUT
}

/// The client reads what there is of a stream that goes on, and leaves before the usage event.
#[tokio::test(flavor = "multi_thread")]
async fn u7_a_client_that_leaves_before_the_usage_event_is_billed_by_the_policy() {
    for policy in [Value::Null, json!("estimate"), json!("observed"), json!("free")] {
        let (gateway, main) = with_policy(&policy).await;
        let mut ended = 0;
        for down in BOTH {
            for path in [CHAT, MESSAGES] {
                let events = 40;
                main.push(Reply::usual().saying("pebbles and ").deltas(300).cut(After::Events(events), How::Stall));
                let (request, request_bytes) = ask(path, true);
                let mut client = client_that(&gateway, down).await;
                let mut arriving = client.open(request).await.unwrap();
                let id = arriving.headers["x-request-id"].to_str().unwrap().to_owned();
                let mut seen = Vec::new();
                while seen.windows(2).filter(|window| window == b"\n\n").count() < events {
                    seen.extend_from_slice(&arriving.chunk().await.unwrap().unwrap());
                }
                drop(arriving);
                client.abort();
                ended += 1;
                let entry = until_entries(&gateway, ended).await.into_iter().find(|entry| entry["id"] == id.as_str()).unwrap();
                let text_tokens = text_bytes(&crate::support::sse::events(&seen)).div_ceil(BYTES_PER_TOKEN);
                assert!(text_tokens > 50, "{text_tokens}");
                let input = main.requests().last().unwrap().usage.unwrap().input_tokens;
                let estimated_input = request_bytes.div_ceil(BYTES_PER_TOKEN);
                let place = format!("{policy} {down:?} {path}: {entry}");
                let (input_tokens, output_tokens, source, cost_nano_usd) = bill(&entry);
                assert_eq!((&entry["end"], &entry["stream"]), (&"client_gone".into(), &true.into()), "{place}");
                match (policy.as_str().unwrap_or("estimate"), path) {
                    ("estimate", CHAT) => {
                        assert_eq!((input_tokens, output_tokens, source), (estimated_input, text_tokens, "estimated"), "{place}");
                        assert_eq!(cost_nano_usd, cost(estimated_input, text_tokens), "{place}");
                    }
                    ("estimate", _) => {
                        assert_eq!((input_tokens, output_tokens, source), (input, text_tokens, "estimated"), "{place}");
                        assert_eq!(cost_nano_usd, cost(input, text_tokens), "{place}");
                    }
                    // OpenAI says nothing before the end.
                    (_, CHAT) => assert_eq!(bill(&entry), (0, 0, "none", 0), "{place}"),
                    (observed_or_free, _) => {
                        assert_eq!((input_tokens, source), (input, "partial"), "{place}");
                        assert!(output_tokens < text_tokens, "{place}");
                        let owed = if observed_or_free == "free" { 0 } else { cost(input, output_tokens) };
                        assert_eq!(cost_nano_usd, owed, "{place}");
                    }
                }
            }
        }
        expect_whole(&gateway).await;
    }
}

/// The provider has the request and works on it; nobody waits any more.
#[tokio::test(flavor = "multi_thread")]
async fn u7_a_client_that_leaves_before_the_head_pays_for_what_was_sent() {
    for policy in ["estimate", "observed", "free"] {
        let (gateway, main) = with_policy(&json!(policy)).await;
        let mut ended = 0;
        for down in BOTH {
            for path in [CHAT, MESSAGES] {
                main.push(Reply::hang());
                let (request, request_bytes) = ask(path, false);
                let mut client = client_that(&gateway, down).await;
                let arrived = main.counts().requests;
                tokio::select! {
                    answer = client.open(request) => panic!("an answer: {:?}", answer.map(|answer| answer.status)),
                    _ = main.wait_for(arrived + 1) => {}
                }
                client.abort();
                ended += 1;
                let entry = until_entries(&gateway, ended).await.pop().unwrap();
                let input = request_bytes.div_ceil(BYTES_PER_TOKEN);
                let owed = if policy == "estimate" { (input, 0, "estimated", cost(input, 0)) } else { (0, 0, "none", 0) };
                assert_eq!(bill(&entry), owed, "{policy} {down:?} {path}: {entry}");
                assert_eq!(entry["end"], "client_gone", "{entry}");
            }
        }
        expect_whole(&gateway).await;
    }
}

/// Cut within the stream, by an end without the terminator, a close or a reset, and by an error event.
#[tokio::test(flavor = "multi_thread")]
async fn u7_what_the_upstream_does_not_finish_is_billed_by_the_policy() {
    for policy in [Value::Null, json!("observed"), json!("estimate"), json!("free")] {
        let (gateway, main) = with_policy(&policy).await;
        let saying = || Reply::usual().saying("pebbles and ").deltas(60);
        let error =
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
        let started = json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant", "content": [],
            "model": MAIN_MODEL, "usage": { "input_tokens": 70, "output_tokens": 1 } } });
        let delta =
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "x".repeat(240) } });
        let told = Reply::events([
            format!("event: message_start\ndata: {started}\n\n"),
            format!("event: content_block_delta\ndata: {delta}\n\n"),
            error.to_owned(),
        ]);
        for (path, reply, end) in [
            (CHAT, saying().cut(After::Events(20), How::Close), "upstream_cut"),
            (CHAT, saying().cut(After::Events(20), How::Reset), "upstream_cut"),
            (MESSAGES, saying().without_terminator(), "ok"),
            (MESSAGES, saying().cut(After::Events(20), How::Close), "upstream_cut"),
            (MESSAGES, told, "upstream_error"),
        ] {
            let is_terse = matches!(reply.ending, trollbridge::provider_mock::Ending::NoTerminator);
            main.push(reply);
            let (request, request_bytes) = ask(path, true);
            let answer = gateway.send(request).await.expect(200);
            let books = entries(&gateway).await;
            let entry = books.iter().find(|entry| entry["id"] == answer.header("x-request-id")).unwrap();
            let text_tokens = text_bytes(&answer.events()).div_ceil(BYTES_PER_TOKEN);
            let usage = main.requests().last().unwrap().usage.unwrap_or_default();
            let input = if end == "upstream_error" { 70 } else { usage.input_tokens };
            let place = format!("{policy} {path}: {text_tokens} {entry}");
            assert_eq!((&entry["end"], &entry["status"]), (&end.into(), &200.into()), "{place}");
            let (input_tokens, output_tokens, source, cost_nano_usd) = bill(entry);
            match (policy.as_str().unwrap_or("observed"), path) {
                ("estimate", CHAT) => {
                    let input = request_bytes.div_ceil(BYTES_PER_TOKEN);
                    assert_eq!(bill(entry), (input, text_tokens, "estimated", cost(input, text_tokens)), "{place}");
                }
                (_, CHAT) => assert_eq!(bill(entry), (0, 0, "none", 0), "{place}"),
                // It had its reason to end, and all but its terminator (P5).
                _ if is_terse => {
                    let owed = cost(input, usage.output_tokens);
                    assert_eq!(bill(entry), (input, usage.output_tokens, "final", owed), "{place}");
                }
                ("estimate", _) => {
                    assert_eq!(bill(entry), (input, text_tokens, "estimated", cost(input, text_tokens)), "{place}");
                }
                (policy, _) => {
                    assert_eq!((input_tokens, source), (input, "partial"), "{place}");
                    assert_eq!(cost_nano_usd, if policy == "free" { 0 } else { cost(input, output_tokens) }, "{place}");
                }
            }
        }
        expect_whole(&gateway).await;
    }
}

/// An answer that is whole and says nothing of tokens costs an estimate, marked so; an error costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn u7_a_whole_answer_without_usage_is_estimated_and_an_error_is_free() {
    let (gateway, main) = with_policy(&Value::Null).await;
    let silent = json!({ "id": "c", "choices": [{ "message": { "role": "assistant", "content": "y".repeat(4_000) } }] });
    main.push(Reply::json(silent.clone()));
    let (request, request_bytes) = ask(CHAT, false);
    let answer = gateway.send(request).await.expect(200);
    let books = until_entries(&gateway, 1).await;
    let (input, output) = (request_bytes.div_ceil(BYTES_PER_TOKEN), (answer.body().len() as u64).div_ceil(BYTES_PER_TOKEN));
    assert_eq!(bill(&books[0]), (input, output, "estimated", cost(input, output)), "{}", books[0]);
    assert_eq!((&books[0]["end"], &books[0]["stream"]), (&"ok".into(), &false.into()));

    main.push(Reply::events([
        "data: {\"choices\":[{\"delta\":{\"content\":\"twelve bytes\"}}]}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ]));
    let (request, request_bytes) = ask(CHAT, true);
    gateway.send(request).await.expect(200);
    let books = until_entries(&gateway, 2).await;
    let input = request_bytes.div_ceil(BYTES_PER_TOKEN);
    assert_eq!(bill(&books[1]), (input, 3, "estimated", cost(input, 3)), "{}", books[1]);
    assert_eq!((&books[1]["end"], &books[1]["stream"]), (&"ok".into(), &true.into()));

    for (nth, status) in [400, 500, 529].into_iter().enumerate() {
        main.push(Reply::status(status));
        let (request, _) = ask(MESSAGES, false);
        gateway.send(request).await.expect(status);
        let books = until_entries(&gateway, 3 + nth).await;
        let entry = books.last().unwrap();
        assert_eq!(
            (bill(entry), &entry["end"], &entry["status"]),
            ((0, 0, "none", 0), &"upstream_error".into(), &status.into()),
            "{entry}"
        );
    }
    // A kept connection that closes at once is tried again.
    main.push(Reply::close());
    main.push(Reply::close());
    let (request, _) = ask(CHAT, false);
    gateway.send(request).await.expect(502);
    let books = until_entries(&gateway, 6).await;
    assert_eq!(bill(&books[5]), (0, 0, "none", 0), "{}", books[5]);
    expect_whole(&gateway).await;
}
