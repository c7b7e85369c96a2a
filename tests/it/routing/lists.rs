//! What the gateway answers itself (M14), and the paths that route by model like the two main ones (M15).

use http::Method;
use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use super::ask;
use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, NAMED_KEY, NAMED_MODEL, OHMYGPT_MODEL, SECOND_MAIN_MODEL, TROLL_MODEL};
use crate::support::{Gateway, Mock, Request, Setup, Shorthand};

async fn gateway_with_odd_names() -> (Gateway, Mock) {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .main(&main)
        .set("/models/0/id_aliases", json!(["sonnet"]))
        .set("/models/-", json!({ "id": "accounts/fireworks/models/llama-v3", "upstream": "main" }))
        .set("/models/-", json!({ "id": "ein größeres Modell", "upstream": "main" }))
        .set("/model_routing", json!({ "enabled": true, "models": { "gpt-4": "main", "gemini-*": "main" } }))
        .start()
        .await;
    (gateway, main)
}

fn anthropic(target: &str) -> Request {
    Request::get(target).without("authorization").header("x-api-key", CLIENT_KEY).header("anthropic-version", "2023-06-01")
}

#[tokio::test(flavor = "multi_thread")]
async fn m14_the_list_has_the_shape_of_the_callers_dialect() {
    let (gateway, main) = gateway_with_odd_names().await;
    let ids = [
        MAIN_MODEL,
        SECOND_MAIN_MODEL,
        TROLL_MODEL,
        OHMYGPT_MODEL,
        "accounts/fireworks/models/llama-v3",
        "ein größeres Modell",
        "gpt-4",
    ];
    for target in ["/v1/models", "/models", "/v1/models?limit=1000"] {
        let list = gateway.send(Request::get(target)).await.expect(200).json();
        assert_eq!(list["object"], "list");
        let data = list["data"].as_array().unwrap();
        assert_eq!(data.iter().map(|model| model["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
        for model in data {
            assert_eq!(model["object"], "model");
            assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        }
        let list = gateway.send(anthropic(target)).await.expect(200);
        assert_eq!(list.header("request-id"), list.header("x-request-id"));
        let list = list.json();
        assert_eq!((&list["has_more"], &list["first_id"], &list["last_id"]), (&json!(false), &json!(ids[0]), &json!("gpt-4")));
        for (model, id) in list["data"].as_array().unwrap().iter().zip(ids) {
            assert_eq!((&model["type"], &model["id"]), (&json!("model"), &json!(id)));
            assert!(model["display_name"].is_string() && model["created_at"].is_string(), "{model}");
        }
    }
    let head = gateway.send(Request::new(Method::HEAD, "/v1/models").bearer(CLIENT_KEY)).await.expect(200);
    assert!(head.body().is_empty());
    assert_eq!(gateway.send(Request::post("/v1/models", &json!({}))).await.expect(405).header("allow"), "GET, HEAD");
    gateway.send(Request::get("/v1/models").without("authorization")).await.expect(401);
    assert_eq!(main.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m14_one_model_is_found_by_its_id_however_the_path_spells_it() {
    let (gateway, main) = gateway_with_odd_names().await;
    for (written, id) in [
        (MAIN_MODEL, MAIN_MODEL),
        ("claude%2Dsonnet-4-5-20250929", MAIN_MODEL),
        ("sonnet", MAIN_MODEL),
        ("gpt-4", "gpt-4"),
        ("gpt-4?x=1", "gpt-4"),
        ("accounts/fireworks/models/llama-v3", "accounts/fireworks/models/llama-v3"),
        ("accounts%2Ffireworks%2fmodels%2Fllama-v3", "accounts/fireworks/models/llama-v3"),
        ("ein%20gr%C3%B6%C3%9Feres%20Modell", "ein größeres Modell"),
    ] {
        for prefix in ["/v1/models", "/models"] {
            let target = format!("{prefix}/{written}");
            let answer = gateway.send(Request::get(&target)).await;
            assert_eq!(answer.status, 200, "{target}: {}", answer.text());
            assert_eq!((&answer.json()["id"], &answer.json()["object"]), (&json!(id), &json!("model")), "{target}");
            let answer = gateway.send(anthropic(&target)).await.expect(200).json();
            assert_eq!((&answer["id"], &answer["type"]), (&json!(id), &json!("model")), "{target}");
        }
    }
    for unknown in ["nobody", "llama-v3", "gemini-*", "gemini-pro", "%ff", "a%2", "sonnet%00"] {
        let target = format!("/v1/models/{unknown}");
        let openai = gateway.send(Request::get(&target)).await.expect(404).json();
        assert_eq!(openai["error"]["code"], "model_not_found", "{target}");
        assert_eq!(gateway.send(anthropic(&target)).await.expect(404).json()["error"]["type"], "not_found_error", "{target}");
    }
    assert_eq!(main.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_every_json_path_routes_by_model() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).named(&named).start().await;
    for path in [
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/rerank",
        "/v1/images/generations",
        "/v1/messages/batches",
        "/v1/audio/speech",
        "/v1/responses/input_tokens",
    ] {
        let is_known = !matches!(path.rsplit('/').next(), Some("rerank" | "generations" | "batches" | "speech" | "input_tokens"));
        for (mock, model, key) in [(&main, MAIN_MODEL, MAIN_KEY), (&named, NAMED_MODEL, NAMED_KEY)] {
            if !is_known {
                mock.push(Reply::json(json!({ "ok": true })));
            }
            let body = json!({ "model": model, "input": "hello", "prompt": "hello", "messages": [] });
            let answer = gateway.send(Request::post(path, &body)).await.expect(200);
            let arrived = mock.requests().pop().unwrap();
            assert_eq!((arrived.target.as_str(), arrived.body.as_ref()), (path, body.to_string().as_bytes()));
            assert_eq!(arrived.header("authorization"), [format!("Bearer {key}")]);
            if !is_known {
                assert_eq!(answer.json(), json!({ "ok": true }));
            }
        }
    }
    assert_eq!((main.counts().requests, named.counts().requests), (9, 9));
    let vendor_json = ask("/v1/rerank", MAIN_MODEL).without("content-type").header("content-type", "application/vnd.x+json; a=b");
    main.push(Reply::json(json!({})));
    gateway.send(vendor_json).await.expect(200);
    main.push(Reply::json(json!({})));
    gateway.send(ask("/v1/rerank", MAIN_MODEL).without("content-type")).await.expect(200);
}

/// M15: the count itself is shown, and no completion's tokens or cost.
#[tokio::test(flavor = "multi_thread")]
async fn m15_counting_tokens_is_billed_as_nothing() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/log/format", json!("json")).start().await;
    let answer = gateway.send(ask("/v1/messages/count_tokens", MAIN_MODEL)).await.expect(200);
    assert!(answer.json()["input_tokens"].as_u64().unwrap() > 0);
    let id = answer.header("x-request-id").to_owned();
    let line: Value = serde_json::from_str(&gateway.wait_for_log(|line| line.contains(&id)).await).unwrap();
    assert_eq!((&line["api"], &line["upstream"], &line["source"]), (&json!("count_tokens"), &json!("main"), &json!("none")));
    assert_eq!((line.get("input_tokens"), line.get("cost_nano_usd")), (None, None), "{line}");
}
