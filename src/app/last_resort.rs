//! Ends the process when Pingora can't.
//!
//! Without work stealing, a service's accept loop that meets a runtime which is shutting down takes "accept failed" for a passing fault
//! and tries again without a pause (pingora-core `services/listening.rs`, `run_endpoint`): the runtime's thread never ends, and
//! neither does the process that waits for it. By then every request has had its time; what is left is to exit.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pingora_core::server::ExecutionPhase;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::app::takeover::Beginning;
use crate::ops::host::pid_file;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::log as program_log;

/// What Pingora may take beyond its own limit.
const SLACK: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The exit code of a process that could not take over, as the command line has it.
const CAN_NOT_BEGIN: i32 = 75;

/// Waits on a thread of its own for the end of all runtimes.
///
/// `limit` is what a graceful end grants them, a quick one grants nothing.
pub fn watch(
    mut phases: Receiver<ExecutionPhase>,
    limit: Duration,
    access_log: Arc<AccessLog>,
    pid_file: PathBuf,
    beginning: Arc<Beginning>,
) {
    let watching = move || {
        let mut is_graceful = false;
        loop {
            match phases.blocking_recv() {
                Ok(ExecutionPhase::ShutdownGracePeriod) => is_graceful = true,
                Ok(ExecutionPhase::ShutdownRuntimes) => break,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
        let until = Instant::now() + SLACK + if is_graceful { limit } else { Duration::ZERO };
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            // What comes behind the runtimes (the last fold) is not Pingora's, and may take its time.
            if matches!(phases.try_recv(), Ok(ExecutionPhase::Terminated) | Err(TryRecvError::Closed)) {
                return;
            }
            thread::park_timeout(left.min(LOOK_AGAIN));
        }
        pid_file::remove_if_ours(&pid_file);
        access_log.close();
        program_log::finish();
        std::process::exit(if beginning.failed().is_some() { CAN_NOT_BEGIN } else { 0 });
    };
    if let Err(error) = thread::Builder::new().name("last-resort".to_owned()).spawn(watching) {
        log::warn!("no thread for the last resort, a shutdown may take its full time: {error}");
    }
}
