//! Answers in the corpus' shapes with any counts: how a provider writes five classes.

use trollbridge::domain::usage::Framing::{self, Json, Sse};
use trollbridge::domain::usage::Shape::{self, Anthropic, OpenAiChat, Responses};

/// A way to tell a usage.
pub struct Telling {
    /// Which classes it can tell: input, 5-minute write, 1-hour write, read, output.
    pub tells: [bool; 5],
    pub write: fn([u64; 5]) -> Written,
}

/// An answer.
#[derive(Debug)]
pub struct Written {
    pub shape: Shape,
    pub framing: Framing,
    pub answer: String,
}

const UNCACHED: [bool; 5] = [true, false, false, false, true];
const READ: [bool; 5] = [true, false, false, true, true];
const BARE: [bool; 5] = [true, true, false, true, true];
const ALL: [bool; 5] = [true; 5];

pub const SHAPES: [Telling; 15] = [
    Telling {
        tells: UNCACHED,
        write: |counts| written(OpenAiChat, Json, format!(r#"{{"choices":[],"usage":{}}}"#, plain(counts))),
    },
    Telling { tells: READ, write: |counts| written(OpenAiChat, Json, format!(r#"{{"choices":[],"usage":{}}}"#, cached(counts))) },
    Telling { tells: UNCACHED, write: |counts| chat_stream(&plain(counts)) },
    Telling { tells: READ, write: |counts| chat_stream(&cached(counts)) },
    Telling { tells: [false; 5], write: |_| chat_stream("null") },
    Telling {
        tells: ALL,
        write: |counts| written(Anthropic, Json, format!(r#"{{"type":"message","usage":{}}}"#, split(counts))),
    },
    Telling {
        tells: BARE,
        write: |counts| written(Anthropic, Json, format!(r#"{{"type":"message","usage":{}}}"#, bare(counts))),
    },
    Telling { tells: ALL, write: |counts| message_stream(Some(&split(first(counts))), &[bare(counts)]) },
    Telling { tells: BARE, write: |counts| message_stream(Some(&bare(first(counts))), &[only_output(counts[4])]) },
    Telling { tells: ALL, write: |counts| message_stream(Some(&split(counts)), &[]) },
    Telling { tells: BARE, write: |counts| message_stream(None, &[bare(counts)]) },
    Telling {
        tells: ALL,
        write: |counts| {
            let running = [counts[4] / 3, counts[4] / 2, counts[4], 0].map(only_output);
            message_stream(Some(&split(first(counts))), &running)
        },
    },
    Telling { tells: READ, write: |counts| response_stream("completed", counts) },
    Telling { tells: READ, write: |counts| response_stream("incomplete", counts) },
    Telling { tells: READ, write: |counts| response_stream("failed", counts) },
];

fn written(shape: Shape, framing: Framing, answer: String) -> Written {
    Written { shape, framing, answer }
}

/// The counts as a stream's beginning tells them.
fn first([input, write, write_1h, read, output]: [u64; 5]) -> [u64; 5] {
    [input, write, write_1h, read, output.min(1)]
}

fn plain([input, .., output]: [u64; 5]) -> String {
    format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#, input + output)
}

fn cached([input, _, _, read, output]: [u64; 5]) -> String {
    let prompt = input + read;
    format!(r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"prompt_tokens_details":{{"cached_tokens":{read}}}}}"#)
}

fn bare([input, write, write_1h, read, output]: [u64; 5]) -> String {
    let sum = write + write_1h;
    format!(
        r#"{{"input_tokens":{input},"cache_creation_input_tokens":{sum},"cache_read_input_tokens":{read},"output_tokens":{output}}}"#
    )
}

fn split(counts: [u64; 5]) -> String {
    let [_, write, write_1h, ..] = counts;
    let kinds = format!(r#""cache_creation":{{"ephemeral_5m_input_tokens":{write},"ephemeral_1h_input_tokens":{write_1h}}}"#);
    format!("{{{kinds},{}", bare(counts).trim_start_matches('{'))
}

fn only_output(output: u64) -> String {
    format!(r#"{{"output_tokens":{output}}}"#)
}

fn chat_stream(usage: &str) -> Written {
    let text = r#"data: {"choices":[{"index":0,"delta":{"content":"Good day."}}],"usage":null}"#;
    written(OpenAiChat, Sse, format!("{text}\n\ndata: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"))
}

fn message_stream(at_start: Option<&str>, deltas: &[String]) -> Written {
    let usage = at_start.map_or(String::new(), |usage| format!(r#","usage":{usage}"#));
    let mut answer =
        format!("event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_7\"{usage}}}}}\n\n");
    for usage in deltas {
        answer += &format!("event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{}},\"usage\":{usage}}}\n\n");
    }
    if !deltas.is_empty() {
        answer += "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    }
    written(Anthropic, Sse, answer)
}

fn response_stream(end: &str, [input, _, _, read, output]: [u64; 5]) -> Written {
    let all = input + read;
    let usage = format!(r#"{{"input_tokens":{all},"input_tokens_details":{{"cached_tokens":{read}}},"output_tokens":{output}}}"#);
    let data = format!(r#"{{"type":"response.{end}","response":{{"status":"{end}","usage":{usage}}}}}"#);
    written(Responses, Sse, format!("event: response.{end}\ndata: {data}\n\n"))
}
