//! Prices: from the file's number texts to exact decimals, and the default price.

use crate::config::parse::Context;
use crate::config::raw::{Config, Model, Number};
use crate::config::source::At;
use crate::domain::billing::{Decimal, Price, Rates};

/// The price of models that have none: `billing.default_price`, else 3 / 15 / 3.75 / 0.30 USD per million tokens.
pub fn default_price(raw: &Config, cx: &mut Context<'_, '_>) -> Price {
    let billing = At::Root.key("billing");
    let at = billing.key("default_price");
    let written = raw.billing.default_price.as_ref().and_then(|written| {
        let input = decimal(cx, &at, "input_price_per_mtok", Some(&written.input_price_per_mtok));
        let output = decimal(cx, &at, "output_price_per_mtok", Some(&written.output_price_per_mtok));
        let cache_write = decimal(cx, &at, "cache_write_price_per_mtok", written.cache_write_price_per_mtok.as_ref());
        let cache_write_1h = decimal(cx, &at, "cache_write_1h_price_per_mtok", written.cache_write_1h_price_per_mtok.as_ref());
        let cache_read = decimal(cx, &at, "cache_hit_price_per_mtok", written.cache_hit_price_per_mtok.as_ref());
        let multiplier = decimal(cx, &at, "billing_multiplier", written.billing_multiplier.as_ref());
        let rates = Rates::derive(input?, output?, cache_write, cache_write_1h, cache_read);
        Some(Price::new(rates, multiplier.unwrap_or(Decimal::ONE)))
    });
    written.unwrap_or_else(|| {
        let (input, output) = (Decimal::from_nanos(3_000_000_000), Decimal::from_nanos(15_000_000_000));
        Price::new(Rates::derive(input, output, None, None, None), Decimal::ONE)
    })
}

/// A model's own price; `None` where it has none. A multiplier alone applies to the default price (U1: it belongs to the model).
pub fn of_model(model: &Model, default: Price, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Price> {
    let multiplier = decimal(cx, at, "billing_multiplier", model.billing_multiplier.as_ref());
    let input = decimal(cx, at, "input_price_per_mtok", model.input_price_per_mtok.as_ref());
    let output = decimal(cx, at, "output_price_per_mtok", model.output_price_per_mtok.as_ref());
    let cache_write = decimal(cx, at, "cache_write_price_per_mtok", model.cache_write_price_per_mtok.as_ref());
    let cache_write_1h = decimal(cx, at, "cache_write_1h_price_per_mtok", model.cache_write_1h_price_per_mtok.as_ref());
    let cache_read = decimal(cx, at, "cache_hit_price_per_mtok", model.cache_hit_price_per_mtok.as_ref());

    let writes = [&model.cache_write_price_per_mtok, &model.cache_write_1h_price_per_mtok, &model.cache_hit_price_per_mtok];
    let has_cache_prices = writes.into_iter().any(Option::is_some);
    match (&model.input_price_per_mtok, &model.output_price_per_mtok) {
        (Some(_), Some(_)) => {
            let rates = Rates::derive(input?, output?, cache_write, cache_write_1h, cache_read);
            Some(Price::new(rates, multiplier.unwrap_or(Decimal::ONE)))
        }
        (None, None) if !has_cache_prices => multiplier.map(|multiplier| Price::new(*default.rates(), multiplier)),
        (None, _) => {
            cx.fault(at, format!("model \"{}\" has a price but no `input_price_per_mtok`", model.id));
            None
        }
        (_, None) => {
            cx.fault(at, format!("model \"{}\" has a price but no `output_price_per_mtok`", model.id));
            None
        }
    }
}

/// Whether the model states what its tokens cost.
pub fn is_stated(model: &Model) -> bool {
    model.input_price_per_mtok.is_some() && model.output_price_per_mtok.is_some()
}

fn decimal(cx: &mut Context<'_, '_>, at: &At<'_>, key: &str, number: Option<&Number>) -> Option<Decimal> {
    match Decimal::parse(number?.text()) {
        Ok(decimal) => Some(decimal),
        Err(error) => {
            cx.fault(&at.key(key), format!("the number {error}"));
            None
        }
    }
}
