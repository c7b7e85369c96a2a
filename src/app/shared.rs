//! What the services of one process share: made once, before any of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::app::books::Books;
use crate::app::{Obstacle, preflight};
use crate::domain::settings::{Auth, Settings};
use crate::domain::upstream::registry::Registry;
use crate::edge::{CaStore, Parts};
use crate::ops::admin::pages::Pages;
use crate::ops::admin::reload::{Elsewhere, InForce, Reloader};
use crate::ops::books::clients::Directory;
use crate::ops::books::ledger::Ledger;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::drain::Drain;
use crate::ops::host::resolver::Resolver;
use crate::ops::host::tls::{Certificates, Material};
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::Counters;
use crate::ops::watch::readiness::Readiness;
use crate::ops::watch::vitals::Site;

/// How long a resolved name serves before it is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(30);

pub struct Shared {
    pub settings: Arc<ArcSwap<Settings>>,
    pub registry: Arc<Registry>,
    pub cas: Arc<ArcSwap<CaStore>>,
    pub certificates: Arc<Certificates>,
    pub resolver: Arc<Resolver>,
    pub budget: BodyBudget,
    pub directory: Arc<Directory>,
    pub ledger: Ledger,
    pub counters: Arc<Counters>,
    pub access_log: Arc<AccessLog>,
    pub readiness: Arc<Readiness>,
    pub drain: Arc<Drain>,
    /// Hears of each reload that came into force.
    pub reloaded: Arc<Notify>,
    pub reloader: Arc<Reloader>,
    pub pages: Arc<Pages>,
}

impl Shared {
    /// # Errors
    ///
    /// Files that the settings name and that are not fit for it.
    pub fn new(
        settings: Settings,
        config: Option<PathBuf>,
        registry: Arc<Registry>,
        books: Books,
        elsewhere: Elsewhere,
        started: Instant,
    ) -> Result<Self, Obstacle> {
        let Material { cas, certificates, .. } = preflight::read_files(&settings)?;
        let Books { ledger, directory } = books;
        if matches!(settings.auth, Auth::Keys { static_key: None }) && directory.is_empty() {
            log::warn!(
                "no client key is known, so every request is answered with 401: trollbridge client add NAME (in force at once)"
            );
        }
        let site = Site {
            config: config.clone(),
            state_dir: settings.state_dir.clone(),
            listeners: settings.listeners.clone(),
            admin: settings.admin.addr,
        };
        let (counters, reloaded) = (Arc::new(Counters::default()), Arc::new(Notify::new()));
        let budget = BodyBudget::new(settings.limits.inflight_body_bytes);
        let access_log = Arc::new(AccessLog::to_stdout(settings.log_format));
        let (readiness, drain) = (Arc::new(Readiness::default()), Arc::new(Drain::default()));
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let cas: Arc<ArcSwap<CaStore>> = Arc::new(ArcSwap::from_pointee(cas));
        let certificates = Arc::new(Certificates::new(certificates));
        let in_force = InForce {
            settings: settings.clone(),
            cas: cas.clone(),
            certificates: certificates.clone(),
            budget: budget.clone(),
            counters: counters.clone(),
            reloaded: reloaded.clone(),
        };
        let reloader = Arc::new(Reloader::new(config, registry.clone(), in_force, elsewhere));
        let pages = Arc::new(Pages {
            settings: settings.clone(),
            counters: counters.clone(),
            budget: budget.clone(),
            access_log: access_log.clone(),
            readiness: readiness.clone(),
            directory: directory.clone(),
            ledger: ledger.clone(),
            reloader: reloader.clone(),
            started,
            site,
        });
        let resolver = Arc::new(Resolver::new(RESOLVED_FOR));
        Ok(Self {
            settings,
            registry,
            cas,
            certificates,
            resolver,
            budget,
            directory,
            ledger,
            counters,
            access_log,
            readiness,
            drain,
            reloaded,
            reloader,
            pages,
        })
    }

    /// What every request needs.
    pub fn parts(&self) -> Parts {
        Parts {
            settings: self.settings.clone(),
            cas: self.cas.clone(),
            resolver: self.resolver.clone(),
            budget: self.budget.clone(),
            directory: self.directory.clone(),
            ledger: self.ledger.clone(),
            counters: self.counters.clone(),
            access_log: self.access_log.clone(),
        }
    }
}
