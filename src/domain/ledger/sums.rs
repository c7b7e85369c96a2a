//! What entries add up to.

use super::Close;
use crate::domain::billing::NanoUsd;
use crate::domain::usage::Usage;

/// Requests, tokens and money of some entries; every sum saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub requests: u64,
    pub usage: Usage,
    pub cost: NanoUsd,
}

impl Sums {
    pub fn of(close: &Close<'_>) -> Self {
        Self { requests: 1, usage: close.usage, cost: close.cost }
    }

    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.usage = self.usage.plus(&other.usage);
        self.cost = self.cost.saturating_add(other.cost);
    }

    /// All tokens, whatever their class.
    pub fn tokens(&self) -> u64 {
        self.usage.tokens().into_iter().fold(0, u64::saturating_add)
    }
}
