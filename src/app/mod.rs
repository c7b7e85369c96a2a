//! Plugs the parts together: the only place that knows all of them.

mod books;
mod last_resort;
mod preflight;
mod reload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::background_service;
use tokio::sync::Notify;

use crate::domain::settings::{Auth, Settings};
use crate::domain::upstream::registry::Registry;
use crate::edge::admin::Admin;
use crate::edge::checks::HealthChecks;
use crate::edge::{CaStore, Gateway, Parts, listen};
use crate::ops::access_log::AccessLog;
use crate::ops::body_budget::BodyBudget;
use crate::ops::clients::Directory;
use crate::ops::counters::Counters;
use crate::ops::health::Readiness;
use crate::ops::pages::Pages;
use crate::ops::reload::{Elsewhere, InForce, Reloader};
use crate::ops::resolver::Resolver;
use crate::ops::tls::{Certificates, Material};
use crate::ops::{control, log as program_log, pid_file};

use books::Books;
pub use preflight::{Obstacle, check as preflight, look_at_files};

/// How long a resolved name serves before it is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(30);
/// After SIGTERM: how long open requests may go on, where no file says it. Pingora sleeps it whole even when nothing is open, and five
/// minutes where it is not told.
const GRACE_SECONDS: u64 = 10;
/// Pingora's ceiling for the attempts of one request; the real count is `retry.max_attempts`.
const MOST_ATTEMPTS: usize = 100;

/// What a run of the gateway is made from.
pub struct Plan {
    pub settings: Settings,
    /// Where a reload reads the settings again; `None`: there is nothing to reload.
    pub config: Option<PathBuf>,
    /// Knows the keys and proxies of the settings, so that a reload keeps how they stand.
    pub registry: Arc<Registry>,
    pub conf: ServerConf,
    pub opt: Opt,
    /// What a reload says of Pingora's own settings.
    pub elsewhere: Elsewhere,
}

/// Pingora's settings where no file gives any: the measured best, and an end that an operator can wait for.
pub fn default_conf() -> ServerConf {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    ServerConf {
        threads,
        work_stealing: false,
        upstream_keepalive_pool_size: 512,
        grace_period_seconds: Some(GRACE_SECONDS),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    }
}

/// Runs the gateway until a signal ends it.
pub fn run(plan: Plan) -> Result<(), Obstacle> {
    let Plan { settings, config, registry, mut conf, opt, elsewhere } = plan;
    let started = Instant::now();
    preflight::check(&settings, opt.upgrade)?;
    let Material { cas, certificates, .. } = preflight::read_files(&settings)?;
    let Books { ledger, spent, others } = books::open(&settings, opt.upgrade)?;
    let directory = Directory::load(&settings.state_dir, &spent).map_err(Obstacle::of_store)?;
    if matches!(settings.auth, Auth::Keys { static_key: None }) && directory.is_empty() {
        log::warn!(
            "no client key is known, so every request is answered with 401: trollbridge client add NAME (in force at once)"
        );
    }
    let directory = Arc::new(directory);
    conf.max_retries = MOST_ATTEMPTS;
    let pid_path = PathBuf::from(&conf.pid_file);
    program_log::announce(&settings);

    let counters = Arc::new(Counters::default());
    let budget = BodyBudget::new(settings.limits.inflight_body_bytes);
    let access_log = Arc::new(AccessLog::to_stdout(settings.log_format));
    let readiness = Arc::new(Readiness::default());
    let admin_addr = settings.admin.addr;
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let cas: Arc<ArcSwap<CaStore>> = Arc::new(ArcSwap::from_pointee(cas));
    let certificates = Arc::new(Certificates::new(certificates));

    let resolver = Arc::new(Resolver::new(RESOLVED_FOR));
    let reloaded = Arc::new(Notify::new());
    let in_force = InForce {
        settings: settings.clone(),
        cas: cas.clone(),
        certificates: certificates.clone(),
        budget: budget.clone(),
        reloaded: reloaded.clone(),
    };
    let reloader = Arc::new(Reloader::new(config, registry, in_force, elsewhere));
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
    });

    let mut server = Server::new_with_opt_and_conf(Some(opt), conf);
    server.bootstrap();
    let gateway = Gateway::new(Parts {
        settings: settings.clone(),
        cas: cas.clone(),
        resolver: resolver.clone(),
        budget,
        directory: directory.clone(),
        ledger: ledger.clone(),
        counters,
        access_log: access_log.clone(),
    });
    let clients = listen::clients(&server.configuration, gateway, settings.clone(), &certificates)
        .map_err(|error| Obstacle::Unusable(error.to_string()))?;
    server.add_service(clients);
    if let Some(addr) = admin_addr {
        server.add_service(listen::admin(addr, Admin(pages.clone())));
    }
    let checks = HealthChecks { settings: settings.clone(), cas, resolver, reloaded };
    server.add_service(background_service("health checks", checks));
    let (phases, log) = (server.watch_execution_phase(), access_log.clone());
    let limit = Duration::from_secs(server.configuration.graceful_shutdown_timeout_seconds.unwrap_or(5));
    let keeper = Arc::new(Mutex::new(None));
    let (kept, state_dir, retention) = (keeper.clone(), settings.load().state_dir.clone(), settings.load().ledger.retention);
    let begin = move || {
        last_resort::watch(phases, limit, log);
        directory.watch();
        if let Err(error) = pid_file::write(&pid_path) {
            log::warn!("{}: the pid file can't be written: {error}", pid_path.display());
        }
        tokio::spawn(async move { control::serve(&control::path(&pid_path), pages, std::future::pending()).await });
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = books::keep(ledger, others, directory, &state_dir, retention);
    };
    let behind_fork = Mutex::new(Some(Box::new(begin) as Box<dyn FnOnce() + Send>));
    server.add_service(background_service("reload", reload::OnHangup { reloader, readiness, behind_fork }));
    server.run(RunArgs::default());
    // Folds what was written last.
    drop(keeper.lock().unwrap_or_else(PoisonError::into_inner).take());
    access_log.close();
    Ok(())
}
