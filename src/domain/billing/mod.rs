//! Prices and money: what a model's tokens cost, in integers from the configuration's text to the bill.
//!
//! Nothing here is a float. A price is read as an exact decimal, a cost is rounded once, and every sum saturates.

pub mod price;

use std::fmt;

pub use price::{Decimal, DecimalError, Price, Rates};

/// An amount of money: billionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(u64);

impl NanoUsd {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(u64::MAX);

    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The amount as the ledger's `cost_nano_usd`.
    pub fn nanos(self) -> u64 {
        self.0
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Prints US dollars as an exact decimal: `0.011808`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::from_nanos(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_exact_dollars() {
        for (nanos, text) in
            [(0, "0"), (11_808_000, "0.011808"), (1, "0.000000001"), (1_500_000_000, "1.5"), (20_000_000_000, "20")]
        {
            assert_eq!(NanoUsd::from_nanos(nanos).to_string(), text);
        }
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(NanoUsd::MAX.saturating_add(NanoUsd::from_nanos(1)), NanoUsd::MAX);
    }
}
