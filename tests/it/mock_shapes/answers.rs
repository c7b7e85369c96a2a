//! Answers of a provider that behaves.

use serde_json::{Value, json};
use trollbridge::provider_mock::{PROMPT_BASE_TOKENS, Reply};

use crate::support::sse::Event;
use crate::support::{Alpn, Authority, Client, Distrust, Mock, Request, Shorthand};

async fn mock_and_client() -> (Mock, Client) {
    let mock = Mock::http().await.unwrap();
    let client = Client::http1(mock.addr(), Distrust::nothing()).await;
    (mock, client)
}

fn ask(extra: Value) -> Value {
    let mut body = json!({ "model": "m-1", "messages": [{ "role": "user", "content": "one two three four" }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn kinds(events: &[Event]) -> Vec<String> {
    let mut kinds: Vec<String> = events.iter().map(|event| event.json()["type"].as_str().unwrap().to_owned()).collect();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_chat_answer_has_openais_shape_and_countable_usage() {
    let (mock, mut client) = mock_and_client().await;
    let answer = client.send(Request::post("/base/v1/chat/completions", &ask(json!({})))).await.expect(200);
    let body = answer.json();
    assert_eq!(body["model"], "m-1");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], PROMPT_BASE_TOKENS + 4);
    let words = body["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count();
    assert_eq!(body["usage"]["completion_tokens"], words);
    let usage = mock.requests()[0].usage.unwrap();
    assert_eq!(body["usage"]["total_tokens"], usage.total_tokens());
    assert_ne!(answer.header("content-length"), "");
    assert_eq!(answer.header("openai-organization"), "org-Canary7Troll");
}

#[tokio::test]
async fn a_chat_stream_shows_usage_only_when_it_is_asked_for() {
    let (_mock, mut client) = mock_and_client().await;
    let plain = client.send(Request::post("/v1/chat/completions", &ask(json!({ "stream": true })))).await.expect(200);
    let (done, chunks) = plain.events().split_last().map(|(last, rest)| (last.clone(), rest.to_vec())).unwrap();
    assert_eq!(done.data, "[DONE]");
    assert!(chunks.iter().all(|chunk| chunk.json().get("usage").is_none()));
    assert_eq!(chunks[0].json()["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks.last().unwrap().json()["choices"][0]["finish_reason"], "stop");

    let body = ask(json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let counted = client.send(Request::post("/v1/chat/completions", &body)).await.expect(200).events();
    let (usage, chunks) = counted[..counted.len() - 1].split_last().unwrap();
    assert_eq!(usage.json()["choices"], json!([]));
    assert_eq!(usage.json()["usage"]["prompt_tokens"], PROMPT_BASE_TOKENS + 4);
    assert!(chunks.iter().all(|chunk| chunk.json()["usage"].is_null() && chunk.json().get("usage").is_some()));
}

#[tokio::test]
async fn a_chat_tool_call_streams_its_arguments_in_fragments() {
    let (_mock, mut client) = mock_and_client().await;
    let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": {
        "type": "object", "properties": { "city": { "type": "string" } } } } }]);
    let whole = client.send(Request::post("/v1/chat/completions", &ask(json!({ "tools": tools })))).await.expect(200).json();
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather");

    let stream =
        client.send(Request::post("/v1/chat/completions", &ask(json!({ "tools": tools, "stream": true })))).await.expect(200);
    let arguments: String = stream
        .events()
        .iter()
        .filter(|event| event.data != "[DONE]")
        .filter_map(|event| event.json().pointer("/choices/0/delta/tool_calls/0/function/arguments")?.as_str().map(str::to_owned))
        .collect();
    assert_eq!(arguments, r#"{"city":"Trondheim"}"#);
}

#[tokio::test]
async fn a_message_stream_has_anthropics_events_and_cache_classes() {
    let (mock, mut client) = mock_and_client().await;
    let body = json!({ "model": "c-1", "max_tokens": 50, "stream": true, "thinking": { "type": "enabled", "budget_tokens": 1024 },
        "system": [{ "type": "text", "text": "w ".repeat(72), "cache_control": { "type": "ephemeral", "ttl": "1h" } }], "messages": [] });
    let events = client.send(Request::post("/v1/messages?beta=true", &body)).await.expect(200).events();
    assert!(events.iter().all(|event| event.name.as_deref() == event.json()["type"].as_str()));
    assert_eq!(
        kinds(&events),
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let start = events[0].json()["message"]["usage"].clone();
    assert_eq!(start["input_tokens"], 30);
    assert_eq!(start["cache_read_input_tokens"], 40);
    assert_eq!(start["cache_creation_input_tokens"], 10);
    assert_eq!(start["cache_creation"], json!({ "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 10 }));
    let last = events[events.len() - 2].json();
    assert_eq!(last["usage"]["output_tokens"], mock.requests()[0].usage.unwrap().output_tokens);
    assert!(last["usage"].get("cache_creation").is_none(), "message_delta carries the bare sum");
    assert!(events.iter().any(|event| event.json()["delta"]["type"] == "signature_delta"));
}

#[tokio::test]
async fn a_message_stops_at_max_tokens_and_calls_tools() {
    let (_mock, mut client) = mock_and_client().await;
    let short = client.send(Request::post("/v1/messages", &ask(json!({ "max_tokens": 3 })))).await.expect(200).json();
    assert_eq!(short["stop_reason"], "max_tokens");
    assert_eq!(short["usage"]["output_tokens"], 3);

    let tools =
        json!([{ "name": "weather", "input_schema": { "type": "object", "properties": { "days": { "type": "integer" } } } }]);
    let call = client.send(Request::post("/v1/messages", &ask(json!({ "tools": tools })))).await.expect(200).json();
    assert_eq!(call["stop_reason"], "tool_use");
    assert_eq!(call["content"][0]["input"], json!({ "days": 7 }));
    let stream =
        client.send(Request::post("/v1/messages", &ask(json!({ "tools": tools, "stream": true })))).await.expect(200).events();
    let input: String =
        stream.iter().filter_map(|event| event.json()["delta"]["partial_json"].as_str().map(str::to_owned)).collect();
    assert_eq!(input, r#"{"days":7}"#);
}

#[tokio::test]
async fn responses_number_their_events_and_end_with_usage() {
    let (_mock, mut client) = mock_and_client().await;
    let body = json!({ "model": "r-1", "input": "one two", "stream": true });
    let events = client.send(Request::post("/v1/responses", &body)).await.expect(200).events();
    assert!(events.iter().enumerate().all(|(at, event)| event.json()["sequence_number"] == at));
    assert_eq!(
        kinds(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let last = events.last().unwrap().json();
    assert_eq!(last["response"]["usage"]["input_tokens"], PROMPT_BASE_TOKENS + 2);

    let short = json!({ "model": "r-1", "input": "one two", "max_output_tokens": 2 });
    let whole = client.send(Request::post("/v1/responses", &short)).await.expect(200).json();
    assert_eq!(whole["status"], "incomplete");
    assert_eq!(whole["usage"]["output_tokens"], 2);
}

#[tokio::test]
async fn completions_embeddings_counts_and_lists_answer_too() {
    let (_mock, mut client) = mock_and_client().await;
    let text = client.send(Request::post("/v1/completions", &json!({ "model": "t", "prompt": "a b" }))).await.expect(200).json();
    assert_eq!(text["object"], "text_completion");
    let stream = json!({ "model": "t", "prompt": "a b", "stream": true, "stream_options": { "include_usage": true } });
    let events = client.send(Request::post("/v1/completions", &stream)).await.expect(200).events();
    assert_eq!(events[events.len() - 2].json()["usage"]["prompt_tokens"], PROMPT_BASE_TOKENS + 2);

    let two = json!({ "model": "e", "input": ["a", "b c"] });
    let vectors = client.send(Request::post("/v1/embeddings", &two)).await.expect(200).json();
    assert_eq!(vectors["data"].as_array().unwrap().len(), 2);
    assert_eq!(vectors["usage"]["total_tokens"], PROMPT_BASE_TOKENS + 3);
    let packed = json!({ "model": "e", "input": "a", "encoding_format": "base64" });
    let vectors = client.send(Request::post("/v1/embeddings", &packed)).await.expect(200).json();
    assert!(vectors["data"][0]["embedding"].is_string());

    let count = client.send(Request::post("/v1/messages/count_tokens", &ask(json!({})))).await.expect(200).json();
    assert_eq!(count, json!({ "input_tokens": PROMPT_BASE_TOKENS + 4 }));
    let list = client.send(Request::get("/v1/models")).await.expect(200).json();
    assert_eq!(list["object"], "list");
    let one = client.send(Request::get("/v1/models/abc").header("anthropic-version", "2023-06-01")).await.expect(200).json();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("abc")));
}

#[tokio::test]
async fn what_a_provider_refuses_is_refused_in_its_dialect() {
    let (mock, mut client) = mock_and_client().await;
    let bad = client.send(Request::post_bytes("/v1/messages", "{")).await.expect(400).json();
    assert_eq!(bad["error"]["type"], "invalid_request_error");
    assert_eq!(bad["type"], "error");
    client.send(Request::get("/v1/chat/completions")).await.expect(405);
    client.send(Request::post("/v1/nothing", &json!({}))).await.expect(404);
    mock.expect_key("right");
    let wrong = client.send(Request::post("/v1/chat/completions", &ask(json!({}))).bearer("wrong")).await.expect(401).json();
    assert_eq!(wrong["error"]["code"], "invalid_api_key");
    let by_header = Request::post("/v1/messages", &ask(json!({}))).without("authorization").header("x-api-key", "right");
    client.send(by_header).await.expect(200);
    assert_eq!(mock.counts().requests, 5);
}

#[tokio::test]
async fn records_what_arrives_over_both_protocols_with_tls_and_without() {
    let authority = Authority::new();
    let mock = Mock::https(authority.server(&["localhost", "127.0.0.1"], true)).await.unwrap();
    let body = ask(json!({}));
    for (alpn, name) in [(Alpn::Http1, "http/1.1"), (Alpn::Http2, "h2")] {
        let mut client = Client::tls(mock.addr(), "localhost", &authority.ca_pem, alpn, Distrust::nothing()).await;
        let request = || Request::post("/v1/chat/completions?a=%20b", &body).header("x-twice", "1").header("x-twice", "2");
        client.send(request()).await.expect(200);
        client.send(request().chunked(10)).await.expect(200);
        let arrived = mock.requests();
        let [.., first, second] = arrived.as_slice() else { panic!("two requests") };
        assert_eq!(first.target, "/v1/chat/completions?a=%20b");
        assert_eq!(first.header("X-Twice"), ["1", "2"]);
        assert_eq!((first.sni.as_deref(), first.alpn.as_deref()), (Some("localhost"), Some(name)));
        assert_eq!(first.connection, second.connection);
        assert_eq!(first.body, second.body);
        assert_eq!(first.body, body.to_string());
    }
    assert_eq!(mock.counts().connections, 2);

    let plain = Mock::keeping(1).await.unwrap();
    let mut client = Client::h2c(plain.addr(), Distrust::nothing()).await;
    for _ in 0..3 {
        client.send(Request::post("/v1/messages", &body)).await.expect(200);
    }
    let kept = plain.wait_for(3).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].serial, 2);
    assert_eq!(kept[0].authority, Some(plain.addr().to_string()));
}

#[tokio::test]
async fn a_text_of_the_scripts_choice_has_as_many_deltas_as_it_says() {
    let (mock, mut client) = mock_and_client().await;
    mock.push(Reply::usual().saying("one two ").deltas(5));
    let events = client.send(Request::post("/v1/messages", &ask(json!({ "stream": true })))).await.expect(200).events();
    let text: String = events.iter().filter_map(|event| event.json()["delta"]["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(text, "one two one two one ");
    let next = client.send(Request::post("/v1/messages", &ask(json!({})))).await.expect(200).json();
    assert_ne!(next["content"][0]["text"], "one two ", "a pushed reply serves once");
}
