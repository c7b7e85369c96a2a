//! Headers and client authentication (the H rows).

use http::Method;
use serde_json::json;

use crate::answers::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, ask, ask_main, client_that, main_that};
use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, NAMED_KEY, NAMED_MODEL};
use crate::support::{Mock, Request, Setup};

/// What must not reach an upstream, each with a canary as its value.
const STRIPPED: [&str; 45] = [
    "cookie",
    "x-goog-api-key",
    "api-key",
    "x-auth-token",
    "x-amz-security-token",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "proxy-anything",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-anything",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-ray",
    "cdn-loop",
    "via",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-request-id",
    "x-correlation-id",
    "x-envoy-external-address",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-ssl-client-cert",
    "x-remote-user",
    "baggage",
    "alt-used",
    "max-forwards",
    "early-data",
    "x-azure-clientip",
    "fastly-client-ip",
    "fly-client-ip",
    "x-vercel-id",
    "x-b3-traceid",
    "openai-organization",
    "openai-project",
    "anthropic-workspace-id",
    "keep-alive",
];
/// Hop-by-hop headers that HTTP/2 forbids.
const ONLY_HTTP1: [&str; 2] = ["proxy-connection", "keep-alive"];
const PASSING: [(&str, &str); 12] = [
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "a-1,b-2"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("openai-beta", "assistants=v2"),
    ("openai-something-new", "1"),
    ("user-agent", "claude-cli/2.1 (external, cli)"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-lang", "python"),
    ("x-app", "cli"),
    ("accept", "application/json, text/event-stream"),
    ("accept-language", "*"),
    ("idempotency-key", "stainless-python-retry-1"),
];

/// H1, H2, H3, H4, M11: on every pair of protocols.
#[tokio::test(flavor = "multi_thread")]
async fn h1_no_credential_and_no_trace_of_the_client_reaches_an_upstream_and_all_else_does() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES, "/v1/embeddings"] {
                main.forget_requests();
                let mut request =
                    ask_main(path, false).header("accept-encoding", "gzip, deflate, br, zstd").header("te", "trailers");
                for name in STRIPPED.into_iter().filter(|name| down == Speaks::Http1 || !ONLY_HTTP1.contains(name)) {
                    request = request.header(name, &format!("stripped-canary-{name}"));
                }
                for (name, value) in PASSING {
                    request = request.header(name, value);
                }
                if down == Speaks::Http1 {
                    request = request.header("connection", "keep-alive, X-Nominated, x-stainless-nominated");
                    request = request.header("x-nominated", "stripped-canary").header("x-stainless-nominated", "stripped-canary");
                }
                client_that(&gateway, down).await.send(request).await.expect(200);
                let arrived = main.requests().remove(0);
                let place = format!("{up:?} {down:?} {path}: {:?}", arrived.headers);
                assert_eq!(arrived.header("authorization"), [format!("Bearer {MAIN_KEY}")], "{place}");
                assert_eq!(arrived.header("x-api-key"), Vec::<&str>::new(), "{place}");
                for (name, value) in &arrived.headers {
                    assert!(!value.contains("stripped-canary") && !value.contains(CLIENT_KEY), "{name}: {value}, {place}");
                    assert!(!["te", "trailer", "upgrade", "expect"].contains(&name.as_str()), "{name}, {place}");
                }
                for (name, value) in PASSING {
                    assert_eq!(arrived.header(name), [value], "{name}, {place}");
                }
                assert_eq!(arrived.header("accept-encoding"), ["identity"], "{place}");
                let hosts = arrived.header("host").len() + usize::from(arrived.authority.is_some());
                assert_eq!(hosts, 1, "{place}");
                assert!(arrived.complete);
            }
        }
    }
}

/// H1: the key stands where the upstream wants it, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn h1_auth_header_chooses_where_the_key_stands() {
    let bearer = format!("Bearer {NAMED_KEY}");
    for (choice, in_authorization, in_x_api_key) in
        [("authorization", true, false), ("x-api-key", false, true), ("both", true, true)]
    {
        let named = Mock::http().await.unwrap();
        let gateway = Setup::new().named(&named).set("/upstreams/named/auth_header", json!(choice)).start().await;
        for request in [
            ask(MESSAGES, NAMED_MODEL, false),
            ask(MESSAGES, NAMED_MODEL, false).without("authorization").header("x-api-key", CLIENT_KEY),
        ] {
            named.forget_requests();
            gateway.send(request).await.expect(200);
            let arrived = named.requests().remove(0);
            assert_eq!(arrived.header("authorization") == [bearer.as_str()], in_authorization, "{choice}: {:?}", arrived.headers);
            assert_eq!(arrived.header("x-api-key") == [NAMED_KEY], in_x_api_key, "{choice}: {:?}", arrived.headers);
            assert_eq!(arrived.header("authorization").len(), usize::from(in_authorization));
            assert_eq!(arrived.header("x-api-key").len(), usize::from(in_x_api_key));
        }
    }
}

/// H1: an upstream without a key gets no credentials at all.
#[tokio::test(flavor = "multi_thread")]
async fn h1_an_upstream_without_a_key_is_sent_no_credentials() {
    let open = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .set("/upstreams/open", json!({ "base_url": open.base_url() }))
        .set("/models/-", json!({ "id": "open-model", "upstream": "open" }))
        .start()
        .await;
    for request in
        [ask(CHAT, "open-model", false), ask(CHAT, "open-model", false).without("authorization").header("x-api-key", CLIENT_KEY)]
    {
        gateway.send(request).await.expect(200);
    }
    for arrived in open.requests() {
        assert_eq!((arrived.header("authorization").len(), arrived.header("x-api-key").len()), (0, 0));
    }
}

/// H5: both spellings on every path, with refusals in the path's dialect, before the body is read.
#[tokio::test(flavor = "multi_thread")]
async fn h5_a_client_key_is_accepted_in_both_spellings_and_only_a_right_one() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        for path in [CHAT, MESSAGES, RESPONSES, "/v1/embeddings", "/v1/messages/count_tokens"] {
            client.send(ask_main(path, false)).await.expect(200);
            client.send(ask_main(path, false).without("authorization").header("x-api-key", CLIENT_KEY)).await.expect(200);
            let before = main.counts().requests;
            let none = || ask_main(path, false).without("authorization");
            for request in [
                none(),
                none().header("authorization", ""),
                none().header("authorization", "Bearer"),
                none().header("authorization", "Bearer "),
                none().header("authorization", &format!("Basic {CLIENT_KEY}")),
                none().header("authorization", CLIENT_KEY),
                none().header("x-api-key", "wrong"),
                none().header("x-api-key", &CLIENT_KEY[..CLIENT_KEY.len() - 1]),
                none().header("x-api-key", &format!("{CLIENT_KEY}x")),
                none().bearer("wrong"),
                none().bearer(MAIN_KEY_LIKE),
            ] {
                let headers = format!("{path} {:?}", request.headers);
                let answer = client.send(request).await;
                assert_eq!(answer.status, 401, "{headers}");
                let body = answer.json();
                if path.starts_with(MESSAGES) {
                    assert_eq!(body["error"]["type"], "authentication_error", "{headers}");
                    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
                } else {
                    assert!(body["error"]["code"].is_string(), "{headers}");
                }
            }
            assert_eq!(main.counts().requests, before);
        }
    }
    // Before the body: none of the promised bytes is ever sent.
    let mut raw = gateway.raw().await;
    raw.send(format!("POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer wrong\r\ncontent-length: 5000\r\n\r\n"))
        .await;
    assert_eq!(raw.read_answer().await.status, 401);
}

const MAIN_KEY_LIKE: &str = "sk-main-0000000000000000";

/// H5: the scheme's name is not case-sensitive (RFC 9110 §11.1).
#[tokio::test(flavor = "multi_thread")]
async fn h5_the_word_bearer_may_be_written_in_any_case() {
    let (setup, _main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let request = ask_main(CHAT, false).without("authorization").header("authorization", &format!("{scheme} {CLIENT_KEY}"));
        gateway.send(request).await.expect(200);
    }
}

/// H7
#[tokio::test(flavor = "multi_thread")]
async fn h7_more_than_one_credential_is_refused() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let right = format!("Bearer {CLIENT_KEY}");
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        for path in [CHAT, MESSAGES] {
            let none = || ask_main(path, false).without("authorization");
            for request in [
                none().header("authorization", &right).header("authorization", "Bearer other"),
                none().header("authorization", &right).header("authorization", &right),
                none().header("authorization", &right).header("x-api-key", "other"),
                none().header("x-api-key", CLIENT_KEY).header("x-api-key", "other"),
                none().header("authorization", "Bearer other").header("x-api-key", CLIENT_KEY),
            ] {
                let headers = format!("{down:?} {path} {:?}", request.headers);
                let answer = client.send(request).await;
                assert_eq!(answer.status, 400, "{headers}: {}", answer.text());
                assert!(answer.json()["error"]["message"].as_str().unwrap().contains("exactly one"), "{headers}");
            }
            assert_eq!(main.counts().requests, 0);
        }
    }
    // Twice the same key, once in each spelling, is one credential.
    gateway.send(ask_main(CHAT, false).header("x-api-key", CLIENT_KEY)).await.expect(200);
}

/// H8
#[tokio::test(flavor = "multi_thread")]
async fn h8_the_root_answers_a_probe_without_a_key_and_without_an_upstream() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        for target in ["/", "/?probe=1"] {
            let get = client.send(Request::new(Method::GET, target)).await.expect(200);
            assert_eq!(get.json()["status"], "ok");
            let head = client.send(Request::new(Method::HEAD, target)).await.expect(200);
            assert_eq!(head.text(), "");
            assert_eq!(head.header("content-length"), get.body().len().to_string());
            assert!(client.is_reusable().await);
        }
        let post = client.send(Request::new(Method::POST, "/")).await.expect(405);
        assert_eq!(post.header("allow"), "GET, HEAD");
    }
    assert_eq!(main.counts().connections, 0);
}

/// H8
#[tokio::test(flavor = "multi_thread")]
async fn h8_a_path_that_is_not_served_is_404_before_an_upstream_is_contacted() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        for path in [
            "/admin",
            "/health",
            "/metrics",
            "/v2/chat/completions",
            "/v1",
            "/v1/",
            "/api/v1/messages",
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "//v1/messages",
            "/.env",
            "/v1beta/models",
        ] {
            let answer = client.send(Request::post(path, &json!({ "model": MAIN_MODEL }))).await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            assert!(answer.json()["error"]["message"].is_string());
            let answer = client.send(Request::get(path)).await;
            assert_eq!(answer.status, 404, "GET {path}: {}", answer.text());
        }
    }
    assert_eq!(main.counts().connections, 0);
}

/// H8, U6: a listed path in another spelling is not served as an unlisted one, past the meter.
#[tokio::test(flavor = "multi_thread")]
async fn h8_a_listed_path_in_another_spelling_is_404() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    for path in ["/v1/%63hat/completions", "/v1//chat/completions", "/v1/chat/completions/", "/v1/messages;x", "/v1/Messages"] {
        let answer = gateway.send(Request::post(path, &json!({ "model": MAIN_MODEL }))).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    assert_eq!(main.counts().requests, 0);
}
