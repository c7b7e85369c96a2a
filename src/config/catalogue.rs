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
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut models = HashMap::new();
    for mut entry in file.models {
        let source: String = taken(&mut entry, "source")?;
        let _seen: String = taken(&mut entry, "seen")?;
        let id: String = kept(&entry, "id")?.ok_or("a model without an id")?;
        let aliases: Vec<String> = kept(&entry, "id_aliases")?.unwrap_or_default();
        let price = own_price(&serde_json::to_string(&entry).map_err(|error| error.to_string())?)
            .map_err(|why| format!("{id}: {why}"))?;
        let listed = Listed { price, source };
        for name in aliases.into_iter().chain([id]) {
            if models.insert(name.clone(), listed.clone()).is_some() {
                return Err(format!("{name} stands there twice"));
            }
        }
    }
    Ok(Catalogue { date: file.date, models })
}

/// The price of a model that is written as in a configuration.
fn own_price(model: &str) -> Result<Price, String> {
    let text = format!(r#"{{"models": [{model}]}}"#);
    let mut report = Report::new("conf/prices.json", &text);
    let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let price = source::parse(&text, &|_| None, &mut report).and_then(|mut root| {
        let schema = schemars::schema_for!(raw::Config);
        shape::check(&mut root, schema.as_value(), &mut report);
        report.form_is_checked();
        let config: raw::Config = serde_json::from_str(&root.to_json()).ok()?;
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
        price::of_model(config.models.as_deref()?.first()?, &default, &list.item(0), cx)
    });
    let (price, _) = report.into_result(price).map_err(|faults| faults.to_string())?;
    Ok(price)
}

fn taken(entry: &mut BTreeMap<String, Box<RawValue>>, key: &str) -> Result<String, String> {
    let value = kept(entry, key)?.ok_or_else(|| format!("a model without `{key}`"))?;
    entry.remove(key);
    Ok(value)
}

fn kept<T: for<'d> Deserialize<'d>>(entry: &BTreeMap<String, Box<RawValue>>, key: &str) -> Result<Option<T>, String> {
    entry.get(key).map(|raw| serde_json::from_str(raw.get())).transpose().map_err(|error| format!("{key}: {error}"))
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
            (m.replace(": 2", ": -2"), "m:"),
        ] {
            let error = read(&file(&models)).err().unwrap_or_else(|| panic!("{models}"));
            assert!(error.contains(why), "{error}");
        }
    }
}
