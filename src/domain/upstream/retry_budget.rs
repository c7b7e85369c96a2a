//! How much a brown-out may add to the load: retries are paid from a budget that requests fill.
//!
//! Each request pays in a share of a retry (`retry.max_share_percent`), each retry takes out a whole one, so in the long run retries
//! are at most that share of the requests. A little flows in with time as well, or a service with few requests could never retry.
//! Not paid from here: the next key after 429, 402, 401 or 403, for each of those takes its key out and so ends by itself; what was no attempt, as
//! by a connection that had died; and what one client can bring about at will, like a model that no key may use: it must not take the
//! retries from the others.
//!
//! After Finagle's retry budgets: <https://twitter.github.io/finagle/guide/Clients.html#retries>

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::moment::Moment;

/// In thousandths of a retry.
const ONE: u64 = 1_000;
/// What an idle time may save up for: retries.
const MOST_SAVED: u64 = 100 * ONE;
/// Retries that flow in with each second.
const PER_SECOND: u64 = 10;

#[derive(Debug)]
pub struct RetryBudget {
    saved: AtomicU64,
    filled_at: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: AtomicU64::new(PER_SECOND * ONE), filled_at: AtomicU64::new(0) }
    }
}

impl RetryBudget {
    /// A request came.
    pub fn pay_in(&self, share_percent: u32) {
        let share = u64::from(share_percent) * ONE / 100;
        if self.saved.load(Relaxed) < MOST_SAVED {
            self.saved.fetch_add(share, Relaxed);
        }
    }

    /// Takes one retry out; `false` where there is none left. A share of 0 allows none at all.
    pub fn take(&self, share_percent: u32, now: Moment) -> bool {
        if share_percent == 0 {
            return false;
        }
        self.let_time_flow_in(now);
        self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(ONE)).is_ok()
    }

    fn let_time_flow_in(&self, now: Moment) {
        let before = Moment::from_millis(self.filled_at.load(Relaxed));
        let passed = before.until(now).min(Duration::from_secs(10));
        let flowed = u64::try_from(passed.as_millis()).unwrap_or(0) * PER_SECOND * ONE / 1_000;
        if flowed == 0 {
            return;
        }
        let is_mine = self.filled_at.compare_exchange(before.millis(), now.millis(), Relaxed, Relaxed).is_ok();
        // The first look finds no time before it.
        if is_mine && before != Moment::default() {
            let _ = self.saved.fetch_update(Relaxed, Relaxed, |saved| Some((saved + flowed).min(MOST_SAVED.max(saved))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_millis(1_000_000);

    #[test]
    fn retries_are_at_most_their_share_of_the_requests() {
        let budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.pay_in(25);
            retries += u32::from(budget.take(25, NOW));
        }
        assert!((2_500..=2_510).contains(&retries), "{retries}");
    }

    #[test]
    fn a_service_with_few_requests_may_retry_each_of_them() {
        let budget = RetryBudget::default();
        for second in 0..100 {
            let now = NOW.after(Duration::from_secs(second));
            assert!((0..5).all(|_| budget.take(25, now)), "second {second}");
        }
    }

    #[test]
    fn quiet_hours_do_not_pay_for_a_storm() {
        let budget = RetryBudget::default();
        budget.take(25, NOW);
        let later = NOW.after(Duration::from_secs(36_000));
        let retries = (0..1_000).filter(|_| budget.take(25, later)).count();
        assert!(retries <= 110, "{retries}");
    }

    #[test]
    fn a_share_of_zero_allows_no_retry() {
        let budget = RetryBudget::default();
        budget.pay_in(0);
        assert!(!budget.take(0, NOW));
    }
}
