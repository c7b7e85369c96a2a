//! The keys under `models`, `model_routing`, `routing` and `billing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Entries;
use super::price::{Number, Prices, ToolPrices};

/// How the model of a request chooses its upstream.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// `false` sends every model to troll.
    pub model_based: bool,
    /// What happens to a model that nothing names.
    pub unknown_model: UnknownModel,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownModel {
    /// It goes to troll.
    #[default]
    Troll,
    /// It is answered with 404.
    Reject,
}

/// A model and what its tokens cost, in US dollars per million tokens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name that clients send.
    pub id: String,
    /// The upstream's name; `troll` where it is not written.
    pub upstream: Option<String>,
    /// Other names for the same model.
    #[serde(default)]
    pub id_aliases: Vec<String>,
    /// The name that the upstream is asked for, where it is another one.
    pub upstream_model_id: Option<String>,
    pub input_price_per_mtok: Option<Number>,
    pub output_price_per_mtok: Option<Number>,
    /// Writing to the five-minute cache; 1.25 × input where it is not written.
    pub cache_write_price_per_mtok: Option<Number>,
    /// Writing to the one-hour cache; 2 × input where it is not written.
    pub cache_write_1h_price_per_mtok: Option<Number>,
    /// Reading from the cache; 0.1 × input where it is not written.
    pub cache_hit_price_per_mtok: Option<Number>,
    /// Audio in the prompt; as other input where it is not written.
    pub audio_input_price_per_mtok: Option<Number>,
    /// Audio in the answer; as other output where it is not written.
    pub audio_output_price_per_mtok: Option<Number>,
    /// Images in the prompt; as other input where it is not written.
    pub image_input_price_per_mtok: Option<Number>,
    /// Images in the answer; as other output where it is not written.
    pub image_output_price_per_mtok: Option<Number>,
    /// What one call of a tool costs that the provider runs itself, in US dollars.
    pub tool_prices: Option<ToolPrices>,
    /// Prices by condition, or `"catalogue"`: all prices of this model from the list that trollbridge ships.
    pub prices: Option<Prices>,
    /// What the cost is multiplied by; 1 where it is not written.
    pub billing_multiplier: Option<Number>,
    /// The most output tokens of one answer, for the reservation of credit; `billing.max_output_tokens` where it is not written.
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<u64>,
}

/// Routing by a map of names.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct ModelRouting {
    pub enabled: bool,
    /// Where requests go whose model nothing names: a URL, or the name of an upstream.
    pub default_target: Option<String>,
    /// A model's name, or a prefix and `*`, to a URL or the name of an upstream. The longest prefix wins.
    pub models: Entries<String>,
}

/// What is billed, and what is not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Billing {
    /// The usage of an answer that the client did not wait for.
    pub on_client_gone: OnLoss,
    /// The usage of an answer that the upstream did not finish.
    pub on_upstream_cut: OnLoss,
    /// Refuse models without a price of their own in `models`.
    pub require_price: bool,
    /// Refuse clients without a balance; the static key has none.
    pub require_credits: bool,
    /// The most output tokens of one answer, for models that don't say: what is reserved for a request that sets no limit itself.
    #[schemars(range(min = 1))]
    pub max_output_tokens: u64,
    /// The most input tokens that a reservation counts with, whatever the size of the body (images count by their bytes).
    #[schemars(range(min = 1))]
    pub max_input_tokens: u64,
    /// The most tokens of one class, or calls of one tool, that an answer's usage is believed: what is beyond every context window is a slip
    /// of the provider's, and an estimate is billed in its place.
    #[schemars(range(min = 1, max = 1000000000000u64))]
    pub max_counted_tokens: u64,
    /// For models without prices of their own.
    pub default_price: Option<DefaultPrice>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// What was seen, and an estimate of the rest, marked as such.
    Estimate,
    /// What was seen.
    Observed,
    /// Nothing.
    Free,
}

/// A price in US dollars per million tokens; 3 / 15 / 3.75 / 0.3 where none is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultPrice {
    pub input_price_per_mtok: Number,
    pub output_price_per_mtok: Number,
    /// Writing to the five-minute cache; 1.25 × input where it is not written.
    pub cache_write_price_per_mtok: Option<Number>,
    /// Writing to the one-hour cache; 2 × input where it is not written.
    pub cache_write_1h_price_per_mtok: Option<Number>,
    /// Reading from the cache; 0.1 × input where it is not written.
    pub cache_hit_price_per_mtok: Option<Number>,
    /// What the cost is multiplied by; 1 where it is not written.
    pub billing_multiplier: Option<Number>,
}

impl Default for Routing {
    fn default() -> Self {
        Self { model_based: true, unknown_model: UnknownModel::Troll }
    }
}

impl Default for Billing {
    fn default() -> Self {
        Self {
            on_client_gone: OnLoss::Estimate,
            on_upstream_cut: OnLoss::Observed,
            require_price: false,
            require_credits: false,
            max_output_tokens: 32_000,
            max_input_tokens: 200_000,
            max_counted_tokens: 100_000_000,
            default_price: None,
        }
    }
}
