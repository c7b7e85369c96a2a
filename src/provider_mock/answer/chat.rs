//! OpenAI's chat completions and the older text completions.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/chat/streaming>. The usage chunk has `choices: []` and comes only when
//! `stream_options.include_usage` is true; every other chunk then carries `usage: null`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::content::{CREATED, Content, data};
use super::output::{Output, Stop};
use crate::provider_mock::ask::{Ask, Usage};

const DONE: &[u8] = b"data: [DONE]\n\n";

/// Answers `/chat/completions`.
pub fn chat(ask: &Ask, output: &Output, serial: u64) -> Content {
    let id = format!("chatcmpl-mock{serial:08}");
    if !ask.stream {
        return Content::json(&whole_chat(ask, output, &id), Some(output.usage));
    }
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut body = json!({
            "id": id, "object": "chat.completion.chunk", "created": CREATED, "model": ask.model,
            "service_tier": "default", "system_fingerprint": "fp_mock", "choices": choices,
        });
        if ask.include_usage
            && let Some(fields) = body.as_object_mut()
        {
            fields.insert("usage".to_owned(), usage.unwrap_or(Value::Null));
        }
        data(&body)
    };
    let delta = |delta: Value, finish: Option<&str>| {
        chunk(json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]), None)
    };

    let mut pieces = vec![delta(
        json!({ "role": "assistant", "content": if output.tool.is_some() { Value::Null } else { "".into() }, "refusal": null }),
        None,
    )];
    pieces.extend(output.text.iter().map(|text| delta(json!({ "content": text }), None)));
    if let Some((tool, fragments)) = &output.tool {
        let head = json!({ "index": 0, "id": format!("call_mock{serial:08}"), "type": "function", "function": { "name": tool.name, "arguments": "" } });
        pieces.push(delta(json!({ "tool_calls": [head] }), None));
        pieces.extend(
            fragments
                .iter()
                .map(|text| delta(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": text } }] }), None)),
        );
    }
    pieces.push(delta(json!({}), Some(finish_reason(output.stop))));
    if ask.include_usage {
        pieces.push(chunk(json!([]), Some(usage(&output.usage))));
    }
    pieces.push(Bytes::from_static(DONE));
    Content::events(pieces, 1, output.usage)
}

/// Answers `/completions`, the older text form.
pub fn completions(ask: &Ask, output: &Output, serial: u64) -> Content {
    let id = format!("cmpl-mock{serial:08}");
    let body = |text: &str, finish: Option<&str>| {
        json!({
            "id": id, "object": "text_completion", "created": CREATED, "model": ask.model, "system_fingerprint": "fp_mock",
            "choices": [{ "text": text, "index": 0, "logprobs": null, "finish_reason": finish }],
        })
    };
    let with_usage = |mut body: Value, usage: Value| {
        if let Some(fields) = body.as_object_mut() {
            fields.insert("usage".to_owned(), usage);
        }
        body
    };
    if !ask.stream {
        let whole = body(&output.whole_text(), Some(finish_reason(output.stop)));
        return Content::json(&with_usage(whole, usage(&output.usage)), Some(output.usage));
    }

    let chunk = |body: Value| data(&if ask.include_usage { with_usage(body, Value::Null) } else { body });
    let mut pieces: Vec<Bytes> = output.text.iter().map(|text| chunk(body(text, None))).collect();
    pieces.push(chunk(body("", Some(finish_reason(output.stop)))));
    if ask.include_usage {
        let last = json!({
            "id": id, "object": "text_completion", "created": CREATED, "model": ask.model, "choices": [], "usage": usage(&output.usage),
        });
        pieces.push(data(&last));
    }
    pieces.push(Bytes::from_static(DONE));
    Content::events(pieces, 1, output.usage)
}

fn whole_chat(ask: &Ask, output: &Output, id: &str) -> Value {
    let mut message = json!({ "role": "assistant", "content": output.whole_text(), "refusal": null, "annotations": [] });
    if let Some((tool, _)) = &output.tool
        && let Some(fields) = message.as_object_mut()
    {
        let call = json!({ "id": format!("call_{id}"), "type": "function", "function": { "name": tool.name, "arguments": tool.arguments } });
        fields.insert("content".to_owned(), Value::Null);
        fields.insert("tool_calls".to_owned(), json!([call]));
    }
    json!({
        "id": id, "object": "chat.completion", "created": CREATED, "model": ask.model,
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(output.stop) }],
        "usage": usage(&output.usage), "service_tier": "default", "system_fingerprint": "fp_mock",
    })
}

/// `prompt_tokens` includes the cached ones, unlike Anthropic's `input_tokens`.
fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens(), "completion_tokens": usage.output_tokens, "total_tokens": usage.total_tokens(),
        "prompt_tokens_details": { "cached_tokens": usage.cache_read_tokens, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::Natural => "stop",
        Stop::Length => "length",
        Stop::Tool => "tool_calls",
    }
}
