//! Steps over tokens that lie whole in the window, nearly all of every body, without a turn of the state machine for each of their parts.
//!
//! Stops before whatever needs care: a value that was asked for, the end of a watched object, a token that the window cuts, and every
//! fault. The states in [`super`] and [`super::token`] take that one on, so each rule and each fault has its words in one place.

use super::number::Number;
use super::spill::MAX_TEXT;
use super::text;
use super::token::skip_with_unicode;
use super::{Interest, Raw, Scanner, State, Watcher, skip_space};
use crate::domain::json::fault::{MAX_DEPTH, PeekError};

/// What stands next. The states that may end a container are left at once: what follows a bracket is looked at with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Key,
    Value,
    CommaOrEnd,
}

impl Scanner {
    /// Returns what is left for the states; takes nothing where they stand inside of a token.
    pub(super) fn whole_tokens<'a, L: Watcher>(&mut self, rest: &'a [u8], watcher: &mut L) -> Result<&'a [u8], PeekError> {
        let mut rest = rest;
        let Some(mut next) = self.whole_token_due(rest) else { return Ok(rest) };
        self.state = loop {
            if next == Next::Key {
                let [b'"', text @ ..] = rest else { break State::Key };
                let Some(value) = self.whole_key(rest, text, watcher)? else { break State::Key };
                rest = value;
                next = Next::Value;
            }
            if next == Next::Value {
                let [byte, after @ ..] = rest else { break State::Value };
                if self.is_value_wanted() {
                    break State::Value;
                }
                match *byte {
                    b'"' => match skip_with_unicode(after) {
                        [b'"', after @ ..] => rest = after,
                        stop => {
                            self.is_key = false;
                            rest = stop;
                            break State::Text;
                        }
                    },
                    b'{' | b'[' if self.depth < MAX_DEPTH => {
                        let is_object = *byte == b'{';
                        self.nest(is_object);
                        rest = skip_any_space(after);
                        match (is_object, rest) {
                            (true, [b'"', ..]) => next = Next::Key,
                            (false, [b'}' | b']', ..] | []) => break State::ValueOrEnd,
                            (false, _) => next = Next::Value,
                            (true, _) => break State::KeyOrEnd,
                        }
                        continue;
                    }
                    byte => match whole_scalar(byte, rest, after) {
                        Some(after) => rest = after,
                        None => break State::Value,
                    },
                }
            }
            rest = skip_any_space(rest);
            let [byte, after @ ..] = rest else { break State::CommaOrEnd };
            let in_object = self.stack & 1 == 1;
            match (*byte, in_object) {
                (b',', _) => {
                    rest = skip_any_space(after);
                    next = if in_object { Next::Key } else { Next::Value };
                }
                (b'}', true) | (b']', false) if self.may_close_unheard() => {
                    self.leave();
                    rest = after;
                    next = Next::CommaOrEnd;
                }
                _ => break State::CommaOrEnd,
            }
        };
        Ok(rest)
    }

    /// Tells a key that must be told, and returns what follows its colon. `None`, and nothing is told, if one of them is cut or odd.
    #[inline]
    fn whole_key<'a, L: Watcher>(
        &mut self,
        rest: &'a [u8],
        text: &'a [u8],
        watcher: &mut L,
    ) -> Result<Option<&'a [u8]>, PeekError> {
        let is_told = self.depth == self.watched;
        let end = if is_told { text::skip_plain(text) } else { text::skip(text) };
        let [b'"', after @ ..] = end else { return Ok(None) };
        let [b':', value @ ..] = after else { return Ok(None) };
        if is_told {
            let raw = text.get(..text.len() - end.len()).filter(|raw| raw.len() <= MAX_TEXT);
            self.interest = watcher.key(self.depth, raw.map(|bytes| Raw { bytes, has_escapes: false }), self.offset(rest))?;
        }
        Ok(Some(skip_any_space(value)))
    }

    /// What stands next; `None`: the rest of a token, or something for the states.
    #[inline]
    fn whole_token_due(&self, rest: &[u8]) -> Option<Next> {
        match (self.state, rest) {
            (State::Key, _) | (State::KeyOrEnd, [b'"', ..]) => Some(Next::Key),
            (State::Value, _) => Some(Next::Value),
            (State::CommaOrEnd, _) => Some(Next::CommaOrEnd),
            _ => None,
        }
    }

    fn is_value_wanted(&self) -> bool {
        self.depth == self.watched && self.interest != Interest::Skip
    }

    /// Whether the open container is neither watched nor a value that was asked for.
    fn may_close_unheard(&self) -> bool {
        self.depth > self.watched + 1 || (self.depth == self.watched + 1 && self.interest == Interest::Skip)
    }
}

/// Most JSON on the wire has none.
#[inline]
fn skip_any_space(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0..=b' ', ..] => skip_space(bytes),
        _ => bytes,
    }
}

/// Returns what follows a number, a literal; `None` if it is cut or wrong, or is none.
#[inline]
fn whole_scalar<'a>(byte: u8, rest: &'a [u8], after: &'a [u8]) -> Option<&'a [u8]> {
    match byte {
        b't' => rest.strip_prefix(b"true"),
        b'f' => rest.strip_prefix(b"false"),
        b'n' => rest.strip_prefix(b"null"),
        _ => {
            let (number, rest) = Number::begin(byte)?.run(after);
            (number.may_end() && !rest.is_empty()).then_some(rest)
        }
    }
}
