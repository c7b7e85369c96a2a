//! The begin of the process, around the moment at which it listens: what a predecessor leaves is heard before, everybody who waits is
//! told after.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::BackgroundService;
use tokio::sync::Notify;

use crate::app::preflight;
use crate::ops::admin::control;
use crate::ops::admin::pages::Pages;
use crate::ops::host::child::{Parent, Stage};
use crate::ops::host::handover::{Awaiting, Heir};
use crate::ops::host::pid_file::Prepared;
use crate::ops::host::{clock, pid_file};
use crate::ops::parts::Parts;

/// What the two steps share.
#[derive(Default)]
pub struct Beginning {
    awaiting: Mutex<Option<Awaiting>>,
    /// Why this process can't begin after all.
    failed: OnceLock<String>,
    fails: Notify,
    hears: Notify,
}

/// Before the listeners stand: the old process's will.
pub struct Hear {
    pub heir: Mutex<Option<Heir>>,
    /// Where this process is to listen.
    pub addresses: Vec<SocketAddr>,
    pub parts: Arc<Parts>,
    pub beginning: Arc<Beginning>,
}

/// Once they stand.
pub struct Begin {
    pub beginning: Arc<Beginning>,
    /// Whether each listening service does.
    pub stand: Vec<Arc<AtomicBool>>,
    pub pages: Arc<Pages>,
    pub parts: Arc<Parts>,
    pub pid_file: PathBuf,
    pub parent: Option<Arc<Parent>>,
}

impl Beginning {
    pub fn failed(&self) -> Option<&String> {
        self.failed.get()
    }

    /// Ends the process the usual way, since it may have taken requests already.
    fn fail(&self, why: String) {
        let _ = self.failed.set(why);
        self.fails.notify_one();
    }

    /// Returns when this process can't begin.
    pub async fn fails(&self) {
        self.fails.notified().await;
    }

    /// From now on signals are answered; before, they would have ended the process.
    pub fn hears_signals(&self) {
        self.hears.notify_one();
    }

    fn awaiting(&self) -> std::sync::MutexGuard<'_, Option<Awaiting>> {
        self.awaiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BackgroundService for Hear {
    async fn start_with_ready_notifier(&self, _shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        let heir = self.heir.lock().unwrap_or_else(PoisonError::into_inner).take();
        let heard = match heir {
            Some(heir) => self.hear(heir).await,
            None => Ok(()),
        };
        match heard {
            Ok(()) => ready.notify_ready(),
            Err(why) => {
                // Dropped, it would say that this service is ready, and the listeners would begin.
                std::mem::forget(ready);
                self.beginning.fail(why);
            }
        }
    }
}

impl Hear {
    async fn hear(&self, heir: Heir) -> Result<(), String> {
        let (will, awaiting) =
            heir.hear().await.map_err(|failure| format!("the running process did not hand over: {failure}"))?;
        // Pingora tries such an address for half a minute, and panics then.
        let mut fresh = self.addresses.iter().filter(|addr| !will.listens.contains(&addr.to_string()));
        fresh.try_for_each(|addr| preflight::free(*addr)).map_err(|obstacle| obstacle.to_string())?;
        let (keys, proxies) = self.parts.registry.inherit(&will.inheritance, clock::now());
        log::info!("taking over from process {}: {keys} keys rest, {proxies} proxies are down", will.pid);
        *self.beginning.awaiting() = Some(awaiting);
        // Probes may come here from the first moment on, and clients are served by either process.
        self.parts.readiness.set_ready();
        Ok(())
    }
}

#[async_trait]
impl BackgroundService for Begin {
    async fn start(&self, _shutdown: ShutdownWatch) {
        // Whoever knows of this process may send it one.
        self.beginning.hears.notified().await;
        if self.beginning.failed().is_some() {
            return;
        }
        if let Err(why) = self.begin().await {
            return self.beginning.fail(why);
        }
        let (socket, pages) = (control::path(&self.pid_file), self.pages.clone());
        // For as long as this process lives; a successor puts its own in the place.
        tokio::spawn(async move { control::serve(&socket, pages, std::future::pending()).await });
        self.parts.readiness.set_ready();
        log::info!("serving");
        self.tell(Stage::Serves);
    }
}

impl Begin {
    async fn begin(&self) -> Result<(), String> {
        if !self.stand.iter().all(|stands| stands.load(Ordering::Acquire)) {
            return Err("not every listener could be opened; the lines before this one say why".to_owned());
        }
        let named = pid_file::prepare(&self.pid_file);
        let awaiting = self.beginning.awaiting().take();
        let heir = match awaiting {
            Some(awaiting) => {
                // Found by the old one's file this process would drain the wrong one at the next upgrade.
                let named = named.as_ref().map_err(|error| format!("{}: {error}", self.pid_file.display()));
                named.map_err(|why| format!("the pid file can't be written: {why}"))?;
                self.take_over(awaiting).await?
            }
            None => None,
        };
        if let Err(error) = named.and_then(Prepared::publish) {
            log::warn!(
                "{}: the pid file can't be written, so `reload`, `upgrade` and `status` won't find this process: {error}",
                self.pid_file.display()
            );
        }
        // From here on another upgrade finds this process.
        drop(heir);
        Ok(())
    }

    async fn take_over(&self, awaiting: Awaiting) -> Result<Option<Heir>, String> {
        let old = awaiting.pid();
        self.tell(Stage::Takes);
        match awaiting.taken().await {
            Ok(heir) => Ok(Some(heir)),
            // Then nobody serves but this one.
            Err(_) if !pid_file::is_ours(old) => {
                log::warn!("process {old} ended in the middle of the hand-over");
                Ok(None)
            }
            Err(error) => Err(format!("process {old} did not wait for this one: {error}")),
        }
    }

    fn tell(&self, stage: Stage) {
        if let Some(parent) = &self.parent {
            parent.tell(stage);
        }
    }
}
