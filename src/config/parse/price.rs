//! Prices: from the file's number texts to exact decimals, and the default price.

use crate::config::fault::did_you_mean;
use crate::config::parse::Context;
use crate::config::raw::{Config, Model, Number, PriceRow, Prices, ToolPrices};
use crate::config::source::At;
use crate::domain::billing::condition::{Changes, Row, When};
use crate::domain::billing::{Conditions, Decimal, Price, Rates};
use crate::domain::usage::{Label, Tool};

/// The places that multipliers which may be multiplied with each other have together.
const MOST_PLACES: u32 = 9;

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
pub fn of_model(model: &Model, default: &Price, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Price> {
    if let Some(Prices::Named(name)) = &model.prices {
        return of_catalogue(model, name, at, cx);
    }
    let multiplier = decimal(cx, at, "billing_multiplier", model.billing_multiplier.as_ref());
    let conditions = Conditions {
        rows: match &model.prices {
            Some(Prices::Rows(rows)) => rows_of(rows, model, at, cx),
            Some(Prices::Named(_)) | None => Vec::new(),
        },
        calls: model.tool_prices.as_ref().map(|tools| calls(tools, at, cx)).unwrap_or_default(),
    };
    let multipliers = conditions.rows.iter().filter_map(|row| row.multiplier).chain(multiplier);
    if multipliers.map(Decimal::places).sum::<u32>() > MOST_PLACES {
        let message = format!(
            "the multipliers of model \"{}\" have more than {MOST_PLACES} decimal places together, and no cost is exact then; shorten them",
            model.id
        );
        cx.fault(at, message);
    }
    let rates = rates_of(model, at, cx);
    match (&model.input_price_per_mtok, &model.output_price_per_mtok) {
        (Some(_), Some(_)) => Some(Price::new(rates?, multiplier.unwrap_or(Decimal::ONE)).under(conditions)),
        (None, None) if !has_other_prices(model) => multiplier.map(|multiplier| Price::new(*default.rates(), multiplier)),
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
    let is_catalogue = matches!(model.prices, Some(Prices::Named(_)));
    is_catalogue || model.input_price_per_mtok.is_some() && model.output_price_per_mtok.is_some()
}

/// The list's price, times the multiplier of the file.
fn of_catalogue(model: &Model, name: &str, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Price> {
    if name != "catalogue" {
        cx.fault(&at.key("prices"), "is a list of prices by condition, or \"catalogue\"");
        return None;
    }
    if model.input_price_per_mtok.is_some() || model.output_price_per_mtok.is_some() || has_prices_beside_rows(model) {
        cx.fault(
            at,
            format!("model \"{}\" takes its prices from the catalogue and has others too; leave one of them out", model.id),
        );
        return None;
    }
    let multiplier = decimal(cx, at, "billing_multiplier", model.billing_multiplier.as_ref());
    let asked = model.upstream_model_id.as_deref().unwrap_or(&model.id);
    match (cx.catalogue.price)(asked) {
        Some(price) => Some(price.times(multiplier.unwrap_or(Decimal::ONE))),
        None => {
            let similar = did_you_mean(asked, (cx.catalogue.names)());
            cx.fault(&at.key("prices"), format!("the catalogue has no model \"{asked}\"{similar}"));
            None
        }
    }
}

fn has_other_prices(model: &Model) -> bool {
    has_prices_beside_rows(model) || matches!(&model.prices, Some(Prices::Rows(rows)) if !rows.is_empty())
}

fn has_prices_beside_rows(model: &Model) -> bool {
    let others = [
        &model.cache_write_price_per_mtok,
        &model.cache_write_1h_price_per_mtok,
        &model.cache_hit_price_per_mtok,
        &model.audio_input_price_per_mtok,
        &model.audio_output_price_per_mtok,
        &model.image_input_price_per_mtok,
        &model.image_output_price_per_mtok,
    ];
    others.into_iter().any(Option::is_some) || model.tool_prices.is_some()
}

fn rates_of(model: &Model, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Rates> {
    let mut price = |key: &str, number: &Option<Number>| decimal(cx, at, key, number.as_ref());
    let input = price("input_price_per_mtok", &model.input_price_per_mtok);
    let output = price("output_price_per_mtok", &model.output_price_per_mtok);
    let cache_write = price("cache_write_price_per_mtok", &model.cache_write_price_per_mtok);
    let cache_write_1h = price("cache_write_1h_price_per_mtok", &model.cache_write_1h_price_per_mtok);
    let cache_read = price("cache_hit_price_per_mtok", &model.cache_hit_price_per_mtok);
    let audio_input = price("audio_input_price_per_mtok", &model.audio_input_price_per_mtok);
    let audio_output = price("audio_output_price_per_mtok", &model.audio_output_price_per_mtok);
    let image_input = price("image_input_price_per_mtok", &model.image_input_price_per_mtok);
    let image_output = price("image_output_price_per_mtok", &model.image_output_price_per_mtok);
    let rates = Rates::derive(input?, output?, cache_write, cache_write_1h, cache_read);
    Some(Rates { audio_input, audio_output, image_input, image_output, ..rates })
}

fn calls(tools: &ToolPrices, at: &At<'_>, cx: &mut Context<'_, '_>) -> [Option<Decimal>; Tool::ALL.len()] {
    let at = at.key("tool_prices");
    Tool::ALL.map(|tool| {
        let number = match tool {
            Tool::WebSearch => &tools.web_search,
            Tool::WebFetch => &tools.web_fetch,
            Tool::CodeExecution => &tools.code_execution,
            Tool::FileSearch => &tools.file_search,
            Tool::ImageGeneration => &tools.image_generation,
            Tool::Other => &tools.other,
        };
        decimal(cx, &at, tool.label(), number.as_ref())
    })
}

fn rows_of(rows: &[PriceRow], model: &Model, at: &At<'_>, cx: &mut Context<'_, '_>) -> Vec<Row> {
    let list = at.key("prices");
    rows.iter().enumerate().map(|(nth, row)| row_of(row, model, &list.item(nth), cx)).collect()
}

fn row_of(row: &PriceRow, model: &Model, at: &At<'_>, cx: &mut Context<'_, '_>) -> Row {
    let when = When {
        above_input_tokens: row.above_input_tokens,
        service_tier: word(row.service_tier.as_deref(), "service_tier", at, cx),
        speed: word(row.speed.as_deref(), "speed", at, cx),
        region: word(row.region.as_deref(), "region", at, cx),
    };
    if when == When::default() {
        cx.fault(at, "needs a condition: `above_input_tokens`, `service_tier`, `speed` or `region`");
    }
    let inherited = [
        ("cache_write_price_per_mtok", &row.cache_write_price_per_mtok, &model.cache_write_price_per_mtok),
        ("cache_write_1h_price_per_mtok", &row.cache_write_1h_price_per_mtok, &model.cache_write_1h_price_per_mtok),
        ("cache_hit_price_per_mtok", &row.cache_hit_price_per_mtok, &model.cache_hit_price_per_mtok),
    ];
    for (key, of_row, of_model) in inherited {
        if row.input_price_per_mtok.is_some() && of_row.is_none() && of_model.is_some() {
            cx.fault(at, format!("has a price of input and none of the cache; the model writes `{key}`, so write it here too"));
        }
    }
    let mut price = |key: &str, number: &Option<Number>| decimal(cx, at, key, number.as_ref());
    let multiplier = price("multiplier", &row.multiplier);
    let changes = Changes {
        input: price("input_price_per_mtok", &row.input_price_per_mtok),
        output: price("output_price_per_mtok", &row.output_price_per_mtok),
        cache_write: price("cache_write_price_per_mtok", &row.cache_write_price_per_mtok),
        cache_write_1h: price("cache_write_1h_price_per_mtok", &row.cache_write_1h_price_per_mtok),
        cache_read: price("cache_hit_price_per_mtok", &row.cache_hit_price_per_mtok),
        audio_input: price("audio_input_price_per_mtok", &row.audio_input_price_per_mtok),
        audio_output: price("audio_output_price_per_mtok", &row.audio_output_price_per_mtok),
        image_input: price("image_input_price_per_mtok", &row.image_input_price_per_mtok),
        image_output: price("image_output_price_per_mtok", &row.image_output_price_per_mtok),
    };
    Row { when, changes, multiplier }
}

/// A word that an answer may say.
fn word(written: Option<&str>, key: &str, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Label> {
    let label = Label::of(written?.as_bytes());
    if label.is_empty() || label.as_str().len() < written?.len() {
        cx.fault(&at.key(key), "must be a word that answers say where something is unusual: flex, priority, batch, fast, us, …");
    }
    Some(label)
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
