//! Anthropic's messages.
//!
//! Shapes: <https://docs.anthropic.com/en/docs/build-with-claude/streaming>. `message_start` carries the prompt's usage with the split of
//! the cache writes by lifetime; `message_delta` repeats running totals, the cache writes as a bare sum.

use serde_json::{Value, json};

use super::content::{Content, named};
use super::output::{Output, Stop};
use crate::provider_mock::ask::{Ask, Usage};

/// The opaque proof that Anthropic attaches to a thinking block.
const SIGNATURE: &str = "bW9jay1zaWduYXR1cmUtb2YtYS10aGlua2luZy1ibG9jaw==";

/// Answers `/messages`.
pub fn messages(ask: &Ask, output: &Output, serial: u64) -> Content {
    let id = format!("msg_mock{serial:08}");
    if ask.stream {
        return stream(ask, output, &id);
    }
    let mut content = Vec::new();
    if !output.thought.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": output.thought.concat(), "signature": SIGNATURE }));
    }
    match &output.tool {
        Some((tool, _)) => {
            // The arguments were written by `example`, so they are JSON.
            let input: Value = serde_json::from_str(&tool.arguments).unwrap_or_default();
            content.push(json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": tool.name, "input": input }));
        }
        None => content.push(json!({ "type": "text", "text": output.whole_text() })),
    }
    let body = json!({
        "id": id, "type": "message", "role": "assistant", "model": ask.model, "content": content,
        "stop_reason": stop_reason(output.stop), "stop_sequence": null, "usage": usage(&output.usage, output.usage.output_tokens),
    });
    Content::json(&body, Some(output.usage))
}

fn stream(ask: &Ask, output: &Output, id: &str) -> Content {
    let mut pieces = vec![
        named(&json!({ "type": "message_start", "message": {
            "id": id, "type": "message", "role": "assistant", "model": ask.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(&output.usage, 1),
        } })),
        named(&json!({ "type": "ping" })),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        pieces.push(named(&json!({ "type": "content_block_start", "index": index, "content_block": start })));
        pieces
            .extend(deltas.iter().map(|delta| named(&json!({ "type": "content_block_delta", "index": index, "delta": delta }))));
        pieces.push(named(&json!({ "type": "content_block_stop", "index": index })));
        index += 1;
    };
    if !output.thought.is_empty() {
        let mut deltas: Vec<Value> =
            output.thought.iter().map(|text| json!({ "type": "thinking_delta", "thinking": text })).collect();
        deltas.push(json!({ "type": "signature_delta", "signature": SIGNATURE }));
        block(json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas);
    }
    match &output.tool {
        Some((tool, fragments)) => block(
            json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": tool.name, "input": {} }),
            std::iter::once("")
                .chain(fragments.iter().map(String::as_str))
                .map(|text| json!({ "type": "input_json_delta", "partial_json": text }))
                .collect(),
        ),
        None => block(
            json!({ "type": "text", "text": "" }),
            output.text.iter().map(|text| json!({ "type": "text_delta", "text": text })).collect(),
        ),
    }
    pieces.push(named(&json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason(output.stop), "stop_sequence": null },
        "usage": {
            "input_tokens": output.usage.input_tokens,
            "cache_creation_input_tokens": output.usage.cache_write_tokens(),
            "cache_read_input_tokens": output.usage.cache_read_tokens,
            "output_tokens": output.usage.output_tokens,
        },
    })));
    pieces.push(named(&json!({ "type": "message_stop" })));
    Content::events(pieces, 1, output.usage)
}

fn usage(usage: &Usage, output_tokens: u64) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens(),
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": output_tokens,
        "service_tier": "standard",
    })
}

fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::Natural => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Tool => "tool_use",
    }
}
