//! The end of a process, and its replacement by another: nothing that a client began is lost (promise 3, T13).

mod background;
mod drains;
mod failures;
mod traffic;

use std::path::Path;

use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use crate::answers::MESSAGES;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL};
use crate::support::{Mock, Request, Setup, Shorthand};

async fn with_main() -> (Setup, Mock) {
    let main = Mock::http().await.unwrap();
    main.expect_key(MAIN_KEY);
    (Setup::new().set("/log/format", json!("json")).main(&main), main)
}

fn ask(path: &str, stream: bool) -> Request {
    let mut body = json!({ "model": MAIN_MODEL, "max_tokens": 400, "stream": stream });
    match path {
        "/v1/responses" => body["input"] = "go on".into(),
        _ => body["messages"] = json!([{ "role": "user", "content": "go on" }]),
    }
    Request::post(path, &body)
}

/// A stream of Messages that is the same whoever asks.
fn events(deltas: usize) -> Vec<String> {
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let message = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": MAIN_MODEL, "content": [],
                          "usage": { "input_tokens": 20, "output_tokens": 1 } });
    let mut events = vec![
        event("message_start", json!({ "type": "message_start", "message": message })),
        event(
            "content_block_start",
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        ),
    ];
    events.extend((0..deltas).map(|nth| {
        let delta = json!({ "type": "text_delta", "text": format!("pebble {nth} ") });
        event("content_block_delta", json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
    }));
    events.push(event("content_block_stop", json!({ "type": "content_block_stop", "index": 0 })));
    let usage = json!({ "output_tokens": deltas * 3 });
    events
        .push(event("message_delta", json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": usage })));
    events.push(event("message_stop", json!({ "type": "message_stop" })));
    events
}

fn stream_of(deltas: usize) -> Reply {
    Reply::events(events(deltas))
}

fn pid_in(dir: &Path) -> u32 {
    std::fs::read_to_string(dir.join("pid")).unwrap().trim().parse().unwrap()
}

fn ask_messages(stream: bool) -> Request {
    ask(MESSAGES, stream)
}
