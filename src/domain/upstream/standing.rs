//! How a key of ours stands with its provider: ready, cooling until a moment, or dead.
//!
//! One [`KeyStanding`] belongs to one key, however many proxies carry it, and outlives the configuration that named it
//! ([`crate::domain::upstream::registry`]). It is one atomic word, so that picking a key takes no lock:
//!
//! ```text
//!   63                          8 7        0
//!   ┌────────────────────────────┬──────────┐
//!   │ cools until (milliseconds) │ cause    │   0: ready · all ones above: dead
//!   └────────────────────────────┴──────────┘
//! ```
//!
//! A health check never touches it (T6): only an answer of the provider makes a key rest, and only time or a reload ends that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::domain::moment::Moment;

/// Why a key rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// 429
    RateLimited,
    /// 402
    Exhausted,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Ready,
    Cooling {
        until: Moment,
        cause: Cause,
    },
    /// Until the next reload: the provider does not know the key any more.
    Dead {
        cause: Cause,
    },
}

const CAUSE_BITS: u32 = 8;
/// Where a moment would stand, for a key that is dead.
const NEVER: u64 = u64::MAX >> CAUSE_BITS;

#[derive(Debug, Default)]
pub struct KeyStanding {
    word: AtomicU64,
    attempts: AtomicU64,
    rests: AtomicU64,
}

impl KeyStanding {
    pub fn state(&self, now: Moment) -> KeyState {
        let word = self.word.load(Relaxed);
        let Some(cause) = Cause::of_code(word) else { return KeyState::Ready };
        match word >> CAUSE_BITS {
            NEVER => KeyState::Dead { cause },
            until if until > now.millis() => KeyState::Cooling { until: Moment::from_millis(until), cause },
            _ => KeyState::Ready,
        }
    }

    /// Lets the key rest. The longer of two rests counts: a short limit of requests does not end the wait for a new quota.
    ///
    /// Returns whether the key's rest begins or grows with this, so that one change is one line in the log.
    pub fn cool(&self, until: Moment, cause: Cause) -> bool {
        self.rest(until.millis().min(NEVER - 1), cause)
    }

    /// Takes the key out until the next reload; true for the first to notice.
    pub fn kill(&self, cause: Cause) -> bool {
        self.rest(NEVER, cause)
    }

    /// A reload: the operator may have mended the key where we can't see it.
    pub fn revive(&self) {
        let dead = |word: u64| (word >> CAUSE_BITS == NEVER).then_some(0);
        let _ = self.word.fetch_update(Relaxed, Relaxed, dead);
    }

    pub fn count_attempt(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    /// Attempts that carried the key.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    /// How often an answer sent the key to rest.
    pub fn rests(&self) -> u64 {
        self.rests.load(Relaxed)
    }

    fn rest(&self, until: u64, cause: Cause) -> bool {
        let word = (until << CAUSE_BITS) | cause.code();
        self.rests.fetch_add(1, Relaxed);
        self.word.fetch_max(word, Relaxed) >> CAUSE_BITS < until
    }
}

impl Cause {
    pub fn label(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Exhausted => "exhausted",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
        }
    }

    pub fn of_label(label: &str) -> Option<Self> {
        [Self::RateLimited, Self::Exhausted, Self::Unauthorized, Self::Forbidden].into_iter().find(|cause| cause.label() == label)
    }

    fn code(self) -> u64 {
        match self {
            Self::RateLimited => 1,
            Self::Exhausted => 2,
            Self::Unauthorized => 3,
            Self::Forbidden => 4,
        }
    }

    fn of_code(word: u64) -> Option<Self> {
        match word & ((1 << CAUSE_BITS) - 1) {
            1 => Some(Self::RateLimited),
            2 => Some(Self::Exhausted),
            3 => Some(Self::Unauthorized),
            4 => Some(Self::Forbidden),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_millis(1_800_000_000_000);

    fn at(seconds: u64) -> Moment {
        NOW.after(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn t11_a_key_cools_until_its_moment_and_is_ready_again_from_then_on() {
        let key = KeyStanding::default();
        assert_eq!(key.state(NOW), KeyState::Ready);
        assert!(key.cool(at(60), Cause::RateLimited));
        assert_eq!(key.state(at(59)), KeyState::Cooling { until: at(60), cause: Cause::RateLimited });
        assert_eq!(key.state(at(60)), KeyState::Ready);
    }

    #[test]
    fn the_longer_of_two_rests_counts() {
        let key = KeyStanding::default();
        assert!(key.cool(at(3_600), Cause::Exhausted));
        assert!(!key.cool(at(5), Cause::RateLimited));
        assert_eq!(key.state(at(10)), KeyState::Cooling { until: at(3_600), cause: Cause::Exhausted });
        assert_eq!(key.rests(), 2);
    }

    #[test]
    fn t10_a_dead_key_comes_back_with_a_reload_alone() {
        let key = KeyStanding::default();
        assert!(key.kill(Cause::Unauthorized));
        assert!(!key.kill(Cause::Unauthorized));
        assert!(!key.cool(at(1), Cause::RateLimited));
        assert_eq!(key.state(at(1_000_000_000)), KeyState::Dead { cause: Cause::Unauthorized });
        key.revive();
        assert_eq!(key.state(NOW), KeyState::Ready);
    }

    #[test]
    fn t13_a_reload_does_not_end_a_cooldown() {
        let key = KeyStanding::default();
        key.cool(at(60), Cause::RateLimited);
        key.revive();
        assert_eq!(key.state(NOW), KeyState::Cooling { until: at(60), cause: Cause::RateLimited });
    }

    #[test]
    fn a_wait_beyond_all_time_is_no_death() {
        let key = KeyStanding::default();
        key.cool(Moment::from_millis(u64::MAX), Cause::RateLimited);
        assert!(matches!(key.state(NOW), KeyState::Cooling { .. }));
    }
}
