//! Whether every upstream can be reached by the ways that requests take, on demand: name, TCP, a proxy's tunnel, TLS with the same checks.
//!
//! Nothing is sent over a connection that stands: no request, no key. A proxy gets the login that it gets from requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::connectors::TransportConnector;
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType, Result};
use tokio::task::JoinSet;

use crate::domain::settings::Settings;
use crate::domain::upstream::{Endpoint, Pick, Upstream};
use crate::edge::peer;
use crate::edge::pingora_errors::cause;
use crate::edge::tls_fault::TlsFault;
use crate::edge::tunnel::TunnelFailure;
use crate::ops::host::ca::CaStore;
use crate::ops::host::resolver::{DEFAULT_TTL, Resolver};

/// For one way, all of its addresses included. A gateway's own attempt ends earlier, by `timeouts.connect_ms`.
pub const WITHIN: Duration = Duration::from_secs(10);

/// One way to an upstream, and how it went.
#[derive(Debug)]
pub struct Looked {
    pub upstream: Arc<str>,
    /// The proxy that it leads through; `None`: it is direct.
    pub proxy: Option<Arc<str>>,
    pub endpoint: String,
    pub took: Duration,
    pub found: Result<(), Trouble>,
}

/// Why a way leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may lead there later: no address, no connection, no answer in time.
    Unreachable(String),
    /// It never will until somebody mends it: a certificate, a login.
    Wrong(String),
}

/// Takes every way of the settings, all at once; gives them in the settings' order.
pub async fn look(settings: &Settings, cas: CaStore, connector: TransportConnector) -> Vec<Looked> {
    let eyes = Arc::new(Eyes { cas, connector, resolver: Resolver::new(DEFAULT_TTL), tries: settings.retry.max_attempts.max(1) });
    let mut looks = JoinSet::new();
    for (nth, (upstream, endpoint, pick)) in settings.upstreams.iter().flat_map(ways).enumerate() {
        let eyes = eyes.clone();
        looks.spawn(async move { (nth, eyes.take(&upstream, &endpoint, pick).await) });
    }
    let mut looked = looks.join_all().await;
    looked.sort_by_key(|(nth, _)| *nth);
    looked.into_iter().map(|(_, looked)| looked).collect()
}

/// The ways to an upstream that is configured: through each of its proxies, and without one where requests may go so.
fn ways(upstream: &Arc<Upstream>) -> Vec<(Arc<Upstream>, Arc<Endpoint>, Pick)> {
    let Some(endpoint) = upstream.endpoint.as_ref().filter(|_| upstream.missing().is_none()) else { return Vec::new() };
    let goes_direct = upstream.pool.as_ref().is_none_or(|pool| pool.allow_direct_when_down);
    let through = (0..upstream.proxies().len()).map(Some);
    let proxies = through.chain(goes_direct.then_some(None));
    proxies.map(|proxy| (upstream.clone(), endpoint.clone(), Pick { proxy, credential: None })).collect()
}

struct Eyes {
    cas: CaStore,
    connector: TransportConnector,
    resolver: Resolver,
    /// Addresses of a name that are tried, as a request would.
    tries: u32,
}

impl Eyes {
    async fn take(&self, upstream: &Upstream, endpoint: &Endpoint, pick: Pick) -> Looked {
        let begun = Instant::now();
        let late = || Err(Trouble::Unreachable(format!("no connection within {} s", WITHIN.as_secs())));
        let found = tokio::time::timeout(WITHIN, self.reach(upstream, endpoint, pick)).await.unwrap_or_else(|_| late());
        let proxy = upstream.proxy(pick).map(|proxy| proxy.id.clone());
        Looked { upstream: upstream.name.clone(), proxy, endpoint: endpoint.to_string(), took: begun.elapsed(), found }
    }

    async fn reach(&self, upstream: &Upstream, endpoint: &Endpoint, pick: Pick) -> Result<(), Trouble> {
        let proxy = upstream.proxy(pick);
        let (host, port) = proxy.map_or((endpoint.host(), endpoint.port()), |proxy| (&*proxy.host, proxy.port));
        let fixed = upstream.connect_to.filter(|_| proxy.is_none());
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut trouble = Trouble::Unreachable("no address".to_owned());
        for _ in 0..self.tries {
            let address = match fixed {
                Some(address) => address,
                None => match self.resolver.pick(host, port).await {
                    Ok(address) => address,
                    Err(error) => return Err(Trouble::Unreachable(format!("no address of {host}: {error}"))),
                },
            };
            if tried.contains(&address) {
                break;
            }
            tried.push(address);
            let Err(error) = self.connect(upstream, endpoint, pick, address).await else { return Ok(()) };
            trouble = troubled(&error, upstream, endpoint, pick);
            self.resolver.failed(host, address);
        }
        Err(trouble)
    }

    async fn connect(&self, upstream: &Upstream, endpoint: &Endpoint, pick: Pick, address: SocketAddr) -> Result<()> {
        let peer = peer::peer(upstream, endpoint, upstream.proxy(pick), address, &self.cas)?;
        if peer.tls() && peer.sni().is_empty() {
            return Err(Error::explain(ErrorType::InternalError, "a connection without a server name would not be checked"));
        }
        self.connector.new_stream(&peer).await.map(drop)
    }
}

fn troubled(error: &Error, upstream: &Upstream, endpoint: &Endpoint, pick: Pick) -> Trouble {
    if let Some(fault) = TlsFault::of(error) {
        return Trouble::Wrong(fault.words(error, upstream, endpoint, upstream.proxy(pick)));
    }
    match TunnelFailure::of(error) {
        Some(refused @ TunnelFailure::AuthRefused(_)) => Trouble::Wrong(refused.to_string()),
        Some(failure) => Trouble::Unreachable(failure.to_string()),
        None => Trouble::Unreachable(upstream.guard.mask(&cause(error))),
    }
}
