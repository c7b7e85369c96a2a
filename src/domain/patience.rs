//! How long an answer waits for a client that reads slowly.
//!
//! Only the time counts in which bytes stood ready and the client took none, so a provider's silence costs nothing. That time runs
//! against a budget; what the client takes fills it up again, at the rate that is the least. A client that takes nothing is over
//! when the whole budget is, one that drips below the rate sooner or later, one above it never.

use std::time::Duration;

/// The budget of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    left: Duration,
    most: Duration,
    bytes_per_s: u64,
}

impl Patience {
    /// `most`: without a byte taken; `bytes_per_s`: in the long run. Zero counts as one.
    pub fn new(most: Duration, bytes_per_s: u64) -> Self {
        Self { left: most, most, bytes_per_s: bytes_per_s.max(1) }
    }

    /// How much longer it lasts if nothing is taken.
    pub fn left(&self) -> Duration {
        self.left
    }

    pub fn is_over(&self) -> bool {
        self.left.is_zero()
    }

    /// Counts what was taken while the answer waited for so long.
    pub fn spend(&mut self, waited: Duration, taken: u64) {
        let earned = taken.saturating_mul(1000) / self.bytes_per_s;
        let left = self.left.saturating_add(Duration::from_millis(earned)).saturating_sub(waited);
        self.left = left.min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// How long a client holds an answer that takes `taken` bytes each `every`, at most a day.
    fn held(every: Duration, taken: u64) -> Option<Duration> {
        let (mut patience, mut held) = (Patience::new(STALL, 100), Duration::ZERO);
        while held < Duration::from_secs(86_400) {
            if patience.left() <= every {
                return Some(held + patience.left());
            }
            patience.spend(every, taken);
            held += every;
        }
        None
    }

    #[test]
    fn a5_a_client_that_takes_nothing_is_over_after_the_whole_budget() {
        assert_eq!(held(Duration::from_secs(1), 0), Some(STALL));
    }

    #[test]
    fn a5_a_client_that_drips_is_over_soon_and_a_slow_one_never() {
        for (every, taken) in [(1, 1), (1, 50), (30, 1), (59, 1)] {
            let held = held(Duration::from_secs(every), taken).expect("it ends");
            assert!(held <= 3 * STALL, "{every} {taken}: {held:?}");
        }
        for (every, taken) in [(1, 100), (1, 100_000), (50, 16_384)] {
            assert_eq!(held(Duration::from_secs(every), taken), None, "{every} {taken}");
        }
    }

    #[test]
    fn a5_nothing_is_saved_up_beyond_the_budget() {
        let mut patience = Patience::new(STALL, 100);
        patience.spend(Duration::from_secs(1), u64::MAX);
        assert_eq!(patience.left(), STALL);
        patience.spend(STALL, 0);
        assert!(patience.is_over());
    }
}
