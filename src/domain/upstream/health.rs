//! Whether a proxy can be reached, by its checks and by the connections that requests open through it.
//!
//! Checks and requests count apart: a check that passes does not excuse a proxy that loses requests, and requests on kept connections
//! don't excuse one that fails its checks. Either count takes it down, only checks bring it up. Nothing here knows of quotas: a proxy that is up may have no key that is ready, and the other way round (T6).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::moment::Moment;

/// How proxies are checked, and what it takes to believe the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub interval: Duration,
    pub timeout: Duration,
    /// This many failures in a row, of checks or of requests' connections, take a proxy down.
    pub failures: u32,
    /// This many good checks in a row bring it up.
    pub successes: u32,
    /// `Some`: a request of its own goes through the proxy to the upstream; `None`: the connection and its handshake are enough.
    pub request: Option<HealthRequest>,
}

/// The request of a check, sent without any credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRequest {
    pub path: String,
    pub expected_status: u16,
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    WentDown,
    CameUp,
}

const TELL_EVERY: Duration = Duration::from_secs(60);

/// A proxy's health. Until the first check a proxy counts as up.
#[derive(Debug, Default)]
pub struct Health {
    down: AtomicBool,
    failed_checks: AtomicU32,
    failed_requests: AtomicU32,
    successes: AtomicU32,
    checked_at: AtomicU64,
    since: AtomicU64,
    attempts: AtomicU64,
    connect_failures: AtomicU64,
    told_at: AtomicU64,
}

impl Health {
    pub fn is_up(&self) -> bool {
        !self.down.load(Relaxed)
    }

    /// When it last went down or came up; the zero moment before that.
    pub fn since(&self) -> Moment {
        Moment::from_millis(self.since.load(Relaxed))
    }

    /// The earliest moment at which a proxy that is down may be up again: after its next checks.
    pub fn may_be_up_at(&self, rule: &HealthCheck, now: Moment) -> Moment {
        let checked_at = Moment::from_millis(self.checked_at.load(Relaxed));
        let begin = if checked_at == Moment::default() { now } else { checked_at };
        begin.after(rule.interval * rule.successes).max(now)
    }

    /// A check passed.
    pub fn check_passed(&self, rule: &HealthCheck, now: Moment) -> Option<Flip> {
        self.checked_at.store(now.millis(), Relaxed);
        self.failed_checks.store(0, Relaxed);
        if self.is_up() {
            return None;
        }
        if self.successes.fetch_add(1, Relaxed) + 1 < rule.successes {
            return None;
        }
        self.flip(false, now)
    }

    /// A check failed. `for_certain`: trying again can't help, as with a refused password.
    pub fn check_failed(&self, for_certain: bool, rule: &HealthCheck, now: Moment) -> Option<Flip> {
        self.checked_at.store(now.millis(), Relaxed);
        self.successes.store(0, Relaxed);
        self.count(&self.failed_checks, for_certain, rule, now)
    }

    /// A request got no connection through the proxy, or lost it before an answer came.
    pub fn request_failed(&self, for_certain: bool, rule: &HealthCheck, now: Moment) -> Option<Flip> {
        self.count(&self.failed_requests, for_certain, rule, now)
    }

    /// An answer came through: failures of requests before it were not in a row.
    pub fn request_answered(&self) {
        if self.failed_requests.load(Relaxed) > 0 {
            self.failed_requests.store(0, Relaxed);
        }
    }

    /// Whether the log may hear again of a failure that does not end: at most once a minute.
    pub fn may_tell(&self, now: Moment) -> bool {
        let before = self.told_at.load(Relaxed);
        let is_due = before == 0 || Moment::from_millis(before).until(now) >= TELL_EVERY;
        is_due && self.told_at.compare_exchange(before, now.millis(), Relaxed, Relaxed).is_ok()
    }

    pub fn count_attempt(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    pub fn count_connect_failure(&self) {
        self.connect_failures.fetch_add(1, Relaxed);
    }

    /// Attempts that went through the proxy, those that failed to connect included.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    pub fn connect_failures(&self) -> u64 {
        self.connect_failures.load(Relaxed)
    }

    /// A predecessor found it down; its next good check brings it up.
    pub fn inherit_down(&self, since: Moment) {
        self.flip(true, since);
    }

    fn count(&self, failures: &AtomicU32, for_certain: bool, rule: &HealthCheck, now: Moment) -> Option<Flip> {
        let in_a_row = failures.fetch_add(1, Relaxed).saturating_add(1);
        if in_a_row < rule.failures && !for_certain {
            return None;
        }
        self.flip(true, now)
    }

    fn flip(&self, down: bool, now: Moment) -> Option<Flip> {
        if self.down.swap(down, Relaxed) == down {
            return None;
        }
        self.since.store(now.millis(), Relaxed);
        self.successes.store(0, Relaxed);
        self.failed_checks.store(0, Relaxed);
        self.failed_requests.store(0, Relaxed);
        Some(if down { Flip::WentDown } else { Flip::CameUp })
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(10), failures: 3, successes: 1, request: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_millis(5_000);

    #[test]
    fn t6_three_failures_in_a_row_take_it_down_and_one_success_brings_it_up() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        assert!(health.is_up());
        assert_eq!(health.check_failed(false, &rule, NOW), None);
        assert_eq!(health.check_failed(false, &rule, NOW), None);
        assert_eq!(health.check_failed(false, &rule, NOW), Some(Flip::WentDown));
        assert_eq!((health.is_up(), health.since()), (false, NOW));
        assert_eq!(health.check_failed(false, &rule, NOW), None);
        assert_eq!(health.check_passed(&rule, NOW), Some(Flip::CameUp));
        assert!(health.is_up());
    }

    #[test]
    fn failures_that_are_not_in_a_row_count_from_the_beginning() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        for _ in 0..5 {
            health.request_failed(false, &rule, NOW);
            health.request_failed(false, &rule, NOW);
            health.request_answered();
            health.check_failed(false, &rule, NOW);
            health.check_failed(false, &rule, NOW);
            health.check_passed(&rule, NOW);
        }
        assert!(health.is_up());
    }

    #[test]
    fn a_proxy_that_passes_its_checks_and_loses_requests_goes_down() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        for _ in 0..3 {
            health.check_passed(&rule, NOW);
            health.request_failed(false, &rule, NOW);
        }
        assert!(!health.is_up());
    }

    #[test]
    fn t6_requests_that_are_answered_do_not_excuse_failed_checks() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        for _ in 0..3 {
            health.request_answered();
            health.check_failed(false, &rule, NOW);
        }
        health.request_answered();
        assert!(!health.is_up(), "and only a check brings it up again");
    }

    #[test]
    fn t4_a_proxy_that_is_down_is_back_after_its_next_checks_at_the_earliest() {
        let (health, rule) = (Health::default(), HealthCheck { successes: 2, ..HealthCheck::default() });
        assert_eq!(health.may_be_up_at(&rule, NOW), NOW.after(Duration::from_secs(60)));
        health.check_failed(true, &rule, NOW);
        let later = NOW.after(Duration::from_secs(20));
        assert_eq!(health.may_be_up_at(&rule, later), NOW.after(Duration::from_secs(60)));
        let overdue = NOW.after(Duration::from_secs(90));
        assert_eq!(health.may_be_up_at(&rule, overdue), overdue);
    }

    #[test]
    fn a_certain_failure_needs_no_second_one() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        assert_eq!(health.check_failed(true, &rule, NOW), Some(Flip::WentDown));
    }

    #[test]
    fn the_log_hears_of_an_endless_failure_once_a_minute() {
        let health = Health::default();
        assert!(health.may_tell(NOW));
        assert!(!health.may_tell(NOW.after(Duration::from_secs(59))));
        assert!(health.may_tell(NOW.after(Duration::from_secs(60))));
    }

    #[test]
    fn as_many_successes_as_asked_for_bring_it_up() {
        let (health, rule) = (Health::default(), HealthCheck { successes: 2, failures: 1, ..HealthCheck::default() });
        health.check_failed(false, &rule, NOW);
        assert_eq!(health.check_passed(&rule, NOW), None);
        health.check_failed(false, &rule, NOW);
        assert_eq!(health.check_passed(&rule, NOW), None);
        assert_eq!(health.check_passed(&rule, NOW), Some(Flip::CameUp));
    }
}
