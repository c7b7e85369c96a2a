//! What a provider that behaves would say to a request: the JSON body or the server-sent events, piece by piece.
//!
//! Nothing here knows sockets or scripts. One piece is one event, or the whole JSON body.

pub mod error;

mod chat;
mod lists;
mod messages;
mod responses;

use bytes::Bytes;
use serde_json::Value;

use super::ask::{Api, Ask, Tool, Usage};

/// The text that is answered when a script names no other; it holds characters of one to four bytes.
pub const TEXT: &str =
    "The troll under the bridge counts every token: eins, zwei, drei, naïve, 橋, 🧌, and lets each byte pass unchanged.";
const THOUGHT: &str = "The user wants an answer. Short is best.";
/// The opaque proof that Anthropic attaches to a thinking block.
const SIGNATURE: &str = "bW9jay1zaWduYXR1cmUtb2YtYS10aGlua2luZy1ibG9jaw==";
/// Every answer was created at the same second, so that two equal requests get equal bytes.
const CREATED: u64 = 1_750_000_000;

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

/// What the model says, cut into the deltas that a stream carries.
#[derive(Clone, Debug)]
struct Output {
    thought: Vec<String>,
    text: Vec<String>,
    tool: Option<(Tool, Vec<String>)>,
    stop: Stop,
    usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Natural,
    Length,
    Tool,
}

/// A text and a number of deltas that a script asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub text: Option<String>,
    pub deltas: Option<usize>,
    pub thinking: bool,
}

/// Answers `ask` as the provider would; `serial` makes the ids of two answers differ.
pub fn answer(ask: &Ask, path: &str, wish: &Wish, serial: u64) -> Content {
    match ask.api {
        Api::Chat => chat::chat(ask, &compose(ask, wish), serial),
        Api::Completions => chat::completions(ask, &compose(ask, wish), serial),
        Api::Messages => messages::messages(ask, &compose(ask, wish), serial),
        Api::Responses => responses::responses(ask, &compose(ask, wish), serial),
        Api::CountTokens => lists::count_tokens(ask),
        Api::Embeddings => lists::embeddings(ask),
        Api::Models => lists::models(ask.dialect, path),
        Api::Unknown => error::error(ask.dialect, 404, "Not Found"),
    }
}

fn compose(ask: &Ask, wish: &Wish) -> Output {
    let thought = if ask.thinking || wish.thinking { deltas(THOUGHT) } else { Vec::new() };
    let tool = ask.tool.clone().filter(|_| wish.text.is_none()).map(|tool| {
        let pieces = fragments(&tool.arguments);
        (tool, pieces)
    });
    let mut text = if tool.is_some() { Vec::new() } else { deltas(wish.text.as_deref().unwrap_or(TEXT)) };
    if let Some(count) = wish.deltas {
        text = text.into_iter().cycle().take(count).collect();
    }
    let room = ask.max_output_tokens.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let stop = match tool {
        Some(_) => Stop::Tool,
        None if text.len() > room => Stop::Length,
        None => Stop::Natural,
    };
    text.truncate(room);
    let spoken = thought.len() + text.len() + tool.as_ref().map_or(0, |(_, pieces)| pieces.len());
    let usage = Usage { output_tokens: u64::try_from(spoken).unwrap_or(u64::MAX), ..ask.prompt };
    Output { thought, text, tool, stop, usage }
}

/// One delta per word, each with the space that follows it.
fn deltas(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

/// Pieces of a tool's arguments: valid JSON only when joined, as providers send them.
fn fragments(text: &str) -> Vec<String> {
    const CHARS: usize = 7;
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(CHARS).map(|piece| piece.iter().collect()).collect()
}

impl Output {
    fn whole_text(&self) -> String {
        self.text.concat()
    }
}

impl Content {
    fn json(body: &Value, usage: Option<Usage>) -> Self {
        Self { status: 200, content_type: "application/json", pieces: vec![Bytes::from(body.to_string())], terminator: 0, usage }
    }

    fn events(pieces: Vec<Bytes>, terminator: usize, usage: Usage) -> Self {
        Self { status: 200, content_type: "text/event-stream; charset=utf-8", pieces, terminator, usage: Some(usage) }
    }
}

/// An event without a name, as OpenAI's older endpoints send it.
fn data(body: &Value) -> Bytes {
    Bytes::from(format!("data: {body}\n\n"))
}

/// An event whose name repeats the `type` of its body, as Anthropic and Responses send it.
fn named(body: &Value) -> Bytes {
    let name = body.get("type").and_then(Value::as_str).unwrap_or("message");
    Bytes::from(format!("event: {name}\ndata: {body}\n\n"))
}
