//! Whether a proxy can be reached, by its checks and by the connections that requests open through it.
//!
//! Nothing here knows of quotas: a proxy that is up may have no key that is ready, and the other way round (T6).

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
    failures: AtomicU32,
    successes: AtomicU32,
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

    /// A check passed.
    pub fn check_passed(&self, rule: &HealthCheck, now: Moment) -> Option<Flip> {
        self.failures.store(0, Relaxed);
        if self.is_up() {
            return None;
        }
        if self.successes.fetch_add(1, Relaxed) + 1 < rule.successes {
            return None;
        }
        self.flip(false, now)
    }

    /// A check or a request's connection failed. `for_certain`: trying again can't help, as with a refused password.
    pub fn failed(&self, for_certain: bool, rule: &HealthCheck, now: Moment) -> Option<Flip> {
        self.successes.store(0, Relaxed);
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures < rule.failures && !for_certain {
            return None;
        }
        self.flip(true, now)
    }

    /// A request's connection came about: failures before it were not in a row. Only a check brings a proxy up again.
    pub fn connected(&self) {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
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

    fn flip(&self, down: bool, now: Moment) -> Option<Flip> {
        if self.down.swap(down, Relaxed) == down {
            return None;
        }
        self.since.store(now.millis(), Relaxed);
        self.successes.store(0, Relaxed);
        self.failures.store(0, Relaxed);
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
        assert_eq!(health.failed(false, &rule, NOW), None);
        assert_eq!(health.failed(false, &rule, NOW), None);
        assert_eq!(health.failed(false, &rule, NOW), Some(Flip::WentDown));
        assert_eq!((health.is_up(), health.since()), (false, NOW));
        assert_eq!(health.failed(false, &rule, NOW), None);
        assert_eq!(health.check_passed(&rule, NOW), Some(Flip::CameUp));
        assert!(health.is_up());
    }

    #[test]
    fn failures_that_are_not_in_a_row_count_from_the_beginning() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        for _ in 0..5 {
            health.failed(false, &rule, NOW);
            health.failed(false, &rule, NOW);
            health.connected();
        }
        assert!(health.is_up());
        health.failed(false, &rule, NOW);
        health.check_passed(&rule, NOW);
        health.failed(false, &rule, NOW);
        health.failed(false, &rule, NOW);
        assert!(health.is_up());
    }

    #[test]
    fn a_connection_of_a_request_does_not_bring_it_up() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        health.failed(true, &rule, NOW);
        health.connected();
        assert!(!health.is_up());
    }

    #[test]
    fn a_certain_failure_needs_no_second_one() {
        let (health, rule) = (Health::default(), HealthCheck::default());
        assert_eq!(health.failed(true, &rule, NOW), Some(Flip::WentDown));
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
        health.failed(false, &rule, NOW);
        assert_eq!(health.check_passed(&rule, NOW), None);
        health.failed(false, &rule, NOW);
        assert_eq!(health.check_passed(&rule, NOW), None);
        assert_eq!(health.check_passed(&rule, NOW), Some(Flip::CameUp));
    }
}
