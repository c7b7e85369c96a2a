//! Names of hosts to addresses: several per name, refreshed in the background, one lookup in flight per name.
//!
//! A request waits for a lookup only while its name has no address at all. Later lookups happen behind its back: the old addresses
//! serve while a new answer is on its way, and for as long as lookups fail. An address that could not be reached moves behind the
//! others for a while ([`Resolver::failed`]), so that the next attempt takes another one.
//!
//! Only hosts of the configuration get in; nothing in a request can make one. Addresses are given in turn, those of the first one's
//! family before the others: the system's resolver sorts what this machine can't reach to the end (RFC 6724).

mod name;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use name::{Lookup, Name};

/// How long an answer serves before the next lookup begins behind it.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// More names than any configuration holds; further ones are resolved, but not kept.
const MAX_NAMES: usize = 4096;

/// The resolver of the process. Cloning it shares its answers.
#[derive(Clone)]
pub struct Resolver {
    ttl: Duration,
    lookup: Lookup,
    names: Arc<RwLock<HashMap<Arc<str>, Arc<Name>>>>,
}

impl Resolver {
    /// Resolves by the system (`/etc/hosts` included), off the workers' threads.
    pub fn new(ttl: Duration) -> Self {
        Self::with_lookup(ttl, |host| async move {
            // The port is part of the interface only; no service name is looked up for 0.
            Ok(tokio::net::lookup_host((&*host, 0)).await?.map(|address| address.ip()).collect())
        })
    }

    /// Resolves by the given lookup, whose addresses come in order of preference.
    pub fn with_lookup<F, A>(ttl: Duration, lookup: F) -> Self
    where
        F: Fn(Arc<str>) -> A + Send + Sync + 'static,
        A: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        Self { ttl, lookup: Arc::new(move |host| Box::pin(lookup(host))), names: Arc::default() }
    }

    /// Picks the address to connect to next. An address literal (`::1` with or without brackets) is its own answer.
    ///
    /// Waits only while the name has no address yet; the caller bounds that by its connect deadline.
    ///
    /// # Errors
    ///
    /// The lookup's own error, or `NotFound` where it gave no address. A failure is remembered for a second.
    pub async fn pick(&self, host: &str, port: u16) -> io::Result<SocketAddr> {
        if let Some(ip) = literal(host) {
            return Ok(SocketAddr::new(ip, port));
        }
        let name = self.name(host);
        loop {
            // Made before the look at the answer: a lookup that ends in between wakes it.
            let changed = name.changed.notified();
            let now = Instant::now();
            match name.answer(now) {
                name::Answer::Fresh(addresses) => return Ok(name.next(&addresses, port, now)),
                name::Answer::Stale(addresses) => {
                    Name::start_lookup(&name, &self.lookup, self.ttl);
                    return Ok(name.next(&addresses, port, now));
                }
                name::Answer::Failed(error) => return Err(error),
                name::Answer::Missing => Name::start_lookup(&name, &self.lookup, self.ttl),
            }
            changed.await;
        }
    }

    /// Puts an address that could not be reached behind the host's other ones for a while.
    pub fn failed(&self, host: &str, address: SocketAddr) {
        if let Some(name) = self.known(host) {
            name.put_last(address, Instant::now());
        }
    }

    fn name(&self, host: &str) -> Arc<Name> {
        if let Some(name) = self.known(host) {
            return name;
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(host) {
            return Arc::clone(name);
        }
        let host: Arc<str> = host.into();
        let name = Arc::new(Name::new(Arc::clone(&host)));
        if names.len() < MAX_NAMES {
            names.insert(host, Arc::clone(&name));
        }
        name
    }

    fn known(&self, host: &str) -> Option<Arc<Name>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

#[cfg(test)]
mod tests;
