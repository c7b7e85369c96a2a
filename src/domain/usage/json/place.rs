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
pub(super) enum Target {
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
    pub(super) fn target(self, key: &[u8], shape: Shape, counts_text: bool) -> Target {
        match self {
            Self::Root => root(key, shape, counts_text),
            Self::Message | Self::Response if key == b"usage" => Target::Object(Self::Usage),
            Self::Usage | Self::Details if shape == Shape::Anthropic => anthropic(key, self),
            Self::Usage | Self::Details => openai(key, self),
            Self::Choice => match key {
                b"delta" => Target::Object(Self::Delta),
                b"text" => Target::Text,
                _ => Target::Skip,
            },
            Self::Delta if shape == Shape::Anthropic => match key {
                b"text" | b"thinking" | b"partial_json" => Target::Text,
                _ => Target::Skip,
            },
            Self::Delta => match key {
                b"content" => Target::TextOr(Self::Parts),
                b"reasoning_content" | b"reasoning" | b"refusal" => Target::Text,
                b"tool_calls" => Target::Array(Self::ToolCalls),
                _ => Target::Skip,
            },
            Self::Part if key == b"thinking" => Target::TextOr(Self::Thoughts),
            Self::Part | Self::Thought if key == b"text" => Target::Text,
            Self::ToolCall if key == b"function" => Target::Object(Self::Function),
            Self::Function if key == b"arguments" => Target::Text,
            Self::Message | Self::Response | Self::Choices | Self::ToolCalls | Self::ToolCall | Self::Function => Target::Skip,
            Self::Parts | Self::Part | Self::Thoughts | Self::Thought => Target::Skip,
        }
    }

    /// What an element of this array is.
    pub(super) fn element(self, counts_text: bool) -> Target {
        match self {
            Self::Choices if counts_text => Target::Object(Self::Choice),
            Self::ToolCalls => Target::Object(Self::ToolCall),
            Self::Parts => Target::Object(Self::Part),
            Self::Thoughts => Target::Object(Self::Thought),
            _ => Target::Skip,
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

fn root(key: &[u8], shape: Shape, counts_text: bool) -> Target {
    match (key, shape) {
        (b"usage", _) => Target::Object(Place::Usage),
        (b"error", _) => Target::Error,
        (b"choices", Shape::OpenAiChat) => Target::Array(Place::Choices),
        (b"type", Shape::Anthropic | Shape::Responses) => Target::Kind,
        (b"message", Shape::Anthropic) => Target::Object(Place::Message),
        (b"response", Shape::Responses) => Target::Object(Place::Response),
        (b"delta", Shape::Anthropic) if counts_text => Target::Object(Place::Delta),
        // Of a Responses stream only the deltas count: `…done` and `response.completed` repeat the text.
        (b"delta", Shape::Responses) if counts_text => Target::Text,
        _ => Target::Skip,
    }
}

/// <https://docs.anthropic.com/en/api/messages>, `usage`.
fn anthropic(key: &[u8], place: Place) -> Target {
    match (place, key) {
        (Place::Usage, b"input_tokens") => Target::Count(Field::Input),
        (Place::Usage, b"output_tokens") => Target::Count(Field::Output),
        (Place::Usage, b"cache_read_input_tokens") => Target::Count(Field::CacheRead),
        (Place::Usage, b"cache_creation_input_tokens") => Target::Count(Field::CacheWrite),
        (Place::Usage, b"cache_creation") => Target::Object(Place::Details),
        (Place::Details, b"ephemeral_5m_input_tokens") => Target::Count(Field::CacheWrite5m),
        (Place::Details, b"ephemeral_1h_input_tokens") => Target::Count(Field::CacheWrite1h),
        _ => Target::Skip,
    }
}

/// <https://platform.openai.com/docs/api-reference/chat/object>,
/// <https://platform.openai.com/docs/api-reference/responses/object>. Chat says prompt and completion, Responses and images say
/// input and output; compatible servers mix them.
fn openai(key: &[u8], place: Place) -> Target {
    match (place, key) {
        (Place::Usage, b"prompt_tokens" | b"input_tokens") => Target::Count(Field::Input),
        (Place::Usage, b"completion_tokens" | b"output_tokens") => Target::Count(Field::Output),
        (Place::Usage, b"total_tokens") => Target::Count(Field::Total),
        (Place::Usage, b"prompt_tokens_details" | b"input_tokens_details") => Target::Object(Place::Details),
        (Place::Details, b"cached_tokens") => Target::Count(Field::CacheRead),
        _ => Target::Skip,
    }
}
