//! An answer's body, and the two forms of an event.

use bytes::Bytes;
use serde_json::Value;

use crate::provider_mock::ask::Usage;

/// Every answer was created at the same second, so that two equal requests get equal bytes.
pub const CREATED: u64 = 1_750_000_000;

/// An answer's body before the script changes its form.
#[derive(Clone, Debug)]
pub struct Content {
    pub status: u16,
    pub content_type: &'static str,
    pub pieces: Vec<Bytes>,
    /// How many of the last pieces tell the client that the stream is complete; 0 for JSON.
    pub terminator: usize,
    pub usage: Option<Usage>,
}

impl Content {
    pub fn json(body: &Value, usage: Option<Usage>) -> Self {
        Self { status: 200, content_type: "application/json", pieces: vec![Bytes::from(body.to_string())], terminator: 0, usage }
    }

    pub fn events(pieces: Vec<Bytes>, terminator: usize, usage: Usage) -> Self {
        Self { status: 200, content_type: "text/event-stream; charset=utf-8", pieces, terminator, usage: Some(usage) }
    }
}

/// An event without a name, as OpenAI's older endpoints send it.
pub fn data(body: &Value) -> Bytes {
    Bytes::from(format!("data: {body}\n\n"))
}

/// An event whose name repeats the `type` of its body, as Anthropic and Responses send it.
pub fn named(body: &Value) -> Bytes {
    let name = body.get("type").and_then(Value::as_str).unwrap_or("message");
    Bytes::from(format!("event: {name}\ndata: {body}\n\n"))
}
