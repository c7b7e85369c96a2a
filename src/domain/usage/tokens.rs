//! Token counts in the classes that have prices.

/// The largest count that is believed; beyond it a count is clamped. No request of any model comes near it.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// Token counts of one answer, in the classes that have prices. The classes never overlap: their sum is what the provider saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that came from no cache and went into none.
    pub input_tokens: u64,
    /// Input written to a 5-minute cache.
    pub cache_write_tokens: u64,
    /// Input written to a 1-hour cache.
    pub cache_write_1h_tokens: u64,
    pub cache_read_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: u64,
}

impl Usage {
    /// Whether a count stands at its bound.
    pub fn is_absurd(&self) -> bool {
        let classes =
            [self.input_tokens, self.cache_write_tokens, self.cache_write_1h_tokens, self.cache_read_tokens, self.output_tokens];
        classes.into_iter().any(|count| count >= MAX_COUNT)
    }
}
