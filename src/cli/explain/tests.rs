//! The explanation by value: the whole document, what stays hidden, and who would carry the request.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::domain::client::{Client, ClientName, KeyHash, Known, Models};
use crate::domain::credit::Account;

const CONFIG: &str = r#"{"models": [{"id": "opus", "id_aliases": ["o"], "upstream_model_id": "opus-1",
      "input_price_per_mtok": 5, "output_price_per_mtok": 25, "max_output_tokens": 1000}],
    "model_routing": {"enabled": true, "models": {"gpt-4": "https://url.example/v1", "gemini-*": "https://url.example/v1beta"}},
    "host_routes": [{"host": "*.internal.example.com", "upstream": "troll"}],
    "routing": {"unknown_model": "reject"},
    "upstreams": {"troll": {"base_url": "https://h/v1", "auth_header": "both", "keys": [{"id": "k1", "key": "${TROLL_API_KEY}"}]}}}"#;

fn settings(text: &str) -> Settings {
    let variable = |name: &str| (name.ends_with("_KEY") && name != "PROXY_API_KEY").then(|| format!("canary-{name}"));
    config::load(Path::new("f"), &variable, &|_| Ok(text.to_owned())).unwrap().settings
}

struct Asks<'a> {
    text: &'a str,
    method: Method,
    path: &'a str,
    headers: &'a [(&'static str, &'static str)],
    model: Option<&'a str>,
    body: Option<&'a str>,
    caller: Option<Caller>,
}

impl Default for Asks<'_> {
    fn default() -> Self {
        Self { text: CONFIG, method: Method::POST, path: "/v1/messages", headers: &[], model: None, body: None, caller: None }
    }
}

impl Asks<'_> {
    fn told(self) -> Value {
        let settings = settings(self.text);
        let (path, query) = self.path.split_once('?').map_or((self.path, None), |(path, query)| (path, Some(query)));
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let body = match (self.body, self.model) {
            (Some(body), _) => Body::Whole(body.as_bytes().to_vec()),
            (None, Some(model)) => Body::OfModel(model.to_owned()),
            (None, None) => Body::None,
        };
        let (caller, method) = (self.caller.as_ref(), &self.method);
        let question = Question { settings: &settings, caller, method, path, query, headers: &headers, body };
        let told = document::document(&question, &way::walk(&question));
        assert!(!told.to_string().contains("canary"), "{told}");
        told
    }
}

fn of_model(model: &str, path: &str) -> Value {
    Asks { model: Some(model), path, ..Asks::default() }.told()
}

fn alice(models: &[&str], balance_nano_usd: Option<i64>) -> Option<Caller> {
    let client = Client {
        id: Client::new_id([1; 8]),
        name: ClientName::parse("alice").unwrap(),
        key: KeyHash::of(b"k"),
        models: Models::parse(models.iter().copied()).unwrap(),
        created_at_unix_s: 0,
        expires_at_unix_s: None,
        revoked_at_unix_s: None,
        note: String::new(),
        rpm: None,
        tpm: None,
        granted_nano_usd: balance_nano_usd,
    };
    let account = balance_nano_usd.map(|balance| Account::new(balance).into());
    Some(Caller::Client(Known { client, account, bodies: Default::default() }.into()))
}

/// M2, M6, M13, H1: names are stable, programs read them.
#[test]
fn tells_the_whole_way_of_a_request_without_its_key() {
    let told = Asks {
        path: "/v1/chat/completions?beta=true&key=sk-canary-in-a-query-77",
        headers: &[
            ("authorization", "Bearer canary-of-the-client"),
            ("x-app", "cli"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("accept-encoding", "br"),
        ],
        body: Some(r#"{"model": "o", "stream": true, "max_tokens": 100}"#),
        ..Asks::default()
    }
    .told();
    insta::assert_json_snapshot!(told, @r#"
    {
      "body": {
        "bytes": 49,
        "changes": [
          {
            "from": "o",
            "to": "opus-1",
            "what": "model"
          },
          {
            "to": true,
            "what": "stream_options.include_usage"
          }
        ],
        "sent_bytes": 94,
        "stream": true,
        "usage": "the gateway asks for it, and takes the extra chunk out of the answer",
        "usage_asked_by_us": true
      },
      "client": null,
      "connect_to": null,
      "dropped_headers": [
        {
          "name": "authorization",
          "why": "a credential or a cookie"
        },
        {
          "name": "connection",
          "why": "it belongs to the client's connection alone"
        },
        {
          "name": "x-hop",
          "why": "the client's Connection header names it"
        },
        {
          "name": "accept-encoding",
          "why": "the gateway writes its own"
        }
      ],
      "headers": {
        "accept-encoding": "identity",
        "authorization": "Bearer *****",
        "content-length": "94",
        "host": "h",
        "x-api-key": "*****",
        "x-app": "cli"
      },
      "key": "k1",
      "limits": {
        "body_read_s": 60,
        "connect_ms": 5000,
        "first_byte_s": 360,
        "header_read_s": 10,
        "hold_answer_ms": 5000,
        "idle_s": 300,
        "max_attempts": 4,
        "max_body_bytes": 33554432,
        "max_input_tokens": 200000,
        "max_output_tokens": 1000,
        "read_on_bytes": 1048576,
        "read_on_s": 10,
        "retry_budget_ms": 15000,
        "write_bytes_per_s": 100,
        "write_stall_s": 120
      },
      "method": "POST",
      "model": "o",
      "never_forwarded": [
        "a credential or a cookie: authorization, x-api-key, cookie, *-token, *-secret",
        "it chooses an account at the provider, and the account is the gateway's: openai-organization, openai-project, anthropic-workspace-id, *-account-id",
        "it belongs to the client's connection alone: connection, te, transfer-encoding, expect, upgrade, proxy-*",
        "it tells of the machines in front of the gateway: forwarded, x-forwarded-*, x-real-ip, via, cf-*, x-request-id",
        "it names another method or path than the one that was routed: x-http-method-override, x-rewrite-url"
      ],
      "not_configured": null,
      "path": "/v1/chat/completions",
      "price": {
        "cache_read_usd_per_mtok": "0.5",
        "cache_write_1h_usd_per_mtok": "10",
        "cache_write_usd_per_mtok": "6.25",
        "conditions": [],
        "input_usd_per_mtok": "5",
        "is_default": false,
        "multiplier": "1",
        "output_usd_per_mtok": "25",
        "text": "in 5, out 25, cache write 6.25 (1h 10), cache read 0.5 USD/Mtok"
      },
      "reservation": {
        "is_taken": null,
        "nano_usd": 2670000,
        "usd": "0.00267"
      },
      "rule": "alias:opus",
      "rules": [
        {
          "fate": "skipped",
          "rule": "model_routing_off",
          "why": "routing.model_based is on"
        },
        {
          "fate": "matched",
          "rule": "model",
          "why": "models[] has \"o\" as an alias of \"opus\""
        },
        {
          "fate": "skipped",
          "rule": "exact",
          "why": "model_routing.models has no \"o\""
        },
        {
          "fate": "skipped",
          "rule": "prefix",
          "why": "model_routing.models has no prefix of \"o\""
        },
        {
          "fate": "skipped",
          "rule": "default_target",
          "why": "model_routing.default_target is not set"
        },
        {
          "fate": "too_late",
          "rule": "unknown_to_troll",
          "why": "routing.unknown_model is \"reject\", but an earlier rule decided"
        },
        {
          "fate": "skipped",
          "rule": "host",
          "why": "the request has a JSON body, so its model decides"
        }
      ],
      "upstream": "troll",
      "upstream_model": "opus-1",
      "url": "https://h/v1/chat/completions?beta=true&key=*****",
      "why": "models[] has \"o\" as an alias of \"opus\""
    }
    "#);
    let mut text = Vec::new();
    text::write(&told, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        "rule             alias:opus\n",
        "why              models[] has \"o\" as an alias of \"opus\"\n",
        "headers          authorization: Bearer *****\n",
        "dropped_headers  x-hop: the client's Connection header names it\n",
        "body             changes: what model, from o, to opus-1\n",
        "price            multiplier: 1\n",
        "limits           max_attempts: 4\n",
        "rules            prefix            skipped  model_routing.models has no prefix of \"o\"\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// M9: the body is read as the gateway reads it.
#[test]
fn reads_the_model_out_of_a_body() {
    let told = |body| Asks { body: Some(body), ..Asks::default() }.told();
    let good = told(r#"{"messages": [{"model": "no"}], "mod\u0065l": "opus"}"#);
    assert_eq!((&good["model"], &good["upstream"]), (&json!("opus"), &json!("troll")));
    let ambiguous = told(r#"{"model": "opus", "model": "o"}"#);
    assert_eq!((&ambiguous["refused"]["status"], &ambiguous["body"]["fault"]["code"]), (&json!(400), &json!("duplicate_key")));
    let broken = told("{\"model\": \"opus\",\n \"x\": ä}");
    assert_eq!(broken["body"]["fault"], json!({"code": "invalid_json", "line": 2, "column": 7}));
    assert_eq!(broken["refused"]["code"], "invalid_json");
}

#[test]
fn tells_a_refusal_as_the_client_would_see_it() {
    let unknown = of_model("x", "/v1/messages");
    assert_eq!(unknown["refused"]["code"], "model_not_found");
    assert_eq!(unknown["why"], "routing.unknown_model is \"reject\"");
    for path in ["/admin", "/v1/../admin", "/v1/Messages"] {
        assert_eq!(of_model("o", path)["refused"]["status"], 404, "{path}");
    }
    let status = |asks: Asks<'_>| asks.told()["refused"]["status"].clone();
    let two = &[("authorization", "Bearer a"), ("x-api-key", "b")];
    assert_eq!(status(Asks { model: Some("o"), headers: two, ..Asks::default() }), 400);
    assert_eq!(status(Asks { model: Some("o"), method: Method::GET, ..Asks::default() }), 405);
    assert_eq!(status(Asks { model: Some("o"), headers: &[("content-encoding", "gzip")], ..Asks::default() }), 415);
}

/// M7: what has no JSON body goes by its host.
#[test]
fn a_request_without_a_json_body_goes_by_its_host() {
    let headers = &[("host", "a.internal.example.com"), ("content-type", "audio/wav")];
    let told = Asks { path: "/v1/audio/transcriptions", headers, ..Asks::default() }.told();
    assert_eq!((&told["rule"], &told["upstream"]), (&json!("host:*.internal.example.com"), &json!("troll")));
    assert_eq!(told["headers"]["host"], "h");
    assert_eq!(told["rules"][1]["why"], "the request has no JSON body, so no model is looked for");
}

#[test]
fn what_a_client_may_use_and_spend_counts() {
    let body = r#"{"model": "opus", "max_tokens": 100}"#;
    let told = |models: &[&str], balance| Asks { body: Some(body), caller: alice(models, balance), ..Asks::default() }.told();
    assert_eq!(told(&["gpt-*"], None)["refused"]["status"], 403);
    let poor = told(&[], Some(1_000));
    assert_eq!((&poor["refused"]["status"], &poor["client_limits"]["balance_usd"]), (&json!(402), &json!("0.000001")));
    let rich = told(&["o"], Some(1_000_000_000));
    assert_eq!((rich.get("refused"), &rich["reservation"]["is_taken"]), (None, &json!(true)));
    // 12 tokens at the dearest input price, ten dollars, and 100 at 25.
    assert_eq!(rich["reservation"]["nano_usd"], 12 * 10_000 + 100 * 25_000);
    assert_eq!((&rich["client_limits"]["models"], &rich["client"]), (&json!(["o"]), &json!("alice")));
}

/// G4: a list of prompts is answered one by one, and reserved so.
#[test]
fn every_prompt_of_a_text_completion_is_reserved_for() {
    let nano_usd = |body| {
        let told = Asks { path: "/v1/completions", body: Some(body), ..Asks::default() }.told();
        told["reservation"]["nano_usd"].as_u64().unwrap()
    };
    let one = nano_usd(r#"{"model": "opus", "max_tokens": 100, "prompt": ["a     "]}"#);
    let three = nano_usd(r#"{"model": "opus", "max_tokens": 100, "prompt": ["","",""]}"#);
    assert_eq!(three - one, 2 * 100 * 25_000);
}

/// T2, T3: the pool's own order, and why each other one is not asked.
#[test]
fn the_pool_is_told_as_configured() {
    let text = r#"{"models": [{"id": "m"}], "retry": {"max_attempts": 3}, "upstreams": {"troll": {"base_url": "https://h",
        "keys": [{"id": "k1", "key": "${A_KEY}"}, {"id": "k2", "key": "${B_KEY}"}, {"id": "k3", "key": "${C_KEY}"}, {"id": "k4", "key": "${D_KEY}"}],
        "proxies": [
          {"id": "p1", "kind": "connect", "addr": "127.0.0.1:1", "username": "canary", "password": "${P_KEY}", "keys": ["k1", "k2"]},
          {"id": "p2", "kind": "reverse", "addr": "127.0.0.1:2", "tls": {"server_name": "h"}, "keys": ["k3"]},
          {"id": "p3", "kind": "socks5", "addr": "[::1]:3", "keys": ["k1"]}]}}}"#;
    let told = Asks { text, model: Some("m"), ..Asks::default() }.told();
    let candidates = &told["candidates"];
    assert_eq!(
        candidates["attempts"],
        json!([
            {"attempt": 1, "proxy": "p1", "key": "k1"}, {"attempt": 2, "proxy": "p1", "key": "k2"}, {"attempt": 3, "proxy": "p2", "key": "k3"}
        ])
    );
    assert_eq!(
        candidates["skipped"],
        json!([
            {"key": "k4", "why": "no proxy carries it"},
            {"proxy": "p3", "why": "retry.max_attempts is 3, and others come before it"}
        ])
    );
    assert_eq!(
        candidates["proxies"][0],
        json!({"id": "p1", "kind": "connect", "addr": "127.0.0.1:1", "tls_server_name": null, "has_login": true, "keys": ["k1", "k2"]})
    );
    assert_eq!(candidates["proxies"][2]["addr"], "[::1]:3");
    assert_eq!(candidates["keys"][0], json!({"id": "k1", "proxies": ["p1", "p3"]}));
    assert!(candidates["stand"].as_str().unwrap().starts_with("as configured"));
}

#[test]
fn a_header_is_a_name_and_a_value() {
    assert_eq!(super::header("X-App:  a: b ").unwrap(), (HeaderName::from_static("x-app"), HeaderValue::from_static("a: b")));
    for wrong in ["", "x-app", "x app: a", ": a", "a: \u{1}"] {
        assert!(super::header(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn who_is_no_client_is_told_so() {
    let text = |auth: &str| {
        format!(r#"{{"models": [], "listen": [{{"addr": "127.0.0.1:1"}}], "state_dir": "/nowhere", "auth": {auth}}}"#)
    };
    let keys = settings(&text(r#"{"mode": "keys"}"#));
    assert!(super::caller(&keys, None).unwrap().is_none());
    assert!(super::caller(&keys, Some("static")).unwrap_err().contains("auth.static_key is not set"));
    assert!(super::caller(&keys, Some("alice")).unwrap_err().contains("There is no /nowhere/trollbridge.db"));
    let open = settings(&text(r#"{"mode": "none"}"#));
    assert!(matches!(super::caller(&open, None), Ok(Some(Caller::Anonymous))));
    assert!(super::caller(&open, Some("alice")).unwrap_err().contains("no client"));
}
