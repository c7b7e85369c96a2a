//! Why a body is refused: one enum for every fault the scanner can meet, each with its place and its public sentence.
//!
//! The sentences say what to do and where; they never repeat text of the body.

use thiserror::Error;

/// The most bytes a model's name may have after its escapes are decoded; it goes into logs, metrics and maps.
pub const MAX_MODEL_BYTES: usize = 512;

/// The deepest nesting that is read (M9).
pub const MAX_DEPTH: usize = 128;

/// The first fault of a body. Offsets count bytes from the body's start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeekError {
    #[error("empty body")]
    Empty,
    #[error("syntax error at byte {offset}: expected {expected}")]
    Syntax { offset: usize, expected: &'static str },
    #[error("truncated after byte {offset}")]
    Truncated { offset: usize },
    #[error("raw control character at byte {offset}")]
    ControlCharacter { offset: usize },
    #[error("invalid UTF-8 at byte {offset}")]
    InvalidUtf8 { offset: usize },
    #[error("byte order mark")]
    ByteOrderMark,
    #[error("top level is no object, at byte {offset}")]
    NotAnObject { offset: usize },
    #[error("trailing data at byte {offset}")]
    TrailingData { offset: usize },
    #[error("nested deeper than {MAX_DEPTH} at byte {offset}")]
    TooDeep { offset: usize },
    #[error("duplicate key {key} at byte {offset}")]
    DuplicateKey { key: &'static str, offset: usize },
    /// Half of a surrogate pair in a key or in the model's name, where parsers disagree about what it means.
    #[error("lone surrogate at byte {offset}")]
    LoneSurrogate { param: Option<&'static str>, offset: usize },
    #[error("model name longer than {MAX_MODEL_BYTES} bytes at byte {offset}")]
    ModelTooLong { offset: usize },
}

impl PeekError {
    /// The word for the `code` of an error body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_body",
            Self::Syntax { .. } | Self::Truncated { .. } => "invalid_json",
            Self::ControlCharacter { .. } => "control_character",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::ByteOrderMark => "byte_order_mark",
            Self::NotAnObject { .. } => "not_an_object",
            Self::TrailingData { .. } => "trailing_data",
            Self::TooDeep { .. } => "nested_too_deep",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::LoneSurrogate { .. } => "lone_surrogate",
            Self::ModelTooLong { .. } => "model_name_too_long",
        }
    }

    /// The request's parameter that is at fault, where it is one.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::DuplicateKey { key, .. } => Some(key),
            Self::LoneSurrogate { param, .. } => *param,
            Self::ModelTooLong { .. } => Some("model"),
            Self::Empty
            | Self::Syntax { .. }
            | Self::Truncated { .. }
            | Self::ControlCharacter { .. }
            | Self::InvalidUtf8 { .. }
            | Self::ByteOrderMark
            | Self::NotAnObject { .. }
            | Self::TrailingData { .. }
            | Self::TooDeep { .. } => None,
        }
    }

    /// The place of the fault, in bytes from the body's start; `None`: it has none, or is at the start.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::ByteOrderMark => None,
            Self::Syntax { offset, .. }
            | Self::Truncated { offset }
            | Self::ControlCharacter { offset }
            | Self::InvalidUtf8 { offset }
            | Self::NotAnObject { offset }
            | Self::TrailingData { offset }
            | Self::TooDeep { offset }
            | Self::DuplicateKey { offset, .. }
            | Self::LoneSurrogate { offset, .. }
            | Self::ModelTooLong { offset } => Some(*offset),
        }
    }

    /// Says to the client what is wrong, where, and what to send instead. Holds no text of the body.
    pub fn public(&self) -> String {
        match self {
            Self::Empty => "The request's body is empty. Send a JSON object.".to_owned(),
            Self::Syntax { offset, expected } => format!("The body is not valid JSON: expected {expected} at byte {offset}."),
            Self::Truncated { offset } => {
                format!("The body is not valid JSON: it ends after {offset} bytes, before the object is closed. Send all of it.")
            }
            Self::ControlCharacter { offset } => {
                format!(
                    "The body has a raw control character at byte {offset}. Escape it, for example as \\n, and encode the body as UTF-8."
                )
            }
            Self::InvalidUtf8 { offset } => format!("The body is not valid UTF-8 at byte {offset}. Encode the JSON as UTF-8."),
            Self::ByteOrderMark => "The body begins with a byte order mark. Send the JSON without one.".to_owned(),
            Self::NotAnObject { .. } => "The body is JSON but no object. Send one JSON object.".to_owned(),
            Self::TrailingData { offset } => {
                format!(
                    "The body goes on at byte {offset} after its JSON object has ended. Send one object and nothing after it."
                )
            }
            Self::TooDeep { offset } => {
                format!("The body is nested deeper than {MAX_DEPTH} levels at byte {offset}. Send a flatter one.")
            }
            Self::DuplicateKey { key, offset } => {
                format!("The body sets `{key}` a second time at byte {offset}, upper and lower case being the same. Set it once.")
            }
            Self::LoneSurrogate { offset, .. } => {
                format!("The text at byte {offset} has half of a surrogate pair as \\u escape. Send both halves or neither.")
            }
            Self::ModelTooLong { .. } => {
                format!(
                    "The value of `model` is longer than {MAX_MODEL_BYTES} bytes. GET /v1/models lists the names that are served."
                )
            }
        }
    }

    /// Whether gateway and provider could read this body differently (M9). Such a body is always refused; one that is merely no
    /// valid JSON may go to the default target.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Empty | Self::Syntax { .. } | Self::Truncated { .. } => false,
            Self::ControlCharacter { .. }
            | Self::InvalidUtf8 { .. }
            | Self::ByteOrderMark
            | Self::NotAnObject { .. }
            | Self::TrailingData { .. }
            | Self::TooDeep { .. }
            | Self::DuplicateKey { .. }
            | Self::LoneSurrogate { .. }
            | Self::ModelTooLong { .. } => true,
        }
    }
}
