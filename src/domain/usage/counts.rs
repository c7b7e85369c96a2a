//! Raw token counts as a provider wrote them, and the classes that a bill is made of.
//!
//! Counts are merged *before* they become classes: OpenAI's `prompt_tokens` includes the cached ones, so the larger of two
//! derived classes could count a token twice. Nothing here fails; what can't be true is clamped and counted.

use super::shape::Shape;
use super::tokens::{MAX_COUNT, Usage};

/// A count that providers report, under whichever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Input,
    CacheRead,
    /// Anthropic's sum of both kinds of cache writes.
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    Output,
    Total,
}

/// The largest value seen of each field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    output: u64,
    total: u64,
    seen: u8,
}

impl Counts {
    /// Raises a field to `count`; says whether this report had named the field before with another count.
    pub(super) fn raise(&mut self, field: Field, count: u64) -> bool {
        let repeated = self.has(field);
        self.seen |= field.bit();
        let slot = match field {
            Field::Input => &mut self.input,
            Field::CacheRead => &mut self.cache_read,
            Field::CacheWrite => &mut self.cache_write,
            Field::CacheWrite5m => &mut self.cache_write_5m,
            Field::CacheWrite1h => &mut self.cache_write_1h,
            Field::Output => &mut self.output,
            Field::Total => &mut self.total,
        };
        let contradicts = repeated && *slot != count;
        *slot = (*slot).max(count);
        contradicts
    }

    /// Merges a later report into an earlier one; the larger count of each field wins.
    ///
    /// Providers repeat running totals, not increments (Anthropic sends `output_tokens` in `message_start` and again in
    /// `message_delta`), so adding them would bill twice; and a later zero or a missing field takes nothing back.
    pub(super) fn merge(&mut self, later: &Self) {
        self.input = self.input.max(later.input);
        self.cache_read = self.cache_read.max(later.cache_read);
        self.cache_write = self.cache_write.max(later.cache_write);
        self.cache_write_5m = self.cache_write_5m.max(later.cache_write_5m);
        self.cache_write_1h = self.cache_write_1h.max(later.cache_write_1h);
        self.output = self.output.max(later.output);
        self.total = self.total.max(later.total);
        self.seen |= later.seen;
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.seen & field.bit() != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// Splits the counts into classes that never overlap; the flag says that the counts contradicted each other.
    pub(super) fn usage(&self, shape: Shape) -> (Usage, bool) {
        match shape {
            Shape::Anthropic => (self.anthropic(), false),
            Shape::OpenAiChat | Shape::Responses | Shape::None => self.openai(),
        }
    }

    /// Anthropic's classes are disjoint as they come. What a bare sum holds beyond the split is a 5-minute write, the default
    /// kind. <https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching>
    fn anthropic(&self) -> Usage {
        Usage {
            input_tokens: self.input,
            cache_write_tokens: self.cache_write_5m.max(self.cache_write.saturating_sub(self.cache_write_1h)),
            cache_write_1h_tokens: self.cache_write_1h,
            cache_read_tokens: self.cache_read,
            output_tokens: self.output,
            ..Usage::default()
        }
    }

    /// OpenAI's prompt includes the cached part. More cached than prompt can't be: the prompt is the limit, lest tokens be
    /// invented.
    fn openai(&self) -> (Usage, bool) {
        let prompt = if self.has(Field::Input) { self.input } else { self.total.saturating_sub(self.output) };
        let cached = self.cache_read.min(prompt);
        let usage =
            Usage { input_tokens: prompt - cached, cache_read_tokens: cached, output_tokens: self.output, ..Usage::default() };
        (usage, self.cache_read > prompt)
    }
}

impl Field {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Reads a JSON number as a count; the flag says that it had to be bent.
///
/// Negative → 0, beyond [`MAX_COUNT`] → [`MAX_COUNT`], a fraction → its floor: all flagged. `12.0` and `1e3` are whole and pass
/// unflagged. `None`: not a number at all. `text` is the number's beginning when `cut` says that it was too long to keep.
pub(super) fn read_count(text: &[u8], cut: bool) -> Option<(u64, bool)> {
    if text.first() == Some(&b'-') {
        let is_zero = !cut && text.iter().skip(1).all(|b| matches!(b, b'0' | b'.'));
        return Some((0, !is_zero));
    }
    if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        let digits = text.iter().fold(0u64, |sum, b| sum.saturating_mul(10).saturating_add(u64::from(b - b'0')));
        return Some(if cut || digits > MAX_COUNT { (MAX_COUNT, true) } else { (digits, false) });
    }
    if cut {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok().filter(|value: &f64| !value.is_nan())?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0..=10^12: exact"
    )]
    match value {
        value if value > MAX_COUNT as f64 => Some((MAX_COUNT, true)),
        value => Some((value as u64, value.fract() != 0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u8_counts_that_cannot_be_are_clamped_and_flagged() {
        let long = [b'9'; 48];
        for (text, cut, expected) in [
            (&b"0"[..], false, Some((0, false))),
            (b"1234", false, Some((1234, false))),
            (b"1000000000000", false, Some((MAX_COUNT, false))),
            (b"1000000000001", false, Some((MAX_COUNT, true))),
            (b"99999999999999999999999", false, Some((MAX_COUNT, true))),
            (&long, true, Some((MAX_COUNT, true))),
            (b"1e309", false, Some((MAX_COUNT, true))),
            (b"-1", false, Some((0, true))),
            (b"-0", false, Some((0, false))),
            (b"-1e309", false, Some((0, true))),
            (b"12.0", false, Some((12, false))),
            (b"1e3", false, Some((1000, false))),
            (b"12.7", false, Some((12, true))),
            (b"1.2.3", false, None),
            (b"", false, None),
            (b"1.000", true, None),
        ] {
            assert_eq!(read_count(text, cut), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn u3_the_split_of_cache_writes_survives_a_larger_bare_sum() {
        let mut counts = Counts::default();
        counts.raise(Field::CacheWrite5m, 100);
        counts.raise(Field::CacheWrite1h, 50);
        let mut later = Counts::default();
        later.raise(Field::CacheWrite, 170);
        counts.merge(&later);
        let (usage, _) = counts.usage(Shape::Anthropic);
        assert_eq!((usage.cache_write_tokens, usage.cache_write_1h_tokens), (120, 50));
    }

    #[test]
    fn u3_a_cached_part_that_comes_late_is_taken_out_of_the_prompt() {
        let mut counts = Counts::default();
        counts.raise(Field::Input, 100);
        let mut later = Counts::default();
        later.raise(Field::Input, 100);
        later.raise(Field::CacheRead, 60);
        counts.merge(&later);
        let (usage, bent) = counts.usage(Shape::OpenAiChat);
        assert_eq!((usage.input_tokens, usage.cache_read_tokens, bent), (40, 60, false));
    }

    #[test]
    fn u8_more_cached_than_prompt_is_limited_by_the_prompt() {
        let mut counts = Counts::default();
        counts.raise(Field::Input, 10);
        counts.raise(Field::CacheRead, 25);
        let (usage, bent) = counts.usage(Shape::Responses);
        assert_eq!((usage.input_tokens, usage.cache_read_tokens, bent), (0, 10, true));
    }
}
