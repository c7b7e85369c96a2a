//! What the gateway tells its operator (L1, L2, L3, L5): one line for each request, exact counters, honest health; and what it never
//! tells anybody.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use crate::support::setup::{ADMIN_TOKEN, MAIN_KEY, MAIN_MODEL, NAMED_KEY, NAMED_MODEL, TROLL_MODEL};
use crate::support::{Client, Gateway, Mock, Request, Setup, Shorthand};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const ASKED: &str = "canary-asked-5d1e";
const ANSWERED: &str = "canary-answered-77c0";

fn prompt(model: &str, stream: bool) -> Value {
    json!({ "model": model, "max_tokens": 50, "stream": stream, "messages": [{ "role": "user", "content": ASKED }] })
}

fn is_access_line(line: &str) -> bool {
    line.contains(" id=") || line.starts_with("{\"opened_at\"")
}

async fn access_line(gateway: &Gateway, id: &str) -> Value {
    let line = gateway.wait_for_log(|line| is_access_line(line) && line.contains(id)).await;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_the_line_of_an_answered_request_says_everything() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/log/format", json!("json")).start().await;
    for (path, stream, dialect) in
        [(CHAT, false, "openai"), (CHAT, true, "openai"), (MESSAGES, false, "anthropic"), (MESSAGES, true, "anthropic")]
    {
        let answer = gateway.send(Request::post(path, &prompt(MAIN_MODEL, stream))).await.expect(200);
        let line = access_line(&gateway, answer.header("x-request-id")).await;
        for (field, value) in [
            ("client", json!("static")),
            ("method", json!("POST")),
            ("path", json!(path)),
            ("dialect", json!(dialect)),
            ("model", json!(MAIN_MODEL)),
            ("rule", json!("model")),
            ("upstream", json!("main")),
            ("endpoint", json!(main.addr())),
            ("key", json!("main")),
            ("attempts", json!(1)),
            ("status", json!(200)),
            ("end", json!("ok")),
            ("stream", json!(stream)),
            ("source", json!("final")),
        ] {
            assert_eq!(line[field], value, "{field} in {line}");
        }
        let used = main.requests().pop().unwrap().usage.unwrap();
        let tokens =
            ["input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens"].map(|name| line[name].as_u64().unwrap());
        assert_eq!(tokens, [used.input_tokens, 0, 0, used.output_tokens]);
        // 3 and 15 USD for a million tokens are 3 000 and 15 000 nano-USD for each.
        assert_eq!(line["cost_nano_usd"], json!(used.input_tokens * 3_000 + used.output_tokens * 15_000));
        for field in ["peek_us", "connect_ms", "first_byte_ms", "total_ms", "request_bytes", "response_bytes"] {
            assert!(line[field].is_number(), "{field} in {line}");
        }
        assert!(line["total_ms"].as_f64() >= line["first_byte_ms"].as_f64(), "{line}");
        assert_eq!(line.get("refusal"), None);
    }
}

/// L1: a second attempt shows in the line, with the key that answered.
#[tokio::test(flavor = "multi_thread")]
async fn l1_attempts_and_the_last_key_are_in_the_line() {
    let troll = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .troll(&troll)
        .set("/upstreams/troll/keys/-", json!({ "id": "k2", "key": "${TROLL_SECOND}" }))
        .secret_env("TROLL_SECOND", "sk-troll-second-planted-77aa")
        .set("/log/format", json!("json"))
        .start()
        .await;
    troll.push(Reply::status(429));
    let answer = gateway.send(Request::post(CHAT, &prompt(TROLL_MODEL, false))).await.expect(200);
    let line = access_line(&gateway, answer.header("x-request-id")).await;
    assert_eq!((&line["attempts"], &line["key"], &line["status"]), (&json!(2), &json!("k2"), &json!(200)));
    assert_eq!(line["skipped"], "k1:rate_limited");
    let answer = gateway.send(Request::post(CHAT, &prompt(TROLL_MODEL, false))).await.expect(200);
    let line = access_line(&gateway, answer.header("x-request-id")).await;
    assert_eq!((&line["attempts"], &line["key"], &line["skipped"]), (&json!(1), &json!("k2"), &json!("k1:cooling")));
}

fn every_kind_of_request() -> Vec<(Request, u16, &'static str)> {
    let post = |path, body: &Value| Request::post(path, body);
    let good = prompt(MAIN_MODEL, false);
    let mut chunky = post(CHAT, &good);
    chunky = chunky.header("content-encoding", "gzip");
    vec![
        (post(CHAT, &good), 200, "ok"),
        (post(MESSAGES, &prompt(MAIN_MODEL, true)), 200, "ok"),
        (Request::get("/"), 200, "ok"),
        (Request::get("/v1/models"), 200, "ok"),
        (Request::get("/v1/models/nobody"), 404, "refused"),
        (post(CHAT, &good).without("authorization"), 401, "refused"),
        (post(CHAT, &good).bearer("canary-wrong-key-11"), 401, "refused"),
        (post(MESSAGES, &good).header("x-api-key", "canary-wrong-key-11"), 400, "refused"),
        (post("/admin", &good), 404, "refused"),
        (Request::get(CHAT), 405, "refused"),
        (Request::new(Method::DELETE, "/"), 405, "refused"),
        (chunky, 415, "refused"),
        (post(CHAT, &prompt("unknown", false)), 404, "refused"),
        (Request::post_bytes(CHAT, format!("{{\"{ASKED}")), 400, "refused"),
        (Request::post_bytes(CHAT, format!(r#"{{"model":"a","{ASKED}":1,"{ASKED}":2,"model":"b"}}"#)), 400, "refused"),
        (Request::post_bytes(CHAT, vec![b' '; 5000]), 413, "refused"),
        (post(CHAT, &prompt(NAMED_MODEL, false)), 502, "upstream_error"),
        (post(&format!("{CHAT}?key={ASKED}"), &good), 200, "ok"),
    ]
}

/// L1: refusals included; and never a key, a prompt, an answer or a query.
#[tokio::test(flavor = "multi_thread")]
async fn l1_every_request_has_exactly_one_line_and_no_line_says_too_much() {
    for format in ["text", "json"] {
        let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
        main.always(Reply::usual().saying(&format!("{ANSWERED} {ANSWERED}")));
        named.always(Reply::close());
        let gateway = Setup::new()
            .main(&main)
            .named(&named)
            .set("/routing/unknown_model", json!("reject"))
            .set("/limits/max_body_bytes", json!(4000))
            .set("/log/format", json!(format))
            .start()
            .await;
        let mut ids = BTreeSet::new();
        for (request, status, end) in every_kind_of_request() {
            let shown = format!("{} {}", request.method, request.target);
            let answer = gateway.send(request).await;
            assert_eq!(answer.status, status, "{shown}: {}", answer.text());
            let id = answer.header("x-request-id").to_owned();
            assert!(ids.insert(id.clone()), "{shown}: an id twice");
            let line = gateway.wait_for_log(|line| is_access_line(line) && line.contains(&id)).await;
            let words = match format {
                "text" => [format!(" status={status} "), format!(" end={end} ")],
                _ => [format!(r#","status":{status},"#), format!(r#","end":"{end}","#)],
            };
            assert!(words.iter().all(|word| line.contains(word)), "{shown}: {line}");
            assert!(end == "ok" || line.contains("refusal"), "{shown}: {line}");
        }
        let printed = gateway.stop();
        assert_eq!(printed.lines().filter(|line| is_access_line(line)).count(), ids.len());
        for secret in
            [ASKED, ANSWERED, MAIN_KEY, NAMED_KEY, crate::support::request::CLIENT_KEY, "canary-wrong-key-11", ADMIN_TOKEN]
        {
            assert!(!printed.contains(secret), "{secret}");
        }
    }
}

/// L1: a head that is no request still has an id that the client was told.
#[tokio::test(flavor = "multi_thread")]
async fn l1_a_head_that_is_refused_has_its_line_too() {
    let gateway = Setup::new().set("/log/format", json!("json")).start().await;
    for (head, status, label) in [
        ("CONNECT models.example:443 HTTP/1.1\r\nhost: models.example:443\r\n\r\n", 405, "wrong_method"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "bad_head"),
        ("POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "bad_head"),
    ] {
        let mut raw = gateway.raw().await;
        raw.send(head).await;
        let answer = raw.read_answer().await;
        assert_eq!(answer.status, status, "{head}");
        let line = access_line(&gateway, answer.header("x-request-id").unwrap()).await;
        assert_eq!((&line["status"], &line["end"], &line["refusal"]), (&json!(status), &json!("refused"), &json!(label)));
    }
}

/// L1: a hostile model or path can't start a line of its own, nor grow one without end.
#[tokio::test(flavor = "multi_thread")]
async fn l1_what_a_client_chose_stays_within_its_field() {
    let gateway = Setup::new().set("/log/format", json!("json")).set("/routing/unknown_model", json!("reject")).start().await;
    let model = format!("x\n{{\"opened_at\":\"forged\"}}\u{1b}[31m\u{2028}{}", "y".repeat(400));
    let answer = gateway.send(Request::post("/v1/a%0ab", &prompt(&model, false))).await.expect(404);
    assert_eq!(access_line(&gateway, answer.header("x-request-id")).await["path"], "/v1/a%0ab");
    let answer = gateway.send(Request::post("/v1/embeddings", &prompt(&model, false))).await.expect(404);
    let line = access_line(&gateway, answer.header("x-request-id")).await;
    assert!(line["model"].as_str().unwrap().starts_with("x\n{"), "{line}");
    assert!(line["model"].as_str().unwrap().len() < 300, "{line}");
    assert_eq!(gateway.log_lines().iter().filter(|line| is_access_line(line)).count(), 2);
}

async fn counters(gateway: &Gateway) -> [u64; 4] {
    let health = gateway.health().await;
    ["routing_attempts", "routing_success", "routing_fallback", "parsing_errors"].map(|name| health[name].as_u64().unwrap())
}

async fn gateway_with_a_default(main: &Mock, named: &Mock) -> Gateway {
    Setup::new()
        .main(main)
        .named(named)
        .set("/model_routing", json!({ "enabled": true, "default_target": "named", "models": {} }))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn l2_the_four_bodies_count_4_1_3_1() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = gateway_with_a_default(&main, &named).await;
    for body in [prompt(MAIN_MODEL, false).to_string(), prompt("unknown", false).to_string(), "{}".to_owned(), "{oops".to_owned()]
    {
        gateway.send(Request::post_bytes(CHAT, body)).await;
    }
    assert_eq!(counters(&gateway).await, [4, 1, 3, 1]);
    // What has no model to route by is none of it.
    for request in [Request::get("/"), Request::get("/v1/models"), Request::get(CHAT), Request::post("/nowhere", &json!({}))] {
        gateway.send(request).await;
    }
    gateway.send(Request::post(CHAT, &json!({})).bearer("wrong")).await.expect(401);
    assert_eq!(counters(&gateway).await, [4, 1, 3, 1]);
    assert_eq!((main.counts().requests, named.counts().requests), (1, 3));
}

/// L2, Q2
#[tokio::test(flavor = "multi_thread")]
async fn l2_q2_a_hundred_clients_with_ten_requests_each_are_all_right_and_counted_exactly() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    main.expect_key(MAIN_KEY);
    named.expect_key(NAMED_KEY);
    let gateway = gateway_with_a_default(&main, &named).await;
    let clients: Vec<_> = (0..100)
        .map(|nth| {
            let (addr, distrust) = (gateway.addr(), gateway.distrust());
            tokio::spawn(async move {
                let mut client =
                    if nth % 2 == 0 { Client::http1(addr, distrust).await } else { Client::h2c(addr, distrust).await };
                for turn in 0..10 {
                    let model = if (nth + turn) % 2 == 0 { MAIN_MODEL } else { NAMED_MODEL };
                    let body = json!({ "model": model, "messages": [], "user": format!("{nth}-{turn}") });
                    let answer = client.send(Request::post(CHAT, &body)).await.expect(200);
                    assert_eq!(answer.json()["model"], model);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(counters(&gateway).await, [1000, 1000, 0, 0]);
    let mut users = BTreeSet::new();
    for (mock, model) in [(&main, MAIN_MODEL), (&named, NAMED_MODEL)] {
        let arrived = mock.requests();
        assert_eq!(arrived.len(), 500);
        for request in arrived {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body["model"], model);
            users.insert(body["user"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(users.len(), 1000);
    let metrics = gateway.admin("/metrics").await.expect(200).text();
    assert!(metrics.lines().any(|line| !line.starts_with('#') && line.ends_with(" 1000")), "{metrics}");
    gateway.wait_for_logs(1000, is_access_line).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_health_says_what_is_configured_and_how_routing_fares() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = gateway_with_a_default(&main, &named).await;
    let fresh = gateway.health().await;
    assert_eq!(
        (&fresh["status"], &fresh["enabled"], &fresh["models_configured"], &fresh["avg_processing_time"]),
        (&json!("healthy"), &json!(true), &json!(5), &json!(0.0))
    );
    assert_eq!(fresh["default_target"], named.base_url());
    assert_eq!(counters(&gateway).await, [0, 0, 0, 0]);

    let (known, unknown) = (prompt(MAIN_MODEL, false), prompt("unknown", false));
    let mut client = gateway.client().await;
    for _ in 0..19 {
        client.send(Request::post(CHAT, &known)).await.expect(200);
    }
    // 19 of 20 are 95 %; 19 of 21 are less; 19 of 23 are 82.6 %; 19 of 24 are 79.2 %.
    for status in ["healthy", "degraded", "degraded", "degraded", "unhealthy"] {
        client.send(Request::post(CHAT, &unknown)).await.expect(200);
        assert_eq!(gateway.health().await["status"], status);
    }
    assert_eq!(counters(&gateway).await, [24, 19, 5, 0]);
    assert!(gateway.health().await["avg_processing_time"].as_f64().unwrap() > 0.0);
}

/// K14, L3: model routing that is switched off is not routing that fails.
#[tokio::test(flavor = "multi_thread")]
async fn l3_with_model_routing_off_nothing_is_counted_and_all_is_well() {
    let troll = Mock::http().await.unwrap();
    let gateway = Setup::new().troll(&troll).set("/routing/model_based", json!(false)).start().await;
    gateway.send(Request::post(CHAT, &prompt(MAIN_MODEL, false))).await.expect(200);
    gateway.send(Request::post(CHAT, &json!({}))).await.expect(200);
    assert_eq!(counters(&gateway).await, [0, 0, 0, 0]);
    assert_eq!(gateway.health().await["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_alive_and_ready_until_it_drains() {
    let gateway = Setup::new().grace_seconds(120).start().await;
    for (target, body) in [("/livez", json!({ "status": "alive" })), ("/readyz", json!({ "status": "ready" }))] {
        assert_eq!(gateway.admin(target).await.expect(200).json(), body);
    }
    // A kept connection outlives the listener.
    let mut kept = Client::http1(gateway.admin_addr(), gateway.distrust()).await;
    kept.send(Request::get("/readyz")).await.expect(200);
    gateway.signal("TERM");
    gateway.wait_for_log(|line| line.contains("draining")).await;
    assert_eq!(kept.send(Request::get("/readyz")).await.expect(503).json(), json!({ "status": "draining" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_the_admin_listener_answers_health_to_all_and_the_rest_to_the_token_alone() {
    let gateway = Setup::new().start().await;
    let mut client = Client::http1(gateway.admin_addr(), gateway.distrust()).await;
    for page in ["/health", "/livez", "/readyz", "/metrics"] {
        client.send(Request::new(Method::GET, page)).await.expect(200);
        client.send(Request::new(Method::HEAD, page)).await.expect(200);
        assert_eq!(client.send(Request::new(Method::POST, page)).await.expect(405).header("allow"), "GET, HEAD");
    }
    for page in ["/", "/reloads", "/config", "/v1/models", "/health/../config"] {
        client = Client::http1(gateway.admin_addr(), crate::support::Distrust::nothing()).await;
        for key in [None, Some("wrong"), Some(crate::support::request::CLIENT_KEY)] {
            let request = Request::new(Method::GET, page);
            let request = key.map_or(Request::new(Method::GET, page), |key| request.bearer(key));
            assert_eq!(client.send(request).await.expect(401).header("www-authenticate"), "Bearer");
        }
        client.send(Request::get(page).bearer(ADMIN_TOKEN)).await.expect(404);
    }
    // The listeners are two: neither serves what is the other's.
    assert_eq!(gateway.send(Request::get("/health")).await.status, 404);
    assert_eq!(gateway.send(Request::get("/metrics").bearer(ADMIN_TOKEN)).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_without_a_token_there_is_nothing_but_health_and_metrics() {
    let gateway = Setup::new().env("TROLLBRIDGE_ADMIN_TOKEN", "").start().await;
    let mut client = Client::http1(gateway.admin_addr(), gateway.distrust()).await;
    client.send(Request::new(Method::GET, "/health")).await.expect(200);
    for request in
        [Request::new(Method::GET, "/reload"), Request::get("/reload").bearer("anything"), Request::get("/reload").bearer("")]
    {
        client.send(request).await.expect(403);
    }
}
