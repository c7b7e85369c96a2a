//! A model that its upstream knows by another name (M13): the client never sees that name, and no other byte changes.

use serde_json::json;
use trollbridge::provider_mock::{Reply, Split};

use super::{CHAT, MESSAGES};
use crate::support::{Client, Distrust, Gateway, Mock, Request, Setup, Shorthand};

const REAL: &str = "claude-haiku-4-5-real";

async fn gateway_and_main() -> (Gateway, Mock) {
    let main = Mock::http().await.unwrap();
    let model = json!({ "id": "fast", "id_aliases": ["quick", "s\"low\\é"], "upstream_model_id": REAL, "upstream": "main" });
    (Setup::new().main(&main).set("/models/-", model).start().await, main)
}

/// What the provider says to its own name for the model, without the gateway.
async fn direct(main: &Mock, path: &str, body: &str) -> String {
    Client::http1(main.addr(), Distrust::nothing())
        .await
        .send(Request::post_bytes(path, body.to_owned()))
        .await
        .expect(200)
        .text()
}

/// Replaces the names of models; what the model says holds the same words, but with escaped quotes.
fn renamed(text: &str, name: &str) -> String {
    let (from, to) = (format!(r#""model":"{REAL}""#), format!(r#""model":"{name}""#));
    assert!(text.contains(&from), "{text}");
    text.replace(&from, &to)
}

/// The serial number of an answer's id is the mock's own count.
fn without_serials(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("mock0") {
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

/// M13: the request.
#[tokio::test(flavor = "multi_thread")]
async fn m13_only_the_bytes_of_the_top_level_model_change_on_the_way_up() {
    let (gateway, main) = gateway_and_main().await;
    for written in [r#""fast""#, r#""quick""#, r#""f\u0061st""#, r#""s\"low\\\u00e9""#] {
        for body in [
            format!(
                "{{ \"messages\" : [{{\"role\":\"user\",\"content\":\"as fast\"}}],\t\"model\" :  {written} , \"é\":1.50e+00 }}\n"
            ),
            format!(r#"{{"model":{written},"messages":[],"x":{{"model":{written}}},"y":"\u0061"}}"#),
        ] {
            let expected = body.replacen(written, &format!(r#""{REAL}""#), 1);
            for request in [Request::post_bytes(CHAT, body.clone()), Request::post_bytes(CHAT, body.clone()).chunked(3)] {
                gateway.send(request).await.expect(200);
                let arrived = main.requests().pop().unwrap();
                assert_eq!(arrived.body, expected.as_bytes());
                assert_eq!(arrived.header("content-length"), [expected.len().to_string()]);
            }
        }
    }
}

/// M13: the answer, in each of its forms and however the network cuts it.
#[tokio::test(flavor = "multi_thread")]
async fn m13_the_answer_names_the_model_that_was_asked_for_and_is_otherwise_byte_identical() {
    let (gateway, main) = gateway_and_main().await;
    let chat = |model: &str, stream: bool| {
        json!({ "model": model, "max_tokens": 50, "stream": stream, "stream_options": { "include_usage": true },
                "messages": [{ "role": "user", "content": "hello" }] })
        .to_string()
    };
    let whole_chat = |model: &str| chat(model, false).replace(r#""stream_options":{"include_usage":true},"#, "");
    let messages = |model: &str, stream: bool| {
        json!({ "model": model, "max_tokens": 50, "stream": stream, "messages": [{ "role": "user", "content": "hello" }] })
            .to_string()
    };
    let responses = |model: &str, stream: bool| json!({ "model": model, "stream": stream, "input": "hello" }).to_string();
    let embeddings = |model: &str| json!({ "model": model, "input": "hello" }).to_string();
    // The text that the model says holds its name too; that is not ours to change.
    let said = format!(r#"I am "model":"{REAL}" truly"#);
    let cases: [(&str, String, String); 8] = [
        (CHAT, whole_chat("quick"), whole_chat(REAL)),
        (CHAT, chat("quick", true), chat(REAL, true)),
        (MESSAGES, messages("quick", false), messages(REAL, false)),
        (MESSAGES, messages("quick", true), messages(REAL, true)),
        ("/v1/responses", responses("quick", false), responses(REAL, false)),
        ("/v1/responses", responses("quick", true), responses(REAL, true)),
        ("/v1/embeddings", embeddings("quick"), embeddings(REAL)),
        ("/v1/completions", messages("quick", false), messages(REAL, false)),
    ];
    for (path, asked, real) in cases {
        for split in [Split::Events, Split::EveryByte, Split::Every(37)] {
            main.always(Reply::usual().saying(&said).deltas(3).split(split));
            let expected = renamed(&direct(&main, path, &real).await, "quick");
            let answer = gateway.send(Request::post_bytes(path, asked.clone())).await.expect(200);
            assert_eq!(without_serials(&answer.text()), without_serials(&expected), "{path}");
        }
    }
}

/// M13, U6: a rename and a usage chunk of ours in one stream.
#[tokio::test(flavor = "multi_thread")]
async fn m13_u6_an_alias_and_an_unasked_usage_chunk_go_together() {
    let (gateway, main) = gateway_and_main().await;
    let body = json!({ "model": "fast", "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    let answer = gateway.send(Request::post(CHAT, &body)).await.expect(200);
    let events = answer.events();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    for event in events.iter().filter(|event| event.data != "[DONE]") {
        assert_eq!(event.json()["model"], "fast");
        assert_ne!(event.json()["choices"], json!([]));
    }
    let arrived: serde_json::Value = serde_json::from_slice(&main.requests()[0].body).unwrap();
    assert_eq!((&arrived["model"], &arrived["stream_options"]), (&json!(REAL), &json!({ "include_usage": true })));
}

/// An alias without `upstream_model_id` goes up as the client wrote it, and comes back untouched.
#[tokio::test(flavor = "multi_thread")]
async fn m13_an_alias_without_another_name_changes_nothing() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/models/0/id_aliases", json!(["sonnet"])).start().await;
    let body = r#"{"model":"sonnet","messages":[]}"#;
    let answer = gateway.send(Request::post_bytes(CHAT, body)).await.expect(200);
    assert_eq!(main.requests()[0].body, body);
    assert_eq!(answer.json()["model"], "sonnet");
    assert_ne!(answer.header("content-length"), "", "nothing is rewritten, so the length is known");
}
