//! What is known of one name: its addresses, until when they are fresh, and which of them failed lately.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::resolver::name";

/// How long an address that failed stands behind the others.
pub(super) const LAST_FOR: Duration = Duration::from_secs(30);
/// How long a failed lookup of a name without addresses is answered from memory.
pub(super) const FAILURE_TTL: Duration = Duration::from_secs(1);
/// When a failed refresh is tried again; the old addresses serve meanwhile.
pub(super) const REFRESH_AGAIN: Duration = Duration::from_secs(5);
/// The most time that one lookup may take.
pub(super) const LOOKUP_LIMIT: Duration = Duration::from_secs(15);

/// Asks for the addresses of a host.
pub(super) type Lookup = Arc<dyn Fn(Arc<str>) -> LookedUp + Send + Sync>;
type LookedUp = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

pub(super) struct Name {
    host: Arc<str>,
    known: ArcSwap<Known>,
    /// Addresses that could not be reached, and until when they stand last. Nearly always empty.
    last: ArcSwap<Vec<(SocketAddr, Instant)>>,
    turn: AtomicUsize,
    is_looking: AtomicBool,
    /// Wakes who waits for the first answer.
    pub(super) changed: Notify,
}

enum Known {
    Nothing,
    Addresses { addresses: Arc<Addresses>, fresh_until: Instant, refresh_failed: bool },
    Failure { kind: io::ErrorKind, text: String, until: Instant },
}

/// The addresses of one answer, by family; `first` is the first of the preferred ones.
pub(super) struct Addresses {
    first: IpAddr,
    preferred: Vec<IpAddr>,
    others: Vec<IpAddr>,
}

/// What is known at one moment.
pub(super) enum Answer {
    Fresh(Arc<Addresses>),
    /// Good enough to use; a lookup is due.
    Stale(Arc<Addresses>),
    Failed(io::Error),
    Missing,
}

impl Name {
    pub(super) fn new(host: Arc<str>) -> Self {
        Self {
            host,
            known: ArcSwap::from_pointee(Known::Nothing),
            last: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            is_looking: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn answer(&self, now: Instant) -> Answer {
        match &**self.known.load() {
            Known::Addresses { addresses, fresh_until, .. } if now < *fresh_until => Answer::Fresh(Arc::clone(addresses)),
            Known::Addresses { addresses, .. } => Answer::Stale(Arc::clone(addresses)),
            Known::Failure { kind, text, until } if now < *until => Answer::Failed(io::Error::new(*kind, text.clone())),
            Known::Failure { .. } | Known::Nothing => Answer::Missing,
        }
    }

    /// The next address in turn: of the preferred family, else of the other, else the one whose failure is the oldest.
    pub(super) fn next(&self, addresses: &Addresses, port: u16, now: Instant) -> SocketAddr {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let last = self.last.load();
        let stands_last =
            |address: &SocketAddr| last.iter().find(|(failed, until)| failed == address && *until > now).map(|(_, until)| *until);
        let mut oldest: Option<(Instant, SocketAddr)> = None;
        for ip in addresses.in_turn(turn) {
            let address = SocketAddr::new(ip, port);
            let Some(until) = stands_last(&address) else { return address };
            if oldest.is_none_or(|(earliest, _)| until < earliest) {
                oldest = Some((until, address));
            }
        }
        oldest.map_or(SocketAddr::new(addresses.first, port), |(_, address)| address)
    }

    pub(super) fn put_last(&self, address: SocketAddr, now: Instant) {
        self.last.rcu(|last| {
            let others = last.iter().filter(|(failed, until)| *failed != address && *until > now);
            others.copied().chain([(address, now + LAST_FOR)]).collect::<Vec<_>>()
        });
    }

    /// Begins a lookup where none is in flight. It ends by itself, whether the caller waits for it or not.
    pub(super) fn start_lookup(name: &Arc<Self>, lookup: &Lookup, ttl: Duration) {
        if name.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        // Made before the task: a runtime that drops the task unpolled ends the lookup too.
        let looking = Looking(Arc::clone(name));
        let answer = lookup(Arc::clone(&name.host));
        tokio::spawn(async move {
            let outcome = match timeout(LOOKUP_LIMIT, answer).await {
                Ok(outcome) => outcome,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            looking.0.learn(outcome, ttl, Instant::now());
        });
    }

    fn learn(&self, outcome: io::Result<Vec<IpAddr>>, ttl: Duration, now: Instant) {
        let outcome = outcome
            .and_then(|ips| Addresses::of(ips).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        let before = self.known.load_full();
        let learned = match (outcome, &*before) {
            (Ok(addresses), before) => {
                if matches!(before, Known::Addresses { refresh_failed: true, .. } | Known::Failure { .. }) {
                    log::info!(target: LOG, "the name {} resolves again", self.host);
                }
                Known::Addresses { addresses: Arc::new(addresses), fresh_until: now + ttl, refresh_failed: false }
            }
            (Err(error), Known::Addresses { addresses, refresh_failed, .. }) => {
                if !refresh_failed {
                    log::warn!(target: LOG, "the name {} does not resolve any more, its last addresses stay in use: {error}", self.host);
                }
                let fresh_until = now + REFRESH_AGAIN.min(ttl);
                Known::Addresses { addresses: Arc::clone(addresses), fresh_until, refresh_failed: true }
            }
            (Err(error), before) => {
                if matches!(before, Known::Nothing) {
                    log::warn!(target: LOG, "the name {} does not resolve: {error}", self.host);
                }
                let text = format!("the name {} does not resolve: {error}", self.host);
                Known::Failure { kind: error.kind(), text, until: now + FAILURE_TTL }
            }
        };
        self.known.store(Arc::new(learned));
    }
}

impl Addresses {
    fn of(ips: Vec<IpAddr>) -> Option<Self> {
        let first = *ips.first()?;
        let (mut preferred, mut others) = (Vec::new(), Vec::new());
        for ip in ips {
            let family = if ip.is_ipv4() == first.is_ipv4() { &mut preferred } else { &mut others };
            if !family.contains(&ip) {
                family.push(ip);
            }
        }
        Some(Self { first, preferred, others })
    }

    /// Every address once: the preferred family beginning with the one of this turn, then the other family.
    fn in_turn(&self, turn: usize) -> impl Iterator<Item = IpAddr> {
        rotated(&self.preferred, turn).chain(rotated(&self.others, turn))
    }
}

fn rotated(ips: &[IpAddr], turn: usize) -> impl Iterator<Item = IpAddr> {
    let (before, from) = ips.split_at_checked(turn.checked_rem(ips.len()).unwrap_or(0)).unwrap_or_default();
    from.iter().chain(before).copied()
}

/// A lookup in flight; its end, by whatever way, lets the next one begin and wakes who waits.
struct Looking(Arc<Name>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.is_looking.store(false, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}
