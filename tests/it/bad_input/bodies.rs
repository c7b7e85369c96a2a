//! Bodies that two JSON readers could understand differently, or not at all: refused with 400, and the next request is welcome.

use serde_json::json;

use super::{After, CHAT, MAIN_MODEL, MESSAGES, Place, good_body, sized};
use crate::support::Request;

fn with(field: &str) -> Vec<u8> {
    format!(r#"{{"model":"{MAIN_MODEL}",{field}}}"#).into_bytes()
}

/// M9: name, body and the `code` that a program sees.
fn bad_bodies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let deep = |levels: usize| with(&format!(r#""a":{}{}"#, "[".repeat(levels), "]".repeat(levels)));
    vec![
        ("empty", Vec::new(), "empty_body"),
        ("no JSON", b"hello".to_vec(), "invalid_json"),
        ("truncated", br#"{"model":"#.to_vec(), "invalid_json"),
        ("NaN", with(r#""temperature":NaN"#), "invalid_json"),
        ("infinity", with(r#""temperature":-Infinity"#), "invalid_json"),
        ("a comment", with(r#""a":1/*b*/"#), "invalid_json"),
        ("a trailing comma", with(r#""a":1,"#), "invalid_json"),
        ("single quotes", format!("{{'model':'{MAIN_MODEL}'}}").into_bytes(), "invalid_json"),
        ("duplicate model", with(r#""model":"gpt-4""#), "duplicate_key"),
        ("the same model twice", with(&format!(r#""model":"{MAIN_MODEL}""#)), "duplicate_key"),
        ("duplicate model by an escaped key", with(r#""mod\u0065l":"gpt-4""#), "duplicate_key"),
        ("trailing data", [good_body().into_bytes(), b"{}".to_vec()].concat(), "trailing_data"),
        ("trailing text", [good_body().into_bytes(), b" x".to_vec()].concat(), "trailing_data"),
        ("a list", b"[]".to_vec(), "not_an_object"),
        ("a string", br#""model""#.to_vec(), "not_an_object"),
        ("a byte order mark", [b"\xef\xbb\xbf".to_vec(), good_body().into_bytes()].concat(), "byte_order_mark"),
        ("invalid UTF-8 in a text", [br#"{"a":""#.to_vec(), b"\xff\xfe".to_vec(), br#""}"#.to_vec()].concat(), "invalid_utf8"),
        (
            "an overlong slash",
            with("\"a\":\"\u{0}\"").iter().map(|byte| if *byte == 0 { 0xc0 } else { *byte }).collect(),
            "invalid_utf8",
        ),
        ("a raw line end in a text", with("\"a\":\"b\nc\""), "control_character"),
        ("a raw zero in a text", with("\"a\":\"b\0c\""), "control_character"),
        ("129 levels", deep(128), "nested_too_deep"),
        ("a bomb of a million lists", deep(1_000_000), "nested_too_deep"),
        ("a bomb of objects", with(&format!(r#""a":{}"#, r#"{"a":"#.repeat(100_000))), "nested_too_deep"),
        ("half a surrogate pair in the model", br#"{"model":"\ud800"}"#.to_vec(), "lone_surrogate"),
        ("an endless model", format!(r#"{{"model":"{}"}}"#, "m".repeat(5_000)).into_bytes(), "model_name_too_long"),
    ]
}

/// M9, Q5
#[tokio::test(flavor = "multi_thread")]
async fn m9_a_body_that_could_be_read_in_two_ways_is_refused_on_every_path() {
    let place = Place::new().await;
    for (what, body, code) in bad_bodies() {
        for path in [CHAT, MESSAGES] {
            // Past 64 KiB, what is left of a body that was refused at its first fault is not worth the wait.
            let after = if body.len() > 64 << 10 { After::Closed } else { After::Usable };
            let answer = place.refuses(sized(path, "", &body), path, 400, after).await;
            if path == CHAT {
                assert_eq!(answer.json()["error"]["code"], code, "{what}: {}", answer.json());
            } else {
                assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{what}");
            }
        }
    }
    place.assert_provider_heard_nothing();
}

/// M9: HTTP/2 has no doubt about where a body ends, so the connection always stays.
#[tokio::test(flavor = "multi_thread")]
async fn m9_bad_bodies_over_http2_leave_the_connection_usable() {
    let place = Place::new().await;
    let mut client = place.gateway.h2c_client().await;
    for (what, body, _) in bad_bodies() {
        let answer = client.send(Request::post_bytes(MESSAGES, body).chunked(1000)).await;
        assert_eq!(answer.status, 400, "{what}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{what}");
        assert_eq!(answer.json()["request_id"], answer.header("request-id"), "{what}");
    }
    client.send(Request::post_bytes(MESSAGES, good_body())).await.expect(200);
    assert_eq!(place.main.counts().requests, 1);
}

/// M9: a default target takes what is merely no JSON, never what is ambiguous.
#[tokio::test(flavor = "multi_thread")]
async fn m9_the_default_target_never_sees_an_ambiguous_body() {
    let place =
        Place::with(|setup| setup.set("/model_routing", json!({ "enabled": true, "default_target": "main", "models": {} })))
            .await;
    for (what, body, code) in bad_bodies() {
        let mut raw = place.gateway.raw().await;
        let seen = place.main.counts().requests;
        raw.send(sized(MESSAGES, "", &body)).await;
        let answer = raw.read_answer().await;
        let passes = matches!(code, "empty_body" | "invalid_json");
        assert_eq!(place.main.counts().requests - seen, u64::from(passes), "{what}");
        assert_eq!(answer.status, 400, "{what}: the provider's own refusal, or ours");
        if passes {
            assert_eq!(place.main.requests().last().unwrap().body, body, "{what}");
        }
    }
}

/// M8: where the model stands does not matter, and what only looks like it never wins.
#[tokio::test(flavor = "multi_thread")]
async fn m8_the_top_level_model_is_found_wherever_it_stands() {
    let place = Place::with(|setup| setup.set("/routing/unknown_model", json!("reject"))).await;
    let filler = "x".repeat(100_000);
    let nested = format!(r#""a":{}"model"{}"#, "[".repeat(100), "]".repeat(100));
    for body in [
        format!(r#"{{"model":"{MAIN_MODEL}","messages":[]}}"#),
        format!(r#"{{"messages":[],"model":"{MAIN_MODEL}"}}"#),
        format!(r#"{{"system":"{filler}","model":"{MAIN_MODEL}"}}"#),
        format!(r#"{{{nested},"model":"{MAIN_MODEL}"}}"#),
        format!(r#"{{"metadata":{{"model":"gpt-4"}},"model":"{MAIN_MODEL}"}}"#),
        format!(r#"{{"model":"{MAIN_MODEL}","metadata":{{"model":"gpt-4"}}}}"#),
        format!(r#"{{"a":"model","b":"\"model\":\"gpt-4\"","model":"{MAIN_MODEL}"}}"#),
        format!(r#"{{"mod\u0065l":"{}"}}"#, MAIN_MODEL.replace('-', "\\u002d")),
        format!("\r\n\t {{ \"model\" :\t\"{MAIN_MODEL}\" }} \r\n"),
    ] {
        for pieces in [1, 7, 50_000] {
            let request = Request::post_bytes(MESSAGES, body.clone()).chunked(pieces);
            if body.len() / pieces > 20_000 {
                continue;
            }
            place.gateway.send(request).await.expect(200);
            assert_eq!(place.main.requests().last().unwrap().body, body);
        }
    }
    for body in [r#"{"metadata":{"model":"MODEL"}}"#, r#"{"a":"model","b":"MODEL"}"#, r#"{"model":["MODEL"]}"#, r#"{"model":5}"#]
    {
        let request = Request::post_bytes(MESSAGES, body.replace("MODEL", MAIN_MODEL));
        let answer = place.gateway.send(request).await.expect(404);
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("/v1/models"));
    }
}

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_a_compressed_request_body_is_refused_with_415() {
    let place = Place::new().await;
    for encoding in ["gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip"] {
        for path in [CHAT, MESSAGES] {
            let fields = format!("content-encoding: {encoding}\r\n");
            let answer = place.refuses(sized(path, &fields, good_body()), path, 415, After::Usable).await;
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("uncompressed"));
        }
    }
    place.assert_provider_heard_nothing();
    let mut raw = place.gateway.raw().await;
    raw.send(sized(MESSAGES, "content-encoding: identity\r\n", good_body())).await;
    assert_eq!(raw.read_answer().await.status, 200);
}
