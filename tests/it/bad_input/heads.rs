//! Heads that are no request, ask for what is not served, or name no place: refused before a body is looked at.

use super::{After, CHAT, CLIENT_KEY, MESSAGES, Place, good_body, post, sized};

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_what_is_no_http_request_gets_a_400_and_a_close() {
    let place = Place::new().await;
    let long_name = "n".repeat(70_000);
    let fields: String = (0..300).map(|number| format!("x-{number}: y\r\n")).collect();
    for bytes in [
        b"GARBAGE\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\nhost: gateway\r\n\r\n".to_vec(),
        b"G\x00T / HTTP/1.1\r\nhost: gateway\r\n\r\n".to_vec(),
        // A TLS handshake on the plain port.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on, more than any peek wants to see\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nname with space: 1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nname : 1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nx: a\x01b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nx: a\x00b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nx: a\rb\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nx: a\r\n folded\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\nhost: other\r\n\r\n".to_vec(),
        format!("GET / HTTP/1.1\r\nhost: gateway\r\n{long_name}: 1\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: gateway\r\n{fields}\r\n").into_bytes(),
    ] {
        let mut raw = place.gateway.raw().await;
        raw.send(&bytes).await;
        let answer = raw.read_answer().await;
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
        place.assert_refusal(&answer, "/", 400);
        raw.expect_close().await;
    }
    place.assert_provider_heard_nothing();
}

/// Q5: the client is still sending, and sees its answer all the same.
#[tokio::test(flavor = "multi_thread")]
async fn q5_a_head_beyond_every_bound_is_refused_while_it_is_still_being_sent() {
    let place = Place::new().await;
    let mut raw = place.gateway.raw().await;
    let fields = format!("x-large: {}\r\n", "v".repeat(3 << 20));
    raw.send(post(MESSAGES, &fields)).await;
    let answer = raw.read_answer().await;
    place.assert_refusal(&answer, "/", 400);
    raw.expect_close().await;
    place.assert_provider_heard_nothing();
}

/// Q5: what agents really send is no bad input (CLIENTS.md: 32 KiB is the first thing they hit elsewhere).
#[tokio::test(flavor = "multi_thread")]
async fn heads_of_200_kib_pass() {
    let place = Place::new().await;
    let mut raw = place.gateway.raw().await;
    raw.send(sized(MESSAGES, &format!("anthropic-beta: {}\r\n", "b".repeat(200 << 10)), good_body())).await;
    assert_eq!(raw.read_answer().await.status, 200);
}

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_an_upgrade_is_refused() {
    let place = Place::new().await;
    for fields in [
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    ] {
        for path in ["/v1/responses", MESSAGES, "/"] {
            let get = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n{fields}\r\n");
            place.refuses(get, path, 400, After::Closed).await;
        }
        place.refuses(sized(MESSAGES, fields, good_body()), MESSAGES, 400, After::Closed).await;
    }
    place.assert_provider_heard_nothing();
}

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_connect_is_refused_with_405_and_the_methods_that_work() {
    let place = Place::new().await;
    let request = "CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n";
    let answer = place.refuses(request, "/", 405, After::Closed).await;
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{}", answer.head);
    place.assert_provider_heard_nothing();
}

/// Q5: Pingora's own look for HTTP/2 waits for 24 bytes; this listener speaks h2c.
#[tokio::test(flavor = "multi_thread")]
async fn q5_a_request_of_less_than_24_bytes_gets_its_answer_on_an_h2c_listener() {
    let place = Place::new().await;
    for (request, status) in [("GET / HTTP/1.0\r\n\r\n", 200), ("PRO / HTTP/1.0\r\n\r\n", 405), ("P / HTTP/1.0\r\n\r\n", 405)] {
        let mut raw = place.gateway.raw().await;
        raw.send(request).await;
        assert_eq!(raw.read_answer().await.status, status, "{request:?}");
        raw.expect_close().await;
    }
}

/// H8: another method is told which one works.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_refused_with_405_and_allow() {
    let place = Place::new().await;
    for (method, path, allow) in [
        ("GET", CHAT, "POST"),
        ("GET", MESSAGES, "POST"),
        ("DELETE", MESSAGES, "POST"),
        ("OPTIONS", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("PATCH", MESSAGES, "POST"),
        ("PUT", "/v1/messages/count_tokens", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/some", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ] {
        let body = if matches!(method, "GET" | "DELETE" | "OPTIONS") { String::new() } else { good_body() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut raw = place.gateway.raw().await;
        raw.send(request).await;
        let answer = raw.read_answer().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}: {}", answer.head);
        assert!(answer.json()["error"]["message"].is_string());
        assert!(answer.header("x-request-id").is_some());
        super::assert_usable(&mut raw).await;
    }
    place.assert_provider_heard_nothing();
}

/// M7: without a host route, what is not JSON has nowhere to go, and the message says what would.
#[tokio::test(flavor = "multi_thread")]
async fn m7_another_content_type_is_refused_with_what_to_send_instead() {
    let place = Place::new().await;
    for content_type in
        ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/jsonl"]
    {
        for path in [CHAT, MESSAGES, "/v1/audio/transcriptions"] {
            let body = good_body();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: {content_type}\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = place.refuses(request, path, 404, After::Usable).await;
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("application/json"));
        }
    }
    assert_eq!(place.gateway.health().await["routing_attempts"], 0);
    place.assert_provider_heard_nothing();
}

/// H8, M16: no path leads out of the list of routes, and none out of an upstream's base path.
#[tokio::test(flavor = "multi_thread")]
async fn h8_a_path_that_climbs_or_is_unknown_is_404_before_an_upstream_is_contacted() {
    let place = Place::new().await;
    for path in [
        "/admin",
        "/v1",
        "/v1/",
        "/v2/messages",
        "/health",
        "/metrics",
        "/v1/../admin",
        "/v1/../v1/messages",
        "/v1/messages/../../admin",
        "/v1/./messages",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2e/admin",
        "/v1/..%2fadmin",
        "/v1/..%5cadmin",
        "/v1/..\\admin",
        "/v1/models/../../admin",
        "/v1/models/%2e%2e",
    ] {
        let answer = place.refuses(sized(path, "", good_body()), path, 404, After::Usable).await;
        assert!(!answer.json()["error"]["message"].as_str().unwrap().is_empty());
    }
    place.assert_provider_heard_nothing();
}

/// Pingora quotes a head that it can't read in its own log, credentials and all; the harness searches ours for planted keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_head_at_the_admin_listener_is_not_quoted_in_the_log() {
    let gateway = crate::support::Setup::new().start().await;
    let mut raw = crate::support::RawClient::connect(gateway.admin_addr()).await;
    let head =
        format!("GET /status.json HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n", crate::support::setup::ADMIN_TOKEN);
    raw.send(format!("{head}x-note: caf\u{1}\r\n\r\n")).await;
    assert_eq!(raw.read_answer().await.status, 400);
    raw.expect_close().await;
    assert!(gateway.log_lines().iter().all(|line| !line.contains("x-note")));
}
