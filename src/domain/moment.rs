//! A point in time that never steps back: what cooldowns and balances of time are counted in.
//!
//! Milliseconds since the Unix epoch by a clock that is read off the wall once, at the start of the process, and runs evenly from
//! there. So a step of the wall clock neither ends a cooldown nor prolongs it, and a moment still means the same to the process that
//! takes over.

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub const fn from_millis(since_epoch: u64) -> Self {
        Self(since_epoch)
    }

    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The moment that is `wait` later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is until `later`; zero where that has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}
