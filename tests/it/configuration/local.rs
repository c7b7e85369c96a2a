//! H6: without keys the loopback address keeps other machines out; a browser's pages are kept out by what the browser says of them.

use serde_json::json;

use crate::support::setup::MAIN_MODEL;
use crate::support::{Gateway, Mock, RawClient, Request, Setup};

const BODY: &str = r#"{"model":"claude-sonnet-4-5-20250929","max_tokens":9,"messages":[]}"#;

async fn open_to_all(change: impl FnOnce(Setup) -> Setup) -> (Gateway, Mock) {
    let main = Mock::http().await.unwrap();
    let setup = Setup::new().main(&main).set("/auth", json!({ "mode": "none" }));
    (change(setup).start().await, main)
}

/// A POST that needs no preflight: a page may send it without asking.
async fn simple(gateway: &Gateway, path: &str, host: &str, fields: &str) -> (u16, String) {
    let mut raw: RawClient = gateway.raw().await;
    let length = BODY.len();
    raw.send(format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{fields}content-length: {length}\r\n\r\n{BODY}")).await;
    let answer = raw.read_answer().await;
    let error = answer.json()["error"].clone();
    (answer.status, error["code"].as_str().or(error["type"].as_str()).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn h6_without_keys_no_page_of_another_machine_reaches_a_provider() {
    let (gateway, main) = open_to_all(|setup| setup).await;
    let (chat, messages) = ("/v1/chat/completions", "/v1/messages");
    assert!(BODY.contains(MAIN_MODEL));
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "0.0.0.0"] {
        assert_eq!(simple(&gateway, chat, host, "").await, (403, "foreign_host".to_owned()), "{host}");
    }
    for fields in
        ["origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n", "origin: null\r\n", "sec-fetch-site: same-site\r\n"]
    {
        assert_eq!(simple(&gateway, chat, "127.0.0.1", fields).await, (403, "foreign_origin".to_owned()), "{fields}");
        assert_eq!(simple(&gateway, messages, "127.0.0.1", fields).await, (403, "permission_error".to_owned()), "{fields}");
    }
    // In HTTP/2 the authority is the gateway's own address, and the page is told by its origin.
    let page = Request::post_bytes(messages, BODY).header("origin", "https://evil.example");
    gateway.h2c_client().await.send(page).await.expect(403);
    let list = gateway.send(Request::get("/v1/models").header("host", "evil.example")).await.expect(403);
    assert_eq!(list.json()["error"]["code"], "foreign_host");
    assert_eq!(main.counts().requests, 0);

    for host in ["127.0.0.1", "localhost:8080", "[::1]", "app.localhost"] {
        assert_eq!(simple(&gateway, messages, host, "").await.0, 200, "{host}");
    }
    assert_eq!(
        simple(&gateway, messages, "localhost", "origin: http://localhost:3000\r\nsec-fetch-site: same-site\r\n").await.0,
        200
    );
    gateway.h2c_client().await.send(Request::post_bytes(messages, BODY)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn h6_hosts_and_origins_that_the_operator_names_are_let_in_without_keys() {
    let (gateway, _main) = open_to_all(|setup| {
        setup
            .set("/auth/allowed_hosts", json!(["host.docker.internal"]))
            .set("/auth/allowed_origins", json!(["vscode-webview://*", "https://chat.example.com"]))
    })
    .await;
    assert_eq!(simple(&gateway, "/v1/messages", "host.docker.internal:8080", "").await.0, 200);
    for origin in ["vscode-webview://0123", "https://chat.example.com"] {
        let fields = format!("origin: {origin}\r\nsec-fetch-site: cross-site\r\n");
        assert_eq!(simple(&gateway, "/v1/messages", "localhost", &fields).await.0, 200, "{origin}");
    }
    assert_eq!(simple(&gateway, "/v1/messages", "localhost", "origin: https://evil.example\r\n").await.0, 403);
}

/// With keys nothing of it is asked: whoever has one may call from anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn h6_with_keys_any_host_and_any_origin_may_call() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let request =
        Request::post_bytes("/v1/messages", BODY).header("host", "llm.example.com").header("origin", "https://evil.example");
    gateway.send(request).await.expect(200);
}
