//! SIGHUP: asks for a reload.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use crate::ops::admin::reload::Reloader;
use crate::ops::host::signals;

/// Waits for SIGHUP.
pub struct OnHangup {
    pub reloader: Arc<Reloader>,
}

#[async_trait]
impl BackgroundService for OnHangup {
    /// Ready once a hangup is a request and no longer the end of the process.
    async fn start_with_ready_notifier(&self, mut shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        if let Err(error) = signals::ignore_file_size_signal() {
            log::warn!("a limit on the size of files would end this process: {error}");
        }
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                log::error!("SIGHUP can't be watched, so it does not reload: {error}");
                return;
            }
        };
        ready.notify_ready();
        loop {
            let hangup = tokio::select! {
                () = drain(&mut shutdown) => break,
                hangup = hangups.recv() => hangup,
            };
            match hangup {
                Some(()) => self.reload().await,
                None => break,
            }
        }
    }
}

impl OnHangup {
    async fn reload(&self) {
        let reloader = self.reloader.clone();
        // It says itself how it ended; hangups that come meanwhile are one more reload.
        if spawn_blocking(move || reloader.reload()).await.is_err() {
            log::error!("the reload failed, the old configuration stays in force");
        }
    }
}

async fn drain(shutdown: &mut ShutdownWatch) {
    // An error says that nobody is left who could tell.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
