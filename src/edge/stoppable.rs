//! A listening service whose end is ours to choose.
//!
//! Pingora ends all services at one moment, and only then sleeps for its grace period, whether or not anything is open (pingora-core
//! `server/mod.rs`, `run`). Here each listening service follows a watch of [`crate::ops::host::drain::Drain`] instead, and Pingora's own end begins when the
//! drain is over.
//!
//! It also learns what Pingora keeps to itself: the table of listening sockets, which an upgrade hands over, and whether every address
//! of the service stands in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::server::{ListenFds, RuntimeOpts, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use tokio::sync::watch;

const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What the services of one process share.
#[derive(Clone, Default)]
pub struct Sockets {
    fds: Arc<OnceLock<ListenFds>>,
}

pub struct Stoppable<A> {
    service: Service<A>,
    stop: ShutdownWatch,
    sockets: Sockets,
    stands: Arc<AtomicBool>,
}

impl<A> Stoppable<A> {
    pub fn new(service: Service<A>, stop: ShutdownWatch, sockets: Sockets) -> Self {
        Self { service, stop, sockets, stands: Arc::default() }
    }

    /// Turns true when all its addresses are in the table of sockets, inherited or opened anew; stays false when one could not be.
    pub fn stands(&self) -> Arc<AtomicBool> {
        self.stands.clone()
    }
}

impl Sockets {
    /// All listening sockets of the process; `None` before the first service has begun.
    pub fn table(&self) -> Option<ListenFds> {
        self.fds.get().cloned()
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServiceWithDependents for Stoppable<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        if let Some(fds) = &fds {
            // The first service's table is everybody's table.
            let _ = self.sockets.fds.set(fds.clone());
        }
        let (table, stands) = (fds.clone(), self.stands.clone());
        let addresses = self.service.listen_addresses().unwrap_or_default();
        let standing = async move {
            let is_there = |addr: &String| table.as_ref().is_none_or(|table| table.lock().get(addr).is_some());
            while !addresses.iter().all(is_there) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            stands.store(true, Ordering::Release);
            drop(ready);
        };
        let unheard = ServiceReadyNotifier::new(watch::Sender::new(false));
        let serving = ServiceWithDependents::start_service(&mut self.service, fds, self.stop.clone(), listeners_per_fd, unheard);
        tokio::join!(standing, serving);
    }

    fn name(&self) -> &str {
        ServiceWithDependents::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        ServiceWithDependents::threads(&self.service)
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        ServiceWithDependents::runtime_opts_override(&self.service, global)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        ServiceWithDependents::listen_addresses(&self.service)
    }
}
