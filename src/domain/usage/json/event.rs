//! What a scanner finds in one event, or in one JSON body.

use super::super::counts::Counts;

/// What one event, or one JSON body, said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::domain::usage) struct Event {
    pub(in crate::domain::usage) kind: EventKind,
    /// A top-level `error` that is an object or a text.
    pub(in crate::domain::usage) has_error: bool,
    /// A top-level `response` object.
    pub(in crate::domain::usage) has_response: bool,
    /// `choices` is an empty array.
    pub(in crate::domain::usage) empty_choices: bool,
    /// A complete `usage` object at the top level.
    pub(in crate::domain::usage) has_usage: bool,
    /// That object counts output.
    pub(in crate::domain::usage) has_output: bool,
    /// The data is `[DONE]` and nothing else.
    pub(in crate::domain::usage) done: bool,
    pub(in crate::domain::usage) counts: Counts,
    pub(in crate::domain::usage) clamped: u32,
    pub(in crate::domain::usage) text_bytes: u64,
}

impl Event {
    /// Whether text, if any, is all that it said.
    pub(in crate::domain::usage) fn is_text_only(&self) -> bool {
        Self { text_bytes: 0, ..*self } == Self::default()
    }
}

/// The words of a top-level `type` that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::domain::usage) enum EventKind {
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
