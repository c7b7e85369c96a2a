//! What a stream's first event says of the attempt: that the answer begins, or that it failed in a way that another key could cure.
//!
//! Providers that are overloaded answer 200 and put the refusal into the stream. While the client has seen nothing of it, this is worth
//! another attempt, like a refusing status. Only the codes below count, and only before the answer begins; what can't be read is no answer yet.
//!
//! | API | heartbeats and preludes | a failure |
//! |---|---|---|
//! | Messages | comments, `ping` | `{"type":"error","error":{"type"}}` |
//! | chat completions, completions | comments | `{"error":{"type","code"}}` |
//! | Responses | `response.created`, `.in_progress`, `.queued` | `response.failed` with `response.error.code`; `{"type":"error","code"}` |
//!
//! The Responses API always announces a response before it refuses it, so without the preludes nothing of it could be cured.
//!
//! Memory: at most [`MOST_BYTES`] of an event, until the first one is complete.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::domain::upstream::words::Words;
use crate::domain::usage::sse::{Lines, Piece};

/// A beginning longer than this is taken for an answer. A Responses prelude repeats the request's instructions and tools.
pub const MOST_BYTES: usize = 256 * 1024;

/// What a stream has said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// No event yet but heartbeats and preludes.
    Open,
    /// The answer begins, or it failed for a reason that every key would meet.
    Begins,
    /// The attempt failed as one with this status does; another key may succeed.
    Fails { status: u16 },
}

/// Reads a stream's beginning, in whatever pieces it comes.
#[derive(Debug)]
pub struct FirstEvent {
    lines: Lines,
    data: Vec<u8>,
    bytes: usize,
    /// Of the event that failed.
    words: Words,
}

impl Default for FirstEvent {
    fn default() -> Self {
        Self { lines: Lines::new(), data: Vec::new(), bytes: 0, words: Words::default() }
    }
}

impl FirstEvent {
    /// Reads on; once the answer is other than [`Opening::Open`], nothing more is asked.
    pub fn push(&mut self, chunk: &[u8]) -> Opening {
        self.bytes += chunk.len();
        let (data, words, mut opening) = (&mut self.data, &mut self.words, Opening::Open);
        let mut judge = |event: &[u8]| {
            let opening = judge(event);
            if let Opening::Fails { .. } = opening {
                *words = Words::of(event);
            }
            opening
        };
        self.lines.push(chunk, |piece| {
            if opening != Opening::Open {
                return;
            }
            match piece {
                Piece::Whole(event) => opening = judge(event),
                Piece::Part(part) => data.extend_from_slice(part),
                Piece::End => {
                    opening = judge(data);
                    data.clear();
                }
            }
        });
        match opening {
            Opening::Open if self.bytes > MOST_BYTES => Opening::Begins,
            opening => opening,
        }
    }

    /// What the event said that failed.
    pub fn take_words(&mut self) -> Words {
        std::mem::take(&mut self.words)
    }
}

#[derive(Deserialize)]
struct EventData {
    #[serde(rename = "type")]
    kind: Option<String>,
    error: Option<ErrorObject>,
    /// Of the `error` event in the Responses API, which has no object around it.
    code: Option<Value>,
    response: Option<Response>,
}

#[derive(Deserialize)]
struct Response {
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(rename = "type")]
    kind: Option<Value>,
    code: Option<Value>,
}

/// Judges the data of one event.
fn judge(data: &[u8]) -> Opening {
    if data.trim_ascii().is_empty() {
        return Opening::Open;
    }
    let Ok(event) = serde_json::from_slice::<EventData>(data) else {
        // An object in another form than the ones known begins.
        let is_object = serde_json::from_slice::<HashMap<String, IgnoredAny>>(data).is_ok();
        return if is_object { Opening::Begins } else { Opening::Open };
    };
    let failure = match event.kind.as_deref() {
        Some("ping" | "response.created" | "response.in_progress" | "response.queued") => return Opening::Open,
        Some("response.failed") => event.response.and_then(|response| response.error),
        Some("error") if event.error.is_none() => Some(ErrorObject { kind: None, code: event.code }),
        _ => event.error,
    };
    let words = failure.map(|failure| [failure.code, failure.kind]).unwrap_or_default();
    match words.iter().flatten().find_map(status_of) {
        Some(status) => Opening::Fails { status },
        None => Opening::Begins,
    }
}

/// The status that a provider answers with where it refuses for this reason at once.
fn status_of(word: &Value) -> Option<u16> {
    match word {
        Value::String(word) => match word.as_str() {
            "overloaded_error" | "overloaded" | "server_is_overloaded" | "slow_down" => Some(529),
            "rate_limit_error" | "rate_limit_exceeded" | "rate_limit_reached" => Some(429),
            "insufficient_quota" | "billing_error" => Some(402),
            _ => None,
        },
        // Relays put the status here that they got themselves.
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| matches!(n, 402 | 429 | 529)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opening_of(stream: &str) -> Opening {
        FirstEvent::default().push(stream.as_bytes())
    }

    const OVERLOADED: &str =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";

    #[test]
    fn t9_a_failure_that_another_key_could_cure_is_known_by_its_code() {
        for (data, status) in [
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, 529),
            (r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"},"request_id":"r"}"#, 429),
            (r#"{"type":"error","error":{"type":"billing_error","message":"m"}}"#, 402),
            (r#"{"error":{"message":"m","type":"server_error","param":null,"code":"server_is_overloaded"}}"#, 529),
            (r#"{"error":{"message":"m","type":"service_unavailable_error","code":"slow_down"}}"#, 529),
            (r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#, 429),
            (r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#, 402),
            (r#"{"id":"c","choices":[],"error":{"code":429,"message":"m"}}"#, 429),
            (r#"{"type":"response.failed","response":{"id":"r","error":{"code":"server_is_overloaded","message":"m"}}}"#, 529),
            (r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}},"sequence_number":2}"#, 429),
            (r#"{"type":"error","code":"rate_limit_exceeded","message":"m","param":null,"sequence_number":1}"#, 429),
        ] {
            assert_eq!(opening_of(&format!("data: {data}\n\n")), Opening::Fails { status }, "{data}");
        }
    }

    #[test]
    fn t9_an_answer_and_what_every_key_would_meet_begin() {
        for data in [
            r#"{"type":"message_start","message":{"usage":{"input_tokens":9}}}"#,
            r#"{"type":"content_block_delta","delta":{"text":"overloaded_error"}}"#,
            r#"{"id":"c","choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"{"id":"c","choices":[],"error":null}"#,
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
            r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}"#,
            r#"{"type":"response.failed","response":{"error":null}}"#,
            r#"{"type":"response.failed"}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"overloaded_error"}}"#,
            r#"{"type":"error","error":{"type":"api_error"}}"#,
            r#"{"type":"error","message":"m"}"#,
            r#"{"error":"overloaded_error"}"#,
            r#"{"error":{"code":500}}"#,
            r#"{"error":{"code":-429}}"#,
            r#"{"error":{"code":["rate_limit_exceeded"]}}"#,
            r#"{"type":"error","type":"ping"}"#,
            r#"{"type":7}"#,
        ] {
            assert_eq!(opening_of(&format!("data: {data}\n\n")), Opening::Begins, "{data}");
        }
    }

    #[test]
    fn heartbeats_and_preludes_say_nothing_yet() {
        for stream in [
            "",
            ": keep-alive\n\n",
            "event: ping\n\n",
            "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            "data:\n\n",
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"error\":null}}\n\n",
            "data: {\"type\":\"response.queued\"}\n\ndata: {\"type\":\"response.in_progress\"}\n\n",
            "event: error\n",
            "data: [DONE]\n\n",
            "data: (upstream request failed)\n\n",
            "data: 7\n\n",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
        ] {
            assert_eq!(opening_of(stream), Opening::Open, "{stream:?}");
            assert_eq!(opening_of(&format!("{stream}\n\n{OVERLOADED}")).status(), Some(529), "{stream:?}");
        }
    }

    #[test]
    fn only_the_first_event_is_judged() {
        let start = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n";
        assert_eq!(opening_of(&format!("{start}{OVERLOADED}")), Opening::Begins);
        assert_eq!(opening_of(&format!("{OVERLOADED}{start}")), Opening::Fails { status: 529 });
    }

    #[test]
    fn a_beginning_without_an_end_is_read_in_bounded_memory() {
        let mut first = FirstEvent::default();
        assert_eq!(first.push(b"data: "), Opening::Open);
        let line = vec![b'x'; MOST_BYTES / 2];
        assert_eq!(first.push(&line), Opening::Open);
        assert_eq!(first.push(&line), Opening::Begins);
        assert!(first.data.len() <= MOST_BYTES);
        assert_eq!(opening_of(&": beat\n\n".repeat(MOST_BYTES / 8 + 1)), Opening::Begins);
    }

    impl Opening {
        fn status(self) -> Option<u16> {
            match self {
                Self::Fails { status } => Some(status),
                Self::Open | Self::Begins => None,
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_judgement(cuts in prop::collection::vec(0usize..200, 0..8), crlf: bool, begins: bool) {
            let event = if begins { "data: {\"type\":\"message_start\"}\n\n" } else { OVERLOADED };
            let mut stream = format!(": beat\n\nevent: ping\ndata: {{\"type\":\"ping\"}}\n\n{event}");
            if crlf {
                stream = stream.replace('\n', "\r\n");
            }
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < stream.len()).collect();
            cuts.sort_unstable();
            let (mut first, mut from, mut said) = (FirstEvent::default(), 0, Opening::Open);
            for cut in cuts.into_iter().chain([stream.len()]) {
                if said == Opening::Open {
                    said = first.push(&stream.as_bytes()[from..cut]);
                }
                from = cut;
            }
            prop_assert_eq!(said, if begins { Opening::Begins } else { Opening::Fails { status: 529 } });
        }
    }
}
