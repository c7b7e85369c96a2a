//! `trollbridge check`: parses and validates a configuration, runs its own tests, and says what the gateway would do with it.
//!
//! Every fault is printed, never a key. Exit code 0, or 64 when the file would be refused. With `--online` every upstream is connected to as well
//! (`online.rs`).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::app;
use crate::cli::exit::{EX_OK, EX_USAGE};
use crate::cli::files::{CONF, CONFIG};
use crate::cli::online::{self, Online};
use crate::config::catalogue::{self, Listed};
use crate::config::{self, Fault, Faults, Loaded};
use crate::domain::route::Model;
use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;

/// What is checked.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// Connect to every upstream too, through every proxy of its pool, and check the certificates; no key and no request is sent.
    /// Exit 64 where the configuration, a certificate or a proxy's login is wrong, 75 where a place can't be reached now
    #[arg(long)]
    online: bool,
    /// Pingora's own settings, whose `ca_file` counts for `--online`
    #[arg(short, long, value_name = "FILE", default_value = CONF)]
    conf: PathBuf,
}

/// Checks the file with the process's own environment; gives the exit code.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> u8 {
    let file = &args.config;
    let loaded = load(file);
    let online = match &loaded {
        Ok(loaded) if args.online => match online::look(&loaded.settings, &args.conf) {
            Ok(online) => Some(online),
            Err(failure) => return failure.say(),
        },
        Ok(_) | Err(_) => None,
    };
    report(file, &loaded, online.as_ref(), args.json, out)
}

/// Checks the file and connects to nobody; gives the exit code.
pub fn only_file(file: &Path, out: &mut dyn Write) -> u8 {
    report(file, &load(file), None, false, out)
}

fn load(file: &Path) -> Result<Loaded, Faults> {
    config::load_from_machine(file, &Registry::default()).and_then(|loaded| with_fit_files(file, loaded))
}

/// Refuses what the start would refuse: certificates and keys that are there and can't be used.
fn with_fit_files(file: &Path, mut loaded: Loaded) -> Result<Loaded, Faults> {
    let file = file.display().to_string();
    let fault = |(path, message)| Fault { file: file.clone(), line: None, column: None, path, message };
    match app::look_at_files(&loaded.settings) {
        Ok(doubts) => {
            loaded.warnings.extend(doubts.into_iter().map(fault));
            Ok(loaded)
        }
        Err(unfit) => Err(Faults { faults: unfit.into_iter().map(fault).collect(), warnings: loaded.warnings }),
    }
}

/// Prints what loading gave.
fn report(file: &Path, loaded: &Result<Loaded, Faults>, online: Option<&Online>, json: bool, out: &mut dyn Write) -> u8 {
    // A reader that left early has seen what it wanted; the exit code still tells.
    let _ = match (json, loaded) {
        (true, loaded) => writeln!(out, "{:#}", as_json(file, loaded, online)),
        (false, Ok(loaded)) => write_accepted(file, loaded, out).and_then(|()| online.map_or(Ok(()), |online| online.write(out))),
        (false, Err(faults)) => write_refused(file, faults, out),
    };
    if loaded.is_err() { EX_USAGE } else { online.map_or(EX_OK, Online::exit_code) }
}

fn write_refused(file: &Path, refused: &Faults, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{refused}")?;
    for warning in &refused.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let number = refused.faults.len();
    writeln!(out, "{}: refused, {number} fault{}", file.display(), if number == 1 { "" } else { "s" })
}

fn write_accepted(file: &Path, loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let settings = &loaded.settings;
    for line in settings.startup_lines() {
        writeln!(out, "{line}")?;
    }
    let routing = &settings.routing;
    if !routing.model_based() {
        writeln!(out, "routing.model_based is false: every model goes to troll")?;
    }
    match routing.default_target() {
        Some(target) if routing.enabled() => writeln!(out, "url routing: on, unknown models go to {target}")?,
        _ => writeln!(out, "url routing: {}", if routing.enabled() { "on" } else { "off" })?,
    }
    for model in routing.listed() {
        let price = model.price.as_ref().unwrap_or(&settings.billing.default_price);
        let default = if model.price.is_none() { " (default price)" } else { "" };
        writeln!(out, "model {} -> {}: {price}{default}", model.id, model.upstream.name)?;
    }
    for (id, listed, differences) in beside_the_catalogue(settings) {
        writeln!(out, "catalogue of {}: model {id} has {} ({})", catalogue::date(), differences.join("; "), listed.source)?;
    }
    writeln!(out, "cache prices that the file does not give: write 1.25 × input, one hour 2 × input, read 0.1 × input")?;
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{}: accepted, {} of its own tests passed", file.display(), loaded.tests_passed)
}

fn as_json(file: &Path, loaded: &Result<Loaded, Faults>, online: Option<&Online>) -> Value {
    let file = file.display().to_string();
    let mut shown = match loaded {
        Ok(Loaded { settings, warnings, tests_passed }) => json!({
            "file": file,
            "ok": true,
            "faults": [],
            "warnings": warnings,
            "tests_passed": tests_passed,
            "models_configured": settings.routing.models_configured(),
            "upstreams": upstreams(settings),
            "models": models(settings),
            "catalogue": catalogue_of(settings),
        }),
        Err(Faults { faults, warnings }) => json!({ "file": file, "ok": false, "faults": faults, "warnings": warnings }),
    };
    if let (Some(online), Some(shown)) = (online, shown.as_object_mut()) {
        shown.insert("online".to_owned(), online.as_json());
    }
    shown
}

fn catalogue_of(settings: &Settings) -> Value {
    let row = |(id, listed, differences): (String, &Listed, Vec<String>)| json!({ "model": id, "differs": differences, "source": listed.source });
    json!({ "date": catalogue::date(), "models": beside_the_catalogue(settings).into_iter().map(row).collect::<Vec<_>>() })
}

/// The models whose prices are others than the catalogue's, and in what.
fn beside_the_catalogue(settings: &Settings) -> Vec<(String, &'static Listed, Vec<String>)> {
    let differs = |model: &Model| {
        let price = model.price.as_ref()?;
        let names = model.upstream_model_id.as_deref().into_iter().chain(model.names());
        let listed = names.into_iter().find_map(catalogue::listed)?;
        let differences = price.differences(&listed.price);
        (!differences.is_empty()).then(|| (model.id.to_string(), listed, differences))
    };
    settings.routing.listed().filter_map(|model| differs(model)).collect()
}

fn upstreams(settings: &Settings) -> Vec<Value> {
    let shown = settings.upstreams.iter().map(|upstream| {
        json!({
            "name": &*upstream.name,
            "configured": upstream.missing().is_none(),
            "endpoint": upstream.endpoint.as_ref().map(ToString::to_string),
            "keys": upstream.credentials.len(),
        })
    });
    shown.collect()
}

fn models(settings: &Settings) -> Vec<Value> {
    let shown = settings.routing.listed().map(|model| {
        json!({
            "id": &*model.id,
            "upstream": &*model.upstream.name,
            "price": model.price.as_ref().unwrap_or(&settings.billing.default_price).to_string(),
            "has_own_price": model.price.is_some(),
        })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, json: bool) -> (u8, String) {
        let path = PathBuf::from("config.json");
        let loaded = config::load(&path, &|_| None, &|_| Ok(text.to_owned()));
        let mut out = Vec::new();
        let code = report(&path, &loaded, None, json, &mut out);
        (code, String::from_utf8(out).unwrap())
    }

    const GOOD: &str = r#"{"models": [{"id": "a", "input_price_per_mtok": 3, "output_price_per_mtok": 15}, {"id": "b"}],
        "upstreams": {"troll": {"base_url": "https://h/v1", "keys": [{"id": "k", "key": "canary-key"}]}},
        "tests": [{"model": "a", "expect": {"upstream": "troll"}}]}"#;
    const BAD: &str = r#"{"models": [{"id": "a", "upstream": "trol"}, {"id": 7}]}"#;

    /// K12, K15
    #[test]
    fn says_what_the_gateway_would_do() {
        let (code, text) = checked(GOOD, false);
        assert_eq!(code, 0, "{text}");
        for line in [
            "upstream main: not configured (no base_url), no key",
            "upstream troll: configured, https://h/v1, 1 key",
            "model routing: 2 models configured",
            "model a -> troll: in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok\n",
            "model b -> troll: in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok (default price)",
            "config.json: accepted, 1 of its own tests passed",
            "plain text",
            "cache prices that the file does not give: write 1.25 × input, one hour 2 × input, read 0.1 × input",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }

    /// K3, K6
    #[test]
    fn lists_every_fault_and_exits_with_64() {
        let (code, text) = checked(BAD, false);
        assert_eq!(code, 64);
        assert!(
            text.contains(
                "config.json:1:37: models[0].upstream: model \"a\": no upstream is called \"trol\"; did you mean \"troll\"?"
            ),
            "{text}"
        );
        assert!(text.contains("config.json:1:53: models[1].id: expected a string, found a number"), "{text}");
        assert!(text.ends_with("config.json: refused, 2 faults\n"), "{text}");
    }

    #[test]
    fn prints_json_for_programs() {
        let (code, text) = checked(BAD, true);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, value["ok"].as_bool(), value["faults"][0]["line"].as_u64()), (64, Some(false), Some(1)));
        assert_eq!(value["faults"][1]["path"], "models[1].id");
        let (code, text) = checked(GOOD, true);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &value["models_configured"], &value["tests_passed"]), (0, &json!(2), &json!(1)));
        assert_eq!(value["upstreams"][1], json!({"name": "troll", "configured": true, "endpoint": "https://h/v1", "keys": 1}));
        assert!(!text.contains("canary"));
    }
}
