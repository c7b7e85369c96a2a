//! What tokens of each class cost, in US dollars per million.

use std::fmt;

use crate::domain::billing::condition::Changes;
use crate::domain::billing::decimal::Decimal;
use crate::domain::usage::CLASSES;

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
    /// `None`: as other input, or other output.
    pub audio_input: Option<Decimal>,
    pub audio_output: Option<Decimal>,
    pub image_input: Option<Decimal>,
    pub image_output: Option<Decimal>,
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
            audio_input: None,
            audio_output: None,
            image_input: None,
            image_output: None,
        }
    }

    /// The rates of a row; another input's price brings the cache's prices that are derived from it.
    pub fn changed(&self, changes: &Changes) -> Self {
        let input = changes.input.unwrap_or(self.input);
        let derived = Self::derive(input, self.output, None, None, None);
        let before = if changes.input.is_some() { &derived } else { self };
        Self {
            input,
            output: changes.output.unwrap_or(self.output),
            cache_write: changes.cache_write.unwrap_or(before.cache_write),
            cache_write_1h: changes.cache_write_1h.unwrap_or(before.cache_write_1h),
            cache_read: changes.cache_read.unwrap_or(before.cache_read),
            audio_input: changes.audio_input.or(self.audio_input),
            audio_output: changes.audio_output.or(self.audio_output),
            image_input: changes.image_input.or(self.image_input),
            image_output: changes.image_output.or(self.image_output),
        }
    }

    /// The rate of each class, in the order of [`CLASSES`]; `None`: it has none of its own, and costs what other input or output does.
    pub fn own(&self) -> [Option<Decimal>; CLASSES.len()] {
        [
            Some(self.input),
            Some(self.cache_write),
            Some(self.cache_write_1h),
            Some(self.cache_read),
            Some(self.output),
            self.audio_input,
            self.audio_output,
            self.image_input,
            self.image_output,
        ]
    }

    /// What each class costs, in the order of [`CLASSES`].
    pub fn all(&self) -> [Decimal; CLASSES.len()] {
        let Self { input, output, .. } = *self;
        [
            input,
            self.cache_write,
            self.cache_write_1h,
            self.cache_read,
            output,
            self.audio_input.unwrap_or(input),
            self.audio_output.unwrap_or(output),
            self.image_input.unwrap_or(input),
            self.image_output.unwrap_or(output),
        ]
    }

    /// The dearest class of input, and that of output.
    pub fn dearest(&self) -> (Decimal, Decimal) {
        let [input, write, write_1h, read, output, audio_input, audio_output, image_input, image_output] = self.all();
        let inputs = input.max(write).max(write_1h).max(read).max(audio_input).max(image_input);
        (inputs, output.max(audio_output).max(image_output))
    }
}

/// `in 3, out 15, cache write 3.75 (1h 6), cache read 0.3`, and what has a rate of its own.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, output, cache_write, cache_write_1h, cache_read, .. } = self;
        write!(f, "in {input}, out {output}, cache write {cache_write} (1h {cache_write_1h}), cache read {cache_read}")?;
        let apart = [
            ("audio in", self.audio_input),
            ("audio out", self.audio_output),
            ("image in", self.image_input),
            ("image out", self.image_output),
        ];
        apart.into_iter().filter_map(|(name, rate)| Some((name, rate?))).try_for_each(|(name, rate)| write!(f, ", {name} {rate}"))
    }
}
