//! What is counted by upstream and by model.
//!
//! An upstream's label is its name in the configuration, a model's the id or pattern in the configuration that matched; all others are
//! one label, [`OTHER`]. A client can invent names without end, and adds nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::ends::{Ends, EndsSeen};
use super::shards::{Grown, Histogram, HistogramSeen, Sharded, add};
use crate::domain::billing::NanoUsd;
use crate::domain::end::End;
use crate::domain::route::table::NamePattern;
use crate::domain::usage::{CLASSES, Calls, Usage};

/// The label of every model that the configuration does not name.
pub const OTHER: &str = "other";

const MS: u64 = 1_000_000;
/// Nanoseconds. Up to ten seconds the bounds that OpenTelemetry has for `gen_ai.server.time_to_first_token`; a model that thinks first
/// takes longer.
const FIRST_BYTE: &[u64] = &[
    MS,
    5 * MS,
    10 * MS,
    20 * MS,
    40 * MS,
    60 * MS,
    80 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
    7_500 * MS,
    10_000 * MS,
    20_000 * MS,
    30_000 * MS,
    60_000 * MS,
    120_000 * MS,
];
/// Nanoseconds. Up to 82 seconds the bounds that OpenTelemetry has for `gen_ai.client.operation.duration`; then an agent's long streams.
const TOTAL: &[u64] = &[
    10 * MS,
    20 * MS,
    40 * MS,
    80 * MS,
    160 * MS,
    320 * MS,
    640 * MS,
    1_280 * MS,
    2_560 * MS,
    5_120 * MS,
    10_240 * MS,
    20_480 * MS,
    40_960 * MS,
    81_920 * MS,
    163_840 * MS,
    327_680 * MS,
    655_360 * MS,
    1_310_720 * MS,
];
const ATTEMPTS: &[u64] = &[1, 2, 3, 5, 10];

/// The tallies of every upstream that was asked so far.
#[derive(Debug, Default)]
pub struct Tallies(Grown<Arc<str>, UpstreamTally>);

#[derive(Debug)]
struct UpstreamTally {
    ends: Sharded<Ends>,
    attempts: Histogram,
    first_byte: Histogram,
    total: Histogram,
    models: Grown<Option<NamePattern>, Sharded<ModelTally>>,
}

#[derive(Debug, Default)]
struct ModelTally {
    entries: AtomicU64,
    tokens: [AtomicU64; CLASSES.len()],
    nano_usd: AtomicU64,
}

/// How a request went at its upstream.
#[derive(Clone, Copy, Debug)]
pub struct Went {
    pub end: End,
    /// 0: nobody was asked.
    pub attempts: u32,
    /// Of a good answer.
    pub first_byte: Option<Duration>,
    pub total: Duration,
}

/// An upstream's tally at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSeen {
    pub ends: EndsSeen,
    pub attempts: HistogramSeen,
    pub first_byte: HistogramSeen,
    pub total: HistogramSeen,
    /// By label.
    pub models: BTreeMap<String, Billed>,
}

/// What the books have of a model at an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    pub entries: u64,
    pub usage: Usage,
    pub cost: NanoUsd,
}

impl Tallies {
    /// Counts a finished request that had a route.
    pub fn finished(&self, upstream: &str, went: &Went) {
        self.0.at(upstream, |tally| {
            tally.ends.mine(|ends| ends.count(went.end));
            if went.attempts == 0 {
                return;
            }
            tally.attempts.observe(went.attempts.into());
            tally.total.observe_time(went.total);
            if let Some(first_byte) = went.first_byte {
                tally.first_byte.observe_time(first_byte);
            }
        });
    }

    /// Adds what the books say of a request. `model`: what in the configuration matched its name.
    pub fn booked(&self, upstream: &str, model: &Option<NamePattern>, usage: &Usage, cost: NanoUsd) {
        self.0.at(upstream, |tally| tally.models.at(model, |model| model.mine(|model| model.book(usage, cost))));
    }

    pub fn seen(&self) -> BTreeMap<String, UpstreamSeen> {
        self.0.entries().iter().map(|(name, tally)| (name.to_string(), tally.seen())).collect()
    }
}

impl Default for UpstreamTally {
    fn default() -> Self {
        Self {
            ends: Sharded::default(),
            attempts: Histogram::new(ATTEMPTS),
            first_byte: Histogram::new(FIRST_BYTE),
            total: Histogram::new(TOTAL),
            models: Grown::default(),
        }
    }
}

impl UpstreamTally {
    fn seen(&self) -> UpstreamSeen {
        let mut ends = EndsSeen::default();
        self.ends.iter().for_each(|shard| ends.add(shard));
        let mut models: BTreeMap<String, Billed> = BTreeMap::new();
        for (model, tally) in self.models.entries().iter() {
            // A configured model may be called like a pattern, or `other`: one label, one sum.
            let label = model.as_ref().map_or_else(|| OTHER.to_owned(), ToString::to_string);
            models.entry(label).or_default().add(&Billed::of(tally));
        }
        UpstreamSeen {
            ends,
            attempts: self.attempts.seen(),
            first_byte: self.first_byte.seen(),
            total: self.total.seen(),
            models,
        }
    }
}

impl ModelTally {
    fn book(&self, usage: &Usage, cost: NanoUsd) {
        add(&self.entries, 1);
        let counts = self.tokens.iter().chain([&self.nano_usd]).zip(usage.tokens().into_iter().chain([cost.nanos()]));
        for (count, by) in counts {
            if by > 0 {
                add(count, by);
            }
        }
    }
}

impl Billed {
    fn of(tally: &Sharded<ModelTally>) -> Self {
        Self {
            entries: tally.sum(|of| &of.entries),
            usage: Usage::from_tokens(
                std::array::from_fn(|class| tally.sum(|of| of.tokens.get(class).unwrap_or(&of.entries))),
                Calls::default(),
            ),
            cost: NanoUsd::from_nanos(tally.sum(|of| &of.nano_usd)),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.usage = self.usage.plus(&other.usage);
        self.cost = self.cost.saturating_add(other.cost);
    }

    /// The tokens by the words that labels have for their classes; those that few answers have only where there are any.
    pub fn by_class(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const EVERYWHERE: usize = 5;
        let classes = CLASSES.into_iter().zip(self.usage.tokens()).enumerate();
        classes.filter(|(at, (_, count))| *at < EVERYWHERE || *count > 0).map(|(_, class)| class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, ..Usage::default() }
    }

    #[test]
    fn l4_models_that_share_a_label_share_a_series() {
        let tallies = Tallies::default();
        let exact = |name: &str| Some(NamePattern::Exact(name.into()));
        tallies.booked("main", &None, &usage(1, 2), NanoUsd::from_nanos(10));
        tallies.booked("main", &exact("other"), &usage(3, 4), NanoUsd::from_nanos(20));
        tallies.booked("main", &exact("gemini-*"), &usage(5, 0), NanoUsd::ZERO);
        tallies.booked("main", &Some(NamePattern::Prefix("gemini-".into())), &usage(0, 6), NanoUsd::from_nanos(1));
        tallies.booked("troll", &None, &usage(100, 0), NanoUsd::ZERO);
        let seen = tallies.seen();
        let main = &seen["main"].models;
        assert_eq!(main.keys().collect::<Vec<_>>(), ["gemini-*", "other"]);
        assert_eq!(main["other"], Billed { entries: 2, usage: usage(4, 6), cost: NanoUsd::from_nanos(30) });
        assert_eq!(main["gemini-*"], Billed { entries: 2, usage: usage(5, 6), cost: NanoUsd::from_nanos(1) });
        assert_eq!(seen["troll"].models["other"].usage, usage(100, 0));
    }

    #[test]
    fn who_was_never_asked_adds_no_time() {
        let tallies = Tallies::default();
        let went = Went { end: End::Refused, attempts: 0, first_byte: None, total: Duration::from_secs(1) };
        tallies.finished("main", &went);
        tallies.finished("main", &Went { end: End::Ok, attempts: 3, first_byte: Some(Duration::from_millis(70)), ..went });
        let seen = &tallies.seen()["main"];
        assert_eq!(seen.ends.some(), [("ok", 1), ("refused", 1)]);
        assert_eq!((seen.attempts.sum, seen.total.sum, seen.first_byte.sum), (3, 1_000_000_000, 70_000_000));
        assert_eq!(seen.first_byte.counts.iter().position(|count| *count == 1), Some(6));
    }
}
