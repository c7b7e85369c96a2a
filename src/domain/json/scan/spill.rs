//! What earlier windows had of a key or value that is asked for and that chunks cut.

use crate::domain::json::fault::MAX_MODEL_BYTES;

/// The longest raw text that is handed over; longer ones are told as `None`. A name of 512 bytes has at most 6 raw bytes for each.
pub(super) const MAX_TEXT: usize = 6 * MAX_MODEL_BYTES;

/// Holds what earlier windows had of a key or value that is asked for.
#[derive(Debug, Default)]
pub(super) struct Spill {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Spill {
    /// Keeps the part of a token that its window holds.
    pub(super) fn add(&mut self, part: &[u8]) {
        self.is_too_long |= self.bytes.len() + part.len() > MAX_TEXT;
        if !self.is_too_long {
            self.bytes.extend_from_slice(part);
        }
    }

    /// The whole token, in place where one window has all of it; `None` if it is longer than [`MAX_TEXT`].
    pub(super) fn join<'a>(&'a mut self, last: &'a [u8]) -> Option<&'a [u8]> {
        if self.bytes.is_empty() && !self.is_too_long {
            return (last.len() <= MAX_TEXT).then_some(last);
        }
        self.add(last);
        (!self.is_too_long).then_some(&self.bytes)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.is_too_long = false;
    }
}
