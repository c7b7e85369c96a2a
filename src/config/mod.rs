//! Parses config.json into settings: all faults at once, each with its line, column and key path.
//!
//! ```text
//! text ─► source (tree with places, ${VAR} replaced) ─► shape (against the schema) ─► raw (serde types) ─► parse ─► Settings
//!                └────────── faults of form ──────────────────┘                         └ faults of meaning, golden tests
//! ```
//! The environment and the files are handed in, so that a file means the same in a test as it does at start. What is loaded is
//! valid; nobody checks it again. Nothing is logged here, and no fault or warning holds a secret's text.

pub mod catalogue;
pub mod fault;
pub mod file;
mod parse;
mod raw;
mod shape;
mod source;
mod variable;

use std::io;
use std::path::{Path, PathBuf};

use fault::Report;
pub use fault::{Fault, Faults, Warning};

use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;

/// A file that was accepted.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<Warning>,
    /// How many of the file's own tests ran; all of them passed (K15).
    pub tests_passed: usize,
}

/// Loads a file with the process's own environment and files. Keys and proxies that `registry` knows keep their standing (T13).
///
/// # Errors
///
/// All faults of the file; the settings that serve at the moment stay as they are.
pub fn load_from_machine(path: &Path, registry: &Registry) -> Result<Loaded, Faults> {
    load_known(path, &|name| std::env::var(name).ok(), &file::read_text, registry)
}

/// Loads a file, with `variable` as the environment and `read` for the file itself and for those that it names.
///
/// # Errors
///
/// As [`load_from_machine`].
pub fn load(
    path: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Loaded, Faults> {
    load_known(path, variable, read, &Registry::default())
}

/// Where a file keeps the state, as far as it can be told of one that is at fault elsewhere: for finding a gateway that runs.
pub fn state_dir_of(path: &Path) -> PathBuf {
    let variable = |name: &str| std::env::var(name).ok();
    let text = file::read_text(path).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let root = source::parse(text, &variable, &mut Report::new("", text));
    let written = match root.as_ref().and_then(|root| root.member("state_dir")).map(|node| &node.value) {
        Some(source::Value::Text(text)) => text.value.clone(),
        _ => None,
    };
    parse::state_dir(written, &variable)
}

fn load_known(
    path: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<String>,
    registry: &Registry,
) -> Result<Loaded, Faults> {
    let file = path.display().to_string();
    match read(path) {
        Ok(text) => load_text(&file, &text, variable, read, registry),
        Err(error) => {
            let message = format!("the file can't be read: {error}; conf/examples/ holds one for each way of use");
            let fault = Fault { file, line: None, column: None, path: String::new(), message };
            Err(Faults { faults: vec![fault], warnings: Vec::new() })
        }
    }
}

/// The JSON Schema of the file, as it is shipped in `conf/config.schema.json` (K13).
#[cfg(test)]
pub fn schema() -> String {
    let schema = schemars::schema_for!(raw::Config);
    format!("{:#}\n", schema.as_value())
}

fn load_text(
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<String>,
    registry: &Registry,
) -> Result<Loaded, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(file, text);
    let parsed = source::parse(text, variable, &mut report).and_then(|mut root| {
        let schema = schemars::schema_for!(raw::Config);
        let is_usable = shape::check(&mut root, schema.as_value(), &mut report);
        report.form_is_checked();
        if !is_usable {
            return None;
        }
        match serde_json::from_str(&root.to_json()) {
            Ok(raw) => {
                let catalogue = parse::Lists { price: catalogue::price, names: catalogue::names };
                let report = &mut report;
                parse::settings(&raw, &mut parse::Context { root: &root, report, variable, read, registry, catalogue })
            }
            // The shape was checked, so only a gap between schema and types leads here.
            Err(error) => {
                report.fault(0, String::new(), format!("the file can't be read: {error}"));
                None
            }
        }
    });
    let ((settings, tests_passed), warnings) = report.into_result(parsed)?;
    Ok(Loaded { settings, warnings, tests_passed })
}

#[cfg(test)]
mod tests;
