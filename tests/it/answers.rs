//! An upstream's answer on its way to the client (the O rows), through every pair of protocols.

mod bodies;
mod bombs;
mod cuts;
mod errors;
mod heads;
mod interim;
mod last_words;
mod leaks;
mod none;
mod streams;

use serde_json::{Value, json};

use crate::support::request::Answer;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, MAIN_PLACE};
use crate::support::{Authority, Client, Gateway, Mock, Request, Setup};

pub const CHAT: &str = "/v1/chat/completions";
pub const MESSAGES: &str = "/v1/messages";
pub const RESPONSES: &str = "/v1/responses";

/// The protocol on one side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

pub const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

/// `main` as a provider that speaks this protocol, in a setup whose access lines are JSON.
pub async fn main_that(speaks: Speaks) -> (Setup, Mock) {
    let setup = Setup::new().set("/log/format", json!("json")).secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY);
    match speaks {
        Speaks::Http1 => {
            let main = Mock::http().await.unwrap();
            (setup.main(&main), main)
        }
        Speaks::Http2 => {
            let authority = Authority::new();
            let main = Mock::https(authority.server(&[MAIN_PLACE], true)).await.unwrap();
            (setup.at_host("main", &format!("https://{MAIN_PLACE}"), &main, &authority.ca_pem), main)
        }
    }
}

/// A new connection of a client that speaks this protocol.
pub async fn client_that(gateway: &Gateway, speaks: Speaks) -> Client {
    match speaks {
        Speaks::Http1 => gateway.client().await,
        Speaks::Http2 => gateway.h2c_client().await,
    }
}

/// A prompt in a form that every API takes; chat asks for its usage, so that nothing of its stream is taken out.
pub fn ask(path: &str, model: &str, stream: bool) -> Request {
    let mut body = json!({ "model": model, "max_tokens": 100, "stream": stream });
    match path {
        RESPONSES => body["input"] = "what lives under a bridge".into(),
        "/v1/embeddings" => body = json!({ "model": model, "input": "what lives under a bridge" }),
        _ => body["messages"] = json!([{ "role": "user", "content": "what lives under a bridge" }]),
    }
    if path == CHAT && stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    Request::post(path, &body)
}

pub fn ask_main(path: &str, stream: bool) -> Request {
    ask(path, MAIN_MODEL, stream)
}

/// A prompt that does not ask for its usage.
pub fn ask_plainly(path: &str, stream: bool) -> Request {
    Request::post(path, &json!({ "model": MAIN_MODEL, "stream": stream, "messages": [{ "role": "user", "content": "well?" }] }))
}

/// The access line of an answer; needs JSON access lines.
pub async fn access_line(gateway: &Gateway, answer: &Answer) -> Value {
    let id = answer.header("x-request-id");
    assert_ne!(id, "");
    let line = gateway.wait_for_log(|line| line.starts_with(r#"{"opened_at""#) && line.contains(id)).await;
    serde_json::from_str(&line).unwrap()
}

/// The access line of the request that ended last, where its answer may have no head; `so_far` lines were there before.
pub async fn next_line(gateway: &Gateway, so_far: usize) -> Value {
    let lines = gateway.wait_for_logs(so_far + 1, |line| line.starts_with(r#"{"opened_at""#)).await;
    serde_json::from_str(&lines[so_far]).unwrap()
}

/// Fails unless this is an error body in the dialect of the path.
#[track_caller]
pub fn expect_error(path: &str, body: &Value) {
    if path.starts_with(MESSAGES) {
        assert_eq!(body["type"], "error", "{body}");
        assert!(body["error"]["type"].is_string(), "{body}");
    } else {
        assert!(body["error"]["code"].is_string(), "{body}");
    }
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(body["request_id"].is_string(), "{body}");
}
