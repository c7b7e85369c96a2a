//! The price of a model's tokens, and the cost of a request's usage at that price (U1, U2).
//!
//! ```text
//! cost = (input·p_in + cache_write·p_cw + cache_write_1h·p_cw1h + cache_read·p_cr + output·p_out) / 10⁶ × multiplier
//! ```
//! Prices and multipliers are exact decimals. The cost is computed in 128 bits and rounded once, half up.

use std::fmt;

use crate::domain::billing::decimal::{Decimal, NANOS_OF_ONE};
use crate::domain::billing::money::NanoUsd;
use crate::domain::usage::Usage;

/// What a model costs: US dollars per million tokens of each class, times a multiplier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    multiplier: Decimal,
}

/// US dollars per million tokens, one rate for each class of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub input: Decimal,
    pub output: Decimal,
    /// Writing to the five-minute cache.
    pub cache_write: Decimal,
    /// Writing to the one-hour cache.
    pub cache_write_1h: Decimal,
    pub cache_read: Decimal,
}

/// One class of a usage and its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillLine {
    pub class: &'static str,
    pub tokens: u64,
    /// US dollars per million tokens.
    pub rate: Decimal,
}

impl Rates {
    /// Fills what was not given from the input's rate, as the Anthropic price list has it: a cache write costs 1.25 times, an
    /// hour's cache write twice, a cache read a tenth of an input token.
    pub fn derive(
        input: Decimal,
        output: Decimal,
        cache_write: Option<Decimal>,
        cache_write_1h: Option<Decimal>,
        cache_read: Option<Decimal>,
    ) -> Self {
        Self {
            input,
            output,
            cache_write: cache_write.unwrap_or_else(|| input.percent(125)),
            cache_write_1h: cache_write_1h.unwrap_or_else(|| input.percent(200)),
            cache_read: cache_read.unwrap_or_else(|| input.percent(10)),
        }
    }
}

impl Price {
    pub fn new(rates: Rates, multiplier: Decimal) -> Self {
        Self { rates, multiplier }
    }

    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    pub fn multiplier(&self) -> Decimal {
        self.multiplier
    }

    /// The classes of a usage, each with its rate: the lines of a bill before the multiplier.
    pub fn lines(&self, usage: &Usage) -> [BillLine; 5] {
        let Rates { input, output, cache_write, cache_write_1h, cache_read } = self.rates;
        [
            BillLine { class: "input", tokens: usage.input_tokens, rate: input },
            BillLine { class: "cache write", tokens: usage.cache_write_tokens, rate: cache_write },
            BillLine { class: "cache write 1h", tokens: usage.cache_write_1h_tokens, rate: cache_write_1h },
            BillLine { class: "cache read", tokens: usage.cache_read_tokens, rate: cache_read },
            BillLine { class: "output", tokens: usage.output_tokens, rate: output },
        ]
    }

    /// The cost of this much input, whatever class it is billed in, and of this much output.
    pub fn cost_at_most(&self, input_tokens: u64, output_tokens: u64) -> NanoUsd {
        let Rates { input, cache_write, cache_write_1h, cache_read, .. } = self.rates;
        let dearest = input.max(cache_write).max(cache_write_1h).max(cache_read);
        let price = Self { rates: Rates { input: dearest, ..self.rates }, ..*self };
        price.cost(&Usage { input_tokens, output_tokens, ..Usage::default() })
    }

    /// The cost of one request's usage, rounded once, half up; beyond what 64 bits hold it stays at the largest amount.
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        let exact = self
            .lines(usage)
            .iter()
            .try_fold(0u128, |sum, line| sum.checked_add(line.exact()))
            .and_then(|sum| sum.checked_mul(u128::from(self.multiplier.nanos())));
        // Billionths per million tokens, times billionths of the multiplier.
        const SCALE: u128 = 1_000_000 * NANOS_OF_ONE as u128;
        let rounded = exact.and_then(|exact| exact.checked_add(SCALE / 2)).map(|exact| exact / SCALE);
        rounded.and_then(|nanos| u64::try_from(nanos).ok()).map_or(NanoUsd::MAX, NanoUsd::from_nanos)
    }
}

impl BillLine {
    /// US dollars in 10⁻¹⁵, exact: the tokens times billionths per million.
    pub fn exact(&self) -> u128 {
        u128::from(self.tokens) * u128::from(self.rate.nanos())
    }
}

/// Prints a whole number of 10⁻¹⁵ dollars as dollars, without a digit too many.
pub fn exact_usd(exact: u128) -> String {
    const PLACES: usize = 15;
    const ONE: u128 = 10u128.pow(15);
    let fraction = format!("{:0PLACES$}", exact % ONE);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (exact / ONE).to_string() } else { format!("{}.{fraction}", exact / ONE) }
}

/// Prints one row: `in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok, ×1.2`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rates { input, output, cache_write, cache_write_1h, cache_read } = self.rates;
        write!(f, "in {input}, out {output}, cache write {cache_write} (1h {cache_write_1h}), cache read {cache_read} USD/Mtok")?;
        if self.multiplier != Decimal::ONE {
            write!(f, ", ×{}", self.multiplier)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    /// U2
    #[test]
    fn golden_vector() {
        let rates = Rates::derive(decimal("3"), decimal("15"), Some(decimal("3.75")), None, Some(decimal("0.30")));
        let usage =
            Usage { input_tokens: 500, cache_write_tokens: 200, cache_read_tokens: 300, output_tokens: 500, ..Usage::default() };
        let cost = Price::new(rates, decimal("1.2")).cost(&usage);
        assert_eq!(cost.nanos(), 11_808_000);
        assert_eq!(cost.to_string(), "0.011808");
    }

    /// U2: the one-hour writes have a rate of their own.
    #[test]
    fn missing_cache_rates_come_from_the_input() {
        let rates = Rates::derive(decimal("3"), decimal("15"), None, None, None);
        assert_eq!((rates.cache_write, rates.cache_write_1h, rates.cache_read), (decimal("3.75"), decimal("6"), decimal("0.3")));
        let usage = Usage { cache_write_1h_tokens: 1_000_000, ..Usage::default() };
        assert_eq!(Price::new(rates, Decimal::ONE).cost(&usage).to_string(), "6");
    }

    /// U2: half a nano-dollar goes up, less goes down, and only the sum is rounded.
    #[test]
    fn rounds_once_half_up() {
        let rates = |input| Rates::derive(decimal(input), decimal(input), None, None, Some(decimal(input)));
        let cost = |input, usage| Price::new(rates(input), Decimal::ONE).cost(&usage).nanos();
        let one = Usage { input_tokens: 1, ..Usage::default() };
        assert_eq!(cost("0.0005", one), 1);
        assert_eq!(cost("0.000499999", one), 0);
        let three = Usage { input_tokens: 1, cache_read_tokens: 1, output_tokens: 1, ..Usage::default() };
        assert_eq!(cost("0.0005", three), 2, "1.5 rounded once, not three times 0.5");
    }

    /// U8
    #[test]
    fn absurd_counts_saturate() {
        let rates = Rates::derive(decimal("1000000"), decimal("1000000"), None, None, None);
        let usage = Usage { input_tokens: u64::MAX, output_tokens: u64::MAX, ..Usage::default() };
        assert_eq!(Price::new(rates, decimal("1000000")).cost(&usage), NanoUsd::MAX);
    }

    #[test]
    fn u2_the_lines_of_a_bill_are_exact() {
        let rates = Rates::derive(decimal("0.000000001"), decimal("15"), None, None, None);
        let usage = Usage { input_tokens: 1, output_tokens: 500, ..Usage::default() };
        let lines = Price::new(rates, Decimal::ONE).lines(&usage).map(|line| exact_usd(line.exact()));
        assert_eq!(lines, ["0.000000000000001", "0", "0", "0", "0.0075"]);
        assert_eq!(exact_usd(u128::from(u64::MAX) * u128::from(u64::MAX)).split_once('.').unwrap().1.len(), 15);
    }

    proptest! {
        /// U2: the rounded cost is within half a nano-dollar of the exact fraction.
        #[test]
        fn the_cost_is_the_nearest_nano(
            tokens in proptest::array::uniform5(0u64..10_000_000),
            rates in proptest::array::uniform5(0u64..1_000 * NANOS_OF_ONE),
            multiplier in 0u64..10 * NANOS_OF_ONE,
        ) {
            let [input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens] = tokens;
            let usage = Usage { input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens, ..Usage::default() };
            let [input, cache_write, cache_write_1h, cache_read, output] = rates.map(Decimal::from_nanos);
            let price = Price::new(Rates { input, output, cache_write, cache_write_1h, cache_read }, Decimal::from_nanos(multiplier));
            let exact: u128 = tokens.iter().zip(rates).map(|(t, r)| u128::from(*t) * u128::from(r)).sum::<u128>() * u128::from(multiplier);
            let scale = 10u128.pow(15);
            let billed = u128::from(price.cost(&usage).nanos()) * scale;
            prop_assert!(billed <= exact + scale / 2 && exact < billed + scale / 2 + scale % 2);
        }
    }
}
