//! What the body decides: the model wherever it stands, and nothing where it is no JSON or two things at once.

use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use super::{CHAT, MESSAGES, ask};
use crate::support::setup::{MAIN_MODEL, NAMED_MODEL};
use crate::support::{Gateway, Mock, Request, Setup, Shorthand};

const HOST: &str = "files.internal.example.com";

fn with_type(method: &str, target: &str, content_type: &str, body: &'static str) -> Request {
    let mut request = Request::post_bytes(target, body).without("content-type").header("content-type", content_type);
    request.method = method.parse().unwrap();
    request
}

fn not_json() -> Vec<Request> {
    vec![
        Request::get("/v1/files/file-1/content?part=2"),
        with_type("POST", "/v1/audio/transcriptions", "multipart/form-data; boundary=x", "--x\r\n{\"model\":\"gpt-4\"}\r\n--x--"),
        with_type("POST", "/v1/files", "text/plain", r#"{"model":"claude-sonnet-4-5-20250929"}"#),
        with_type("POST", "/v1/files", "application/x-www-form-urlencoded", "model=gpt-4"),
        with_type("PUT", "/v1/uploads/1", "application/octet-stream", "\0\u{1}\u{2}"),
        Request::new(http::Method::DELETE, "/v1/files/file-1").bearer(crate::support::request::CLIENT_KEY),
    ]
}

async fn routing_counters(gateway: &Gateway) -> [Value; 4] {
    let health = gateway.health().await;
    ["routing_attempts", "routing_success", "routing_fallback", "parsing_errors"].map(|name| health[name].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn m7_what_is_no_json_goes_by_its_host_and_is_no_routing() {
    let (main, files) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    files.always(Reply::json(json!({ "ok": true })));
    let gateway = Setup::new()
        .main(&main)
        .named(&files)
        .set("/host_routes", json!([{ "host": "*.internal.example.com", "upstream": "named" }]))
        .start()
        .await;
    for request in not_json() {
        let (method, target) = (request.method.to_string(), request.target.clone());
        gateway.send(request.header("host", HOST)).await.expect(200);
        let arrived = files.requests().pop().unwrap();
        assert_eq!((&arrived.method, &arrived.target), (&method, &target));
        assert_eq!(super::the_host(&arrived), files.addr().to_string());
    }
    let bodies: Vec<_> = files.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies[1], "--x\r\n{\"model\":\"gpt-4\"}\r\n--x--");
    assert_eq!(bodies[4], "\0\u{1}\u{2}");
    assert_eq!(routing_counters(&gateway).await, [0, 0, 0, 0]);
    assert_eq!(main.counts().connections, 0);

    // The host does not matter to a request that names its model.
    gateway.send(ask(CHAT, MAIN_MODEL).header("host", HOST)).await.expect(200);
    assert_eq!(main.counts().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m7_what_is_no_json_and_has_no_host_route_is_404_and_reaches_nobody() {
    let main = Mock::http().await.unwrap();
    let gateway =
        Setup::new().main(&main).set("/host_routes", json!([{ "host": "other.example.com", "upstream": "main" }])).start().await;
    for request in not_json() {
        let refused = gateway.send(request).await.expect(404);
        assert!(refused.json()["error"]["message"].is_string());
    }
    let anthropic = gateway.send(with_type("POST", MESSAGES, "text/plain", "{}")).await.expect(404);
    assert_eq!(anthropic.json()["error"]["type"], "not_found_error");
    assert_eq!(gateway.send(Request::get(CHAT)).await.expect(405).header("allow"), "POST");
    assert_eq!(routing_counters(&gateway).await, [0, 0, 0, 0]);
    assert_eq!(main.counts().connections, 0);
}

/// M7: the answer comes while the request's body is still open, so nobody waited for its end.
#[tokio::test(flavor = "multi_thread")]
async fn m7_a_body_that_is_no_json_is_not_held_back() {
    let files = Mock::http().await.unwrap();
    files.always(Reply::json(json!({ "ok": true })).early());
    let gateway = Setup::new().named(&files).set("/host_routes", json!([{ "host": HOST, "upstream": "named" }])).start().await;
    let (request, sender) = with_type("POST", "/v1/files", "application/octet-stream", "").header("host", HOST).live();
    sender.send("the first piece".into()).await.unwrap();
    let arriving = gateway.client().await.open(request).await.unwrap();
    assert_eq!(arriving.status, 200);
    drop(sender);
}

#[tokio::test(flavor = "multi_thread")]
async fn m8_the_top_level_model_is_found_wherever_it_stands_and_nothing_else_is_taken_for_it() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).named(&named).start().await;
    let long = "x".repeat(100_000);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let decoy = format!(r#"{{"model":"{MAIN_MODEL}"}}"#);
    let bodies = [
        format!(r#"{{"model":"{NAMED_MODEL}","messages":[]}}"#),
        format!(r#"{{"messages":[],"model":"{NAMED_MODEL}"}}"#),
        format!(r#"{{"system":"{long}","model":"{NAMED_MODEL}","messages":[]}}"#),
        format!(r#"{{"tools":{deep},"model":"{NAMED_MODEL}","messages":[]}}"#),
        format!(r#"{{"metadata":{decoy},"messages":[{decoy}],"model":"{NAMED_MODEL}","tools":[[{decoy}]]}}"#),
        format!(r#"{{"model":"{NAMED_MODEL}","metadata":{decoy},"messages":[{decoy}]}}"#),
        format!(r#"{{"a":"model","model":"{NAMED_MODEL}","b":"\"model\":\"{MAIN_MODEL}\"","messages":[]}}"#),
        format!(" \n\t{{ \"model\" \r\n : \t\"{NAMED_MODEL}\" , \"messages\" : [ ] }} \n"),
        format!(r#"{{"model":"{}","messages":[]}}"#, NAMED_MODEL.replace('-', "\\u002d")),
        format!(r#"{{"mod\u0065l":"{NAMED_MODEL}","messages":[]}}"#),
    ];
    for body in &bodies {
        gateway.send(Request::post_bytes(CHAT, body.clone())).await.expect(200);
        assert_eq!(named.requests().pop().unwrap().body, body.as_bytes());
        gateway.send(Request::post_bytes(CHAT, body.clone()).chunked(7)).await.expect(200);
        assert_eq!(named.requests().pop().unwrap().body, body.as_bytes());
    }
    assert_eq!((named.counts().requests, main.counts().requests), (2 * bodies.len() as u64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn m9_a_body_that_two_readers_could_read_differently_is_refused_even_where_a_default_target_stands() {
    let default = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .main(&default)
        .set("/model_routing", json!({ "enabled": true, "default_target": "main", "models": {} }))
        .start()
        .await;
    let duplicates: [&[u8]; 4] = [
        br#"{"model":"a","model":"b"}"#,
        br#"{"model":"a","messages":[],"mod\u0065l":"a"}"#,
        br#"{"model":1,"model":"b"}"#,
        br#"{"model":"a","x":{"model":"c"},"\u006dodel":null}"#,
    ];
    for body in duplicates {
        for path in [CHAT, MESSAGES] {
            let refused = gateway.send(Request::post_bytes(path, body)).await.expect(400).json();
            assert_eq!(refused["error"]["type"], "invalid_request_error", "{refused}");
            assert!(refused["error"]["message"].as_str().unwrap().contains("model"), "{refused}");
        }
    }
    assert_eq!(default.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m9_what_is_no_strict_json_object_is_refused_without_a_default_target() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let deep = format!(r#"{{"model":"{MAIN_MODEL}","x":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    let named = |rest: &str| format!(r#"{{"model":"{MAIN_MODEL}"{rest}"#).into_bytes();
    let bad: [Vec<u8>; 10] = [
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        b"".to_vec(),
        named("} {}"),
        named("}x"),
        named(",\"x\":\"a\nb\"}"),
        [named(",\"x\":\""), vec![0xff], b"\"}".to_vec()].concat(),
        deep.into_bytes(),
        named(",}"),
        named(""),
    ];
    let mut client = gateway.client().await;
    for body in bad {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let refused = client.send(Request::post_bytes(CHAT, body)).await;
        assert_eq!(refused.status, 400, "{shown}");
        assert_eq!(refused.json()["error"]["type"], "invalid_request_error", "{shown}");
        assert!(client.is_reusable().await, "{shown}");
    }
    assert_eq!(main.counts().connections, 0);
    // No string, so it counts as missing: troll takes it, and is not configured here.
    for model in [json!(null), json!(4), json!(["gpt-4"]), json!({ "id": "gpt-4" }), json!(true)] {
        gateway.send(Request::post(CHAT, &json!({ "model": model }))).await.expect(500);
    }
}
