//! Pingora's own settings, read so that whatever is wrong with them is said before Pingora starts.
//!
//! Pingora passes over keys that it does not know and panics on some values; both are refused here. What the file leaves out takes our
//! defaults, the same as without a file.

use std::fs;
use std::path::Path;

use pingora_core::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value};

use crate::app;
use crate::cli::CONF;
use crate::config::fault::did_you_mean;

/// Reads the file; without one at the default place, our defaults.
///
/// # Errors
///
/// One sentence that names the file and says what to change.
pub fn load(path: &Path) -> Result<ServerConf, String> {
    if !path.exists() && path == Path::new(CONF) {
        return Ok(app::default_conf());
    }
    let of_file = |why: String| format!("{}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| of_file(format!("the file can't be read: {error}")))?;
    parse(&text).map_err(of_file)
}

fn parse(text: &str) -> Result<ServerConf, String> {
    let written = match serde_yaml::from_str(text).map_err(|error| error.to_string())? {
        Value::Null => Mapping::new(),
        Value::Mapping(written) => written,
        _ => return Err("the file must hold `key: value` lines, as conf/pingora.yaml does".to_owned()),
    };
    let Value::Mapping(mut settings) = serde_yaml::to_value(app::default_conf()).map_err(|error| error.to_string())? else {
        return Err("Pingora's settings are no mapping".to_owned());
    };
    if let Some(stranger) = written.keys().find(|key| !settings.contains_key(*key)) {
        return Err(unknown(stranger, &settings));
    }
    // Once for the message, which has a line and a column only here.
    serde_yaml::from_str::<ServerConf>(text).map_err(|error| error.to_string())?;
    settings.extend(written);
    let conf: ServerConf = serde_yaml::from_value(Value::Mapping(settings)).map_err(|error| error.to_string())?;
    for (key, value) in [("threads", conf.threads), ("listener_tasks_per_fd", conf.listener_tasks_per_fd)] {
        if value == 0 {
            return Err(format!("{key} must be at least 1"));
        }
    }
    if let Some(ca_file) = conf.ca_file.as_deref().filter(|ca_file| !Path::new(ca_file).is_file()) {
        return Err(format!("ca_file: there is no file {ca_file}"));
    }
    conf.validate().map_err(|error| error.context.as_ref().map_or_else(|| error.to_string(), |why| why.as_str().to_owned()))
}

fn unknown(key: &Value, known: &Mapping) -> String {
    let key = match key {
        Value::String(key) => key.clone(),
        other => format!("{other:?}"),
    };
    if matches!(key.as_str(), "$schema" | "models" | "model_routing" | "upstreams" | "listen") {
        return format!(
            "`{key}` belongs to the gateway's configuration; name that file with --config (-c is --conf, Pingora's settings)"
        );
    }
    let meant = did_you_mean(&key, known.keys().filter_map(Value::as_str));
    format!("`{key}` is not a key here{meant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_leaves_out_is_as_without_a_file() {
        assert_eq!(parse("").unwrap(), app::default_conf());
        assert_eq!(parse("# nothing\n---\n").unwrap(), app::default_conf());
        let conf = parse("threads: 7\npid_file: /x/pid\n").unwrap();
        assert_eq!(conf, ServerConf { threads: 7, pid_file: "/x/pid".to_owned(), ..app::default_conf() });
    }

    /// It ends as soon as nothing is open, so the limit is for answers: long enough for nearly all of them.
    #[test]
    fn a_drain_waits_five_minutes_for_answers_by_default() {
        assert_eq!(app::default_conf().grace_period_seconds, Some(300));
    }

    #[test]
    fn every_refusal_says_what_to_change() {
        for (text, part) in [
            ("threads: [1\n", "line 1"),
            ("threads: many\n", "threads: invalid type: string \"many\""),
            ("threads: -1\n", "threads"),
            ("- a\n", "`key: value`"),
            ("threads: 0\n", "threads must be at least 1"),
            ("listener_tasks_per_fd: 0\n", "listener_tasks_per_fd must be at least 1"),
            ("max_blocking_threads: 0\n", "max_blocking_threads must be greater than zero"),
            ("ca_file: /nowhere/at/all.pem\n", "there is no file /nowhere/at/all.pem"),
            ("grace_period_second: 5\n", "did you mean `grace_period_seconds`?"),
            ("flavour: 5\n", "`flavour` is not a key here"),
            ("{\"models\": []}", "name that file with --config"),
            ("7: 8\n", "is not a key here"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }
}
