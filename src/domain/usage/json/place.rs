//! The tree of watched keys: where a scanner can stand, and what a key means there.

use super::super::counts::Field;
use super::super::shape::Shape;

/// A container that the scanner reads key by key; all others are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Message,
    Response,
    Usage,
    Details,
    Choices,
    Choice,
    Delta,
    /// The content of a delta in parts, and the thoughts within one of them: <https://docs.mistral.ai/capabilities/reasoning/>.
    Parts,
    Part,
    Thoughts,
    Thought,
    ToolCalls,
    ToolCall,
    Function,
}

/// What becomes of the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Skip,
    Object(Place),
    Array(Place),
    Count(Field),
    /// The event's type.
    Kind,
    Error,
    Text,
    /// Text, or an array of it.
    TextOr(Place),
}

impl Place {
    /// What the value of `key` is in this place.
    pub(super) fn role(self, key: &[u8], shape: Shape, counts_text: bool) -> Role {
        match self {
            Self::Root => root(key, shape, counts_text),
            Self::Message | Self::Response if key == b"usage" => Role::Object(Self::Usage),
            Self::Usage | Self::Details if shape == Shape::Anthropic => anthropic(key, self),
            Self::Usage | Self::Details => openai(key, self),
            Self::Choice => match key {
                b"delta" => Role::Object(Self::Delta),
                b"text" => Role::Text,
                _ => Role::Skip,
            },
            Self::Delta if shape == Shape::Anthropic => match key {
                b"text" | b"thinking" | b"partial_json" => Role::Text,
                _ => Role::Skip,
            },
            Self::Delta => match key {
                b"content" => Role::TextOr(Self::Parts),
                b"reasoning_content" | b"reasoning" | b"refusal" => Role::Text,
                b"tool_calls" => Role::Array(Self::ToolCalls),
                _ => Role::Skip,
            },
            Self::Part if key == b"thinking" => Role::TextOr(Self::Thoughts),
            Self::Part | Self::Thought if key == b"text" => Role::Text,
            Self::ToolCall if key == b"function" => Role::Object(Self::Function),
            Self::Function if key == b"arguments" => Role::Text,
            Self::Message | Self::Response | Self::Choices | Self::ToolCalls | Self::ToolCall | Self::Function => Role::Skip,
            Self::Parts | Self::Part | Self::Thoughts | Self::Thought => Role::Skip,
        }
    }

    /// What an element of this array is.
    pub(super) fn element(self, counts_text: bool) -> Role {
        match self {
            Self::Choices if counts_text => Role::Object(Self::Choice),
            Self::ToolCalls => Role::Object(Self::ToolCall),
            Self::Parts => Role::Object(Self::Part),
            Self::Thoughts => Role::Object(Self::Thought),
            _ => Role::Skip,
        }
    }

    pub(super) fn is_array(self) -> bool {
        matches!(self, Self::Choices | Self::ToolCalls | Self::Parts | Self::Thoughts)
    }

    /// The container around this one; `None` for the root.
    pub(super) fn parent(self, usage_in: Self, shape: Shape) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Message | Self::Response | Self::Choices => Some(Self::Root),
            Self::Usage => Some(usage_in),
            Self::Details => Some(Self::Usage),
            Self::Choice => Some(Self::Choices),
            Self::Delta if shape == Shape::Anthropic => Some(Self::Root),
            Self::Delta => Some(Self::Choice),
            Self::ToolCalls | Self::Parts => Some(Self::Delta),
            Self::Part => Some(Self::Parts),
            Self::Thoughts => Some(Self::Part),
            Self::Thought => Some(Self::Thoughts),
            Self::ToolCall => Some(Self::ToolCalls),
            Self::Function => Some(Self::ToolCall),
        }
    }
}

fn root(key: &[u8], shape: Shape, counts_text: bool) -> Role {
    match (key, shape) {
        (b"usage", _) => Role::Object(Place::Usage),
        (b"error", _) => Role::Error,
        (b"choices", Shape::OpenAiChat) => Role::Array(Place::Choices),
        (b"type", Shape::Anthropic | Shape::Responses) => Role::Kind,
        (b"message", Shape::Anthropic) => Role::Object(Place::Message),
        (b"response", Shape::Responses) => Role::Object(Place::Response),
        (b"delta", Shape::Anthropic) if counts_text => Role::Object(Place::Delta),
        // Of a Responses stream only the deltas count: `…done` and `response.completed` repeat the text.
        (b"delta", Shape::Responses) if counts_text => Role::Text,
        _ => Role::Skip,
    }
}

/// <https://docs.anthropic.com/en/api/messages>, `usage`.
fn anthropic(key: &[u8], place: Place) -> Role {
    match (place, key) {
        (Place::Usage, b"input_tokens") => Role::Count(Field::Input),
        (Place::Usage, b"output_tokens") => Role::Count(Field::Output),
        (Place::Usage, b"cache_read_input_tokens") => Role::Count(Field::CacheRead),
        (Place::Usage, b"cache_creation_input_tokens") => Role::Count(Field::CacheWrite),
        (Place::Usage, b"cache_creation") => Role::Object(Place::Details),
        (Place::Details, b"ephemeral_5m_input_tokens") => Role::Count(Field::CacheWrite5m),
        (Place::Details, b"ephemeral_1h_input_tokens") => Role::Count(Field::CacheWrite1h),
        _ => Role::Skip,
    }
}

/// <https://platform.openai.com/docs/api-reference/chat/object>,
/// <https://platform.openai.com/docs/api-reference/responses/object>. Chat says prompt and completion, Responses and images say
/// input and output; compatible servers mix them.
fn openai(key: &[u8], place: Place) -> Role {
    match (place, key) {
        (Place::Usage, b"prompt_tokens" | b"input_tokens") => Role::Count(Field::Input),
        (Place::Usage, b"completion_tokens" | b"output_tokens") => Role::Count(Field::Output),
        (Place::Usage, b"total_tokens") => Role::Count(Field::Total),
        (Place::Usage, b"prompt_tokens_details" | b"input_tokens_details") => Role::Object(Place::Details),
        (Place::Details, b"cached_tokens") => Role::Count(Field::CacheRead),
        _ => Role::Skip,
    }
}
