//! Pingora's own settings, read so that whatever is wrong with them is said before Pingora starts.
//!
//! Pingora passes over keys that it does not know and panics on some values; both are refused here, and so are keys that would have no
//! effect. What the file leaves out takes our defaults, the same as without a file. Pingora's own for the pid file and the upgrade socket
//! are in a directory that everybody can write; ours are in the state directory.

use std::path::{Path, PathBuf};

use pingora_core::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value};

use crate::app;
use crate::cli::files::CONF;
use crate::config::fault::did_you_mean;
use crate::config::file;
use crate::ops::admin::control;

/// Keys of Pingora that are not taken, and why.
const REFUSED: [(&str, &str); 17] = [
    ("max_retries", "the gateway sets it; how often a request is tried is `retry.max_attempts` in config.json"),
    ("upstream_debug_ssl_keylog", "it would write the keys of upstream connections to a file"),
    ("downstream_tls_offload_threadpools", OFFLOAD),
    ("downstream_tls_offload_thread_per_pool", OFFLOAD),
    ("runtime_enable_alt_timer", UNSTABLE),
    ("runtime_metrics_poll_time_histogram", UNSTABLE),
    ("runtime_metrics_poll_time_histogram_scale", UNSTABLE),
    ("runtime_metrics_poll_time_histogram_resolution_micros", UNSTABLE),
    ("runtime_metrics_poll_time_histogram_buckets", UNSTABLE),
    ("upgrade_sock_connect_accept_max_retries", UNREAD),
    ("s2n_config_cache_size", "this gateway's TLS is not s2n"),
    ("user", STAYS),
    ("group", STAYS),
    ("working_directory", "the gateway stays where it was started: say it by the unit's WorkingDirectory=, or `cd`"),
    ("daemon_wait_for_ready", WAITS),
    ("daemon_ready_timeout_seconds", WAITS),
    ("daemon_notify_timeout_seconds", WAITS),
];
const OFFLOAD: &str = "it has no effect: the listeners' handshakes run on the threads that serve";
const UNREAD: &str =
    "it has no effect: this version of Pingora does not read it, and the two processes of an upgrade wait for each other";
const STAYS: &str = "the gateway stays who started it: say it by the unit's User= and Group=, or start it by `setpriv`";
const WAITS: &str = "`run -d` returns once the gateway serves, or says why it does not";
const UNSTABLE: &str = "it has no effect: it needs a build with --cfg tokio_unstable";

/// Reads the file; without one at the default place, our defaults.
///
/// # Errors
///
/// One sentence that names the file and says what to change.
pub fn load(path: &Path, state_dir: &Path) -> Result<ServerConf, String> {
    if !path.exists() && path == Path::new(CONF) {
        return Ok(defaults(state_dir));
    }
    let of_file = |why: String| format!("{}: {why}", path.display());
    let text = file::read_text(path).map_err(|error| of_file(format!("the file can't be read: {error}")))?;
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
    let refused = |(key, why): &(&str, &str)| written.contains_key(*key).then(|| format!("`{key}` is not taken here: {why}"));
    if let Some(why) = REFUSED.iter().find_map(refused) {
        return Err(why);
    }
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
    use std::fs;

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

    /// It ends as soon as nothing is open, so the limit is for answers: long enough for nearly all of them.
    #[test]
    fn a_drain_waits_five_minutes_for_answers_by_default() {
        assert_eq!(app::default_conf().grace_period_seconds, Some(300));
    }

    const SHIPPED: &str = include_str!("../../conf/pingora.yaml");

    #[test]
    fn the_shipped_file_says_what_holds_without_it() {
        let defaults = app::default_conf();
        let shipped = parse(SHIPPED).unwrap();
        assert!(shipped.pid_file.starts_with("/run/trollbridge/") && shipped.upgrade_sock.starts_with("/run/trollbridge/"));
        let ServerConf { pid_file, upgrade_sock, version, .. } = app::default_conf();
        assert_eq!(ServerConf { pid_file, upgrade_sock, version, ..shipped }, defaults);
    }

    /// Each key has its place in the file: set, left as it is (`#key: …`), or refused.
    #[test]
    fn the_shipped_file_speaks_of_every_key_of_pingora_and_of_no_other() {
        let Value::Mapping(known) = serde_yaml::to_value(app::default_conf()).unwrap() else { panic!("no mapping") };
        let (told, refused) = SHIPPED.split_once("Refused here").unwrap();
        let keys = told.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
        let keys: Vec<_> = keys.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).collect();
        let keys: Vec<_> = keys.iter().map(|line| line.split_once(':').unwrap_or_else(|| panic!("{line}")).0).collect();
        for key in &keys {
            assert!(known.contains_key(*key), "{key} is no key of Pingora");
            assert!(!REFUSED.iter().any(|(refused, _)| refused == key), "{key} is refused");
        }
        for key in known.keys().map(|key| key.as_str().unwrap()) {
            let is_refused = REFUSED.iter().any(|(refused, _)| *refused == key);
            assert_eq!(refused.contains(&format!("{key}:")) || refused.contains(&format!("{key},")), is_refused, "{key}");
            assert_eq!(keys.iter().filter(|told| **told == key).count(), usize::from(!is_refused), "{key}");
        }
    }

    /// What is left as it is stands there with the value that then holds, where there is one.
    #[test]
    fn a_line_that_is_taken_into_use_as_it_stands_is_read() {
        let (told, _) = SHIPPED.split_once("Refused here").unwrap();
        let settings = told.lines().filter_map(|line| line.strip_prefix('#'));
        let settings = settings.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
        for line in settings {
            parse(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
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
            ("max_retries: 3\n", "`retry.max_attempts` in config.json"),
            ("runtime_metrics_poll_time_histogram: true\n", "tokio_unstable"),
            ("downstream_tls_offload_threadpools: 1\n", "no effect"),
            ("upgrade_sock_connect_accept_max_retries: 9\n", "no effect"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }
}
