//! Admits bytes to the scanner as whole, valid UTF-8 characters, however the chunks cut them.
//!
//! ASCII, nearly all of every body, is seen by its missing high bits; only a window that has others is decoded. At most three bytes
//! wait for the rest of their character.

use std::str;

/// Small enough to be still in the first-level cache when the scanner reads it after the check.
const WINDOW: usize = 16 * 1024;

/// What may be scanned next.
pub(super) enum Admitted<'a> {
    /// Whole characters, in place.
    Text(&'a [u8]),
    /// A character that chunks had cut.
    Char(char),
    /// The chunk is used up.
    Nothing,
    /// The next byte not admitted begins no valid character.
    Invalid,
}

/// The part of a character that waits for its rest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    waiting: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Takes the next piece from the front of `chunk`.
    pub fn admit<'a>(&mut self, chunk: &mut &'a [u8]) -> Admitted<'a> {
        if self.len > 0 {
            return self.complete(chunk);
        }
        if chunk.is_empty() {
            return Admitted::Nothing;
        }
        let window = chunk.get(..WINDOW).unwrap_or(chunk);
        let valid = if window.is_ascii() { window.len() } else { valid_len(window) };
        if valid > 0 {
            let (text, rest) = chunk.split_at_checked(valid).unwrap_or((chunk, &[]));
            *chunk = rest;
            return Admitted::Text(text);
        }
        self.complete(chunk)
    }

    /// Whether a character has begun that is not whole.
    pub fn is_cut(&self) -> bool {
        self.len > 0
    }

    fn complete<'a>(&mut self, chunk: &mut &'a [u8]) -> Admitted<'a> {
        while let Some((byte, rest)) = chunk.split_first() {
            if let Some(free) = self.waiting.get_mut(self.len) {
                *free = *byte;
                self.len += 1;
            }
            *chunk = rest;
            match str::from_utf8(self.waiting.get(..self.len).unwrap_or_default()) {
                Ok(text) => {
                    self.len = 0;
                    return text.chars().next().map_or(Admitted::Nothing, Admitted::Char);
                }
                Err(error) if error.error_len().is_some() => return Admitted::Invalid,
                Err(_) => {}
            }
        }
        Admitted::Nothing
    }
}

fn valid_len(window: &[u8]) -> usize {
    match str::from_utf8(window) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    }
}
