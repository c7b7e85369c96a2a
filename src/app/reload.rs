//! The reload: SIGHUP reads `config.json` again and swaps it in whole, or refuses it whole and keeps the old one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::config;
use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;
use crate::edge::CaStore;
use crate::ops::body_budget::BodyBudget;
use crate::ops::health::Readiness;
use crate::ops::{ca, log as program_log, signals};

/// Waits for SIGHUP; also tells the admin pages when the process drains.
pub struct Reload {
    /// `None`: settings that came from no file can't be read again.
    pub config: Option<PathBuf>,
    pub registry: Registry,
    /// Hears of each reload that came into force.
    pub reloaded: Arc<Notify>,
    pub settings: Arc<ArcSwap<Settings>>,
    pub cas: Arc<ArcSwap<CaStore>>,
    pub budget: BodyBudget,
    pub readiness: Arc<Readiness>,
    /// Taken at the start: what has threads or connections of its own must begin behind a fork.
    pub behind_fork: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[async_trait]
impl BackgroundService for Reload {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if let Err(error) = signals::ignore_file_size_signal() {
            log::warn!("a limit on the size of files would end this process: {error}");
        }
        if let Some(begin) = self.behind_fork.lock().unwrap_or_else(PoisonError::into_inner).take() {
            begin();
        }
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                log::error!("SIGHUP can't be watched, so there is no reload: {error}");
                return;
            }
        };
        self.readiness.set_ready();
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                hangup = hangups.recv() => match hangup {
                    Some(()) => self.reload(),
                    None => break,
                },
            }
        }
        self.readiness.set_draining();
        log::info!("draining: open requests may go on for the grace period, new connections are not taken");
    }
}

impl Reload {
    fn reload(&self) {
        let Some(path) = &self.config else {
            log::warn!("reload: these settings came from no file, nothing changed");
            return;
        };
        match self.swap(path) {
            Ok(()) => log::info!("reload: {} is in force", path.display()),
            Err(faults) => {
                log::error!("reload refused, the old configuration stays in force:");
                // A line each: the log escapes line breaks.
                faults.lines().for_each(|fault| log::error!("{fault}"));
            }
        }
    }

    fn swap(&self, path: &Path) -> Result<(), String> {
        let loaded = config::load_from_machine(path, &self.registry).map_err(|faults| faults.to_string())?;
        let settings = loaded.settings;
        let fresh = ca::load(&settings)?;
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
        let old = self.settings.load();
        if old.listeners != settings.listeners || old.admin.addr != settings.admin.addr || old.log_format != settings.log_format {
            log::warn!("reload: listeners, the admin address and the log's format change with an upgrade or a restart only");
        }
        if old.ledger != settings.ledger {
            log::warn!("reload: what stands under `ledger` changes with a restart only");
        }
        if old.state_dir != settings.state_dir {
            log::warn!("reload: the state directory changes with a restart only");
        }
        // A request that began under the old settings may still look for its authority.
        let mut cas = CaStore::clone(&self.cas.load());
        cas.extend(fresh);
        self.cas.store(Arc::new(cas));
        self.budget.set_limit_bytes(settings.limits.inflight_body_bytes);
        program_log::announce(&settings);
        // The operator may have mended at the provider what the file does not show (T10).
        settings.upstreams.iter().flat_map(|upstream| &upstream.credentials).for_each(|credential| credential.standing.revive());
        self.settings.store(Arc::new(settings));
        self.reloaded.notify_one();
        Ok(())
    }
}
