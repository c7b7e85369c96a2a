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
//! Beside it stands the same for single models, where an answer was about one of them (A2): a short list behind a lock that nobody takes
//! while it is empty.
//!
//! A health check never touches it (T6): only an answer of the provider makes a key rest, and only time or a reload ends that.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::moment::Moment;

/// The most models that one key rests for. Clients choose names where a default takes them all: the rest that ends first makes room.
pub const MOST_MODELS: usize = 64;

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
    /// The key may not use the model, or the provider has none of that name.
    NoAccess,
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
    /// How many models are in the list.
    resting_models: AtomicUsize,
    models: Mutex<Vec<ModelRest>>,
}

/// A model that the key rests for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRest {
    /// As the upstream calls it.
    pub model: Box<str>,
    pub until: Moment,
    pub cause: Cause,
}

impl KeyStanding {
    /// How it stands, whatever the model.
    pub fn state(&self, now: Moment) -> KeyState {
        let word = self.word.load(Relaxed);
        let Some(cause) = Cause::of_code(word) else { return KeyState::Ready };
        match word >> CAUSE_BITS {
            NEVER => KeyState::Dead { cause },
            until if until > now.millis() => KeyState::Cooling { until: Moment::from_millis(until), cause },
            _ => KeyState::Ready,
        }
    }

    /// How it stands for a request of this model.
    #[inline]
    pub fn state_for(&self, model: Option<&str>, now: Moment) -> KeyState {
        let state = self.state(now);
        match model {
            Some(model) if self.resting_models.load(Relaxed) > 0 => state.worse_of(self.state_of_model(model, now)),
            _ => state,
        }
    }

    /// Lets the key rest for one model. The longer of two rests counts; true where it begins or grows.
    pub fn cool_for(&self, model: &str, until: Moment, cause: Cause, now: Moment) -> bool {
        self.rests.fetch_add(1, Relaxed);
        let mut models = self.models();
        models.retain(|rest| rest.until > now);
        let begins = match models.iter_mut().find(|rest| *rest.model == *model) {
            Some(rest) if rest.until >= until => false,
            Some(rest) => {
                (rest.until, rest.cause) = (until, cause);
                true
            }
            None => {
                if models.len() >= MOST_MODELS
                    && let Some((first, _)) = models.iter().enumerate().min_by_key(|(_, rest)| rest.until)
                {
                    models.swap_remove(first);
                }
                models.push(ModelRest { model: model.into(), until, cause });
                true
            }
        };
        self.resting_models.store(models.len(), Relaxed);
        begins
    }

    /// The models it rests for at this moment, by name.
    pub fn resting_models(&self, now: Moment) -> Vec<ModelRest> {
        let mut resting: Vec<_> = self.models().iter().filter(|rest| rest.until > now).cloned().collect();
        resting.sort_by(|a, b| a.model.cmp(&b.model));
        resting
    }

    fn state_of_model(&self, model: &str, now: Moment) -> KeyState {
        match self.models().iter().find(|rest| *rest.model == *model) {
            Some(rest) if rest.until > now => KeyState::Cooling { until: rest.until, cause: rest.cause },
            _ => KeyState::Ready,
        }
    }

    fn models(&self) -> MutexGuard<'_, Vec<ModelRest>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A reload: the operator may have mended the key, or what it may use, where we can't see it.
    pub fn revive(&self) {
        let dead = |word: u64| (word >> CAUSE_BITS == NEVER).then_some(0);
        let _ = self.word.fetch_update(Relaxed, Relaxed, dead);
        let mut models = self.models();
        models.retain(|rest| rest.cause != Cause::NoAccess);
        self.resting_models.store(models.len(), Relaxed);
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

impl KeyState {
    /// Of two that both hold, the one that lasts longer.
    fn worse_of(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ready, other) => other,
            (Self::Cooling { until, .. }, Self::Cooling { until: later, .. }) if later > until => other,
            (Self::Cooling { .. } | Self::Dead { .. }, _) => self,
        }
    }
}

impl Cause {
    const ALL: [Self; 5] = [Self::RateLimited, Self::Exhausted, Self::Unauthorized, Self::Forbidden, Self::NoAccess];

    pub fn label(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Exhausted => "exhausted",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NoAccess => "no_access",
        }
    }

    pub fn of_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.label() == label)
    }

    fn code(self) -> u64 {
        match self {
            Self::RateLimited => 1,
            Self::Exhausted => 2,
            Self::Unauthorized => 3,
            Self::Forbidden => 4,
            Self::NoAccess => 5,
        }
    }

    fn of_code(word: u64) -> Option<Self> {
        let code = word & ((1 << CAUSE_BITS) - 1);
        Self::ALL.into_iter().find(|cause| cause.code() == code)
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

    #[test]
    fn a2_a_rest_for_one_model_is_no_rest_for_another() {
        let key = KeyStanding::default();
        assert!(key.cool_for("big", at(60), Cause::RateLimited, NOW));
        assert!(!key.cool_for("big", at(10), Cause::NoAccess, NOW), "the longer one counts");
        let resting = KeyState::Cooling { until: at(60), cause: Cause::RateLimited };
        assert_eq!(key.state_for(Some("big"), at(59)), resting);
        assert_eq!(key.state_for(Some("big"), at(60)), KeyState::Ready);
        for other in [Some("small"), Some("bi"), Some(""), None] {
            assert_eq!(key.state_for(other, NOW), KeyState::Ready, "{other:?}");
        }
        assert_eq!((key.state(NOW), key.rests()), (KeyState::Ready, 2));
    }

    #[test]
    fn a2_of_a_keys_rest_and_a_models_the_longer_counts() {
        let key = KeyStanding::default();
        key.cool_for("big", at(60), Cause::NoAccess, NOW);
        key.cool(at(30), Cause::RateLimited);
        assert_eq!(key.state_for(Some("big"), NOW), KeyState::Cooling { until: at(60), cause: Cause::NoAccess });
        key.cool(at(90), Cause::Exhausted);
        assert_eq!(key.state_for(Some("big"), NOW), KeyState::Cooling { until: at(90), cause: Cause::Exhausted });
        key.kill(Cause::Unauthorized);
        assert_eq!(key.state_for(Some("big"), NOW), KeyState::Dead { cause: Cause::Unauthorized });
    }

    #[test]
    fn a2_models_that_clients_invent_take_no_memory_and_no_other_models_rest_but_the_shortest() {
        let key = KeyStanding::default();
        key.cool_for("big", at(3_600), Cause::NoAccess, NOW);
        for nth in 0..10_000 {
            key.cool_for(&format!("invented-{nth}"), at(60), Cause::NoAccess, NOW);
        }
        assert_eq!(key.resting_models(NOW).len(), MOST_MODELS);
        assert!(matches!(key.state_for(Some("big"), NOW), KeyState::Cooling { .. }));
        key.cool_for("late", at(7_200), Cause::RateLimited, at(3_601));
        assert_eq!(key.resting_models(at(3_601)).len(), 1, "what is over makes room");
    }

    #[test]
    fn a2_a_reload_lets_a_key_try_again_what_it_may_not_use() {
        let key = KeyStanding::default();
        key.cool_for("big", at(60), Cause::NoAccess, NOW);
        key.cool_for("small", at(60), Cause::RateLimited, NOW);
        key.revive();
        assert_eq!(key.state_for(Some("big"), NOW), KeyState::Ready);
        assert!(matches!(key.state_for(Some("small"), NOW), KeyState::Cooling { .. }));
    }
}
