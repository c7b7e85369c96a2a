//! The counters of L2 and what the metrics page shows beside them; exact under any number of threads.
//!
//! Each thread counts in a shard of its own cache lines, a reader sums the shards: no lock and no shared line on a request's path.
//! A snapshot taken while requests run may be a request older in one counter than in another; at rest it is exact.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::domain::usage::Usage;

const SHARDS: usize = 16;

/// The ends that a request can have; anything else counts as `other`.
pub const ENDS: [&str; 6] = ["ok", "client_gone", "upstream_cut", "upstream_error", "refused", "other"];

/// The classes of statuses; `none` is a client that left before a status was written.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All counts since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    shards: [Shard; SHARDS],
    /// Not sharded: whoever waits for the last request to end needs one true number.
    in_flight: AtomicUsize,
    refusals: RwLock<BTreeMap<&'static str, AtomicU64>>,
}

/// Two cache lines apart from its neighbours: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    routing_attempts: AtomicU64,
    routing_success: AtomicU64,
    routing_fallback: AtomicU64,
    routing_ns: AtomicU64,
    parsing_errors: AtomicU64,
    by_class: [AtomicU64; STATUS_CLASSES.len()],
    by_end: [AtomicU64; ENDS.len()],
    input_tokens: AtomicU64,
    cache_write_tokens: AtomicU64,
    cache_write_1h_tokens: AtomicU64,
    cache_read_tokens: AtomicU64,
    output_tokens: AtomicU64,
    usage_clamped: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub routing_attempts: u64,
    pub routing_success: u64,
    pub routing_fallback: u64,
    /// Time from a complete body to a decided route, over all attempts.
    pub routing_time: Duration,
    pub parsing_errors: u64,
    pub in_flight: usize,
    /// In the order of [`STATUS_CLASSES`].
    pub by_class: [u64; STATUS_CLASSES.len()],
    /// In the order of [`ENDS`].
    pub by_end: [u64; ENDS.len()],
    pub refusals: Vec<(&'static str, u64)>,
    pub usage: Usage,
    pub usage_clamped: u64,
}

/// A request on its way; dropping it ends it.
#[derive(Debug)]
pub struct InFlight(Arc<Counters>);

impl Counters {
    /// Counts a request as in flight until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a decided route: a success when the request's own model chose the upstream, else a fallback.
    pub fn routed(&self, success: bool, took: Duration) {
        let shard = self.route_decided(took);
        add(if success { &shard.routing_success } else { &shard.routing_fallback }, 1);
    }

    /// Counts a routing attempt that ended in a refusal (unknown model under `reject`, no default for an unreadable body).
    pub fn route_refused(&self, took: Duration) {
        self.route_decided(took);
    }

    /// Counts a body that is not valid JSON. Where it goes then is counted by [`Self::routed`] or [`Self::route_refused`] too.
    pub fn parse_error(&self) {
        add(&self.shard().parsing_errors, 1);
    }

    /// Counts an answer of our own by its refusal's label.
    ///
    /// Labels are words of the program, so their number is bounded by the program's text.
    pub fn refused(&self, label: &'static str) {
        let refusals = self.refusals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = refusals.get(label) {
            return add(count, 1);
        }
        drop(refusals);
        add(self.refusals.write().unwrap_or_else(PoisonError::into_inner).entry(label).or_default(), 1);
    }

    /// Counts a finished request: the status that its client saw (0: none) and how it ended.
    pub fn finished(&self, status: u16, end: &str) {
        let shard = self.shard();
        let class = usize::from(status / 100).min(STATUS_CLASSES.len() - 1);
        shard.by_class.get(class).into_iter().for_each(|count| add(count, 1));
        let end = ENDS.iter().position(|known| *known == end).unwrap_or(ENDS.len() - 1);
        shard.by_end.get(end).into_iter().for_each(|count| add(count, 1));
    }

    /// Adds what a request used.
    pub fn used(&self, usage: &Usage) {
        let shard = self.shard();
        for (count, tokens) in [
            (&shard.input_tokens, usage.input_tokens),
            (&shard.cache_write_tokens, usage.cache_write_tokens),
            (&shard.cache_write_1h_tokens, usage.cache_write_1h_tokens),
            (&shard.cache_read_tokens, usage.cache_read_tokens),
            (&shard.output_tokens, usage.output_tokens),
        ] {
            if tokens > 0 {
                add(count, tokens);
            }
        }
    }

    /// Counts reported token counts that were absurd and were clamped (U8).
    pub fn usage_clamped(&self, counts: u64) {
        add(&self.shard().usage_clamped, counts);
    }

    /// Sums the shards.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot { in_flight: self.in_flight(), ..Snapshot::default() };
        for shard in &self.shards {
            sum.routing_attempts += read(&shard.routing_attempts);
            sum.routing_success += read(&shard.routing_success);
            sum.routing_fallback += read(&shard.routing_fallback);
            sum.routing_time += Duration::from_nanos(read(&shard.routing_ns));
            sum.parsing_errors += read(&shard.parsing_errors);
            sum.by_class.iter_mut().zip(&shard.by_class).for_each(|(sum, count)| *sum += read(count));
            sum.by_end.iter_mut().zip(&shard.by_end).for_each(|(sum, count)| *sum += read(count));
            sum.usage.input_tokens += read(&shard.input_tokens);
            sum.usage.cache_write_tokens += read(&shard.cache_write_tokens);
            sum.usage.cache_write_1h_tokens += read(&shard.cache_write_1h_tokens);
            sum.usage.cache_read_tokens += read(&shard.cache_read_tokens);
            sum.usage.output_tokens += read(&shard.output_tokens);
            sum.usage_clamped += read(&shard.usage_clamped);
        }
        let refusals = self.refusals.read().unwrap_or_else(PoisonError::into_inner);
        sum.refusals = refusals.iter().map(|(label, count)| (*label, read(count))).collect();
        sum
    }

    fn route_decided(&self, took: Duration) -> &Shard {
        let shard = self.shard();
        add(&shard.routing_attempts, 1);
        add(&shard.routing_ns, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        shard
    }

    /// The calling thread's own shard.
    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SLOT: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        let [first, ..] = &self.shards;
        SLOT.try_with(|slot| self.shards.get(*slot)).ok().flatten().unwrap_or(first)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(3);

    #[test]
    fn l2_the_four_bodies_give_4_1_3_1() {
        let counters = Counters::default();
        counters.routed(true, TOOK);
        counters.routed(false, TOOK);
        counters.routed(false, TOOK);
        counters.parse_error();
        counters.routed(false, TOOK);
        let seen = counters.snapshot();
        assert_eq!((seen.routing_attempts, seen.routing_success, seen.routing_fallback, seen.parsing_errors), (4, 1, 3, 1));
        assert_eq!(seen.routing_time, 4 * TOOK);
    }

    #[test]
    fn a_refused_route_is_an_attempt_without_success_or_fallback() {
        let counters = Counters::default();
        counters.route_refused(TOOK);
        let seen = counters.snapshot();
        assert_eq!((seen.routing_attempts, seen.routing_success, seen.routing_fallback), (1, 0, 0));
    }

    #[test]
    fn l2_counts_are_exact_under_100_clients_of_10_requests() {
        let counters = Arc::new(Counters::default());
        std::thread::scope(|scope| {
            for client in 0..100u64 {
                let counters = &counters;
                scope.spawn(move || {
                    for request in 0..10u64 {
                        let _in_flight = counters.enter();
                        counters.routed(client % 2 == 0, TOOK);
                        counters.refused(if request == 0 { "no_key" } else { "unknown_model" });
                        counters.finished(if client < 10 { 503 } else { 200 }, "ok");
                        counters.used(&Usage { input_tokens: client, output_tokens: request, ..Usage::default() });
                    }
                });
            }
        });
        let seen = counters.snapshot();
        assert_eq!((seen.routing_attempts, seen.routing_success, seen.routing_fallback), (1_000, 500, 500));
        assert_eq!(seen.routing_time, 1_000 * TOOK);
        assert_eq!(seen.by_class, [0, 0, 900, 0, 0, 100]);
        assert_eq!(seen.by_end, [1_000, 0, 0, 0, 0, 0]);
        assert_eq!(seen.refusals, [("no_key", 100), ("unknown_model", 900)]);
        assert_eq!((seen.usage.input_tokens, seen.usage.output_tokens), (49_500, 4_500));
        assert_eq!(seen.in_flight, 0);
    }

    #[test]
    fn statuses_and_ends_outside_the_lists_have_their_place() {
        let counters = Counters::default();
        for status in [0, 99, 200, 418, 529, 999] {
            counters.finished(status, "strange");
        }
        let seen = counters.snapshot();
        assert_eq!(seen.by_class, [2, 0, 1, 0, 1, 2]);
        assert_eq!(seen.by_end, [0, 0, 0, 0, 0, 6]);
    }

    #[test]
    fn a_request_is_in_flight_until_its_guard_is_dropped() {
        let counters = Arc::new(Counters::default());
        let first = counters.enter();
        let second = counters.enter();
        assert_eq!(counters.in_flight(), 2);
        drop(first);
        assert_eq!(counters.in_flight(), 1);
        drop(second);
        assert_eq!(counters.in_flight(), 0);
    }
}
