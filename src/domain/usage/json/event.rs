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
    /// Of reasoning in a second form, beside its text or in place of it.
    pub(in crate::domain::usage) echo_bytes: u64,
    /// Of output that is repeated whole behind its deltas, or that comes in one piece.
    pub(in crate::domain::usage) whole_bytes: u64,
    /// Something that an answer has and a mere sign of life, an error page or another API's object has not.
    pub(in crate::domain::usage) answers: bool,
    /// A `stop_reason` in the delta.
    pub(in crate::domain::usage) stops: bool,
    pub(in crate::domain::usage) choices: Choices,
}

impl Event {
    /// Whether text, if any, is all that it said.
    pub(in crate::domain::usage) fn is_text_only(&self) -> bool {
        let choices = Choices { seen: 0, ..self.choices };
        Self { text_bytes: 0, answers: false, choices, ..*self } == Self::default()
    }
}

/// The choices of an answer, a bit for each index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::domain::usage) struct Choices {
    pub(in crate::domain::usage) seen: u64,
    /// With their `finish_reason`.
    pub(in crate::domain::usage) finished: u64,
    /// One has an index beyond the bits: whether all are finished can't be told.
    pub(in crate::domain::usage) beyond: bool,
}

impl Choices {
    pub(super) fn note(&mut self, index: u64, is_finished: bool) {
        match u32::try_from(index).ok().and_then(|index| 1u64.checked_shl(index)) {
            Some(bit) => {
                self.seen |= bit;
                self.finished |= if is_finished { bit } else { 0 };
            }
            None => self.beyond = true,
        }
    }
}

/// The words of a top-level `type` that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::domain::usage) enum EventKind {
    #[default]
    Other,
    MessageDelta,
    MessageStop,
    /// An output, or a part of one, is whole.
    OutputDone,
    /// The same, and the event repeats all of it.
    ItemDone,
    OutputBegins,
    ResponseEnded,
    ResponseFailed,
    Error,
}

impl EventKind {
    pub(super) fn of(word: &[u8]) -> Self {
        match word {
            b"message_delta" => Self::MessageDelta,
            b"message_stop" => Self::MessageStop,
            b"response.completed" | b"response.incomplete" | b"response.cancelled" | b"response.canceled" => Self::ResponseEnded,
            b"response.failed" => Self::ResponseFailed,
            b"error" => Self::Error,
            b"response.output_item.done" => Self::ItemDone,
            b"response.output_item.added" | b"response.content_part.added" => Self::OutputBegins,
            // The thought is whole, the answer is yet to come.
            word if word.starts_with(b"response.reasoning") => Self::Other,
            word if word.starts_with(b"response.") && word.ends_with(b".done") => Self::OutputDone,
            _ => Self::Other,
        }
    }
}
