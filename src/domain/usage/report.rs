//! What a meter says of an answer.

use super::facts::Facts;
use super::tokens::Usage;

/// Where a request's usage is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The provider's last word: the whole JSON body, or the event that carries a stream's totals.
    Final,
    /// A running count of a stream whose totals never came.
    Partial,
    /// Put together from the text that was seen. The meter never says this; billing may.
    Estimated,
    /// The provider reported nothing.
    None,
}

/// What a meter has seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of the model that was asked for. `None` exactly when `source` is [`Source::None`].
    pub usage: Option<Usage>,
    /// What other models used that the answer names; on top of `usage`, and nearly always nothing.
    pub others: Vec<Other>,
    pub facts: Facts,
    pub source: Source,
    /// The answer came to an end that its dialect knows: the last word, the terminator or an error event of a stream, the closed value of a
    /// JSON body. Always true for [`super::Shape::None`], of which no end is expected.
    pub terminated: bool,
    /// The provider itself reported an error in the answer (`response.failed` included).
    pub error_event: bool,
    /// Counts that were clamped, bent or unreadable; worth a metric.
    pub clamped: u32,
    /// Bytes of text in every field of the stream that carries output, as written in JSON (an escape is one byte, `\uXXXX`
    /// four). 0 unless [`super::Meter::counting_text`] asked for it; always 0 for JSON bodies.
    pub text_bytes: u64,
}

/// What a model used that is not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// As the answer names it.
    pub model: Box<str>,
    pub usage: Usage,
}

impl Source {
    /// The word in access lines, ledger entries and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Partial => "partial",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}
