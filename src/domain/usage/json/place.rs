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
    /// What a block of Messages begins with.
    Block,
    /// Whatever stands below a field that carries output: every text in it counts.
    Output,
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
    /// A text that counts; a container is none.
    Text,
    /// What counts by every text that stands in it, and where.
    Output(Tally),
    /// What only an answer has: a list.
    Sign,
    /// The number of a choice.
    Index,
    /// Why a choice, or the answer, is at its end.
    Finish,
}

/// What the bytes of a text are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    Text,
    Echo,
    Whole,
}

impl Place {
    /// What the value of `key` is in this place; `tally`: what the text below the nearest field that carries output is added to.
    pub(super) fn role(self, key: &[u8], shape: Shape, counts_text: bool, tally: Tally) -> Role {
        match self {
            Self::Root => root(key, shape, counts_text),
            Self::Message | Self::Response if key == b"usage" => Role::Object(Self::Usage),
            Self::Response if key == b"output" && counts_text => Role::Output(Tally::Whole),
            Self::Usage | Self::Details if shape == Shape::Anthropic => anthropic(key, self),
            Self::Usage | Self::Details => openai(key, self),
            Self::Choice => match key {
                b"delta" => Role::Object(Self::Delta),
                b"text" => Role::Text,
                b"message" => Role::Output(Tally::Whole),
                b"index" => Role::Index,
                b"finish_reason" => Role::Finish,
                _ => Role::Skip,
            },
            Self::Delta if shape == Shape::Anthropic && key == b"stop_reason" => Role::Finish,
            // OpenRouter repeats the text of `reasoning` in it, or has what is encrypted here alone:
            // <https://openrouter.ai/docs/use-cases/reasoning-tokens>.
            Self::Delta if key == b"reasoning_details" => Role::Output(Tally::Echo),
            // A tool's result is none of the model's words.
            Self::Block if key == b"content" => Role::Text,
            Self::Delta | Self::Block | Self::Output if is_a_label(key) => Role::Skip,
            Self::Delta | Self::Block => Role::Output(Tally::Text),
            // What a whole item has beside the model's words: what tools are there, and what they said.
            Self::Output if tally == Tally::Whole && is_a_tools(key) => Role::Skip,
            Self::Output => Role::Output(tally),
            Self::Message | Self::Response | Self::Choices => Role::Skip,
        }
    }

    /// What the value of a key is that is too long to be one of those looked for, or escaped.
    pub(super) fn unread(self, tally: Tally) -> Role {
        self.role(b"", Shape::None, true, tally)
    }

    /// What an element of this array is; `tally`: as for [`Self::role`].
    pub(super) fn element(self, counts_text: bool, tally: Tally) -> Role {
        match self {
            Self::Choices if counts_text => Role::Object(Self::Choice),
            Self::Output => Role::Output(tally),
            _ => Role::Skip,
        }
    }

    /// The container around this one, where it is always the same; `None` for the root.
    pub(super) fn parent(self, usage_in: Self, shape: Shape) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Message | Self::Response | Self::Choices => Some(Self::Root),
            Self::Usage => Some(usage_in),
            Self::Details => Some(Self::Usage),
            Self::Choice => Some(Self::Choices),
            Self::Delta if shape == Shape::Anthropic => Some(Self::Root),
            Self::Delta => Some(Self::Choice),
            Self::Block | Self::Output => Some(Self::Root),
        }
    }
}

/// Fields beside a model's words that name, number or describe them. Every other field of a delta counts: the words of a kind that
/// nobody here knows are paid for as well.
fn is_a_label(key: &[u8]) -> bool {
    matches!(
        key,
        b"type"
            | b"id"
            | b"index"
            | b"role"
            | b"object"
            | b"status"
            | b"format"
            | b"model"
            | b"call_id"
            | b"item_id"
            | b"tool_use_id"
            | b"finish_reason"
            | b"stop_reason"
            | b"stop_sequence"
    )
}

fn is_a_tools(key: &[u8]) -> bool {
    matches!(key, b"tools" | b"results" | b"outputs" | b"output" | b"logprobs")
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
        (b"content_block", Shape::Anthropic) if counts_text => Role::Object(Place::Block),
        // What has deltas is repeated in `response.output_item.done` and `response.completed`; what has none stands there alone.
        (b"delta" | b"partial_image_b64", Shape::Responses) if counts_text => Role::Output(Tally::Text),
        (b"item", Shape::Responses) if counts_text => Role::Output(Tally::Whole),
        (b"content", Shape::Anthropic) | (b"output", Shape::Responses) | (b"data", Shape::OpenAiChat) => Role::Sign,
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
