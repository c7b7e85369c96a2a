//! Strings, numbers and literals: how each goes on, ends, and is told.

use super::text;
use super::{Literal, Number, Raw, Scanner, State, Token, Watcher};
use crate::domain::json::fault::PeekError;

impl Scanner {
    /// Skips text up to the closing quote, or to what needs a closer look.
    pub(super) fn text<'a, L: Watcher>(&mut self, token: &[u8], rest: &'a [u8], watcher: &mut L) -> Result<&'a [u8], PeekError> {
        let rest = skip_with_unicode(rest);
        match rest {
            [b'"', after @ ..] => {
                self.end_string(token, rest, watcher)?;
                Ok(after)
            }
            [b'\\', after @ ..] => Ok(self.enter(State::Escape, after)),
            [] => Ok(rest),
            _ => Err(PeekError::ControlCharacter { offset: self.offset(rest) }),
        }
    }

    pub(super) fn escape<'a>(&mut self, byte: u8, rest: &'a [u8], after: &'a [u8]) -> Result<&'a [u8], PeekError> {
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(self.enter(State::Text, after)),
            b'u' => Ok(self.enter(State::Hex(4), after)),
            _ => Err(self.unexpected_in_string(byte, rest, r#"one of `"\/bfnrtu` after a backslash"#)),
        }
    }

    pub(super) fn hex<'a>(&mut self, byte: u8, due: u8, rest: &'a [u8], after: &'a [u8]) -> Result<&'a [u8], PeekError> {
        if !byte.is_ascii_hexdigit() {
            return Err(self.unexpected_in_string(byte, rest, r"four hex digits after `\u`"));
        }
        Ok(self.enter(if due == 1 { State::Text } else { State::Hex(due - 1) }, after))
    }

    pub(super) fn number<'a, L: Watcher>(
        &mut self,
        number: Number,
        token: &[u8],
        rest: &'a [u8],
        watcher: &mut L,
    ) -> Result<&'a [u8], PeekError> {
        let (number, rest) = number.run(rest);
        self.state = State::Number(number);
        if rest.is_empty() {
            return Ok(rest);
        }
        if !number.may_end() {
            return Err(self.unexpected(rest, "a digit"));
        }
        self.end_scalar()?;
        if self.is_heeded {
            self.is_heeded = false;
            let span = self.value_at..self.offset(rest);
            watcher.value(Token::Number(self.spill.join(before(token, rest))), span)?;
            self.spill.clear();
        }
        Ok(rest)
    }

    pub(super) fn literal<'a, L: Watcher>(
        &mut self,
        literal: Literal,
        read: u8,
        rest: &'a [u8],
        watcher: &mut L,
    ) -> Result<&'a [u8], PeekError> {
        let mut read = read;
        let mut rest = rest;
        while let (Some(due), Some((byte, after))) = (literal.letters().get(usize::from(read)), rest.split_first()) {
            if byte != due {
                return Err(self.unexpected(rest, "`true`, `false` or `null`"));
            }
            read += 1;
            rest = after;
        }
        if usize::from(read) < literal.letters().len() {
            self.state = State::Literal(literal, read);
            return Ok(rest);
        }
        self.end_scalar()?;
        if self.is_heeded {
            self.is_heeded = false;
            self.spill.clear();
            let token = match literal {
                Literal::True => Token::True,
                Literal::False => Token::False,
                Literal::Null => Token::Null,
            };
            watcher.value(token, self.value_at..self.offset(rest))?;
        }
        Ok(rest)
    }

    fn end_string<L: Watcher>(&mut self, token: &[u8], rest: &[u8], watcher: &mut L) -> Result<(), PeekError> {
        self.state = if self.is_key { State::Colon } else { State::CommaOrEnd };
        if !self.is_heeded {
            return Ok(());
        }
        self.is_heeded = false;
        let after_quote = self.offset(rest) + 1;
        let raw = self.spill.join(before(token, rest));
        if self.is_key {
            self.interest = watcher.key(self.depth, raw.map(Raw::of), self.key_at)?;
        } else {
            watcher.value(Token::String(raw), self.value_at..after_quote)?;
        }
        self.spill.clear();
        Ok(())
    }

    /// A scalar that is the whole text is no object.
    fn end_scalar(&mut self) -> Result<(), PeekError> {
        if self.depth == 0 {
            return Err(PeekError::NotAnObject { offset: self.value_at });
        }
        self.state = State::CommaOrEnd;
        Ok(())
    }

    fn unexpected_in_string(&self, byte: u8, rest: &[u8], expected: &'static str) -> PeekError {
        let offset = self.offset(rest);
        if byte < 0x20 { PeekError::ControlCharacter { offset } } else { PeekError::Syntax { offset, expected } }
    }
}

impl<'a> Raw<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, has_escapes: bytes.contains(&b'\\') }
    }
}

impl Literal {
    fn letters(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

/// Skips plain text, simple escapes and whole `\uXXXX` escapes.
#[inline]
pub(super) fn skip_with_unicode(bytes: &[u8]) -> &[u8] {
    let mut rest = text::skip(bytes);
    while let [b'\\', b'u', digits @ ..] = rest
        && let Some(([a, b, c, d], after)) = digits.split_first_chunk::<4>()
        && a.is_ascii_hexdigit() & b.is_ascii_hexdigit() & c.is_ascii_hexdigit() & d.is_ascii_hexdigit()
    {
        // Runs of them are common: some encoders write every letter outside ASCII so.
        rest = if let [b'\\', b'u', ..] = after { after } else { text::skip(after) };
    }
    rest
}

/// What `token` has before `rest`, its end.
fn before<'a>(token: &'a [u8], rest: &[u8]) -> &'a [u8] {
    token.len().checked_sub(rest.len()).and_then(|len| token.get(..len)).unwrap_or_default()
}
