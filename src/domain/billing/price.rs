//! The price of a model, and the cost of a request's usage at that price (U1, U2, P4).
//!
//! ```text
//! cost = (input·p_in + cache_write·p_cw + cache_write_1h·p_cw1h + cache_read·p_cr + output·p_out + …) / 10⁶ × conditions × multiplier
//!      +  calls·p_call × multiplier
//! ```
//! Prices and multipliers are exact decimals. The cost is computed in 128 bits and rounded once, half up.

use std::fmt;
use std::sync::Arc;

use crate::domain::billing::condition::{Row, When};
use crate::domain::billing::decimal::{Decimal, NANOS_OF_ONE};
use crate::domain::billing::line::{BillLine, Class, cost_of};
use crate::domain::billing::money::NanoUsd;
use crate::domain::billing::rates::Rates;
use crate::domain::usage::{CLASSES, Facts, Label, Tool, Usage};

/// What a model costs: its tokens by class and condition, the provider's own tools by the call, all times a multiplier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    multiplier: Decimal,
    conditions: Option<Arc<Conditions>>,
}

/// What few models have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    pub rows: Vec<Row>,
    /// US dollars for one call; `None`: no price is known.
    pub calls: [Option<Decimal>; Tool::ALL.len()],
}

/// A usage at a price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Those of which there is anything.
    pub lines: Vec<BillLine>,
    /// The conditions that hold, and what each multiplies the cost of the tokens with.
    pub conditions: Vec<(When, Option<Decimal>)>,
    /// What the answer reports and no price covers.
    pub unpriced: Vec<Unpriced>,
}

/// Something that an answer reports and that may cost more or less than what is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unpriced {
    ServiceTier(Label),
    Speed(Label),
    Region(Label),
    /// A class of tokens without a price of its own, billed as other input or output; by its place in [`CLASSES`].
    Tokens(usize),
    /// Calls that are not billed.
    Calls(Tool),
}

impl Price {
    pub fn new(rates: Rates, multiplier: Decimal) -> Self {
        Self { rates, multiplier, conditions: None }
    }

    /// The same with prices by condition and for tools.
    pub fn under(self, conditions: Conditions) -> Self {
        let conditions = (conditions != Conditions::default()).then(|| Arc::new(conditions));
        Self { conditions, ..self }
    }

    /// The same with another multiplier of the model.
    pub fn times(self, multiplier: Decimal) -> Self {
        Self { multiplier, ..self }
    }

    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    pub fn multiplier(&self) -> Decimal {
        self.multiplier
    }

    pub fn rows(&self) -> &[Row] {
        self.conditions.as_ref().map_or(&[], |conditions| &conditions.rows)
    }

    /// US dollars for one call of a tool.
    pub fn of_call(&self, tool: Tool) -> Option<Decimal> {
        self.conditions.as_ref().and_then(|conditions| *conditions.calls.get(tool as usize)?)
    }

    /// The lines of a bill for this usage.
    pub fn charge(&self, usage: &Usage, facts: &Facts) -> Charge {
        let mut charge = Charge::default();
        let (mut rates, mut times) = (self.rates, self.multiplier);
        let input_tokens = if facts.longest_prompt > 0 { facts.longest_prompt } else { usage.all_input() };
        for row in self.rows().iter().filter(|row| row.when.holds(input_tokens, facts)) {
            rates = rates.changed(&row.changes);
            times = row.multiplier.map_or(times, |multiplier| product(times, multiplier));
            charge.conditions.push((row.when, row.multiplier));
        }
        for (place, ((count, rate), own)) in usage.tokens().into_iter().zip(rates.all()).zip(rates.own()).enumerate() {
            if count > 0 {
                charge.lines.push(BillLine { model: None, class: Class::Tokens(place), count, rate, times });
                charge.unpriced.extend(own.is_none().then_some(Unpriced::Tokens(place)));
            }
        }
        for (tool, count) in usage.calls.used() {
            let (rate, times) = (self.of_call(tool), self.multiplier);
            charge.unpriced.extend(rate.is_none().then_some(Unpriced::Calls(tool)));
            let rate = rate.unwrap_or(Decimal::ZERO);
            charge.lines.push(BillLine { model: None, class: Class::Calls(tool), count, rate, times });
        }
        charge.unpriced.extend(self.unknown_facts(facts));
        charge
    }

    /// The words that no row knows.
    fn unknown_facts(&self, facts: &Facts) -> impl Iterator<Item = Unpriced> {
        let known = |of: fn(&When) -> Option<Label>, word: Label| self.rows().iter().any(|row| of(&row.when) == Some(word));
        let unknown = |word: Label, of: fn(&When) -> Option<Label>| !word.is_empty() && !known(of, word);
        let Facts { service_tier, speed, region, .. } = *facts;
        let tier = unknown(service_tier, |when| when.service_tier).then_some(Unpriced::ServiceTier(service_tier));
        let speed = unknown(speed, |when| when.speed).then_some(Unpriced::Speed(speed));
        let region = unknown(region, |when| when.region).then_some(Unpriced::Region(region));
        [tier, speed, region].into_iter().flatten()
    }

    /// The cost of this much input, whatever class it is billed in, and of this much output, under the dearest conditions that it can
    /// come to.
    pub fn cost_at_most(&self, input_tokens: u64, output_tokens: u64) -> NanoUsd {
        let (mut input, mut output) = self.rates.dearest();
        for row in self.rows().iter().filter(|row| row.when.is_within(input_tokens)) {
            let (row_input, row_output) = self.rates.changed(&row.changes).dearest();
            (input, output) = (input.max(row_input), output.max(row_output));
        }
        let times = product(self.multiplier, self.dearest_multiplier(input_tokens));
        let line = |class, count, rate| BillLine { model: None, class: Class::Tokens(class), count, rate, times };
        cost_of(&[line(0, input_tokens, input), line(4, output_tokens, output)])
    }

    /// The most that conditions which hold together multiply the cost with: the dearest first, then what goes with all before it.
    fn dearest_multiplier(&self, input_tokens: u64) -> Decimal {
        let is_dearer = |row: &&Row| row.multiplier.is_some_and(|multiplier| multiplier > Decimal::ONE);
        let mut rows: Vec<&Row> = self.rows().iter().filter(is_dearer).filter(|row| row.when.is_within(input_tokens)).collect();
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.multiplier));
        let mut held: Vec<&When> = Vec::new();
        rows.into_iter().fold(Decimal::ONE, |times, row| {
            if !held.iter().all(|other| other.goes_with(&row.when)) {
                return times;
            }
            held.push(&row.when);
            product(times, row.multiplier.unwrap_or(Decimal::ONE))
        })
    }

    /// What of this price is another than in a list, the multiplier aside: `input 3 (list: 2.5)`.
    pub fn differences(&self, list: &Self) -> Vec<String> {
        let shown = |price: Option<Decimal>| price.map_or_else(|| "none".to_owned(), |price| price.to_string());
        let tokens = CLASSES.into_iter().zip(self.rates.own().into_iter().zip(list.rates.own()));
        let calls = Tool::ALL.into_iter().map(|tool| (tool.label(), (self.of_call(tool), list.of_call(tool))));
        let mut found: Vec<String> = tokens
            .chain(calls)
            .filter(|(_, (mine, listed))| mine != listed)
            .map(|(name, (mine, listed))| format!("{name} {} (list: {})", shown(mine), shown(listed)))
            .collect();
        found.extend(
            list.rows()
                .iter()
                .filter(|row| !self.rows().contains(row))
                .map(|row| format!("no such row for {} (list: one)", row.when)),
        );
        found.extend(
            self.rows()
                .iter()
                .filter(|row| !list.rows().contains(row))
                .map(|row| format!("a row for {} (list: none such)", row.when)),
        );
        found
    }

    /// The cost of one request's usage where nothing is said of how it was made.
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        cost_of(&self.charge(usage, &Facts::default()).lines)
    }
}

impl Unpriced {
    /// What it is about, without the word that an answer wrote.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ServiceTier(_) => "service_tier",
            Self::Speed(_) => "speed",
            Self::Region(_) => "region",
            Self::Tokens(place) => CLASSES.get(place).copied().unwrap_or_default(),
            Self::Calls(tool) => tool.label(),
        }
    }
}

/// What an operator reads.
impl fmt::Display for Unpriced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceTier(word) => write!(f, "service tier {}, and no row of `prices` is for it", word.as_str()),
            Self::Speed(word) => write!(f, "speed {}, and no row of `prices` is for it", word.as_str()),
            Self::Region(word) => write!(f, "region {}, and no row of `prices` is for it", word.as_str()),
            Self::Tokens(_) => {
                write!(f, "{} tokens, and `{}_price_per_mtok` is not written: they cost what text does", self.kind(), self.kind())
            }
            Self::Calls(_) => write!(f, "calls of {}, and `tool_prices` has no price for it: they cost nothing", self.kind()),
        }
    }
}

/// Exact as long as the places of both fit into nine, which the configuration sees to.
fn product(left: Decimal, right: Decimal) -> Decimal {
    const ONE: u128 = NANOS_OF_ONE as u128;
    let nanos = (u128::from(left.nanos()) * u128::from(right.nanos()) + ONE / 2) / ONE;
    Decimal::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Prints one row: `in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok, ×1.2`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} USD/Mtok", self.rates)?;
        for tool in Tool::ALL {
            if let Some(rate) = self.of_call(tool) {
                write!(f, ", {} {rate} USD/call", Class::Calls(tool))?;
            }
        }
        match self.rows().len() {
            0 => {}
            1 => f.write_str(", 1 row by condition")?,
            rows => write!(f, ", {rows} rows by condition")?,
        }
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
    use crate::domain::billing::condition::Changes;
    use crate::domain::billing::line::exact_usd;

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
        let charge = Price::new(rates, Decimal::ONE).charge(&usage, &Facts::default());
        let lines: Vec<_> = charge.lines.iter().map(|line| (line.class.label(), line.exact().map(exact_usd).unwrap())).collect();
        assert_eq!(lines, [("input", "0.000000000000001".to_owned()), ("output", "0.0075".to_owned())]);
    }

    fn row(when: When, multiplier: Option<&str>, changes: Changes) -> Row {
        Row { when, changes, multiplier: multiplier.map(decimal) }
    }

    fn label(word: &str) -> Option<Label> {
        Some(Label::of(word.as_bytes()))
    }

    /// 3 / 15, above 200 K 6 / 22.5; flex half, priority double, fast six times, in the US 1.1 times; audio 40 / 80; a search 0.01.
    fn conditional(multiplier: &str) -> Price {
        let rates = Rates { audio_input: Some(decimal("40")), audio_output: Some(decimal("80")), ..rates("3", "15") };
        let mut calls = [None; Tool::ALL.len()];
        calls[Tool::WebSearch as usize] = Some(decimal("0.01"));
        let long = Changes { input: Some(decimal("6")), output: Some(decimal("22.5")), ..Changes::default() };
        let rows = vec![
            row(When { above_input_tokens: Some(200_000), ..When::default() }, None, long),
            row(When { service_tier: label("flex"), ..When::default() }, Some("0.5"), Changes::default()),
            row(When { service_tier: label("priority"), ..When::default() }, Some("2"), Changes::default()),
            row(When { speed: label("fast"), ..When::default() }, Some("6"), Changes::default()),
            row(When { region: label("us"), ..When::default() }, Some("1.1"), Changes::default()),
        ];
        Price::new(rates, decimal(multiplier)).under(Conditions { rows, calls })
    }

    fn rates(input: &str, output: &str) -> Rates {
        Rates::derive(decimal(input), decimal(output), None, None, None)
    }

    fn facts(tier: &str, speed: &str, region: &str) -> Facts {
        let [service_tier, speed, region] = [tier, speed, region].map(|word| Label::of(word.as_bytes()));
        Facts { service_tier, speed, region, longest_prompt: 0 }
    }

    /// Each worked out by hand.
    #[test]
    fn p4_every_condition_has_its_price() {
        let usage = |input_tokens, output_tokens| Usage { input_tokens, output_tokens, ..Usage::default() };
        let plain = usage(100_000, 1_000);
        for (usage, facts, usd) in [
            // 100000 × 3 + 1000 × 15 = 0.3 + 0.015
            (plain, facts("", "", ""), "0.315"),
            // exactly at the bound: 200000 × 3
            (usage(200_000, 0), facts("", "", ""), "0.6"),
            // above it, all of it: 200001 × 6 + 1000 × 22.5 = 1.200006 + 0.0225
            (usage(200_001, 1_000), facts("", "", ""), "1.222506"),
            (plain, facts("flex", "", ""), "0.1575"),
            (plain, facts("priority", "", ""), "0.63"),
            // 0.315 × 6 × 1.1
            (plain, facts("", "fast", "us"), "2.079"),
            // 1.222506 × 0.5 × 1.1
            (usage(200_001, 1_000), facts("flex", "", "us"), "0.6723783"),
            // 60 × 3 + 40 × 40 + 10 × 15 + 30 × 80 = 180 + 1600 + 150 + 2400
            (Usage { audio_input_tokens: 40, audio_output_tokens: 30, ..usage(60, 10) }, facts("", "", ""), "0.00433"),
        ] {
            let charge = conditional("1").charge(&usage, &facts);
            assert_eq!(cost_of(&charge.lines).to_string(), usd, "{usage:?} {facts:?}");
            assert_eq!(charge.unpriced, []);
        }
    }

    /// A tier has no word in what a call costs, the model's multiplier has: 0.315 × 0.5 × 1.2 + 3 × 0.01 × 1.2
    #[test]
    fn p4_calls_cost_the_same_under_every_condition() {
        let mut usage = Usage { input_tokens: 100_000, output_tokens: 1_000, ..Usage::default() };
        usage.calls.set(Tool::WebSearch, 3);
        let charge = conditional("1.2").charge(&usage, &facts("flex", "", ""));
        assert_eq!(cost_of(&charge.lines).to_string(), "0.225");
        assert_eq!(charge.lines.last().map(|line| (line.class, line.count)), Some((Class::Calls(Tool::WebSearch), 3)));
    }

    #[test]
    fn p4_what_no_price_covers_is_named() {
        let mut usage = Usage { image_output_tokens: 5, ..Usage::default() };
        usage.calls.set(Tool::CodeExecution, 1);
        let charge = conditional("1").charge(&usage, &facts("scale", "slow", "eu"));
        let kinds: Vec<_> = charge.unpriced.iter().map(|unpriced| unpriced.kind()).collect();
        assert_eq!(kinds, ["image_output", "code_execution", "service_tier", "speed", "region"]);
        assert!(charge.unpriced.iter().all(|unpriced| unpriced.to_string().contains("price")));
        // An image costs what text does: 5 × 15.
        assert_eq!(cost_of(&charge.lines).nanos(), 75_000);
    }

    #[test]
    fn p4_several_prompts_together_are_no_long_prompt() {
        let usage = Usage { input_tokens: 300_000, ..Usage::default() };
        let each = Facts { longest_prompt: 150_000, ..Facts::default() };
        assert_eq!(cost_of(&conditional("1").charge(&usage, &each).lines).to_string(), "0.9");
    }

    #[test]
    fn p4_a_reservation_takes_the_dearest_conditions_that_hold_together() {
        // 1000 × 40 (audio) × 2 (priority) × 6 (fast) × 1.1 (us)
        assert_eq!(conditional("1").cost_at_most(1_000, 0).to_string(), "0.528");
        // 1000 × 80 × 13.2
        assert_eq!(conditional("1").cost_at_most(0, 1_000).to_string(), "1.056");
        // Whatever the order of the rows: 2 × 1.1, not 1.5 × 1.1 and not 2.
        let tier = |word, times| row(When { service_tier: label(word), ..When::default() }, Some(times), Changes::default());
        let us = row(When { region: label("us"), ..When::default() }, Some("1.1"), Changes::default());
        let rows = vec![us, tier("scale", "1.5"), tier("priority", "2"), tier("flex", "0.5")];
        let price = Price::new(rates("1", "1"), Decimal::ONE).under(Conditions { rows, ..Conditions::default() });
        // The dearest class of input is the hour's cache write, 2.
        assert_eq!(price.cost_at_most(1_000_000, 0).to_string(), "4.4");
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
            let price = Price::new(Rates::derive(input, output, Some(cache_write), Some(cache_write_1h), Some(cache_read)), Decimal::from_nanos(multiplier));
            let exact: u128 = tokens.iter().zip(rates).map(|(t, r)| u128::from(*t) * u128::from(r)).sum::<u128>() * u128::from(multiplier);
            let scale = 10u128.pow(15);
            let billed = u128::from(price.cost(&usage).nanos()) * scale;
            prop_assert!(billed <= exact + scale / 2 && exact < billed + scale / 2 + scale % 2);
        }
    }
}
