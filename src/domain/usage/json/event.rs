//! What a scanner finds in one event, or in one JSON body.

use super::super::counts::Counts;

/// What one event, or one JSON body, said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Event {
    pub(in super::super) kind: EventKind,
    /// A top-level `error` that is an object or a text.
    pub(in super::super) has_error: bool,
    /// A top-level `response` object.
    pub(in super::super) has_response: bool,
    /// `choices` is an empty array.
    pub(in super::super) empty_choices: bool,
    /// A complete `usage` object at the top level.
    pub(in super::super) has_usage: bool,
    /// That object counts output.
    pub(in super::super) has_output: bool,
    /// The data is `[DONE]` and nothing else.
    pub(in super::super) done: bool,
    pub(in super::super) counts: Counts,
    pub(in super::super) clamped: u32,
    pub(in super::super) text_bytes: u64,
}

impl Event {
    /// Whether text, if any, is all that it said.
    pub(in super::super) fn is_text_only(&self) -> bool {
        Self { text_bytes: 0, ..*self } == Self::default()
    }
}

/// The words of a top-level `type` that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum EventKind {
    #[default]
    Other,
    MessageStop,
    ResponseEnded,
    ResponseFailed,
    Error,
}

impl EventKind {
    pub(super) fn of(word: &[u8]) -> Self {
        match word {
            b"message_stop" => Self::MessageStop,
            b"response.completed" | b"response.incomplete" => Self::ResponseEnded,
            b"response.failed" => Self::ResponseFailed,
            b"error" => Self::Error,
            _ => Self::Other,
        }
    }
}
