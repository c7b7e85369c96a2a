//! Plugs the parts together: the only place that knows all of them.

mod books;
mod last_resort;
mod preflight;
mod reload;
mod signals;
mod takeover;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
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
use crate::edge::stoppable::{Sockets, Stoppable};
use crate::edge::{CaStore, Gateway, Parts, listen};
use crate::ops::access_log::AccessLog;
use crate::ops::body_budget::BodyBudget;
use crate::ops::child::{Parent, Stage};
use crate::ops::counters::Counters;
use crate::ops::drain::Drain;
use crate::ops::handover::Heir;
use crate::ops::health::Readiness;
use crate::ops::pages::Pages;
use crate::ops::reload::{Elsewhere, InForce, Reloader};
use crate::ops::resolver::Resolver;
use crate::ops::status::Place;
use crate::ops::tls::{Certificates, Material};
use crate::ops::{log as program_log, pid_file};

use books::Books;
pub use preflight::{Obstacle, check as preflight, look_at_files};
use signals::Signals;
use takeover::{Begin, Beginning, Hear};

/// How long a resolved name serves before it is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(30);
/// The drain limit where no file says it: longer than most answers. A drain ends when nothing is open any more, so an idle gateway is gone
/// after a second.
const DRAIN_LIMIT_S: u64 = 300;
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
    /// Takes the listening sockets over from the running process.
    pub upgrade: bool,
    /// Waits to hear that this process serves.
    pub parent: Option<Arc<Parent>>,
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
        grace_period_seconds: Some(DRAIN_LIMIT_S),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    }
}

/// Runs the gateway until a signal ends it.
pub fn run(plan: Plan) -> Result<(), Obstacle> {
    let Plan { settings, config, registry, mut conf, upgrade, parent, elsewhere } = plan;
    let started = Instant::now();
    let upgrade_sock = PathBuf::from(&conf.upgrade_sock);
    let heir = if upgrade { Some(Heir::announce(&upgrade_sock).map_err(Obstacle::of_hand_over)?) } else { None };
    preflight::check(&settings, upgrade)?;
    let Material { cas, certificates, .. } = preflight::read_files(&settings)?;
    let Books { ledger, directory } = books::open(&settings, upgrade)?;
    if matches!(settings.auth, Auth::Keys { static_key: None }) && directory.is_empty() {
        log::warn!(
            "no client key is known, so every request is answered with 401: trollbridge client add NAME (in force at once)"
        );
    }
    conf.max_retries = MOST_ATTEMPTS;
    // Ours: the drain is over before Pingora hears of an end, and the background is a process of its own.
    let limit = Duration::from_secs(conf.grace_period_seconds.replace(0).unwrap_or(DRAIN_LIMIT_S));
    conf.daemon = false;
    let last_step = Duration::from_secs(conf.graceful_shutdown_timeout_seconds.unwrap_or(5));
    let pid_path = PathBuf::from(&conf.pid_file);
    program_log::announce(&settings);

    let counters = Arc::new(Counters::default());
    let budget = BodyBudget::new(settings.limits.inflight_body_bytes);
    let access_log = Arc::new(AccessLog::to_stdout(settings.log_format));
    let readiness = Arc::new(Readiness::default());
    let admin_addr = settings.admin.addr;
    let addresses = settings.listeners.iter().map(|listener| listener.addr).chain(admin_addr).collect();
    let place = Place {
        config: config.clone(),
        state_dir: settings.state_dir.clone(),
        listeners: settings.listeners.clone(),
        admin: admin_addr,
    };
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
        place,
    });
    let (drain, sockets, beginning) = (Arc::new(Drain::default()), Sockets::default(), Arc::new(Beginning::default()));

    let opt = Opt { upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(Some(opt), conf);
    let bootstrap = server.bootstrap_as_a_service();
    let hear = server.add_service(background_service(
        "hear",
        Hear { heir: Mutex::new(heir), addresses, registry: registry.clone(), beginning: beginning.clone() },
    ));
    hear.add_dependency(&bootstrap);
    let gateway = Gateway::new(Parts {
        settings: settings.clone(),
        cas: cas.clone(),
        resolver: resolver.clone(),
        budget: budget.clone(),
        directory: directory.clone(),
        ledger: ledger.clone(),
        counters: counters.clone(),
        access_log: access_log.clone(),
    });
    let clients = listen::clients(&server.configuration, gateway, settings.clone(), &certificates, drain.clone());
    let clients = clients.map_err(|e| Obstacle::Unusable(e.to_string()))?;
    let clients = Stoppable::new(clients, drain.clients(), sockets.clone());
    let mut stand = vec![clients.stands()];
    let mut listening = vec![server.add_service(clients)];
    if let Some(addr) = admin_addr {
        let admin = Stoppable::new(listen::admin(addr, Admin(pages.clone())), drain.admin(), sockets.clone());
        stand.push(admin.stands());
        listening.push(server.add_service(admin));
    }
    listening.iter().for_each(|service| service.add_dependency(&hear));
    if let Some(parent) = parent.as_ref().filter(|_| upgrade) {
        parent.tell(Stage::Waits);
    }
    let begin = server.add_service(background_service(
        "begin",
        Begin { beginning: beginning.clone(), stand, pages, readiness: readiness.clone(), pid_file: pid_path.clone(), parent },
    ));
    begin.add_dependencies(&listening);
    let checks = HealthChecks { settings: settings.clone(), cas: cas.clone(), resolver, reloaded: reloaded.clone() };
    server.add_service(background_service("health checks", checks)).add_dependency(&hear);
    server.add_service(background_service("reload", reload::OnHangup { reloader }));

    last_resort::watch(server.watch_execution_phase(), last_step, access_log.clone());
    directory.watch();
    let (state_dir, retention) = (settings.load().state_dir.clone(), settings.load().ledger.retention);
    let keeper = books::keep(ledger, &state_dir, retention);
    let signals = Signals { drain, readiness, registry, sockets, upgrade_sock, limit };
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    // Folds what was written last.
    drop(keeper);
    pid_file::remove_if_ours(&pid_path);
    access_log.close();
    if let Some(why) = beginning.failed() {
        return Err(Obstacle::TryAgain(why.clone()));
    }
    Ok(())
}
