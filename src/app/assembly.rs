//! Makes the parts of one process and what reads and changes them, before any service begins.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::app::books::Books;
use crate::app::{Obstacle, preflight};
use crate::domain::settings::{Auth, Settings};
use crate::domain::upstream::registry::Registry;
use crate::ops::admin::pages::Pages;
use crate::ops::admin::reload::{Elsewhere, Reloader};
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::resolver::Resolver;
use crate::ops::host::tls::{Certificates, Material};
use crate::ops::parts::Parts;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::readiness::Readiness;
use crate::ops::watch::vitals::Site;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::app::shared";

/// How long a resolved name serves before it is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(30);

/// The parts, and the operator's two hands on them.
pub struct Assembled {
    pub parts: Arc<Parts>,
    pub reloader: Arc<Reloader>,
    pub pages: Arc<Pages>,
}

/// Makes the parts from settings that are good and books that are open.
///
/// # Errors
///
/// Files that the settings name and that are not fit for it.
pub fn parts(settings: Settings, registry: Arc<Registry>, books: Books) -> Result<Arc<Parts>, Obstacle> {
    let Material { cas, certificates, .. } = preflight::read_files(&settings)?;
    let Books { ledger, directory } = books;
    if matches!(settings.auth, Auth::Keys { static_key: None }) && directory.is_empty() {
        log::warn!(
            target: LOG,
            "no client key is known, so every request is answered with 401: trollbridge client add NAME (in force at once)"
        );
    }
    Ok(Arc::new(Parts {
        budget: BodyBudget::new(&settings.limits),
        access_log: Arc::new(AccessLog::to_stdout(settings.log_format)),
        settings: Arc::new(ArcSwap::from_pointee(settings)),
        cas: Arc::new(ArcSwap::from_pointee(cas)),
        certificates: Certificates::new(certificates),
        reloaded: Arc::default(),
        registry,
        resolver: Arc::new(Resolver::new(RESOLVED_FOR)),
        drain: Arc::default(),
        directory,
        ledger,
        counters: Arc::default(),
        readiness: Readiness::default(),
    }))
}

impl Assembled {
    /// Gives the operator hands: `config` is the file to read again, `started` when the process began.
    pub fn of(parts: Arc<Parts>, config: Option<PathBuf>, elsewhere: Elsewhere, started: Instant) -> Self {
        let settings = parts.settings.load();
        let site = Site {
            config: config.clone(),
            state_dir: settings.state_dir.clone(),
            listeners: settings.listeners.clone(),
            admin: settings.admin.addr,
        };
        drop(settings);
        let reloader = Arc::new(Reloader::new(config, parts.clone(), elsewhere));
        let pages = Arc::new(Pages { parts: parts.clone(), reloader: reloader.clone(), started, site });
        Self { parts, reloader, pages }
    }
}
