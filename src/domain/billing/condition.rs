//! Rows of a price list that hold under a condition: a long prompt, a service tier, a fast mode, a region.
//!
//! Rows are gone through in the order in which they stand. Each whose conditions all hold puts its prices in the place of those before,
//! and multiplies the cost of the tokens by its multiplier.

use std::fmt;

use crate::domain::billing::decimal::Decimal;
use crate::domain::usage::{Facts, Label};

/// When a row holds; what is not said is no condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// More input than this, of all classes together.
    pub above_input_tokens: Option<u64>,
    pub service_tier: Option<Label>,
    pub speed: Option<Label>,
    pub region: Option<Label>,
}

/// Prices of a row; those that it does not name stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub input: Option<Decimal>,
    pub output: Option<Decimal>,
    pub cache_write: Option<Decimal>,
    pub cache_write_1h: Option<Decimal>,
    pub cache_read: Option<Decimal>,
    pub audio_input: Option<Decimal>,
    pub audio_output: Option<Decimal>,
    pub image_input: Option<Decimal>,
    pub image_output: Option<Decimal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub when: When,
    pub changes: Changes,
    pub multiplier: Option<Decimal>,
}

impl When {
    pub fn holds(&self, input_tokens: u64, facts: &Facts) -> bool {
        let is = |wanted: Option<Label>, said: Label| wanted.is_none_or(|wanted| wanted == said);
        self.is_within(input_tokens)
            && is(self.service_tier, facts.service_tier)
            && is(self.speed, facts.speed)
            && is(self.region, facts.region)
    }

    /// Whether so much input can come to it.
    pub fn is_within(&self, input_tokens: u64) -> bool {
        self.above_input_tokens.is_none_or(|above| input_tokens > above)
    }

    /// Whether another condition can hold at the same time.
    pub fn goes_with(&self, other: &Self) -> bool {
        let both = |mine: Option<Label>, theirs: Option<Label>| mine.zip(theirs).is_none_or(|(mine, theirs)| mine == theirs);
        both(self.service_tier, other.service_tier) && both(self.speed, other.speed) && both(self.region, other.region)
    }
}

/// `more than 200000 input tokens, service tier flex`
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self.above_input_tokens.map(|above| format!("more than {above} input tokens"));
        let words = [("service tier", self.service_tier), ("speed", self.speed), ("region", self.region)];
        let words = words.into_iter().filter_map(|(name, word)| word.map(|word| format!("{name} {}", word.as_str())));
        f.write_str(&above.into_iter().chain(words).collect::<Vec<_>>().join(", "))
    }
}

/// `service tier flex: × 0.5`, `more than 200000 input tokens: input 6, output 22.5`
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = &self.changes;
        let prices = [
            ("input", changes.input),
            ("output", changes.output),
            ("cache write", changes.cache_write),
            ("cache write 1h", changes.cache_write_1h),
            ("cache read", changes.cache_read),
            ("audio input", changes.audio_input),
            ("audio output", changes.audio_output),
            ("image input", changes.image_input),
            ("image output", changes.image_output),
        ];
        let prices = prices.into_iter().filter_map(|(name, price)| price.map(|price| format!("{name} {price}")));
        let times = self.multiplier.map(|multiplier| format!("× {multiplier}"));
        write!(f, "{}: {}", self.when, prices.chain(times).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_a_row_holds_where_all_its_conditions_do() {
        let when = When { above_input_tokens: Some(10), service_tier: Some(Label::of(b"flex")), ..When::default() };
        let flex = Facts { service_tier: Label::of(b"flex"), ..Facts::default() };
        assert!(when.holds(11, &flex) && When::default().holds(0, &Facts::default()));
        assert!(!when.holds(10, &flex) && !when.holds(11, &Facts::default()));
        assert_eq!(when.to_string(), "more than 10 input tokens, service tier flex");
        let fast = When { speed: Some(Label::of(b"fast")), ..When::default() };
        let priority = When { service_tier: Some(Label::of(b"priority")), ..When::default() };
        assert!(when.goes_with(&fast) && when.goes_with(&when) && !when.goes_with(&priority));
    }
}
