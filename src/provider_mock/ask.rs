//! What a request asks for, read out of its path and body, and the token usage that follows from it.
//!
//! Usage is a pure function of the request, so that a test can work it out: the prompt costs [`PROMPT_BASE_TOKENS`] and one token per
//! word of its texts, the answer one token per delta. A `cache_control` (Anthropic) or a `prompt_cache_key` (OpenAI) moves parts of the
//! prompt into the cache classes.

use serde_json::{Map, Value};

/// What a prompt costs before its first word.
pub const PROMPT_BASE_TOKENS: u64 = 8;

/// The provider's endpoints, told apart by the end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Chat,
    Completions,
    Messages,
    CountTokens,
    Responses,
    Embeddings,
    Models,
    Unknown,
}

/// The two shapes of errors and model lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// Token counts by class; the classes never overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens outside of every cache class.
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_5m_tokens: u64,
    pub cache_write_1h_tokens: u64,
    pub output_tokens: u64,
}

/// A function that the request offers to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    pub name: String,
    /// Arguments that fit the tool's schema.
    pub arguments: String,
}

/// A request, as far as the answer depends on it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub api: Api,
    pub dialect: Dialect,
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    pub thinking: bool,
    /// The first tool offered, unless the request forbids tools or already carries a tool's result.
    pub tool: Option<Tool>,
    pub max_output_tokens: Option<u64>,
    /// The prompt's classes; `output_tokens` is 0 here.
    pub prompt: Usage,
    pub embeddings: Embeddings,
}

/// What an embeddings request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embeddings {
    pub inputs: usize,
    pub base64: bool,
}

impl Api {
    /// Reads the end of a path (without its query); any base path may stand before it.
    pub fn of(path: &str) -> Self {
        if path.rsplit_once("/models/").is_some_and(|(_, id)| !id.is_empty()) {
            return Self::Models;
        }
        [
            ("/chat/completions", Self::Chat),
            ("/completions", Self::Completions),
            ("/messages/count_tokens", Self::CountTokens),
            ("/messages", Self::Messages),
            ("/responses", Self::Responses),
            ("/embeddings", Self::Embeddings),
            ("/models", Self::Models),
        ]
        .into_iter()
        .find_map(|(tail, api)| path.ends_with(tail).then_some(api))
        .unwrap_or(Self::Unknown)
    }

    /// The language of this endpoint's answers; the model list follows the version header.
    pub fn dialect(self, has_anthropic_version: bool) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Models | Self::Unknown if has_anthropic_version => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }
}

impl Usage {
    /// The whole prompt: `prompt_tokens` of OpenAI, `input_tokens` of Responses.
    pub fn prompt_tokens(&self) -> u64 {
        self.input_tokens + self.cache_read_tokens + self.cache_write_tokens()
    }

    /// Both cache-write classes: `cache_creation_input_tokens` of Anthropic.
    pub fn cache_write_tokens(&self) -> u64 {
        self.cache_write_5m_tokens + self.cache_write_1h_tokens
    }

    /// Prompt and answer.
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens() + self.output_tokens
    }
}

impl Ask {
    /// Reads a body; anything that is missing or of the wrong type takes its default.
    pub fn read(api: Api, dialect: Dialect, body: &Value) -> Self {
        let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        Self {
            api,
            dialect,
            model: body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned(),
            stream: flag(body.get("stream")),
            include_usage: flag(body.pointer("/stream_options/include_usage")),
            thinking: matches!(body.pointer("/thinking/type").and_then(Value::as_str), Some("enabled" | "adaptive")),
            tool: offered_tool(body),
            max_output_tokens: ["max_completion_tokens", "max_tokens", "max_output_tokens"]
                .into_iter()
                .find_map(|key| body.get(key)?.as_u64()),
            prompt: prompt_usage(body),
            embeddings: Embeddings {
                inputs: match body.get("input") {
                    Some(Value::Array(items)) if items.iter().any(|item| !item.is_number()) => items.len(),
                    _ => 1,
                },
                base64: body.get("encoding_format").and_then(Value::as_str) == Some("base64"),
            },
        }
    }
}

fn prompt_usage(body: &Value) -> Usage {
    let words: u64 =
        ["system", "instructions", "messages", "input", "prompt"].into_iter().filter_map(|k| body.get(k)).map(words).sum();
    let total = PROMPT_BASE_TOKENS + words;
    let (mut five_minutes, mut one_hour) = (false, false);
    cache_marks(body, &mut |ttl| if ttl == Some("1h") { one_hour = true } else { five_minutes = true });

    let mut usage = Usage::default();
    if five_minutes || one_hour || body.get("prompt_cache_key").is_some() {
        usage.cache_read_tokens = total / 2;
    }
    if five_minutes {
        usage.cache_write_5m_tokens = total / 8;
    }
    if one_hour {
        usage.cache_write_1h_tokens = total / 8;
    }
    usage.input_tokens = total - usage.cache_read_tokens - usage.cache_write_tokens();
    usage
}

/// Counts the words of a prompt's texts: strings themselves, in lists, and under `content` and `text`.
fn words(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(fields) => ["content", "text"].into_iter().filter_map(|key| fields.get(key)).map(words).sum(),
        _ => 0,
    }
}

fn cache_marks(value: &Value, found: &mut impl FnMut(Option<&str>)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| cache_marks(item, found)),
        Value::Object(fields) => {
            if let Some(Value::Object(mark)) = fields.get("cache_control") {
                found(mark.get("ttl").and_then(Value::as_str));
            }
            fields.values().for_each(|field| cache_marks(field, found));
        }
        _ => {}
    }
}

fn offered_tool(body: &Value) -> Option<Tool> {
    let choice = body.get("tool_choice");
    let forbidden = choice.and_then(Value::as_str) == Some("none")
        || choice.and_then(|choice| choice.get("type")).and_then(Value::as_str) == Some("none");
    if forbidden || ["messages", "input"].into_iter().filter_map(|key| body.get(key)).any(ends_with_tool_result) {
        return None;
    }
    let tool = body.get("tools")?.as_array()?.first()?;
    let function = tool.get("function").unwrap_or(tool);
    let schema = function.get("parameters").or_else(|| function.get("input_schema"));
    Some(Tool { name: function.get("name")?.as_str()?.to_owned(), arguments: schema.map_or(Value::Null, example).to_string() })
}

fn ends_with_tool_result(messages: &Value) -> bool {
    let Some(last) = messages.as_array().and_then(|messages| messages.last()) else { return false };
    let is = |value: &Value, key: &str, text: &str| value.get(key).and_then(Value::as_str) == Some(text);
    is(last, "role", "tool")
        || is(last, "type", "function_call_output")
        || last
            .get("content")
            .and_then(Value::as_array)
            .is_some_and(|parts| parts.iter().any(|part| is(part, "type", "tool_result")))
}

/// A value that fits a JSON schema of the plain kind that tools use.
fn example(schema: &Value) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => Value::from("Trondheim"),
        Some("integer") => Value::from(7),
        Some("number") => Value::from(0.5),
        Some("boolean") => Value::from(true),
        Some("array") => Value::Array(schema.get("items").map(example).into_iter().collect()),
        _ => {
            let properties = schema.get("properties").and_then(Value::as_object);
            Value::Object(
                properties.into_iter().flatten().map(|(name, field)| (name.clone(), example(field))).collect::<Map<_, _>>(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_end_of_the_path_names_the_endpoint_under_any_base_path() {
        for (path, api) in [
            ("/v1/chat/completions", Api::Chat),
            ("/api/v1/ai/openai/cc-omg/v1/chat/completions", Api::Chat),
            ("/v1/completions", Api::Completions),
            ("/v1/messages", Api::Messages),
            ("/v1/messages/count_tokens", Api::CountTokens),
            ("/responses", Api::Responses),
            ("/v1/embeddings", Api::Embeddings),
            ("/v1/models", Api::Models),
            ("/v1/models/gpt-4", Api::Models),
            ("/v1/audio/speech", Api::Unknown),
        ] {
            assert_eq!(Api::of(path), api, "{path}");
        }
    }

    #[test]
    fn a_prompt_costs_its_words_wherever_they_stand() {
        let body = json!({
            "system": "be brief",
            "messages": [{ "role": "user", "content": "one two three" }, { "role": "user", "content": [{ "type": "text", "text": "four" }] }],
        });
        let ask = Ask::read(Api::Messages, Dialect::Anthropic, &body);
        assert_eq!(ask.prompt, Usage { input_tokens: PROMPT_BASE_TOKENS + 6, ..Usage::default() });
    }

    #[test]
    fn cache_marks_split_the_prompt_without_changing_its_sum() {
        let text = "w ".repeat(72);
        let body = json!({ "messages": [{ "role": "user", "content": [
            { "type": "text", "text": text, "cache_control": { "type": "ephemeral" } },
            { "type": "text", "text": "", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
        ] }] });
        let usage = Ask::read(Api::Messages, Dialect::Anthropic, &body).prompt;
        assert_eq!(
            usage,
            Usage {
                input_tokens: 20,
                cache_read_tokens: 40,
                cache_write_5m_tokens: 10,
                cache_write_1h_tokens: 10,
                output_tokens: 0
            }
        );
    }

    #[test]
    fn a_tool_is_called_once_with_arguments_that_fit_its_schema() {
        let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": {
            "type": "object", "properties": { "city": { "type": "string" }, "unit": { "enum": ["c", "f"] } } } } }]);
        let first = json!({ "messages": [{ "role": "user", "content": "weather?" }], "tools": tools });
        let tool = Ask::read(Api::Chat, Dialect::OpenAi, &first).tool.unwrap();
        assert_eq!((tool.name.as_str(), tool.arguments.as_str()), ("weather", r#"{"city":"Trondheim","unit":"c"}"#));

        let second = json!({ "messages": [{ "role": "tool", "content": "4 degrees" }], "tools": tools });
        assert!(Ask::read(Api::Chat, Dialect::OpenAi, &second).tool.is_none());
        let none = json!({ "messages": [], "tools": tools, "tool_choice": "none" });
        assert!(Ask::read(Api::Chat, Dialect::OpenAi, &none).tool.is_none());
    }
}
