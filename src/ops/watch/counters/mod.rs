//! What is counted while requests pass: the counters of L2 and what the metrics page shows beside them; exact under any number of threads.
//!
//! Each thread counts in a shard of its own cache lines, a reader sums the shards: no lock and no shared line on a request's path.
//! A snapshot taken while requests run may be a request older in one counter than in another; at rest it is exact. Tokens and cost are
//! counted where the books are closed, so that they are what the ledger says.

mod ends;
mod reloads;
mod shards;
mod tallies;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::answer::Refusal;
use crate::domain::billing::NanoUsd;
use crate::domain::end::End;
use crate::domain::route::table::NamePattern;
use crate::domain::usage::{Source, Usage};
use crate::ops::host::clock;

use ends::Ends;
pub use ends::EndsSeen;
use reloads::Reloads;
pub use reloads::ReloadsSeen;
pub use shards::HistogramSeen;
use shards::{Grown, Histogram, Sharded, add, nanos};
use tallies::Tallies;
pub use tallies::{Billed, OTHER, UpstreamSeen, Went};

/// The classes of statuses; `none` is a client that left before a status was written.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// Nanoseconds; the gateway's own work is microseconds, a new connection far away some hundred milliseconds.
const PHASE: &[u64] = &[
    5 * US,
    10 * US,
    25 * US,
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    5 * MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
    10_000 * MS,
];

/// All counts since the start of the process.
#[derive(Debug)]
pub struct Counters {
    shards: Sharded<Shard>,
    /// Not sharded: whoever waits for the last request to end needs one true number.
    in_flight: AtomicUsize,
    open_streams: AtomicUsize,
    refusals: Grown<&'static str, Sharded<AtomicU64>>,
    /// By what it was about.
    unpriced: Grown<&'static str, Sharded<AtomicU64>>,
    /// Of which model somebody was told that it has no price for what.
    told_unpriced: Mutex<HashSet<(Option<NamePattern>, &'static str)>>,
    /// In the order of [`Phase::ALL`].
    phases: [Histogram; Phase::ALL.len()],
    tallies: Tallies,
    reloads: Reloads,
    started_unix_ms: u64,
}

#[derive(Debug, Default)]
struct Shard {
    routing_attempts: AtomicU64,
    routing_success: AtomicU64,
    routing_fallback: AtomicU64,
    routing_ns: AtomicU64,
    parsing_errors: AtomicU64,
    by_class: [AtomicU64; STATUS_CLASSES.len()],
    by_end: Ends,
    by_source: [AtomicU64; SOURCES.len()],
    usage_clamped: AtomicU64,
}

const SOURCES: [Source; 4] = [Source::Final, Source::Partial, Source::Estimated, Source::None];

/// A part of a request's time that the gateway itself takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the body's top-level fields while it arrives; the wait for its bytes is not in it.
    Peek,
    /// From a complete body to a route.
    Route,
    /// Getting a connection to the upstream, a kept or a new one, for each attempt.
    Connect,
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
    pub open_streams: usize,
    /// In the order of [`STATUS_CLASSES`].
    pub by_class: [u64; STATUS_CLASSES.len()],
    pub by_end: EndsSeen,
    pub refusals: BTreeMap<&'static str, u64>,
    pub unpriced: BTreeMap<&'static str, u64>,
    /// Closed entries by where their usage is from.
    pub by_source: Vec<(&'static str, u64)>,
    pub usage_clamped: u64,
    pub phases: Vec<(Phase, HistogramSeen)>,
    pub upstreams: BTreeMap<String, UpstreamSeen>,
    pub reloads: ReloadsSeen,
    pub started_unix_ms: u64,
}

/// A request on its way; dropping it ends it.
#[derive(Debug)]
pub struct InFlight(Arc<Counters>);

/// An event stream on its way; dropping it ends it.
#[derive(Debug)]
pub struct OpenStream(Arc<Counters>);

impl Default for Counters {
    fn default() -> Self {
        Self {
            shards: Sharded::default(),
            in_flight: AtomicUsize::default(),
            open_streams: AtomicUsize::default(),
            refusals: Grown::default(),
            unpriced: Grown::default(),
            told_unpriced: Mutex::default(),
            phases: std::array::from_fn(|_| Histogram::new(PHASE)),
            tallies: Tallies::default(),
            reloads: Reloads::default(),
            started_unix_ms: clock::now_unix_ms(),
        }
    }
}

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
        self.shards.mine(|shard| {
            shard.route_decided(took);
            add(if success { &shard.routing_success } else { &shard.routing_fallback }, 1);
        });
    }

    /// Counts a routing attempt that ended in a refusal (unknown model under `reject`, no default for an unreadable body).
    pub fn route_refused(&self, took: Duration) {
        self.shards.mine(|shard| shard.route_decided(took));
    }

    /// Counts a body that is not valid JSON. Where it goes then is counted by [`Self::routed`] or [`Self::route_refused`] too.
    pub fn parse_error(&self) {
        self.shards.mine(|shard| add(&shard.parsing_errors, 1));
    }

    /// Counts what a phase took.
    pub fn phase(&self, phase: Phase, took: Duration) {
        let [peek, route, connect] = &self.phases;
        let histogram = match phase {
            Phase::Peek => peek,
            Phase::Route => route,
            Phase::Connect => connect,
        };
        histogram.observe_time(took);
    }

    /// Counts an answer of our own.
    pub fn refused(&self, refusal: &Refusal) {
        // Its label is a word of the program, so the map has an end.
        self.refusals.at(&refusal.label(), |count| count.mine(|count| add(count, 1)));
    }

    /// Counts a finished request: the status that its client saw (0: none) and how it ended.
    pub fn finished(&self, status: u16, end: End) {
        let class = usize::from(status / 100).min(STATUS_CLASSES.len() - 1);
        self.shards.mine(|shard| {
            shard.by_class.get(class).into_iter().for_each(|count| add(count, 1));
            shard.by_end.count(end);
        });
    }

    /// Counts how a finished request went at its upstream; `upstream` is a name of the configuration.
    pub fn finished_at(&self, upstream: &str, went: &Went) {
        self.tallies.finished(upstream, went);
    }

    /// Adds what the books say of a request; `model` is what in the configuration matched its name.
    pub fn booked(&self, upstream: &str, model: &Option<NamePattern>, source: Source, usage: &Usage, cost: NanoUsd) {
        let source = SOURCES.iter().position(|known| *known == source).unwrap_or_default();
        self.shards.mine(|shard| shard.by_source.get(source).into_iter().for_each(|count| add(count, 1)));
        self.tallies.booked(upstream, model, usage, cost);
    }

    /// Counts something that an answer reported and no price covers. `true`: of this model nobody was told yet.
    pub fn unpriced(&self, model: &Option<NamePattern>, kind: &'static str) -> bool {
        // Both are words of the program and of the configuration, so there is an end of them.
        self.unpriced.at(&kind, |count| count.mine(|count| add(count, 1)));
        let mut told = self.told_unpriced.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((model.clone(), kind))
    }

    /// Counts reported token counts that were absurd and were clamped (U8).
    pub fn usage_clamped(&self, counts: u64) {
        self.shards.mine(|shard| add(&shard.usage_clamped, counts));
    }

    /// Counts a reload: one that came into force, or one that was refused.
    pub fn reloaded(&self, ok: bool) {
        self.reloads.count(ok, clock::now_unix_ms());
    }

    /// Sums the shards.
    pub fn snapshot(&self) -> Snapshot {
        let by_source = |nth: usize| self.shards.iter().filter_map(|shard| shard.by_source.get(nth)).map(read).sum();
        let mut sum = Snapshot {
            in_flight: self.in_flight(),
            open_streams: self.open_streams.load(Ordering::Relaxed),
            unpriced: self.unpriced.entries().iter().map(|(label, count)| (*label, count.sum(|count| count))).collect(),
            refusals: self.refusals.entries().iter().map(|(label, count)| (*label, count.sum(|count| count))).collect(),
            by_source: SOURCES.iter().enumerate().map(|(nth, source)| (source.label(), by_source(nth))).collect(),
            phases: Phase::ALL.into_iter().zip(&self.phases).map(|(phase, histogram)| (phase, histogram.seen())).collect(),
            upstreams: self.tallies.seen(),
            reloads: self.reloads.seen(self.started_unix_ms),
            started_unix_ms: self.started_unix_ms,
            ..Snapshot::default()
        };
        for shard in self.shards.iter() {
            sum.routing_attempts += read(&shard.routing_attempts);
            sum.routing_success += read(&shard.routing_success);
            sum.routing_fallback += read(&shard.routing_fallback);
            sum.routing_time += Duration::from_nanos(read(&shard.routing_ns));
            sum.parsing_errors += read(&shard.parsing_errors);
            sum.by_class.iter_mut().zip(&shard.by_class).for_each(|(sum, count)| *sum += read(count));
            sum.by_end.add(&shard.by_end);
            sum.usage_clamped += read(&shard.usage_clamped);
        }
        sum
    }
}

impl Snapshot {
    /// What the books have of all models at all upstreams.
    pub fn billed(&self) -> Billed {
        let mut all = Billed::default();
        self.upstreams.values().flat_map(|upstream| upstream.models.values()).for_each(|billed| all.add(billed));
        all
    }
}

impl Shard {
    fn route_decided(&self, took: Duration) {
        add(&self.routing_attempts, 1);
        add(&self.routing_ns, nanos(took));
    }
}

impl Phase {
    pub const ALL: [Self; 3] = [Self::Peek, Self::Route, Self::Connect];

    /// The label's word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Peek => "peek",
            Self::Route => "route",
            Self::Connect => "connect",
        }
    }
}

impl InFlight {
    /// Where the request is counted.
    pub fn counters(&self) -> &Counters {
        &self.0
    }

    /// Counts the request's answer as an open stream until the guard is dropped.
    pub fn open_stream(&self) -> OpenStream {
        self.0.open_streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
