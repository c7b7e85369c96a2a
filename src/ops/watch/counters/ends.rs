//! How many requests came to which end: a count for each [`End`], and the rows that the pages have of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shards::add;
use crate::domain::end::End;

const KINDS: usize = End::ALL.len();

/// The counts of one shard.
#[derive(Debug, Default)]
pub struct Ends([AtomicU64; KINDS]);

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndsSeen([u64; KINDS]);

impl Ends {
    pub fn count(&self, end: End) {
        let counts = End::ALL.iter().zip(&self.0);
        counts.filter(|(known, _)| **known == end).for_each(|(_, count)| add(count, 1));
    }
}

impl EndsSeen {
    pub fn add(&mut self, ends: &Ends) {
        self.0.iter_mut().zip(&ends.0).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
    }

    /// The counts by their ends' words. The last row is 0 for good: pages and boards know it from when an end was a text.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        End::ALL.into_iter().map(End::label).zip(self.0).chain([("other", 0)])
    }

    /// Those that are not 0.
    #[cfg(test)]
    pub fn some(&self) -> Vec<(&'static str, u64)> {
        self.rows().filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_counts_in_its_own_row_and_nothing_in_the_last() {
        let (ends, mut seen) = (Ends::default(), EndsSeen::default());
        for (nth, end) in End::ALL.into_iter().enumerate() {
            (0..=nth).for_each(|_| ends.count(end));
        }
        seen.add(&ends);
        seen.add(&Ends::default());
        let rows: Vec<_> = seen.rows().collect();
        let words = ["ok", "client_gone", "upstream_cut", "upstream_error", "refused", "interrupted", "other"];
        assert_eq!(rows, words.into_iter().zip([1, 2, 3, 4, 5, 6, 0]).collect::<Vec<_>>());
    }
}
