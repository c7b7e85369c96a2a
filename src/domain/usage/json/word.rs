//! One key, number or type word, put together from pieces.

/// Longer than every key and type that is looked for, and than every count that could be true.
const CAPACITY: usize = 48;

#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    text: [u8; CAPACITY],
    len: usize,
    /// Longer than the room for it, or escaped: equal to nothing.
    spoilt: bool,
}

impl Default for Word {
    fn default() -> Self {
        Self { text: [0; CAPACITY], len: 0, spoilt: false }
    }
}

impl Word {
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.spoilt = false;
    }

    pub(super) fn spoil(&mut self) {
        self.spoilt = true;
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = self.text.get_mut(self.len..).unwrap_or_default();
        let taken = piece.len().min(room.len());
        for (to, from) in room.iter_mut().zip(piece) {
            *to = *from;
        }
        self.len += taken;
        self.spoilt |= taken < piece.len();
    }

    /// The word that ends with `last`; not copied when `last` is all of it. `None`: too long or escaped.
    pub(super) fn join<'a>(&'a mut self, last: &'a [u8]) -> Option<&'a [u8]> {
        if self.len == 0 && !self.spoilt {
            return Some(last);
        }
        self.push(last);
        if self.spoilt { None } else { self.text.get(..self.len) }
    }

    /// The beginning of the word that ends with `last`, and whether more of it came than there was room for.
    pub(super) fn begun<'a>(&'a mut self, last: &'a [u8]) -> (&'a [u8], bool) {
        if self.len == 0 && last.len() <= CAPACITY {
            return (last, false);
        }
        self.push(last);
        (self.text.get(..self.len).unwrap_or_default(), self.spoilt)
    }
}
