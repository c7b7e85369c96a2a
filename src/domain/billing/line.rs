//! The lines of a bill: so much of a class, at a price, times what its conditions and the model multiply it with.
//!
//! ```text
//! line = count · price / 10⁶ · times      tokens          cost = the sum of all lines, rounded once, half up
//! line = count · price · times            calls of tools
//! ```

use std::fmt;
use std::sync::Arc;

use crate::domain::billing::decimal::{Decimal, NANOS_OF_ONE};
use crate::domain::billing::money::NanoUsd;
use crate::domain::usage::{CLASSES, Tool};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of [`CLASSES`], by its place there; at a price for a million.
    Tokens(usize),
    /// At a price for each.
    Calls(Tool),
}

/// One class of a usage and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillLine {
    /// A model that is not the one that was asked for.
    pub model: Option<Arc<str>>,
    pub class: Class,
    pub count: u64,
    /// US dollars, for a million tokens or for one call.
    pub rate: Decimal,
    /// The model's multiplier, and those of the conditions that hold.
    pub times: Decimal,
}

/// Billionths of a dollar, of a million tokens, and of a multiplier.
const SCALE: u128 = 1_000_000 * NANOS_OF_ONE as u128;

impl Class {
    /// The word in the ledger and for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tokens(place) => CLASSES.get(place).copied().unwrap_or_default(),
            Self::Calls(tool) => tool.label(),
        }
    }

    pub fn of_label(label: &str) -> Option<Self> {
        let place = CLASSES.into_iter().position(|class| class == label);
        place.map(Self::Tokens).or_else(|| Tool::of_label(label).map(Self::Calls))
    }

    pub fn is_call(self) -> bool {
        matches!(self, Self::Calls(_))
    }
}

/// The words on a bill.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label().replace('_', " "))
    }
}

impl BillLine {
    /// US dollars in 10⁻²⁴, exact; `None`: beyond what 128 bits hold.
    pub fn exact(&self) -> Option<u128> {
        let plain = u128::from(self.count) * u128::from(self.rate.nanos());
        let plain = if self.class.is_call() { plain.checked_mul(1_000_000)? } else { plain };
        plain.checked_mul(u128::from(self.times.nanos()))
    }
}

/// What lines add up to, in 10⁻²⁴ US dollars; `None`: beyond what 128 bits hold.
pub fn sum_of<'l>(lines: impl IntoIterator<Item = &'l BillLine>) -> Option<u128> {
    lines.into_iter().try_fold(0_u128, |sum, line| sum.checked_add(line.exact()?))
}

/// What lines cost together, rounded once, half up; beyond what 64 bits hold it stays at the largest amount.
pub fn cost_of<'l>(lines: impl IntoIterator<Item = &'l BillLine>) -> NanoUsd {
    let rounded = sum_of(lines).and_then(|sum| sum.checked_add(SCALE / 2)).map(|sum| sum / SCALE);
    rounded.and_then(|nanos| u64::try_from(nanos).ok()).map_or(NanoUsd::MAX, NanoUsd::from_nanos)
}

/// Prints 10⁻²⁴ dollars as dollars, without a digit too many.
pub fn exact_usd(exact: u128) -> String {
    const PLACES: usize = 24;
    const ONE: u128 = 10u128.pow(24);
    let fraction = format!("{:0PLACES$}", exact % ONE);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (exact / ONE).to_string() } else { format!("{}.{fraction}", exact / ONE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_known_by_its_word() {
        let classes = (0..CLASSES.len()).map(Class::Tokens).chain(Tool::ALL.map(Class::Calls));
        for class in classes {
            assert_eq!(Class::of_label(class.label()), Some(class));
        }
        assert_eq!((Class::of_label(""), Class::Tokens(2).to_string()), (None, "cache write 1h".to_owned()));
    }

    #[test]
    fn p4_a_call_costs_its_price_and_a_million_tokens_cost_theirs() {
        let line = |class, count| BillLine {
            model: None,
            class,
            count,
            rate: Decimal::parse("0.01").unwrap(),
            times: Decimal::parse("1.2").unwrap(),
        };
        assert_eq!(cost_of([&line(Class::Calls(Tool::WebSearch), 3)]).to_string(), "0.036");
        assert_eq!(cost_of([&line(Class::Tokens(0), 3_000_000)]).to_string(), "0.036");
        assert_eq!(line(Class::Calls(Tool::WebSearch), 3).exact().map(exact_usd), Some("0.036".to_owned()));
    }

    #[test]
    fn the_exact_sum_is_printed_to_its_last_place() {
        assert_eq!(exact_usd(u128::MAX).split_once('.').unwrap().1.len(), 24);
        assert_eq!(exact_usd(10_u128.pow(24) * 7), "7");
    }
}
