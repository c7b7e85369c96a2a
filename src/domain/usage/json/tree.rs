//! The containers of a field that carries output, whatever they are: which of them are arrays, and where the outermost one stands.

use super::place::Place;

/// What is nested deeper is not counted: no field that is known comes near it.
const MOST_DEPTH: u32 = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    depth: u32,
    /// The lowest bit stands for the innermost container.
    arrays: u64,
    stands_in: Place,
}

impl Default for Tree {
    fn default() -> Self {
        Self { depth: 0, arrays: 0, stands_in: Place::Root }
    }
}

impl Tree {
    pub(super) fn begin_in(&mut self, place: Place) {
        *self = Self { stands_in: place, ..Self::default() };
    }

    pub(super) fn has_room(&self) -> bool {
        self.depth < MOST_DEPTH
    }

    pub(super) fn open(&mut self, is_array: bool) {
        self.depth += 1;
        self.arrays = self.arrays << 1 | u64::from(is_array);
    }

    pub(super) fn in_array(&self) -> bool {
        self.arrays & 1 == 1
    }

    /// Leaves the innermost container; gives the place that is next.
    pub(super) fn close(&mut self) -> Place {
        self.depth = self.depth.saturating_sub(1);
        self.arrays >>= 1;
        if self.depth == 0 { self.stands_in } else { Place::Output }
    }
}
