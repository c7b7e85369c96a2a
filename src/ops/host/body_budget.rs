//! The memory that request bodies in flight may take together (Q3): a count of bytes, taken before they are held, given back on drop.
//!
//! Never blocks and never queues: a body that does not fit is refused at once, so that its client can come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget of the whole process. A reload changes its limit, not its count.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Count>);

#[derive(Debug)]
struct Count {
    limit_bytes: AtomicUsize,
    taken_bytes: AtomicUsize,
}

/// Bytes taken from the budget; dropping it gives all of them back.
#[derive(Debug)]
pub struct BodyPermit {
    budget: Arc<Count>,
    bytes: usize,
}

impl BodyBudget {
    pub fn new(limit_bytes: usize) -> Self {
        Self(Arc::new(Count { limit_bytes: AtomicUsize::new(limit_bytes), taken_bytes: AtomicUsize::new(0) }))
    }

    /// Takes `bytes`, or nothing where they don't fit.
    pub fn try_take(&self, bytes: usize) -> Option<BodyPermit> {
        self.0.take(bytes).then(|| BodyPermit { budget: Arc::clone(&self.0), bytes })
    }

    /// Bytes that permits hold at this moment.
    pub fn taken_bytes(&self) -> usize {
        self.0.taken_bytes.load(Ordering::Relaxed)
    }

    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes.load(Ordering::Relaxed)
    }

    /// Sets another limit. Permits that are out stay valid, even beyond it.
    pub fn set_limit_bytes(&self, limit_bytes: usize) {
        self.0.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }
}

impl BodyPermit {
    /// Takes `more` bytes; `false`, and nothing taken, where they don't fit.
    pub fn grow(&mut self, more: usize) -> bool {
        let fits = self.budget.take(more);
        if fits {
            self.bytes += more;
        }
        fits
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Count {
    fn take(&self, bytes: usize) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        self.taken_bytes
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |taken| taken.checked_add(bytes).filter(|sum| *sum <= limit))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q3_takes_up_to_the_limit_and_gives_back_on_drop() {
        let budget = BodyBudget::new(100);
        let first = budget.try_take(60).unwrap();
        assert!(budget.try_take(41).is_none());
        let second = budget.try_take(40).unwrap();
        assert_eq!(budget.taken_bytes(), 100);
        drop(first);
        assert_eq!(budget.taken_bytes(), 40);
        drop(second);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn q3_a_permit_grows_while_there_is_room() {
        let budget = BodyBudget::new(100);
        let mut permit = budget.try_take(0).unwrap();
        assert!(permit.grow(99));
        assert!(!permit.grow(2));
        assert!(!permit.grow(usize::MAX));
        assert_eq!((permit.bytes(), budget.taken_bytes()), (99, 99));
        drop(permit);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn another_limit_holds_from_the_next_byte_on() {
        let budget = BodyBudget::new(100);
        let mut permit = budget.try_take(80).unwrap();
        budget.set_limit_bytes(50);
        assert!(!permit.grow(1));
        assert!(budget.try_take(1).is_none());
        drop(permit);
        assert!(budget.try_take(50).is_some());
    }

    #[test]
    fn q3_many_threads_never_exceed_the_limit() {
        let budget = BodyBudget::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for size in 0..5_000 {
                        let permit = budget.try_take(size % 400);
                        assert!(budget.taken_bytes() <= 1_000);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(budget.taken_bytes(), 0);
    }
}
