//! Bytes of request bodies that are in memory: taken up to a limit or not at all, and given back by whoever took them (Q3, A4).

use std::sync::atomic::{AtomicUsize, Ordering};

/// One count: of one client, or of all of them together.
#[derive(Debug, Default)]
pub struct HeldBytes(AtomicUsize);

impl HeldBytes {
    /// Takes `more` bytes; `false`, and nothing taken, where the sum would be beyond `limit`.
    #[must_use]
    pub fn take(&self, more: usize, limit: usize) -> bool {
        let fits = |held: usize| held.checked_add(more).filter(|sum| *sum <= limit);
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    pub fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
