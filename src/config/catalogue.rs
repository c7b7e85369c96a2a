//! The catalogue of public list prices that is shipped with the program: `conf/prices.json`, with its date and a source for each model.
//!
//! A model of it has the keys of `models[]`, and is read as if it stood in a configuration.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::fault::Report;
use crate::config::parse::price;
use crate::config::parse::{Context, Lists};
use crate::config::source::{self, At};
use crate::config::{raw, shape};
use crate::domain::billing::Price;
use crate::domain::upstream::registry::Registry;

/// The file as it is shipped; `trollbridge` needs none beside itself.
const TEXT: &str = include_str!("../../conf/prices.json");

#[derive(Deserialize)]
struct File {
    date: String,
    models: Vec<BTreeMap<String, Box<RawValue>>>,
}

/// A model's list price and where it is from.
#[derive(Clone, Debug)]
pub struct Listed {
    pub price: Price,
    pub source: String,
}

struct Catalogue {
    date: String,
    /// By every name.
    models: HashMap<String, Listed>,
}

/// Only who asks for the catalogue pays for reading it. A damaged one is empty; a test sees to it that the shipped one is not.
static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| read(TEXT).unwrap_or_else(|_| Catalogue { date: String::new(), models: HashMap::new() }));

/// The list price of a model, by its id or one of its other names.
pub fn price(name: &str) -> Option<Price> {
    listed(name).map(|listed| listed.price.clone())
}

pub fn listed(name: &str) -> Option<&'static Listed> {
    CATALOGUE.models.get(name)
}

/// When the sources were looked at: `2026-11-30`.
pub fn date() -> &'static str {
    &CATALOGUE.date
}

pub fn names() -> Vec<&'static str> {
    CATALOGUE.models.keys().map(String::as_str).collect()
}

fn read(text: &str) -> Result<Catalogue, String> {
    let mut file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut sources = Vec::new();
    for entry in &mut file.models {
        sources.push(taken(entry, "source")?);
        taken(entry, "seen")?;
    }
    let models = serde_json::to_string(&file.models).map_err(|error| error.to_string())?;
    let mut by_name = HashMap::new();
    for ((names, price), source) in prices(&models)?.into_iter().zip(sources) {
        let listed = Listed { price, source };
        for name in names {
            if by_name.insert(name.clone(), listed.clone()).is_some() {
                return Err(format!("{name} stands there twice"));
            }
        }
    }
    Ok(Catalogue { date: file.date, models: by_name })
}

/// The names and prices of models that are written as in a configuration.
fn prices(models: &str) -> Result<Vec<(Vec<String>, Price)>, String> {
    let text = format!(r#"{{"models": {models}}}"#);
    let mut report = Report::new("conf/prices.json", &text);
    let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let priced = source::parse(&text, &|_| None, &mut report).and_then(|mut root| {
        let schema = schemars::schema_for!(raw::Config);
        shape::check(&mut root, schema.as_value(), &mut report);
        report.form_is_checked();
        let config: raw::Config = match serde_json::from_str(&root.to_json()) {
            Ok(config) => config,
            Err(error) => {
                report.fault(0, String::new(), error.to_string());
                return None;
            }
        };
        let registry = Registry::default();
        let cx = &mut Context {
            root: &root,
            report: &mut report,
            variable: &|_| None,
            read: &no_file,
            registry: &registry,
            catalogue: Lists { price: |_| None, names: Vec::new },
        };
        let list = At::Root.key("models");
        let default = price::default_price(&config, cx);
        let models = config.models?.into_iter().enumerate();
        let of = |(nth, mut model): (usize, raw::Model)| {
            let price = price::of_model(&model, &default, &list.item(nth), cx);
            model.id_aliases.push(model.id);
            price.map(|price| (model.id_aliases, price))
        };
        // A model without a price has left a fault in the report.
        Some(models.filter_map(of).collect())
    });
    report.into_result(priced).map(|(priced, _)| priced).map_err(|faults| faults.to_string())
}

fn taken(entry: &mut BTreeMap<String, Box<RawValue>>, key: &str) -> Result<String, String> {
    let raw = entry.remove(key).ok_or_else(|| format!("a model without `{key}`"))?;
    serde_json::from_str(raw.get()).map_err(|error| format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_the_shipped_catalogue_can_be_read_and_says_where_each_price_is_from() {
        let catalogue = read(TEXT).unwrap();
        assert!(catalogue.models.values().all(|listed| listed.source.starts_with("https://")));
        assert_eq!(catalogue.date.len(), "2026-11-30".len());
    }

    #[test]
    fn p4_a_damaged_catalogue_says_what_is_wrong() {
        let file = |models: &str| format!(r#"{{"date": "2026-01-01", "models": [{models}]}}"#);
        let m =
            r#"{"id": "m", "source": "https://x", "seen": "2026-01-01", "input_price_per_mtok": 1, "output_price_per_mtok": 2}"#;
        assert_eq!(read(&file(m)).unwrap().models["m"].price.to_string().split(',').next(), Some("in 1"));
        for (models, why) in [
            (format!("{m}, {m}"), "twice"),
            (m.replace(r#""source": "https://x", "#, ""), "`source`"),
            (m.replace("output_price_per_mtok", "output_price"), "not a key"),
            (m.replace("\"output_price_per_mtok\": 2", "\"output_price_per_mtok\": -2"), "at least 0"),
            (m.replace(", \"output_price_per_mtok\": 2", ""), "no `output_price_per_mtok`"),
        ] {
            let error = read(&file(&models)).err().unwrap_or_else(|| panic!("{models}"));
            assert!(error.contains(why), "{error}");
        }
    }
}
