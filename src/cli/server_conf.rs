//! Pingora's own settings, read so that whatever is wrong with them is said before Pingora starts.
//!
//! Pingora passes over keys that it does not know and panics on some values; both are refused here. What the file leaves out takes our
//! defaults, the same as without a file. Pingora's own for the pid file and the upgrade socket are in a directory that everybody can write;
//! ours are in the state directory.

use std::fs;
use std::path::{Path, PathBuf};

use pingora_core::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value};

use crate::app;
use crate::cli::CONF;
use crate::config::fault::did_you_mean;
use crate::ops::control;

/// Reads the file; without one at the default place, our defaults. Pid file and upgrade socket are in `state_dir` where it does not say.
///
/// # Errors
///
/// One sentence that names the file and says what to change.
pub fn load(path: &Path, state_dir: &Path) -> Result<ServerConf, String> {
    if !path.exists() && path == Path::new(CONF) {
        return Ok(defaults(state_dir));
    }
    let of_file = |why: String| format!("{}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| of_file(format!("the file can't be read: {error}")))?;
    parse(&text, state_dir).map_err(of_file)
}

/// Names what the file says by then otherwise than a process that is `running` was started with. Fails as [`load`] does.
pub fn changes_since(
    running: &ServerConf,
    path: PathBuf,
    state_dir: PathBuf,
) -> impl Fn() -> Result<Vec<String>, String> + use<> {
    let as_map = |conf: &ServerConf| match serde_yaml::to_value(conf) {
        Ok(Value::Mapping(map)) => map,
        _ => Mapping::new(),
    };
    let then = as_map(running);
    move || {
        let now = as_map(&load(&path, &state_dir)?);
        let changed = now.iter().filter(|(key, value)| then.get(key) != Some(value)).filter_map(|(key, _)| key.as_str());
        Ok(changed.map(|key| format!("{key} ({})", path.display())).collect())
    }
}

fn defaults(state_dir: &Path) -> ServerConf {
    let beside = |name: &str| state_dir.join(name).to_string_lossy().into_owned();
    ServerConf { pid_file: beside("trollbridge.pid"), upgrade_sock: beside("upgrade.sock"), ..app::default_conf() }
}

fn parse(text: &str, state_dir: &Path) -> Result<ServerConf, String> {
    let written = match serde_yaml::from_str(text).map_err(|error| error.to_string())? {
        Value::Null => Mapping::new(),
        Value::Mapping(written) => written,
        _ => return Err("the file must hold `key: value` lines, as conf/pingora.yaml does".to_owned()),
    };
    let Value::Mapping(mut settings) = serde_yaml::to_value(defaults(state_dir)).map_err(|error| error.to_string())? else {
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
    let control = control::path(Path::new(&conf.pid_file));
    if [&conf.pid_file, &conf.upgrade_sock].iter().any(|path| control == Path::new(path)) {
        return Err(format!(
            "{} is the place of the control socket, by the name of pid_file; choose another name",
            control.display()
        ));
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

    fn parse(text: &str) -> Result<ServerConf, String> {
        super::parse(text, Path::new("/s"))
    }

    #[test]
    fn what_the_file_leaves_out_is_as_without_a_file() {
        assert_eq!(parse("").unwrap(), defaults(Path::new("/s")));
        assert_eq!(parse("# nothing\n---\n").unwrap(), defaults(Path::new("/s")));
        let conf = parse("threads: 7\npid_file: /x/pid\n").unwrap();
        assert_eq!(conf, ServerConf { threads: 7, pid_file: "/x/pid".to_owned(), ..defaults(Path::new("/s")) });
    }

    /// Whoever reaches the upgrade socket can take the listeners.
    #[test]
    fn nothing_of_ours_is_in_a_directory_that_everybody_can_write() {
        let conf = parse("threads: 1").unwrap();
        assert_eq!((&*conf.pid_file, &*conf.upgrade_sock), ("/s/trollbridge.pid", "/s/upgrade.sock"));
    }

    #[test]
    fn a_change_of_the_file_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, state) = (dir.path().join("p.yaml"), Path::new("/s"));
        fs::write(&path, "threads: 1").unwrap();
        let changes = changes_since(&load(&path, state).unwrap(), path.clone(), state.to_owned());
        assert_eq!(changes(), Ok(vec![]));
        fs::write(&path, "threads: 2\nwork_stealing: true").unwrap();
        let changed = changes().unwrap();
        assert!(changed.len() == 2 && changed[0].starts_with("threads (/"), "{changed:?}");
        fs::write(&path, "threads: 0").unwrap();
        assert!(changes().unwrap_err().contains("p.yaml: threads must be at least 1"));
    }

    /// Pingora itself would sleep for five minutes, even with nothing open.
    #[test]
    fn the_default_end_is_one_that_an_operator_can_wait_for() {
        let conf = app::default_conf();
        let longest = conf.grace_period_seconds.unwrap() + conf.graceful_shutdown_timeout_seconds.unwrap();
        assert!(longest <= 30, "{longest}");
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
            ("pid_file: /r/upgrade.pid\nupgrade_sock: /r/upgrade.sock\n", "/r/upgrade.sock is the place of the control socket"),
            ("pid_file: /r/t.sock\n", "/r/t.sock is the place of the control socket"),
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
