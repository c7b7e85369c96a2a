//! The end of the process: what each signal does, and in which order.
//!
//! | signal | meaning |
//! |---|---|
//! | SIGTERM | drain: no new connections, what is open may end, at the latest at the limit |
//! | SIGQUIT | an upgrade: hand the listening sockets to the new process; once it serves, drain |
//! | SIGINT | end at once; what is open gets an error of its dialect |
//! | SIGTERM or SIGINT while draining | do not wait any longer; SIGTERM says nothing new to a process that was replaced |
//!
//! A service manager that stops the service sends SIGTERM to all its processes, and again to those that are left when the main one has
//! ended: a replaced process, which drains already, must not take that for impatience.
//!
//! Pingora waits for signals itself otherwise, and its answer to SIGQUIT can't be taken back: it drains even where nobody took the
//! sockets. And it sleeps through the whole grace period. Here the drain is over before Pingora hears of an end at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::app::takeover::Beginning;
use crate::edge::stoppable::Sockets;
use crate::ops::host::clock;
use crate::ops::host::drain::PARTING;
use crate::ops::host::handover::{self, HandoverFailure, Taken, Will};
use crate::ops::parts::Parts;

const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// For the last bytes of HTTP/2 connections, which are written behind a request's end.
const SETTLE: Duration = Duration::from_millis(100);
/// How long errors to clients may take to be written once the cut has come.
const CUT_TAKES: Duration = Duration::from_secs(2);

pub struct Signals {
    pub parts: Arc<Parts>,
    pub sockets: Sockets,
    pub beginning: Arc<Beginning>,
    pub upgrade_sock: PathBuf,
    /// The longest that a drain may take.
    pub limit: Duration,
}

/// Why the process ends.
enum Cause {
    Terminate,
    Interrupt,
    /// It could not begin.
    Failed,
    Replaced(Taken),
}

struct Heard {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut heard = match Heard::listen() {
            Ok(heard) => heard,
            Err(error) => {
                log::error!("signals can't be watched: {error}");
                return ShutdownSignal::FastShutdown;
            }
        };
        self.beginning.hears_signals();
        match self.cause(&mut heard).await {
            Cause::Failed => self.drain("it can't begin", false, &mut heard).await,
            Cause::Interrupt => self.cut("SIGINT: ending at once").await,
            Cause::Terminate => self.drain("SIGTERM", false, &mut heard).await,
            Cause::Replaced(Taken { pid }) => {
                self.parts.drain.stop_admin();
                self.drain(&format!("process {pid} has taken over"), true, &mut heard).await;
            }
        }
        self.parts.drain.stop_admin();
        // Pingora's own way to an end, in which nothing is left to wait for.
        ShutdownSignal::GracefulTerminate
    }
}

impl Signals {
    async fn cause(&self, heard: &mut Heard) -> Cause {
        loop {
            tokio::select! {
                () = self.beginning.fails() => return Cause::Failed,
                _ = heard.interrupt.recv() => return Cause::Interrupt,
                _ = heard.terminate.recv() => return Cause::Terminate,
                _ = heard.quit.recv() => {}
            }
            log::info!("SIGQUIT: handing over to a new process at {}", self.upgrade_sock.display());
            tokio::select! {
                _ = heard.interrupt.recv() => return Cause::Interrupt,
                _ = heard.terminate.recv() => return Cause::Terminate,
                outcome = self.hand_over() => match outcome {
                    Ok(taken) => return Cause::Replaced(taken),
                    Err(failure) => log::error!("upgrade failed, this process goes on serving: {failure}"),
                }
            }
        }
    }

    async fn hand_over(&self) -> Result<Taken, HandoverFailure> {
        let path = self.upgrade_sock.clone();
        handover::fit(&path)?;
        let nobody = || HandoverFailure::NobodyWaits { path: path.clone() };
        let (table, to) = (self.sockets.table().ok_or_else(nobody)?, self.upgrade_sock.clone());
        let (listens, _) = table.lock().serialize();
        // Blocks, up to some seconds where nobody waits yet.
        let sent = spawn_blocking(move || table.lock().send_to_sock(to.as_path().to_string_lossy().as_ref())).await;
        if !matches!(sent, Ok(Ok(_))) {
            return Err(nobody());
        }
        let will = Will { pid: std::process::id(), listens, inheritance: self.parts.registry.bequeath(clock::now()) };
        handover::bequeath(&path, &will).await
    }

    async fn drain(&self, why: &str, is_replaced: bool, heard: &mut Heard) {
        if !is_replaced {
            // Of a process that was replaced, probes on kept connections ask for the address, and that is served.
            self.parts.readiness.set_draining();
        }
        self.parts.drain.stop_clients();
        let (open, limit) = (self.parts.drain.open(), self.limit);
        log::info!("draining ({why}): {open} requests open, at most {} seconds for them", limit.as_secs());
        let until = Instant::now() + limit;
        loop {
            tokio::select! {
                () = self.nothing_is_open() => {
                    log::info!("drained: nothing is open any more");
                    return;
                }
                () = sleep_until(until) => return self.cut("the drain limit is reached").await,
                _ = heard.terminate.recv() => {
                    if !is_replaced {
                        return self.cut("SIGTERM while draining").await;
                    }
                    log::info!("SIGTERM: another process serves, this one drains already");
                }
                _ = heard.interrupt.recv() => return self.cut("SIGINT while draining").await,
                _ = heard.quit.recv() => log::warn!("SIGQUIT while draining: there is nothing left to hand over"),
            }
        }
    }

    /// Connections may send a last request for a moment, and entries that the disk has refused so far are bills.
    async fn nothing_is_open(&self) {
        sleep(PARTING).await;
        let is_busy = || self.parts.drain.open() > 0 || self.parts.ledger.kept() > 0;
        loop {
            while is_busy() {
                sleep(LOOK_AGAIN).await;
            }
            sleep(SETTLE).await;
            if !is_busy() {
                return;
            }
        }
    }

    async fn cut(&self, why: &str) {
        self.parts.readiness.set_draining();
        self.parts.drain.stop_clients();
        let open = self.parts.drain.open();
        log::log!(if open > 0 { log::Level::Warn } else { log::Level::Info }, "{why}: {open} requests are cut");
        if open == 0 {
            return;
        }
        self.parts.drain.cut();
        let ended = async {
            while self.parts.drain.open() > 0 {
                sleep(LOOK_AGAIN).await;
            }
            sleep(SETTLE).await;
        };
        // Whoever is left then is closed with the process.
        let _ = timeout(CUT_TAKES, ended).await;
    }
}

impl Heard {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}
