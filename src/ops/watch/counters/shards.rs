//! What every thread counts in without meeting another one: a shard per processor, a map that only grows, a histogram.
//!
//! A write is a few additions to the thread's own cache lines; a reader sums the shards. Nothing here waits or takes a lock.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

const MOST_SHARDS: usize = 16;
/// One more bucket takes what is longer than the last bound.
const MOST_BUCKETS: usize = 24;

/// One `T` for each processor.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Padded<T>]>);

/// Two cache lines apart from its neighbours: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = processors.next_power_of_two().clamp(1, MOST_SHARDS);
        Self((0..shards).map(|_| Padded::default()).collect())
    }
}

impl<T> Sharded<T> {
    /// Lends the calling thread's own shard.
    pub fn mine<R>(&self, count: impl FnOnce(&T) -> R) -> Option<R> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SLOT: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        let slot = SLOT.try_with(|slot| *slot).unwrap_or_default();
        self.0.get(slot & (self.0.len() - 1)).map(|Padded(shard)| count(shard))
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Padded(shard)| shard)
    }

    /// Adds one count of all shards up; at rest it is exact.
    pub fn sum(&self, of: impl Fn(&T) -> &AtomicU64) -> u64 {
        self.iter().map(|shard| of(shard).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

pub fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

/// A map whose entries stay for good; a key that is there already is found without a lock.
///
/// Whoever adds keys must see to it that there is an end of them.
pub struct Grown<K, V>(ArcSwap<HashMap<K, Arc<V>>>);

impl<K, V> Default for Grown<K, V> {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(HashMap::new()))
    }
}

impl<K: Eq + Hash + Clone, V: Default> Grown<K, V> {
    /// Lends the entry of `key`, which is made where there is none.
    pub fn at<Q: Eq + Hash + ToOwned<Owned = O> + ?Sized, O: Into<K>, R>(&self, key: &Q, count: impl FnOnce(&V) -> R) -> R
    where
        K: Borrow<Q>,
    {
        if let Some(entry) = self.0.load().get(key) {
            return count(entry);
        }
        let (fresh, key) = (Arc::new(V::default()), key.to_owned().into());
        let old = self.0.rcu(|old| {
            let mut grown = HashMap::clone(old);
            grown.entry(key.clone()).or_insert_with(|| fresh.clone());
            grown
        });
        // The first of two that add the same key wins; the map before the last swap shows who.
        count(old.get::<K>(&key).unwrap_or(&fresh))
    }

    /// All entries there are by now.
    pub fn entries(&self) -> Arc<HashMap<K, Arc<V>>> {
        self.0.load_full()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Grown<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.load().iter()).finish()
    }
}

/// Counts values by their size; the bounds are the upper ends of the buckets, in ascending order.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    shards: Sharded<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; MOST_BUCKETS],
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSeen {
    /// The bounds as they were given.
    pub bounds: &'static [u64],
    /// Values in each bucket alone, and last those beyond all bounds.
    pub counts: Vec<u64>,
    pub sum: u64,
}

impl Histogram {
    /// At most 23 bounds.
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.len() < MOST_BUCKETS && bounds.is_sorted());
        Self { bounds, shards: Sharded::default() }
    }

    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.shards.mine(|shard| {
            if let Some(count) = shard.counts.get(bucket) {
                add(count, 1);
            }
            add(&shard.sum, value);
        });
    }

    /// Observes a time, in nanoseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(nanos(time));
    }

    pub fn seen(&self) -> HistogramSeen {
        let mut counts = vec![0; self.bounds.len() + 1];
        for shard in self.shards.iter() {
            counts.iter_mut().zip(&shard.counts).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
        }
        HistogramSeen { bounds: self.bounds, counts, sum: self.shards.sum(|shard| &shard.sum) }
    }
}

/// Whole nanoseconds; what does not fit is as long as can be.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[10, 20, 40]);
        [0, 10, 11, 20, 40, 41, u64::MAX / 2].into_iter().for_each(|value| histogram.observe(value));
        let seen = histogram.seen();
        assert_eq!((seen.counts, seen.sum), (vec![2, 2, 1, 2], 122 + u64::MAX / 2));
    }

    #[test]
    fn what_many_threads_count_at_once_is_all_there() {
        let map: Grown<Arc<str>, Sharded<AtomicU64>> = Grown::default();
        let histogram = Histogram::new(&[5]);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for nth in 0..1_000u64 {
                        map.at(&*format!("key-{}", nth % 20), |count| count.mine(|count| add(count, 1)));
                        histogram.observe(nth % 10);
                    }
                });
            }
        });
        let entries = map.entries();
        assert_eq!(entries.len(), 20);
        assert!(entries.values().all(|count| count.sum(|count| count) == 800), "{map:?}");
        assert_eq!(histogram.seen().counts, [9_600, 6_400]);
    }
}
