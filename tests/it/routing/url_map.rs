//! Targets by URL: `model_routing` and the way a base path and a request's path become one.

use serde_json::{Value, json};

use super::{CHAT, MESSAGES, ask, the_host};
use crate::support::setup::{MAIN_MODEL, TROLL_MODEL};
use crate::support::{Authority, Gateway, Mock, Recorded, Request, Setup};

const OPENAI: &str = "api.openai.com";
const ANTHROPIC: &str = "api.anthropic.com";
const OPENAI_KEY: &str = "sk-openai-planted-2b6f0c9d17";
const ANTHROPIC_KEY: &str = "sk-anthropic-planted-9c1d7e3355";

struct Providers {
    openai: Mock,
    anthropic: Mock,
    main: Mock,
    troll: Mock,
}

impl Providers {
    async fn start(authority: &Authority) -> Self {
        Self {
            openai: Mock::https(authority.server(&[OPENAI], true)).await.unwrap(),
            anthropic: Mock::https(authority.server(&[ANTHROPIC], false)).await.unwrap(),
            main: Mock::http().await.unwrap(),
            troll: Mock::http().await.unwrap(),
        }
    }

    /// The URLs are the upstreams' own, so they are reached as those are: at the mocks, with their keys.
    fn setup(&self, authority: &Authority, routing: Value) -> Setup {
        Setup::new()
            .main(&self.main)
            .troll(&self.troll)
            .set("/upstreams/openai", json!({ "key": "${OPENAI_API_KEY}" }))
            .at_host("openai", "https://api.openai.com/v1", &self.openai, &authority.ca_pem)
            .secret_env("OPENAI_API_KEY", OPENAI_KEY)
            .set("/upstreams/anthropic", json!({ "key": "${ANTHROPIC_API_KEY}", "auth_header": "x-api-key" }))
            .at_host("anthropic", "https://api.anthropic.com/v1/", &self.anthropic, &authority.ca_pem)
            .secret_env("ANTHROPIC_API_KEY", ANTHROPIC_KEY)
            .set("/model_routing", routing)
    }

    fn requests(&self) -> [u64; 4] {
        [&self.openai, &self.anthropic, &self.main, &self.troll].map(|mock| mock.counts().requests)
    }
}

fn url_map() -> Value {
    json!({
        "enabled": true,
        "default_target": "https://api.openai.com/v1",
        "models": {
            "gpt-4": "https://api.openai.com/v1",
            "claude-3-opus": "https://api.anthropic.com/v1",
            "claude-*": "anthropic",
            "claude-special-*": "openai",
        },
    })
}

#[track_caller]
fn expect_openai(arrived: &Recorded, path: &str) {
    assert!(arrived.tls);
    assert_eq!((arrived.sni.as_deref(), the_host(arrived).as_str(), arrived.target.as_str()), (Some(OPENAI), OPENAI, path));
    assert_eq!(arrived.header("authorization"), [format!("Bearer {OPENAI_KEY}")]);
    assert_eq!(arrived.header("x-api-key"), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn m5_m11_a_url_target_is_reached_by_its_scheme_host_name_and_host_header() {
    let authority = Authority::new();
    let providers = Providers::start(&authority).await;
    let gateway = providers.setup(&authority, url_map()).start().await;

    gateway.send(ask(CHAT, "gpt-4")).await.expect(200);
    expect_openai(&providers.openai.requests()[0], CHAT);

    gateway.send(ask(MESSAGES, "claude-3-opus").header("anthropic-version", "2023-06-01")).await.expect(200);
    let arrived = providers.anthropic.requests().remove(0);
    assert!(arrived.tls);
    assert_eq!((arrived.sni.as_deref(), the_host(&arrived).as_str()), (Some(ANTHROPIC), ANTHROPIC));
    assert_eq!(arrived.target, MESSAGES);
    assert_eq!((arrived.header("x-api-key"), arrived.header("authorization")), (vec![ANTHROPIC_KEY], vec![]));

    // The longest prefix wins, and `models[]` comes before all of the map.
    gateway.send(ask(CHAT, "claude-9")).await.expect(200);
    gateway.send(ask(CHAT, "claude-special-1")).await.expect(200);
    gateway.send(ask(CHAT, MAIN_MODEL)).await.expect(200);
    gateway.send(ask(CHAT, TROLL_MODEL)).await.expect(200);
    assert_eq!(providers.requests(), [2, 2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m5_unknown_models_no_model_an_empty_object_and_broken_json_go_to_the_default_target() {
    let authority = Authority::new();
    let providers = Providers::start(&authority).await;
    let gateway = providers.setup(&authority, url_map()).start().await;
    let bodies: [&str; 7] = [
        r#"{"model":"never-heard-of","messages":[]}"#,
        r#"{"messages":[{"role":"user","content":"hi"}]}"#,
        "{}",
        r#"{"model":7,"messages":[]}"#,
        r#"{"model":null}"#,
        "{invalid json",
        "",
    ];
    for (nth, body) in bodies.iter().enumerate() {
        // What the provider thinks of such a body is its own business; it must have arrived as it was.
        gateway.send(Request::post_bytes(CHAT, body.to_owned())).await;
        let arrived = providers.openai.requests();
        assert_eq!(arrived.len(), nth + 1, "{body}");
        expect_openai(&arrived[nth], CHAT);
        assert_eq!(arrived[nth].body, body.as_bytes());
    }
    assert_eq!(providers.requests()[1..], [0, 0, 0]);
}

/// M5, K5
#[tokio::test(flavor = "multi_thread")]
async fn m5_url_routing_that_is_off_sends_what_models_does_not_name_to_troll() {
    let authority = Authority::new();
    let providers = Providers::start(&authority).await;
    let mut off = url_map();
    off["enabled"] = json!(false);
    let gateway = providers.setup(&authority, off).start().await;
    for model in ["gpt-4", "claude-3-opus", "unknown"] {
        gateway.send(ask(CHAT, model)).await.expect(200);
    }
    gateway.send(Request::post(CHAT, &json!({}))).await.expect(200);
    gateway.send(ask(CHAT, MAIN_MODEL)).await.expect(200);
    gateway.send(Request::post_bytes(CHAT, "{invalid json")).await.expect(400);
    assert_eq!(providers.requests(), [0, 0, 1, 4]);
    assert_eq!(gateway.health().await["enabled"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn m5_without_a_default_target_an_unknown_model_is_troll_or_is_refused() {
    let authority = Authority::new();
    let providers = Providers::start(&authority).await;
    let routing = json!({ "enabled": true, "models": { "gpt-4": "https://api.openai.com/v1" } });
    let gateway = providers.setup(&authority, routing.clone()).start().await;
    gateway.send(ask(CHAT, "unknown")).await.expect(200);
    assert_eq!(providers.requests(), [0, 0, 0, 1]);

    let gateway = providers.setup(&authority, routing).set("/routing/unknown_model", json!("reject")).start().await;
    let openai = gateway.send(ask(CHAT, "unknown")).await.expect(404).json();
    assert_eq!((&openai["error"]["code"], &openai["error"]["param"]), (&json!("model_not_found"), &json!("model")));
    assert_eq!(openai["error"]["type"], "invalid_request_error");
    let anthropic = gateway.send(ask(MESSAGES, "unknown")).await.expect(404).json();
    assert_eq!((&anthropic["type"], &anthropic["error"]["type"]), (&json!("error"), &json!("not_found_error")));
    assert!(anthropic["error"]["message"].as_str().unwrap().contains("unknown"), "{anthropic}");
    let nameless = gateway.send(Request::post(CHAT, &json!({}))).await.expect(404).json();
    assert!(nameless["error"]["message"].as_str().unwrap().contains("names no model"), "{nameless}");
    gateway.send(ask(CHAT, "gpt-4")).await.expect(200);
    assert_eq!(providers.requests(), [1, 0, 0, 1]);
}

async fn gateway_at_bases(main: &Mock, bases: &[&str]) -> Gateway {
    let mut setup = Setup::new();
    for (nth, base) in bases.iter().enumerate() {
        setup = setup
            .set(&format!("/upstreams/base-{nth}"), json!({ "base_url": format!("{}{base}", main.base_url()) }))
            .set("/models/-", json!({ "id": format!("model-{nth}"), "upstream": format!("base-{nth}") }));
    }
    setup.start().await
}

/// M6, K10
#[tokio::test(flavor = "multi_thread")]
async fn m6_the_base_path_and_the_requests_path_are_joined_without_doubling() {
    let main = Mock::http().await.unwrap();
    let bases = ["", "/", "/v1", "/v1/", "/v1beta", "/v1beta/openai/", "/api/v1"];
    let gateway = gateway_at_bases(&main, &bases).await;
    let cases = [
        (0, "/v1/messages", "/v1/messages"),
        (1, "/v1/messages", "/v1/messages"),
        (2, "/v1/messages", "/v1/messages"),
        (2, "/chat/completions", "/v1/chat/completions"),
        (3, "/v1/messages", "/v1/messages"),
        (3, "/chat/completions", "/v1/chat/completions"),
        (4, "/chat/completions", "/v1beta/chat/completions"),
        (4, "/v1/chat/completions", "/v1beta/v1/chat/completions"),
        (5, "/chat/completions", "/v1beta/openai/chat/completions"),
        (6, "/v1/chat/completions", "/api/v1/chat/completions"),
        (6, "/chat/completions", "/api/v1/chat/completions"),
        (2, "/v1/messages?beta=true", "/v1/messages?beta=true"),
        (2, "/v1/messages?", "/v1/messages?"),
        (2, "/v1/messages?a=%2e%2E%2F..//&&b?c//&k=v%20w+x", "/v1/messages?a=%2e%2E%2F..//&&b?c//&k=v%20w+x"),
        (2, "/v1/fine_tuning/job%20s/a%2Fb", "/v1/fine_tuning/job%20s/a%2Fb"),
    ];
    for (base, asked, joined) in cases {
        for client in [&mut gateway.client().await, &mut gateway.h2c_client().await] {
            client.send(ask(asked, &format!("model-{base}"))).await;
            let arrived = main.requests().pop().expect("it arrives");
            assert_eq!(arrived.target, joined, "{} + {asked}", bases[base]);
        }
    }
    assert_eq!(main.counts().requests, 2 * cases.len() as u64);
}
