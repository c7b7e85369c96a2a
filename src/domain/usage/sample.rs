//! Reads the usage out of a sample: a provider's usage object, a whole answer, or a recorded stream, in any of the shapes.
//!
//! On the request's path the shape is known from the path; here it is told from the sample. What counts is still the meter's word.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{Framing, Meter, Report, Shape};

/// An object whose values stay text: a count of 400 digits is the meter's to judge.
type Object<'s> = HashMap<String, &'s RawValue>;

/// Meters a sample. The report's `usage` is `None` where the sample has none.
///
/// # Errors
///
/// A sample that is neither JSON nor a stream of events.
pub fn read(sample: &[u8]) -> Result<Report, String> {
    if sample.trim_ascii_start().first() == Some(&b'{') {
        let object: Object<'_> =
            serde_json::from_slice(sample).map_err(|why| format!("neither JSON nor an event stream: {why}"))?;
        let shape = shape_of(&object);
        return Ok(match usage_in(&object) {
            Some(_) => metered(shape, Framing::Json, sample),
            // The usage object alone.
            None => metered(shape, Framing::Json, &[br#"{"usage":"#, sample, b"}"].concat()),
        });
    }
    let text = String::from_utf8_lossy(sample);
    let first = text.lines().find_map(|line| object(line.strip_prefix("data:")?)).ok_or("neither JSON nor an event stream")?;
    let shape = match text_of(&first, "type") {
        Some(kind) if kind.starts_with("response.") => Shape::Responses,
        Some(_) => Shape::Anthropic,
        None => Shape::OpenAiChat,
    };
    Ok(metered(shape, Framing::Sse, sample))
}

fn metered(shape: Shape, framing: Framing, bytes: &[u8]) -> Report {
    let mut meter = Meter::new(shape, framing).counting_text();
    meter.push(bytes);
    meter.report()
}

/// Where answers and their events carry the usage.
fn usage_in<'s>(value: &Object<'s>) -> Option<&'s RawValue> {
    let inner = || ["message", "response"].into_iter().find_map(|key| object(value.get(key)?.get())?.get("usage").copied());
    value.get("usage").copied().or_else(inner)
}

fn shape_of(value: &Object<'_>) -> Shape {
    let usage = usage_in(value).and_then(|usage| object(usage.get()));
    let counts = usage.as_ref().unwrap_or(value);
    let has = |keys: &[&str]| keys.iter().any(|key| counts.contains_key(*key));
    if has(&["prompt_tokens", "completion_tokens"]) {
        Shape::OpenAiChat
    } else if text_of(value, "object").as_deref() == Some("response")
        || value.contains_key("response")
        || has(&["input_tokens_details", "output_tokens_details", "total_tokens"])
    {
        Shape::Responses
    } else {
        Shape::Anthropic
    }
}

fn object(text: &str) -> Option<Object<'_>> {
    serde_json::from_str(text).ok()
}

fn text_of(value: &Object<'_>, key: &str) -> Option<String> {
    serde_json::from_str(value.get(key)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::Usage;

    fn usage(sample: &str) -> Usage {
        read(sample.as_bytes()).unwrap().usage.unwrap()
    }

    #[test]
    fn u3_every_shape_is_told_by_itself() {
        let chat = r#"{"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens": 2}"#;
        let expected = Usage { input_tokens: 6, cache_read_tokens: 4, output_tokens: 2, ..Usage::default() };
        assert_eq!(usage(chat), expected);
        assert_eq!(usage(&format!(r#"{{"object": "chat.completion", "usage": {chat}}}"#)), expected);
        let responses =
            r#"{"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 2, "total_tokens": 12}"#;
        assert_eq!(usage(responses), expected);
        assert_eq!(usage(&format!(r#"{{"object": "response", "usage": {responses}}}"#)), expected);
        assert_eq!(
            usage(&format!("data: {{\"type\":\"response.completed\",\"response\":{{\"usage\":{responses}}}}}\n\n")),
            expected
        );
        let messages = r#"{"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 2}"#;
        assert_eq!(usage(messages), expected);
        assert_eq!(usage(&format!(r#"{{"type": "message", "usage": {messages}}}"#)), expected);
        assert_eq!(usage(r#"{"input_tokens": 6, "output_tokens": 2}"#).input_tokens, 6);
        let split = r#"{"input_tokens": 1, "cache_creation_input_tokens": 5,
            "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}, "output_tokens": 0}"#;
        assert_eq!((usage(split).cache_write_tokens, usage(split).cache_write_1h_tokens), (2, 3));
    }

    #[test]
    fn u3_recorded_streams_give_their_totals() {
        assert!(usage(include_str!("../../../tests/fixtures/usage/messages_split.sse")).cache_write_1h_tokens > 0);
        assert!(usage(include_str!("../../../tests/fixtures/usage/chat_plain.sse")).output_tokens > 0);
        assert!(usage(include_str!("../../../tests/fixtures/usage/responses_completed.sse")).output_tokens > 0);
    }

    #[test]
    fn u8_a_count_beyond_every_number_is_bent_as_on_the_path() {
        for absurd in ["1e309".to_owned(), "9".repeat(400)] {
            let report = read(format!(r#"{{"prompt_tokens": 5, "completion_tokens": {absurd}}}"#).as_bytes()).unwrap();
            let usage = report.usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens, report.clamped), (5, super::super::MAX_COUNT, 1));
        }
    }

    #[test]
    fn what_holds_no_usage_says_so() {
        for none in ["{}", r#"{"usage": null}"#, r#"{"id": "x", "usage": {}}"#] {
            assert_eq!(read(none.as_bytes()).unwrap().usage, None, "{none}");
        }
        for broken in ["", "[]", "{", "text", "data: [DONE]\n\n"] {
            assert!(read(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
