//! The reload: reads `config.json` and the files it names again, and puts all of it into force at once, or refuses it whole and keeps
//! the old one.
//!
//! SIGHUP, `POST /reload` and the control socket all come here, one after the other. What it says and what it answers hold no secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use crate::config::{self, Fault, Faults};
use crate::domain::settings::{Auth, LedgerSettings, Listener, LogFormat, Settings};
use crate::ops::host::ca::CaStore;
use crate::ops::host::clock;
use crate::ops::host::tls::Material;
use crate::ops::parts::Parts;
use crate::ops::watch::log as program_log;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::reload";

/// Reloads, one at a time.
pub struct Reloader {
    /// `None`: settings that came from no file can't be read again.
    file: Option<PathBuf>,
    parts: Arc<Parts>,
    fixed: Fixed,
    elsewhere: Elsewhere,
    turn: Mutex<()>,
    /// What was said of the last one.
    words: ArcSwapOption<String>,
}

/// Asks what the settings of Pingora's own file would change at an upgrade, each by its name.
pub type Elsewhere = Box<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

/// What of the settings a running process keeps from its start to its end.
#[derive(Clone, Debug)]
struct Fixed {
    listeners: Vec<Listener>,
    admin: Option<SocketAddr>,
    log_format: LogFormat,
    ledger: LedgerSettings,
    state_dir: PathBuf,
}

/// A reload that came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub file: String,
    pub warnings: Vec<Fault>,
    /// Settings of the file that come into force with the next upgrade or restart only.
    pub needs_upgrade: Vec<String>,
}

/// A reload that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// All that is wrong; never empty.
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

impl Reloader {
    /// To be made before anything is reloaded: what is in force now, this process can't change all of.
    pub fn new(file: Option<PathBuf>, parts: Arc<Parts>, elsewhere: Elsewhere) -> Self {
        let fixed = Fixed::of(&parts.settings.load());
        Self { file, parts, fixed, elsewhere, turn: Mutex::new(()), words: ArcSwapOption::empty() }
    }

    /// Reads everything again; waits for files and for its turn, so not for an async thread.
    ///
    /// # Errors
    ///
    /// Every fault of the file and of the files that it names. The old settings serve on.
    pub fn reload(&self) -> Result<Reloaded, Refused> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &self.file {
            Some(file) => self.swap(file),
            None => Err(Refused::without_file()),
        };
        self.tell(&outcome);
        self.parts.counters.reloaded(outcome.is_ok());
        outcome
    }

    /// What was said of the last reload; `None` before the first.
    pub fn words(&self) -> Option<Arc<String>> {
        self.words.load_full()
    }

    fn swap(&self, path: &Path) -> Result<Reloaded, Refused> {
        let file = path.display().to_string();
        let config::Loaded { settings, mut warnings, .. } = config::load_from_machine(path, &self.parts.registry)?;
        let fault = |(path, message)| Fault { file: file.clone(), line: None, column: None, path, message };
        let read = Material::read(&settings, clock::now_unix_ms() / 1000);
        let admitted = self.fixed.admits(&settings).map_err(|why| ("auth.mode".to_owned(), why));
        let material = match (read, admitted) {
            (Ok(material), Ok(())) => material,
            (read, admitted) => {
                let unfit = read.err().into_iter().flatten().chain(admitted.err());
                return Err(Refused { faults: unfit.map(fault).collect(), warnings });
            }
        };
        warnings.extend(material.doubts.into_iter().map(fault));
        let mut needs_upgrade = self.fixed.changed_in(&settings);
        match (self.elsewhere)() {
            Ok(changed) => needs_upgrade.extend(changed),
            Err(message) => warnings.push(Fault {
                message: format!("{message} (an upgrade would be refused)"),
                ..fault((String::new(), String::new()))
            }),
        }

        let now = &self.parts;
        // A request that began under the old settings may still look for its authority.
        let mut cas = CaStore::clone(&now.cas.load());
        cas.extend(material.cas);
        now.cas.store(Arc::new(cas));
        now.certificates.swap(material.certificates);
        now.budget.hold_to(&settings.limits);
        program_log::announce(&settings);
        // The operator may have mended at the provider what the file does not show (T10).
        settings.upstreams.iter().flat_map(|upstream| &upstream.credentials).for_each(|credential| credential.standing.revive());
        now.settings.store(Arc::new(settings));
        now.reloaded.notify_one();
        Ok(Reloaded { file, warnings, needs_upgrade })
    }

    fn tell(&self, outcome: &Result<Reloaded, Refused>) {
        let words = match outcome {
            Ok(reloaded) => {
                reloaded.warnings.iter().for_each(|warning| log::warn!(target: LOG, "{warning}"));
                if !reloaded.needs_upgrade.is_empty() {
                    log::warn!(target: LOG, "reload: {}", reloaded.needs_upgrade_in_words());
                }
                log::info!(target: LOG, "reload: {} is in force", reloaded.file);
                format!("{} is in force", reloaded.file)
            }
            Err(refused) => {
                log::error!(target: LOG, "reload refused, the old configuration stays in force:");
                // A line each: the log escapes line breaks.
                refused.faults.iter().for_each(|fault| log::error!(target: LOG, "{fault}"));
                let first = refused.faults.first().map_or_else(String::new, ToString::to_string);
                let more = refused.faults.len().saturating_sub(1);
                let and_more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                format!("refused, the old configuration stays in force: {first}{and_more}")
            }
        };
        self.words.store(Some(Arc::new(words)));
    }
}

impl Fixed {
    fn of(settings: &Settings) -> Self {
        Self {
            listeners: settings.listeners.clone(),
            admin: settings.admin.addr,
            log_format: settings.log_format,
            ledger: settings.ledger,
            state_dir: settings.state_dir.clone(),
        }
    }

    /// The settings that differ, by their names in the file. Certificates of a listener that stays are read again, so they don't count.
    fn changed_in(&self, settings: &Settings) -> Vec<String> {
        let shape = |listeners: &[Listener]| -> Vec<_> {
            listeners.iter().map(|listener| (listener.addr, listener.h2c, listener.tls.is_some())).collect()
        };
        let changes = [
            ("listen", shape(&self.listeners) != shape(&settings.listeners)),
            ("admin.addr", self.admin != settings.admin.addr),
            ("log.format", self.log_format != settings.log_format),
            ("ledger", self.ledger != settings.ledger),
            ("state_dir", self.state_dir != settings.state_dir),
        ];
        changes.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect()
    }

    /// H6 for the listeners that are really open: the file may name others already.
    fn admits(&self, settings: &Settings) -> Result<(), String> {
        let public = self.listeners.iter().find(|listener| !listener.addr.ip().to_canonical().is_loopback());
        match (&settings.auth, public) {
            (Auth::None(_), Some(listener)) => Err(format!(
                "`none` lets everybody in, and {} is open until an upgrade or a restart closes it. Use `keys`, or restart",
                listener.addr
            )),
            _ => Ok(()),
        }
    }
}

impl Reloaded {
    /// One sentence; only where something needs an upgrade.
    pub fn needs_upgrade_in_words(&self) -> String {
        format!("what changed in {} comes into force with an upgrade or a restart only", self.needs_upgrade.join(", "))
    }
}

impl Refused {
    fn without_file() -> Self {
        let message = "these settings came from no file, so nothing can be read again".to_owned();
        let fault = Fault { file: "reload".to_owned(), line: None, column: None, path: String::new(), message };
        Self { faults: vec![fault], warnings: Vec::new() }
    }
}

impl From<Faults> for Refused {
    fn from(Faults { faults, warnings }: Faults) -> Self {
        Self { faults, warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let read = |_: &Path| Ok(text.to_owned());
        config::load(Path::new("config.json"), &|_| None, &read).unwrap().settings
    }

    /// H6: the file names a listener on loopback, but the one that is open is not.
    #[test]
    fn h6_nobody_is_let_in_without_a_key_while_a_public_listener_is_open() {
        let open = r#"{"models": [], "auth": {"mode": "none"}, "listen": [{"addr": "127.0.0.1:80"}]}"#;
        let public = Fixed::of(&settings(r#"{"models": [], "listen": [{"addr": "0.0.0.0:80"}]}"#));
        assert!(public.admits(&settings(open)).unwrap_err().contains("0.0.0.0:80"));
        assert_eq!(Fixed::of(&settings(open)).admits(&settings(open)), Ok(()));
        assert_eq!(public.admits(&settings(r#"{"models": [], "listen": [{"addr": "127.0.0.1:80"}]}"#)), Ok(()));
    }

    #[test]
    fn what_needs_an_upgrade_is_named_as_in_the_file() {
        let fixed = Fixed::of(&settings(r#"{"models": []}"#));
        assert!(fixed.changed_in(&settings(r#"{"models": [{"id": "a"}], "limits": {"keepalive_s": 9}}"#)).is_empty());
        let all = r#"{"models": [], "listen": [{"addr": "127.0.0.1:8081"}], "admin": {"addr": "127.0.0.1:1"},
            "log": {"format": "json"}, "ledger": {"sync": "each"}, "state_dir": "/s"}"#;
        let named = fixed.changed_in(&settings(all));
        assert_eq!(named, ["listen", "admin.addr", "log.format", "ledger", "state_dir"]);
    }
}
