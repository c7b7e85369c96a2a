//! The `billing` settings as values: what is owed where the usage did not arrive, and who is refused for want of a price or a balance. What
//! follows from them for one answer: `bill`.

use crate::domain::billing::price::Price;

/// What is billed where the usage did not arrive (U7), and the price of models that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billing {
    pub on_client_gone: OnLoss,
    pub on_upstream_cut: OnLoss,
    pub default_price: Price,
    /// A model without a price of its own is refused.
    pub require_price: bool,
    /// A caller without a balance is refused.
    pub require_credits: bool,
    /// A count beyond it is a slip.
    pub max_counted_tokens: u64,
    /// What a reservation counts with at most, where the model does not say.
    pub most_tokens: MostTokens,
}

/// Which usage counts for an answer that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// What was seen, and an estimate of the rest, marked as such.
    Estimate,
    /// What was seen.
    Observed,
    /// Nothing.
    Free,
}

/// The most tokens that a reservation counts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostTokens {
    pub input: u64,
    /// Of one answer; also the estimate of a request that sets no maximum itself.
    pub output: u64,
}
