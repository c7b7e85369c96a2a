//! OpenAI's Responses: numbered events around one growing response object, whose last form carries the usage.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use bytes::Bytes;
use serde_json::{Value, json};

use super::content::{CREATED, Content, named};
use super::output::{Output, Stop};
use crate::provider_mock::ask::{Ask, Usage};

/// Answers `/responses`.
pub fn responses(ask: &Ask, output: &Output, serial: u64) -> Content {
    let response = Growing { ask, output, id: format!("resp_mock{serial:08}"), item_id: format!("item_mock{serial:08}") };
    if !ask.stream {
        return Content::json(&response.finished(), Some(output.usage));
    }
    let mut events = Numbered::default();
    let begun = response.object("in_progress", &json!([]), &Value::Null);
    events.push(json!({ "type": "response.created", "response": begun }));
    events.push(json!({ "type": "response.in_progress", "response": begun }));
    events.push(json!({ "type": "response.output_item.added", "output_index": 0, "item": response.item("in_progress") }));
    match &output.tool {
        Some((tool, fragments)) => {
            for text in fragments {
                events.push(json!({
                    "type": "response.function_call_arguments.delta", "item_id": response.item_id, "output_index": 0, "delta": text,
                }));
            }
            events.push(json!({
                "type": "response.function_call_arguments.done", "item_id": response.item_id, "output_index": 0,
                "name": tool.name, "arguments": tool.arguments,
            }));
        }
        None => response.push_text(&mut events),
    }
    events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": response.item(response.status()) }));
    events.push(json!({ "type": format!("response.{}", response.status()), "response": response.finished() }));
    Content::events(events.pieces, 1, output.usage)
}

#[derive(Default)]
struct Numbered {
    pieces: Vec<Bytes>,
}

impl Numbered {
    fn push(&mut self, mut event: Value) {
        if let Some(fields) = event.as_object_mut() {
            fields.insert("sequence_number".to_owned(), Value::from(self.pieces.len()));
        }
        self.pieces.push(named(&event));
    }
}

/// The response object, as far as it has grown.
struct Growing<'a> {
    ask: &'a Ask,
    output: &'a Output,
    id: String,
    item_id: String,
}

impl Growing<'_> {
    fn status(&self) -> &'static str {
        match self.output.stop {
            Stop::Natural | Stop::Tool => "completed",
            Stop::Length => "incomplete",
        }
    }

    fn push_text(&self, events: &mut Numbered) {
        let at = |kind: &str, field: &str, value: Value| {
            let mut event = json!({ "type": kind, "item_id": self.item_id, "output_index": 0, "content_index": 0 });
            if let Some(fields) = event.as_object_mut() {
                fields.insert(field.to_owned(), value);
                if field != "part" {
                    fields.insert("logprobs".to_owned(), json!([]));
                }
            }
            event
        };
        events.push(at("response.content_part.added", "part", part("")));
        for text in &self.output.text {
            events.push(at("response.output_text.delta", "delta", text.as_str().into()));
        }
        let whole = self.output.whole_text();
        events.push(at("response.output_text.done", "text", whole.as_str().into()));
        events.push(at("response.content_part.done", "part", part(&whole)));
    }

    fn item(&self, status: &str) -> Value {
        let done = status != "in_progress";
        match &self.output.tool {
            Some((tool, _)) => json!({
                "id": self.item_id, "type": "function_call", "status": status, "call_id": format!("call_{}", self.id),
                "name": tool.name, "arguments": if done { tool.arguments.as_str() } else { "" },
            }),
            None => json!({
                "id": self.item_id, "type": "message", "status": status, "role": "assistant",
                "content": if done { json!([part(&self.output.whole_text())]) } else { json!([]) },
            }),
        }
    }

    fn finished(&self) -> Value {
        self.object(self.status(), &json!([self.item(self.status())]), &usage(&self.output.usage))
    }

    fn object(&self, status: &str, output: &Value, usage: &Value) -> Value {
        json!({
            "id": self.id, "object": "response", "created_at": CREATED, "status": status, "background": false, "error": null,
            "incomplete_details": if status == "incomplete" { json!({ "reason": "max_output_tokens" }) } else { Value::Null },
            "instructions": null, "max_output_tokens": self.ask.max_output_tokens, "model": self.ask.model, "output": output,
            "parallel_tool_calls": true, "previous_response_id": null, "reasoning": { "effort": null, "summary": null },
            "service_tier": "default", "store": true, "temperature": 1.0, "text": { "format": { "type": "text" } },
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": null, "metadata": {},
        })
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens(), "input_tokens_details": { "cached_tokens": usage.cache_read_tokens },
        "output_tokens": usage.output_tokens, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.total_tokens(),
    })
}
