//! Collects what a body says while the scanner tells its keys and values: which keys count, and what their values mean.

use std::ops::Range;

use super::escape;
use super::fault::{MAX_MODEL_BYTES, PeekError};
use super::peeked::{AskedOutput, IncludeUsage, ModelName, Peeked, Room, UsageSite};
use super::scan::{Interest, Raw, Token, Watcher};

/// The keys that the gateway acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Model,
    Stream,
    StreamOptions,
    IncludeUsage,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    N,
    BestOf,
    Prompt,
}

impl Key {
    const TOP: [Self; 9] = [
        Self::Model,
        Self::Stream,
        Self::StreamOptions,
        Self::MaxTokens,
        Self::MaxCompletionTokens,
        Self::MaxOutputTokens,
        Self::N,
        Self::BestOf,
        Self::Prompt,
    ];

    /// Finds the key of an object at `depth` that has this name, upper and lower case being the same.
    fn find(depth: usize, name: &[u8]) -> Option<Self> {
        let has_name = |key: &Self| key.name().as_bytes().eq_ignore_ascii_case(name);
        match depth {
            1 if Self::has_length_of_one(name) => Self::TOP.into_iter().find(has_name),
            1 => None,
            _ => Some(Self::IncludeUsage).filter(has_name),
        }
    }

    /// Passes most other keys by at one look; the lengths are those of the names of [`Self::TOP`].
    fn has_length_of_one(name: &[u8]) -> bool {
        matches!(name.len(), 1 | 5 | 6 | 7 | 10 | 14 | 17 | 21)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::IncludeUsage => "include_usage",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::N => "n",
            Self::BestOf => "best_of",
            Self::Prompt => "prompt",
        }
    }

    /// The name for an error's `param`.
    fn path(self) -> &'static str {
        match self {
            Self::IncludeUsage => "stream_options.include_usage",
            other => other.name(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Findings {
    peeked: Peeked,
    /// One bit for each [`Key`] that was seen in any spelling.
    seen: u16,
    /// The last key that counts; only its value is told.
    current: Option<Key>,
}

impl Findings {
    pub fn new() -> Self {
        let usage_site = UsageSite::Top(Room { at: 0, is_empty: true });
        let peeked = Peeked {
            model: None,
            stream: false,
            output: AskedOutput::default(),
            prompts: None,
            include_usage: IncludeUsage::Absent,
            usage_site,
        };
        Self { peeked, seen: 0, current: None }
    }

    pub fn into_peeked(self) -> Peeked {
        self.peeked
    }

    fn model(&mut self, raw: Option<&[u8]>, span: Range<usize>) -> Result<(), PeekError> {
        let offset = span.start;
        let too_long = PeekError::ModelTooLong { offset };
        let Some(raw) = raw else { return Err(too_long) };
        let name = escape::decode(raw).map_err(|_| PeekError::LoneSurrogate { param: Some("model"), offset })?;
        if name.len() > MAX_MODEL_BYTES {
            return Err(too_long);
        }
        self.peeked.model = Some(ModelName { name: name.into_owned(), span });
        Ok(())
    }

    /// Heeds such a key where a parser that reads it as its own would let the request cost more.
    fn in_another_case(&mut self, key: Key) -> Interest {
        let output = &mut self.peeked.output;
        match key {
            Key::MaxTokens => output.max_tokens = Some(u64::MAX),
            Key::MaxCompletionTokens => output.max_completion_tokens = Some(u64::MAX),
            Key::MaxOutputTokens => output.max_output_tokens = Some(u64::MAX),
            Key::N | Key::BestOf | Key::Prompt => {
                self.current = Some(key);
                return Interest::Value;
            }
            Key::Model | Key::Stream | Key::StreamOptions | Key::IncludeUsage => {}
        }
        Interest::Skip
    }
}

impl Watcher for Findings {
    fn opened(&mut self, depth: usize, first_member: usize) {
        let room = Room { at: first_member, is_empty: true };
        self.peeked.usage_site = if depth == 1 { UsageSite::Top(room) } else { UsageSite::Options(room) };
    }

    fn key(&mut self, depth: usize, raw: Option<Raw<'_>>, at: usize) -> Result<Interest, PeekError> {
        match (&mut self.peeked.usage_site, depth) {
            (UsageSite::Top(room), 1) | (UsageSite::Options(room), 2) => room.is_empty = false,
            _ => {}
        }
        let Some(raw) = raw else { return Ok(Interest::Skip) };
        let decoded;
        let name = if raw.has_escapes {
            decoded = escape::decode(raw.bytes).map_err(|_| PeekError::LoneSurrogate { param: None, offset: at })?;
            decoded.as_bytes()
        } else {
            raw.bytes
        };
        let Some(key) = Key::find(depth, name) else { return Ok(Interest::Skip) };
        let bit = 1 << key as u8;
        if self.seen & bit != 0 {
            return Err(PeekError::DuplicateKey { key: key.path(), offset: at });
        }
        self.seen |= bit;
        if key.name().as_bytes() != name {
            return Ok(self.in_another_case(key));
        }
        self.current = Some(key);
        Ok(if key == Key::StreamOptions { Interest::Members } else { Interest::Value })
    }

    fn value(&mut self, token: Token<'_>, span: Range<usize>) -> Result<(), PeekError> {
        match (self.current, token) {
            (Some(Key::Model), Token::String(raw)) => return self.model(raw, span),
            (Some(Key::Stream), token) => self.peeked.stream = token == Token::True,
            (Some(Key::StreamOptions), _) => self.peeked.usage_site = UsageSite::NoObject(span),
            (Some(Key::IncludeUsage), token) => {
                self.peeked.include_usage = if token == Token::True { IncludeUsage::True } else { IncludeUsage::False };
                self.peeked.usage_site = UsageSite::Value(span);
            }
            (Some(Key::MaxTokens), token) => self.peeked.output.max_tokens = limit(token),
            (Some(Key::MaxCompletionTokens), token) => self.peeked.output.max_completion_tokens = limit(token),
            (Some(Key::MaxOutputTokens), token) => self.peeked.output.max_output_tokens = limit(token),
            (Some(Key::N), token) => self.peeked.output.n = count(token),
            (Some(Key::BestOf), token) => self.peeked.output.best_of = count(token),
            (Some(Key::Prompt), token) => self.peeked.prompts = (token == Token::Container).then_some(span),
            (Some(Key::Model) | None, _) => {}
        }
        Ok(())
    }
}

fn limit(token: Token<'_>) -> Option<u64> {
    if token == Token::Null { None } else { Some(count(token).unwrap_or(u64::MAX)) }
}

fn count(token: Token<'_>) -> Option<u64> {
    let Token::Number(Some(raw)) = token else { return None };
    non_negative_integer(raw)
}

/// Reads a number of digits alone; `1e3` and `1.0` are none.
fn non_negative_integer(raw: &[u8]) -> Option<u64> {
    raw.iter()
        .all(u8::is_ascii_digit)
        .then(|| raw.iter().fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_top_level_is_found_in_any_case_and_nothing_else_is() {
        for key in Key::TOP {
            assert_eq!(Key::find(1, key.name().as_bytes()), Some(key));
            assert_eq!(Key::find(1, key.name().to_uppercase().as_bytes()), Some(key));
            assert_eq!(Key::find(1, format!("{}_", key.name()).as_bytes()), None);
        }
        for other in ["", "m", "messages", "include_usage", "modem"] {
            assert_eq!(Key::find(1, other.as_bytes()), None, "{other}");
        }
    }
}
