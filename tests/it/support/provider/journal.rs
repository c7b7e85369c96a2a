//! What reached the provider, kept in order, and a way to wait for it without sleeping.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use trollbridge::provider_mock::{Arrival, Event, Usage};

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
    fn of(arrival: &Arrival<'_>) -> Self {
        let Arrival { serial, connection, head, body, complete, usage } = arrival;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            serial: *serial,
            connection: connection.number,
            method: head.method.to_string(),
            target: head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string),
            authority: head.uri.authority().map(ToString::to_string),
            version: head.version,
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
            body: Bytes::clone(body),
            complete: *complete,
            sni: connection.sni.clone(),
            alpn: connection.alpn.clone(),
            tls: connection.tls,
            usage: *usage,
        }
    }

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
    kept: Mutex<Kept>,
    keep: usize,
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Recorded>,
    counts: Counts,
}

impl Journal {
    /// Keeps the last `keep` requests; the counts go on beyond them.
    pub fn new(keep: usize) -> Self {
        Self { kept: Mutex::default(), keep, changes: watch::Sender::new(()) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters what the provider tells.
    pub fn enter(&self, event: Event<'_>) {
        let mut kept = self.kept();
        match event {
            Event::Connected => kept.counts.connections += 1,
            Event::Arrived(arrival) => {
                kept.counts.requests += 1;
                kept.requests.push_back(Recorded::of(&arrival));
                if kept.requests.len() > self.keep {
                    kept.requests.pop_front();
                }
            }
            Event::Finished => kept.counts.finished += 1,
            Event::Cancelled => kept.counts.cancelled += 1,
        }
        drop(kept);
        self.changes.send_replace(());
    }

    pub fn counts(&self) -> Counts {
        self.kept().counts
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.kept().requests.iter().cloned().collect()
    }

    pub fn clear(&self) {
        self.kept().requests.clear();
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
