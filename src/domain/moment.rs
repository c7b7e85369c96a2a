//! A point in time that never steps back: what cooldowns, balances of time and the steps of a request are counted in.
//!
//! Nanoseconds since the Unix epoch by a clock that is read off the wall once, at the start of the process, and runs evenly from
//! there. So a step of the wall clock neither ends a cooldown nor prolongs it, and a moment still means the same to the process that
//! takes over. A clock that is read is not here: whoever decides is given the moment.

use std::time::{Duration, SystemTime};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

/// A moment by both clocks: the even one, and the time of day that people and providers speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub moment: Moment,
    /// Milliseconds since the epoch by the wall clock.
    pub unix_ms: u64,
}

impl Moment {
    /// The far end of time for what is beyond it.
    pub const fn from_millis(since_epoch: u64) -> Self {
        Self(since_epoch.saturating_mul(1_000_000))
    }

    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The moment that is `wait` later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is until `later`; zero where that has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

impl Now {
    /// The time of day, for what providers write as a date.
    pub fn wall(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_apart_by_the_nanosecond_and_end_at_the_end_of_time() {
        let (moment, short) = (Moment::from_millis(1_800_000_000_000), Duration::from_nanos(1));
        assert!(moment < moment.after(short));
        assert_eq!((moment.until(moment.after(short)), moment.after(short).until(moment)), (short, Duration::ZERO));
        assert_eq!(moment.after(short).millis(), 1_800_000_000_000);
        assert_eq!(Moment::from_millis(u64::MAX).after(Duration::MAX), Moment::from_millis(u64::MAX));
    }

    #[test]
    fn the_time_of_day_is_the_wall_clocks() {
        let now = Now { moment: Moment::default(), unix_ms: 1_500 };
        assert_eq!(now.wall(), SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
    }
}
