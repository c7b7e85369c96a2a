//! What a peek finds in a request's body, and the edits that what it found allows.

use std::ops::Range;

use super::escape;
use super::splice::Edit;

/// What a request's body says, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// `None`: there is none, or it is no string.
    pub model: Option<ModelName>,
    /// `stream` is literally `true`.
    pub stream: bool,
    pub output: AskedOutput,
    /// The value of `prompt` where it is a list, in bytes from the body's start, for [`super::prompts`].
    pub prompts: Option<Range<usize>>,
    pub include_usage: IncludeUsage,
    pub(super) usage_site: UsageSite,
}

/// How much output a request asks for, field by field: which of them count is the API's matter. A number beyond `u64` is `u64::MAX`.
///
/// A limit is `None` where it is missing or `null`, and `u64::MAX` where it says something that is no non-negative integer, or its name
/// is spelled in another case: a provider may read that more generously than we do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedOutput {
    pub max_tokens: Option<u64>,
    pub max_completion_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// How many answers; `None`: missing, or no non-negative integer. Its name counts in any case.
    pub n: Option<u64>,
    /// Of how many answers the best are given; read like `n`.
    pub best_of: Option<u64>,
    /// How many prompts each get as many answers; never found by the peek, which leaves lists alone ([`Peeked::prompts`]).
    pub prompts: Option<u64>,
}

/// The model that the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// Decoded, at most [`super::fault::MAX_MODEL_BYTES`] long.
    pub name: String,
    /// The value with its quotes, in bytes from the body's start.
    pub span: Range<usize>,
}

/// What `stream_options.include_usage` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeUsage {
    Absent,
    /// Literally `false`, or anything else that is not `true`.
    False,
    True,
}

/// Where `stream_options.include_usage` is, or would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UsageSite {
    /// No `stream_options`: a member may be inserted into the top level.
    Top(Room),
    /// `stream_options` is an object without it.
    Options(Room),
    /// `stream_options` is no object.
    NoObject(Range<usize>),
    /// Its value.
    Value(Range<usize>),
}

/// The place of an object's first member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub at: usize,
    pub is_empty: bool,
}

impl Peeked {
    /// Replaces the model's name and nothing else (M13); `None` if the body names no model.
    pub fn rename_model(&self, to: &str) -> Option<Edit> {
        let model = self.model.as_ref()?;
        Some(Edit { at: model.span.clone(), with: escape::encode(to).into() })
    }

    /// Makes `stream_options.include_usage` true (U6); `None` if it is already.
    pub fn ask_for_usage(&self) -> Option<Edit> {
        if self.include_usage == IncludeUsage::True {
            return None;
        }
        Some(match &self.usage_site {
            UsageSite::Top(room) => room.insert(r#""stream_options":{"include_usage":true}"#),
            UsageSite::Options(room) => room.insert(r#""include_usage":true"#),
            UsageSite::NoObject(span) => Edit { at: span.clone(), with: r#"{"include_usage":true}"#.into() },
            UsageSite::Value(span) => Edit { at: span.clone(), with: "true".into() },
        })
    }
}

impl Room {
    fn insert(self, member: &str) -> Edit {
        let comma = if self.is_empty { "" } else { "," };
        Edit { at: self.at..self.at, with: format!("{member}{comma}").into() }
    }
}
