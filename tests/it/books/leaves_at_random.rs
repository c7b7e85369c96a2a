//! P8: clients that leave at random moments of streams of five shapes. No entry is below what the provider says it did, less what the
//! policy forgives who leaves before the last word: what nobody saw. None is above it either.
//!
//! `LEAVES=1000 cargo test --test it leaves_at_random` tries more of them than every run does.

use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use super::{INPUT, OUTPUT, expect_whole, say, until_entries};
use crate::answers::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, client_that, main_that};
use crate::golden_bills::random::Random;
use crate::support::setup::MAIN_MODEL;
use crate::support::{Gate, Request, Shorthand};

/// How many clients leave where nobody says it.
const LEAVES: usize = 100;
const BYTES_PER_TOKEN: u64 = 4;

/// One answer of the provider: its events, and for each the tokens that it shows.
struct Script {
    path: &'static str,
    events: Vec<(String, u64)>,
    /// The event behind which only the usage is missing.
    last_word: usize,
    hidden: u64,
    input: u64,
}

const SHAPES: [&str; 5] = ["chat", "messages", "responses", "tools", "audio"];

impl Script {
    fn of(shape: &str, random: &mut Random, input: u64) -> Self {
        let path = match shape {
            "messages" => MESSAGES,
            "responses" => RESPONSES,
            _ => CHAT,
        };
        let (pieces, hidden) = (3 + random.index(8), random.below(30_000));
        let mut events: Vec<(String, u64)> = Vec::new();
        if path == MESSAGES {
            let usage = json!({ "input_tokens": input, "output_tokens": 0 });
            events.push((event(&json!({ "type": "message_start", "message": { "usage": usage } })), 0));
        }
        for nth in 0..pieces {
            let tokens = 1 + random.below(40);
            let text = "x".repeat(usize::try_from(tokens * BYTES_PER_TOKEN).unwrap());
            events.push((event(&shown(shape, nth, &text)), tokens));
        }
        let output = hidden + events.iter().map(|(_, tokens)| tokens).sum::<u64>();
        let last_word = events.len();
        let counts = json!({ "input_tokens": input, "output_tokens": output });
        let rest = match path {
            MESSAGES => vec![
                json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": output } }),
                json!({ "type": "message_stop" }),
            ],
            RESPONSES => vec![
                json!({ "type": "response.output_item.done", "item": { "type": "message", "content": [] } }),
                json!({ "type": "response.completed", "response": { "usage": counts } }),
            ],
            _ => vec![
                json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
                json!({ "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output } }),
            ],
        };
        events.extend(rest.iter().map(|json| (event(json), 0)));
        if path == CHAT {
            events.push(("data: [DONE]\n\n".to_owned(), 0));
        }
        Self { path, events, last_word, hidden, input }
    }

    /// What is owed at the least and at the most by a client that has read so many events, in nano-dollars.
    fn owed(&self, read: usize) -> (u64, u64) {
        let shown = |count: usize| self.events[..count].iter().map(|(_, tokens)| tokens).sum::<u64>();
        let cost = |output: u64| self.input * INPUT + output * OUTPUT;
        let whole = cost(shown(self.events.len()) + self.hidden);
        if read > self.last_word { (whole, whole) } else { (cost(shown(read)), whole) }
    }
}

/// A piece of output, in the fields of its shape.
fn shown(shape: &str, nth: usize, text: &str) -> Value {
    let chat = |delta: Value| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
    match (shape, nth % 3) {
        ("messages", 0) => {
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "signature_delta", "signature": text } })
        }
        ("messages", 1) => json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": text } }),
        ("messages", _) => json!({ "type": "content_block_delta", "index": 2, "delta": { "partial_json": text } }),
        ("responses", 0) => json!({ "type": "response.reasoning_summary_text.delta", "delta": text }),
        ("responses", 1) => json!({ "type": "response.output_text.delta", "delta": text }),
        ("responses", _) => json!({ "type": "response.custom_tool_call_input.delta", "delta": text }),
        ("tools", 0) => chat(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": text } }] })),
        ("tools", 1) => chat(json!({ "tool_calls": [{ "index": 1, "type": "custom", "custom": { "input": text } }] })),
        ("tools", _) => chat(json!({ "function_call": { "arguments": text } })),
        ("audio", 0) => chat(json!({ "audio": { "id": "a", "transcript": text } })),
        ("audio", _) => chat(json!({ "audio": { "data": text } })),
        (_, 0) => chat(json!({ "reasoning_content": text })),
        _ => chat(json!({ "content": text })),
    }
}

fn event(json: &Value) -> String {
    format!("data: {json}\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_no_moment_to_leave_is_cheaper_than_what_was_seen_by_then() {
    let leaves = std::env::var("LEAVES").ok().and_then(|text| text.parse().ok()).unwrap_or(LEAVES);
    let mut random = Random::new(12);
    let mut owed: Vec<(String, String, u64, u64)> = Vec::new();
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        let before = owed.len();
        for nth in 0..leaves / 2 {
            let shape = SHAPES[nth % SHAPES.len()];
            let mut body =
                json!({ "model": MAIN_MODEL, "max_tokens": 99_999, "stream": true, "stream_options": { "include_usage": true } });
            let asks = if shape == "responses" { "input" } else { "messages" };
            body[asks] = json!([{ "role": "user", "content": "y".repeat(random.index(2_000)) }]);
            let script = Script::of(shape, &mut random, (body.to_string().len() as u64).div_ceil(BYTES_PER_TOKEN));
            let gate = Gate::closed();
            main.push(Reply::events(script.events.iter().map(|(event, _)| event.clone())).gated(&gate));
            let read = 1 + random.index(script.events.len() - 1);
            gate.let_out(read);
            let down = *random.pick(&[Speaks::Http1, Speaks::Http2]);
            let mut client = client_that(&gateway, down).await;
            let mut arriving = client.open(Request::post(script.path, &body)).await.unwrap();
            let id = arriving.headers["x-request-id"].to_str().unwrap().to_owned();
            arriving.until_events(read).await;
            drop(arriving);
            client.abort();
            gate.let_out(100);
            let (least, most) = script.owed(read);
            owed.push((id, format!("{shape} {up:?} {down:?} after {read} of {}", script.events.len()), least, most));
        }
        let entries = until_entries(&gateway, leaves / 2).await;
        for (id, place, least, most) in &owed[before..] {
            let entry = entries.iter().find(|entry| entry["id"] == id.as_str()).unwrap_or_else(|| panic!("{place}: no entry"));
            let cost = entry["cost_nano_usd"].as_u64().unwrap();
            assert!((*least..=*most).contains(&cost), "{place}: {least} to {most} are owed: {entry}");
        }
        let paid: u64 = entries.iter().map(|entry| entry["cost_nano_usd"].as_u64().unwrap()).sum();
        let (least, most) = owed[before..].iter().fold((0, 0), |sum, (_, _, least, most)| (sum.0 + least, sum.1 + most));
        say(&format!("{} leaves: {paid} nano-dollars paid, {least} owed at the least, {most} if all had stayed", entries.len()));
        expect_whole(&gateway).await;
    }
}
