//! What reached the provider, kept in order, and a way to wait for it without sleeping.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::ask::Usage;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// 0 for the first request of this provider.
    pub serial: u64,
    /// 0 for the first connection; equal numbers mean a reused connection.
    pub connection: u64,
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// `:authority` of HTTP/2, or the authority of an absolute target; HTTP/1's `Host` is among the headers.
    pub authority: Option<String>,
    pub version: hyper::Version,
    /// Names in lower case, in the order of arrival; a repeated name stands once per value.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Whether the body arrived to its end; an early reply does not read it.
    pub complete: bool,
    /// The server name of the TLS handshake.
    pub sni: Option<String>,
    /// The protocol that the TLS handshake agreed on.
    pub alpn: Option<String>,
    pub tls: bool,
    /// What the usual answer says about tokens.
    pub usage: Option<Usage>,
}

impl Recorded {
    /// The values of a header, in the order of arrival.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// Counts of a provider's life so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub connections: u64,
    pub requests: u64,
    /// Answers that were handed out to their end, scripted ends included.
    pub finished: u64,
    /// Exchanges that the other side gave up.
    pub cancelled: u64,
}

/// The record of one provider.
pub struct Journal {
    kept: Mutex<VecDeque<Recorded>>,
    keep: usize,
    serials: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    finished: AtomicU64,
    cancelled: AtomicU64,
    changes: watch::Sender<()>,
}

impl Journal {
    /// Keeps the last `keep` requests; the counts go on beyond them.
    pub fn new(keep: usize) -> Self {
        Self {
            kept: Mutex::new(VecDeque::new()),
            keep,
            serials: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            changes: watch::Sender::new(()),
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Recorded>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn next_connection(&self) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::AcqRel);
        self.changes.send_replace(());
        number
    }

    pub fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::AcqRel)
    }

    /// Enters a request.
    pub fn record(&self, request: Recorded) {
        let mut kept = self.kept();
        if self.keep > 0 {
            if kept.len() == self.keep {
                kept.pop_front();
            }
            kept.push_back(request);
        }
        self.requests.fetch_add(1, Ordering::AcqRel);
        drop(kept);
        self.changes.send_replace(());
    }

    pub fn count_finished(&self) {
        self.finished.fetch_add(1, Ordering::AcqRel);
        self.changes.send_replace(());
    }

    pub fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::AcqRel);
        self.changes.send_replace(());
    }

    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Acquire),
            requests: self.requests.load(Ordering::Acquire),
            finished: self.finished.load(Ordering::Acquire),
            cancelled: self.cancelled.load(Ordering::Acquire),
        }
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.kept().iter().cloned().collect()
    }

    pub fn clear(&self) {
        self.kept().clear();
    }

    /// Waits until the counts satisfy `enough`.
    pub async fn wait(&self, enough: impl Fn(Counts) -> bool) -> Counts {
        let mut changes = self.changes.subscribe();
        loop {
            let counts = self.counts();
            // The sender lives as long as `self`.
            if enough(counts) || changes.changed().await.is_err() {
                return counts;
            }
        }
    }
}
