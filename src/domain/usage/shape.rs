//! How an answer is written: which fields its usage stands in, how it is framed, and how it ends.

use crate::domain::dialect::Api;

/// Which fields usage stands in, and how a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Chat and text completions, embeddings and what else speaks OpenAI: top-level `usage`; streams end with `data: [DONE]`, and are whole
    /// with a `finish_reason` on every choice.
    OpenAiChat,
    /// Messages: `message.usage` and top-level `usage`; streams end with `message_stop`, and are whole with a
    /// `stop_reason` in `message_delta`.
    Anthropic,
    /// Responses: `response.usage` and top-level `usage`; streams end with `response.completed`, `.incomplete`, `.failed`
    /// or `.cancelled`.
    Responses,
    /// Nothing is observed: count_tokens answers and what is not billed.
    None,
}

/// How the answer is framed, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Sse,
    Json,
}

impl Shape {
    /// The shape of the answers of an upstream that speaks this API.
    pub fn of(spoken: Api) -> Self {
        match spoken {
            Api::ChatCompletions | Api::Completions | Api::Embeddings | Api::Other => Self::OpenAiChat,
            Api::Messages => Self::Anthropic,
            Api::Responses => Self::Responses,
            Api::CountTokens | Api::Models | Api::Root | Api::Unknown => Self::None,
        }
    }
}
