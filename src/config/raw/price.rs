//! Prices by condition and for tools, and numbers that lose no digit.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What one call of a tool costs that the provider runs itself, in US dollars.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolPrices {
    pub web_search: Option<Number>,
    pub web_fetch: Option<Number>,
    pub code_execution: Option<Number>,
    pub file_search: Option<Number>,
    pub image_generation: Option<Number>,
    /// Any other tool whose calls the answer counts.
    pub other: Option<Number>,
}

/// Prices by condition, or the word for the list that is shipped.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Prices {
    /// `"catalogue"`
    Named(String),
    Rows(Vec<PriceRow>),
}

/// By its first byte: an untagged enum of serde's would lose the digits of the numbers within.
impl<'de> Deserialize<'de> for Prices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let prices = if raw.get().starts_with('"') {
            serde_json::from_str(raw.get()).map(Self::Named)
        } else {
            serde_json::from_str(raw.get()).map(Self::Rows)
        };
        prices.map_err(D::Error::custom)
    }
}

/// Prices that hold under conditions, all of them at once. Rows are gone through in their order; each that holds puts its prices in the
/// place of those before it, and multiplies the cost of the tokens.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceRow {
    /// More input than this, of all classes together.
    #[schemars(range(min = 1))]
    pub above_input_tokens: Option<u64>,
    /// What the answer says as its `service_tier`: flex, priority, batch, …
    pub service_tier: Option<String>,
    /// What the answer says as its `speed`: fast.
    pub speed: Option<String>,
    /// What the answer says as its `inference_geo`: us, …
    pub region: Option<String>,
    /// What the cost of the tokens is multiplied by.
    pub multiplier: Option<Number>,
    pub input_price_per_mtok: Option<Number>,
    pub output_price_per_mtok: Option<Number>,
    /// Writing to the five-minute cache; 1.25 × this row's input where that is written.
    pub cache_write_price_per_mtok: Option<Number>,
    /// Writing to the one-hour cache; 2 × this row's input where that is written.
    pub cache_write_1h_price_per_mtok: Option<Number>,
    /// Reading from the cache; 0.1 × this row's input where that is written.
    pub cache_hit_price_per_mtok: Option<Number>,
    pub audio_input_price_per_mtok: Option<Number>,
    pub audio_output_price_per_mtok: Option<Number>,
    pub image_input_price_per_mtok: Option<Number>,
    pub image_output_price_per_mtok: Option<Number>,
}

/// A number by its text, so that no digit is lost in a float.
#[derive(Deserialize)]
pub struct Number(Box<RawValue>);

impl Number {
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl JsonSchema for Number {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}
