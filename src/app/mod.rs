//! Plugs the parts together: the only place that knows all of them.

mod assembly;
mod books;
mod last_resort;
mod preflight;
mod reload;
mod services;
mod signals;
mod takeover;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{RunArgs, Server};

use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;
use crate::ops::admin::reload::Elsewhere;
use crate::ops::host::child::{Parent, Stage};
use crate::ops::host::handover::Heir;
use crate::ops::host::pid_file;
use crate::ops::watch::log as program_log;

use assembly::Assembled;
pub use preflight::{Obstacle, check as preflight, look_at_files};
use services::Origin;
use signals::Signals;
use takeover::Beginning;

/// The drain limit where no file says it: longer than most answers. A drain ends when nothing is open any more, so an idle gateway is gone
/// after a second.
const DRAIN_LIMIT_S: u64 = 300;
/// Pingora's ceiling for the attempts of one request; the real count is `retry.max_attempts`, at most 100, each of them at most once behind a
/// kept connection that was dead.
const MOST_ATTEMPTS: usize = 200;

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
///
/// # Errors
///
/// What is in the way, before anything was served or in place of a take-over.
pub fn run(plan: Plan) -> Result<(), Obstacle> {
    let Plan { settings, config, registry, mut conf, upgrade, parent, elsewhere } = plan;
    let started = Instant::now();
    let upgrade_sock = PathBuf::from(&conf.upgrade_sock);
    let heir = if upgrade { Some(Heir::announce(&upgrade_sock).map_err(Obstacle::of_hand_over)?) } else { None };
    preflight::check(&settings, upgrade)?;
    if !upgrade {
        preflight::nobody_has(Path::new(&conf.pid_file))?;
    }
    let books = books::open(&settings, upgrade)?;
    program_log::announce(&settings);
    let (state_dir, retention) = (settings.state_dir.clone(), settings.ledger.retention);
    let parts = assembly::parts(settings, registry, books)?;
    let assembled = Assembled::of(parts.clone(), config, elsewhere, started);

    conf.max_retries = MOST_ATTEMPTS;
    // Ours: the drain is over before Pingora hears of an end, and the background is a process of its own.
    let limit = Duration::from_secs(conf.grace_period_seconds.replace(0).unwrap_or(DRAIN_LIMIT_S));
    conf.daemon = false;
    let last_step = Duration::from_secs(conf.graceful_shutdown_timeout_seconds.unwrap_or(5));
    let pid_path = PathBuf::from(&conf.pid_file);
    let mut server = Server::new_with_opt_and_conf(Some(Opt { upgrade, ..Opt::default() }), conf);
    let beginning = Arc::new(Beginning::default());
    let origin = Origin { heir, parent: parent.clone(), pid_file: pid_path.clone(), beginning: beginning.clone() };
    let sockets = services::add(&mut server, &assembled, origin)?;
    if let Some(parent) = parent.filter(|_| upgrade) {
        parent.tell(Stage::Waits);
    }

    last_resort::watch(server.watch_execution_phase(), last_step, parts.access_log.clone(), pid_path.clone(), beginning.clone());
    parts.directory.watch();
    let keeper = books::keep(parts.ledger.clone(), &state_dir, retention);
    let signals = Signals { parts: parts.clone(), sockets, beginning: beginning.clone(), upgrade_sock, limit };
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    // Folds what was written last.
    drop(keeper);
    pid_file::remove_if_ours(&pid_path);
    parts.access_log.close();
    program_log::finish();
    match beginning.failed() {
        Some(why) => Err(Obstacle::TryAgain(why.clone())),
        None => Ok(()),
    }
}
