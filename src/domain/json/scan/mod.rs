//! The strict JSON scanner: grammar, depth and UTF-8 are checked while the bytes pass, in any chunks, without a tree.
//!
//! It stops at the first fault and the same bytes give the same fault however they are cut. Of an object that is watched, the keys and
//! the values that a [`Watcher`] asked for are told with their places; all else is only validated. The top level must be an object.
//!
//! Memory: the nesting as one bit per level, and at most [`spill::MAX_TEXT`] bytes of a key or value that chunks cut.

mod block;
pub(in crate::domain) mod closing;
mod number;
mod spill;
mod text;
mod token;
mod utf8;
mod whole;

use std::ops::Range;

use self::number::Number;
use self::spill::Spill;
use self::utf8::{Admitted, Utf8};
use super::fault::{MAX_DEPTH, PeekError};

/// What the watcher wants to know of the value that belongs to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Nothing.
    Skip,
    /// What it is and where.
    Value,
    /// Its members if it is an object; what it is and where if not.
    Members,
}

/// A value that was asked for, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// The raw text between the quotes; `None` if longer than [`spill::MAX_TEXT`].
    String(Option<&'a [u8]>),
    /// The raw text; `None` if longer than [`spill::MAX_TEXT`].
    Number(Option<&'a [u8]>),
    True,
    False,
    Null,
    Container,
}

/// The text between a string's quotes as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'a> {
    pub bytes: &'a [u8],
    /// If not, the bytes are the text itself.
    pub has_escapes: bool,
}

/// Is told of watched objects. Offsets count from the first byte that was pushed.
pub(super) trait Watcher {
    /// A watched object begins: its first member would stand at `first_member`.
    fn opened(&mut self, depth: usize, first_member: usize);
    /// A key of the watched object at `depth` (1: the top level) was read; `raw` is `None` if longer than [`spill::MAX_TEXT`].
    fn key(&mut self, depth: usize, raw: Option<Raw<'_>>, at: usize) -> Result<Interest, PeekError>;
    /// The value of the last key, if it was asked for; `span` includes a string's quotes.
    fn value(&mut self, token: Token<'_>, span: Range<usize>) -> Result<(), PeekError>;
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Text,
    Escape,
    /// Hex digits that are still due.
    Hex(u8),
    /// How many of its letters were read.
    Literal(Literal, u8),
    Number(Number),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literal {
    True,
    False,
    Null,
}

#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// One bit per open container, the innermost lowest: 1 for an object.
    stack: u128,
    depth: usize,
    /// How many of the outer levels are watched objects.
    watched: usize,
    /// What was answered to the last key that was told.
    interest: Interest,
    /// The open string is a key.
    is_key: bool,
    /// The open key or scalar is told when it ends.
    is_heeded: bool,
    /// Where the open key begins.
    key_at: usize,
    /// Where the value that was asked for begins.
    value_at: usize,
    /// The offset after the window that is scanned.
    end: usize,
    spill: Spill,
    utf8: Utf8,
}

impl Scanner {
    pub fn new() -> Self {
        Self {
            state: State::Start,
            stack: 0,
            depth: 0,
            watched: 0,
            interest: Interest::Members,
            is_key: false,
            is_heeded: false,
            key_at: 0,
            value_at: 0,
            end: 0,
            spill: Spill::default(),
            utf8: Utf8::default(),
        }
    }

    /// Scans the next bytes. After an error the scanner is spent.
    pub fn push<L: Watcher>(&mut self, chunk: &[u8], watcher: &mut L) -> Result<(), PeekError> {
        let mut chunk = chunk;
        loop {
            match self.utf8.admit(&mut chunk) {
                Admitted::Text(text) => self.scan(text, watcher)?,
                Admitted::Char(char) => self.scan(char.encode_utf8(&mut [0; 4]).as_bytes(), watcher)?,
                Admitted::Nothing => return Ok(()),
                Admitted::Invalid => return Err(PeekError::InvalidUtf8 { offset: self.end }),
            }
        }
    }

    /// Checks that the text ended where it may end.
    pub fn finish(&self) -> Result<(), PeekError> {
        let offset = self.end;
        if self.utf8.is_cut() {
            return Err(PeekError::InvalidUtf8 { offset });
        }
        match self.state {
            State::End => Ok(()),
            State::Start => Err(PeekError::Empty),
            State::Number(number) if self.depth == 0 && number.may_end() => Err(PeekError::NotAnObject { offset: self.value_at }),
            _ => Err(PeekError::Truncated { offset }),
        }
    }

    /// Where the string begins that was asked for and is not yet complete.
    pub fn open_string(&self) -> Option<usize> {
        let in_string = matches!(self.state, State::Text | State::Escape | State::Hex(_));
        (in_string && self.is_heeded && !self.is_key).then_some(self.value_at)
    }

    fn scan<L: Watcher>(&mut self, window: &[u8], watcher: &mut L) -> Result<(), PeekError> {
        self.end += window.len();
        let mut rest = window;
        // What this window has of the open key or scalar.
        let mut token = window;
        loop {
            rest = self.whole_tokens(rest, watcher)?;
            let Some((&byte, after)) = rest.split_first() else { break };
            rest = match self.state {
                State::Text => self.text(token, rest, watcher)?,
                State::Escape => self.escape(byte, rest, after)?,
                State::Hex(due) => self.hex(byte, due, rest, after)?,
                State::Number(number) => self.number(number, token, rest, watcher)?,
                State::Literal(literal, read) => self.literal(literal, read, rest, watcher)?,
                _ if is_space(byte) => skip_space(after),
                State::CommaOrEnd => self.comma_or_end(byte, rest, after, watcher)?,
                State::Colon if byte == b':' => self.enter(State::Value, skip_space(after)),
                State::Colon => return Err(self.unexpected(rest, "`:` after the key")),
                State::KeyOrEnd if byte == b'}' => self.close(after, watcher)?,
                State::Key | State::KeyOrEnd => {
                    token = after;
                    self.begin_key(byte, rest, after)?
                }
                State::ValueOrEnd if byte == b']' => self.close(after, watcher)?,
                State::Start | State::Value | State::ValueOrEnd => {
                    token = if byte == b'"' { after } else { rest };
                    self.begin_value(byte, rest, after, watcher)?
                }
                State::End => return Err(PeekError::TrailingData { offset: self.offset(rest) }),
            };
        }
        if self.is_heeded {
            self.spill.add(token);
        }
        Ok(())
    }

    fn begin_key<'a>(&mut self, byte: u8, rest: &'a [u8], after: &'a [u8]) -> Result<&'a [u8], PeekError> {
        if byte != b'"' {
            return Err(self.unexpected(rest, "a key in double quotes"));
        }
        self.is_key = true;
        self.is_heeded = self.depth == self.watched;
        self.key_at = self.offset(rest);
        Ok(self.enter(State::Text, after))
    }

    fn begin_value<'a, L: Watcher>(
        &mut self,
        byte: u8,
        rest: &'a [u8],
        after: &'a [u8],
        watcher: &mut L,
    ) -> Result<&'a [u8], PeekError> {
        let is_wanted = self.depth == self.watched && self.interest != Interest::Skip;
        if is_wanted {
            self.value_at = self.offset(rest);
        }
        if self.depth == 0 && matches!(byte, b'"' | b'[') {
            return Err(PeekError::NotAnObject { offset: self.value_at });
        }
        if matches!(byte, b'{' | b'[') {
            return self.open(byte, is_wanted, rest, after, watcher);
        }
        let state = match byte {
            b'"' => State::Text,
            b't' => State::Literal(Literal::True, 1),
            b'f' => State::Literal(Literal::False, 1),
            b'n' => State::Literal(Literal::Null, 1),
            _ => match Number::begin(byte) {
                Some(number) => State::Number(number),
                None => return Err(self.unexpected(rest, "a value")),
            },
        };
        self.is_key = false;
        self.is_heeded = is_wanted;
        Ok(self.enter(state, after))
    }

    fn open<'a, L: Watcher>(
        &mut self,
        byte: u8,
        is_wanted: bool,
        rest: &'a [u8],
        after: &'a [u8],
        watcher: &mut L,
    ) -> Result<&'a [u8], PeekError> {
        if self.depth == MAX_DEPTH {
            return Err(PeekError::TooDeep { offset: self.offset(rest) });
        }
        let is_object = byte == b'{';
        if is_wanted && is_object && self.interest == Interest::Members {
            self.watched += 1;
            watcher.opened(self.watched, self.offset(after));
        }
        self.nest(is_object);
        Ok(self.enter(if is_object { State::KeyOrEnd } else { State::ValueOrEnd }, after))
    }

    fn comma_or_end<'a, L: Watcher>(
        &mut self,
        byte: u8,
        rest: &'a [u8],
        after: &'a [u8],
        watcher: &mut L,
    ) -> Result<&'a [u8], PeekError> {
        let in_object = self.stack & 1 == 1;
        match (byte, in_object) {
            (b',', true) => Ok(self.enter(State::Key, skip_space(after))),
            (b',', false) => Ok(self.enter(State::Value, skip_space(after))),
            (b'}', true) | (b']', false) => self.close(after, watcher),
            (_, true) => Err(self.unexpected(rest, "`,` or `}`")),
            (_, false) => Err(self.unexpected(rest, "`,` or `]`")),
        }
    }

    fn close<'a, L: Watcher>(&mut self, after: &'a [u8], watcher: &mut L) -> Result<&'a [u8], PeekError> {
        let was_watched = self.depth == self.watched;
        self.leave();
        if was_watched {
            self.watched -= 1;
        } else if self.depth == self.watched && self.interest != Interest::Skip {
            watcher.value(Token::Container, self.value_at..self.offset(after))?;
        }
        Ok(self.enter(if self.depth == 0 { State::End } else { State::CommaOrEnd }, after))
    }

    #[inline]
    fn nest(&mut self, is_object: bool) {
        self.depth += 1;
        self.stack = self.stack << 1 | u128::from(is_object);
    }

    #[inline]
    fn leave(&mut self) {
        self.depth -= 1;
        self.stack >>= 1;
    }

    fn enter<'a>(&mut self, state: State, rest: &'a [u8]) -> &'a [u8] {
        self.state = state;
        rest
    }

    /// The place of `rest` in the whole text.
    fn offset(&self, rest: &[u8]) -> usize {
        self.end - rest.len()
    }

    fn unexpected(&self, rest: &[u8], expected: &'static str) -> PeekError {
        let offset = self.offset(rest);
        match rest {
            // UTF-16 has zero bytes here; parsers that guess the encoding would read on.
            [(0..0x20), ..] if !rest.first().is_some_and(|byte| is_space(*byte)) => PeekError::ControlCharacter { offset },
            [0xef, 0xbb, 0xbf, ..] if offset == 0 => PeekError::ByteOrderMark,
            _ => PeekError::Syntax { offset, expected },
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\n' | b'\r' | b'\t', after @ ..] = rest {
        rest = after;
    }
    rest
}
