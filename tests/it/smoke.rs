//! The shortest proof that the gateway does its main job: one request of every kind, each answered by the right side.

use serde_json::json;

use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, SECOND_MAIN_MODEL};
use crate::support::{Gateway, Mock, Request, Setup};

async fn gateway_and_main() -> (Gateway, Mock) {
    let main = Mock::http().await.unwrap();
    main.expect_key(MAIN_KEY);
    (Setup::new().main(&main).start().await, main)
}

fn prompt(model: &str, stream: bool) -> serde_json::Value {
    json!({ "model": model, "max_tokens": 100, "stream": stream, "messages": [{ "role": "user", "content": "what lives under a bridge" }] })
}

/// M1, M4, H1, O2
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_completion_goes_to_main_with_mains_key_and_comes_back_whole() {
    let (gateway, main) = gateway_and_main().await;
    let answer = gateway.send(Request::post("/v1/chat/completions", &prompt(MAIN_MODEL, false))).await.expect(200);

    assert_eq!(answer.json()["object"], "chat.completion");
    assert_eq!(answer.json()["model"], MAIN_MODEL);
    let arrived = main.requests().remove(0);
    assert_eq!(arrived.target, "/v1/chat/completions");
    assert_eq!(arrived.header("authorization"), [format!("Bearer {MAIN_KEY}")]);
    assert_eq!(arrived.header("host"), [main.addr().to_string()]);
    assert_eq!(arrived.header("x-api-key"), Vec::<&str>::new());
    assert_eq!(arrived.body, prompt(MAIN_MODEL, false).to_string());
}

/// O1, U6: the client did not ask for the usage chunk, so it does not see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_stream_ends_with_done_and_shows_no_usage_that_nobody_asked_for() {
    let (gateway, main) = gateway_and_main().await;
    let answer = gateway.send(Request::post("/v1/chat/completions", &prompt(MAIN_MODEL, true))).await.expect(200);

    let events = answer.events();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert!(events.iter().all(|event| !event.data.contains(r#""choices":[]"#)), "{}", answer.text());
    assert!(answer.header("content-type").starts_with("text/event-stream"));
    assert_eq!(main.counts().requests, 1);
}

/// M1, O2
#[tokio::test(flavor = "multi_thread")]
async fn a_message_comes_back_whole() {
    let (gateway, main) = gateway_and_main().await;
    let request = Request::post("/v1/messages?beta=true", &prompt(SECOND_MAIN_MODEL, false))
        .without("authorization")
        .header("x-api-key", CLIENT_KEY)
        .header("anthropic-version", "2023-06-01");
    let answer = gateway.send(request).await.expect(200);

    assert_eq!(answer.json()["type"], "message");
    let arrived = main.requests().remove(0);
    assert_eq!(arrived.target, "/v1/messages?beta=true");
    assert_eq!(arrived.header("anthropic-version"), ["2023-06-01"]);
    assert_eq!(arrived.header("authorization"), [format!("Bearer {MAIN_KEY}")]);
}

/// O1
#[tokio::test(flavor = "multi_thread")]
async fn a_message_stream_passes_byte_for_byte() {
    let (gateway, main) = gateway_and_main().await;
    let request = || Request::post("/v1/messages", &prompt(MAIN_MODEL, true));
    let through = gateway.send(request()).await.expect(200);
    let names: Vec<_> = through.events().into_iter().filter_map(|event| event.name).collect();
    assert_eq!(names.first().map(String::as_str), Some("message_start"));
    assert_eq!(names.last().map(String::as_str), Some("message_stop"));

    let direct = crate::support::Client::http1(main.addr(), crate::support::Distrust::nothing())
        .await
        .send(request().bearer(MAIN_KEY))
        .await
        .expect(200);
    // The two answers differ in the serial number of their id alone.
    assert_eq!(through.text().replace("mock00000000", "mock00000001"), direct.text());
}

/// H5
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_in_the_paths_dialect_before_the_provider_hears_of_it() {
    let (gateway, main) = gateway_and_main().await;
    let openai =
        gateway.send(Request::post("/v1/chat/completions", &prompt(MAIN_MODEL, false)).bearer("wrong")).await.expect(401);
    assert!(openai.json()["error"]["message"].is_string());
    let anthropic =
        gateway.send(Request::post("/v1/messages", &prompt(MAIN_MODEL, false)).without("authorization")).await.expect(401);
    assert_eq!(anthropic.json()["error"]["type"], "authentication_error");
    assert_ne!(anthropic.header("x-request-id"), "");
    assert_eq!(main.counts().requests, 0);
}

/// M14
#[tokio::test(flavor = "multi_thread")]
async fn the_model_list_names_the_configured_models_in_both_shapes() {
    let (gateway, main) = gateway_and_main().await;
    let openai = gateway.send(Request::get("/v1/models")).await.expect(200).json();
    assert_eq!(openai["object"], "list");
    assert!(openai["data"].as_array().unwrap().iter().any(|model| model["id"] == MAIN_MODEL), "{openai}");
    let anthropic = gateway.send(Request::get("/v1/models").header("anthropic-version", "2023-06-01")).await.expect(200).json();
    assert_eq!(anthropic["has_more"], false);
    assert_eq!(main.counts().requests, 0);
}
