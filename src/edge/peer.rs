//! Where a connection leads: from an upstream, and a proxy or none, to Pingora's peer.
//!
//! | way | TCP to | TLS with |
//! |---|---|---|
//! | direct | the endpoint, or `connect_to` | the endpoint |
//! | reverse proxy | the proxy | the proxy |
//! | CONNECT, SOCKS5 | the proxy | the endpoint, through the tunnel |
//!
//! Requests and health checks make their peers here, so that a check proves the way that requests take.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};

use crate::domain::upstream::proxy::{Proxy, ProxyKind};
use crate::domain::upstream::{Endpoint, Upstream};
use crate::edge::tunnel::Tunnel;
use crate::ops::host::ca::CaStore;

/// Streams that share one HTTP/2 connection; Pingora's own default of 1 would make HTTP/2 a slower HTTP/1.
const H2_STREAMS_PER_CONNECTION: usize = 100;
/// How long an upstream's connection is kept for the next request.
const KEEP_IDLE: Duration = Duration::from_secs(60);

/// Makes the peer of `upstream` behind `address`, which is the proxy's where there is one, else the endpoint's.
///
/// # Errors
/// When the upstream's authorities are not loaded: without them it would be held to the system's, and never quietly.
pub fn peer(
    upstream: &Upstream,
    endpoint: &Endpoint,
    via: Option<&Proxy>,
    address: SocketAddr,
    cas: &CaStore,
) -> Result<HttpPeer> {
    // Never empty with TLS: Pingora verifies nothing without a server name.
    let sni = match via.map(|proxy| &proxy.kind) {
        Some(ProxyKind::Reverse { tls }) => tls.as_ref().map(|tls| tls.server_name.to_string()),
        Some(ProxyKind::Forward { .. }) | None => endpoint.is_https().then(|| endpoint.sni().to_owned()),
    };
    let (tls, sni) = (sni.is_some(), sni.unwrap_or_default());
    let tunnel = via.and_then(|proxy| tunnel_by(upstream, proxy, address)).map(Arc::new);
    let mut peer = match tunnel.clone() {
        Some(tunnel) => tunnel.peer(tls, sni, upstream.ca_file.as_deref()),
        None => HttpPeer::new(address, tls, sni),
    };
    let options = &mut peer.options;
    options.connection_timeout = Some(upstream.timeouts.connect);
    options.total_connection_timeout = Some(upstream.timeouts.connect);
    options.idle_timeout = Some(KEEP_IDLE);
    options.max_h2_streams = H2_STREAMS_PER_CONNECTION;
    if let Some(tunnel) = tunnel {
        // The tunnel keeps its own deadline; TLS behind it gets the same time again. HTTP/1.1 only: HTTP/2 through a tunnel was
        // measured to stall on large bodies.
        options.total_connection_timeout = Some(tunnel.deadline * 2);
    } else if tls && upstream.http2 {
        options.alpn = ALPN::H2H1;
    }
    if let Some(path) = &upstream.ca_file {
        let ca = cas.get(path).cloned();
        options.ca = Some(ca.ok_or_else(|| Error::explain(ErrorType::InternalError, "the upstream's ca_file is not loaded"))?);
    }
    peer.group_key = group_key(upstream, endpoint, via, peer.group_key);
    Ok(peer)
}

/// Makes the next connection to `peer` a new one, and the only one of its kind (A6): Pingora looks for a kept connection by this key, and
/// keeps one by the same, so it serves no second request. That costs one handshake for each kept connection that was found dead.
pub fn on_its_own(peer: &mut HttpPeer) {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut hasher = DefaultHasher::new();
    (peer.group_key, MADE.fetch_add(1, Relaxed)).hash(&mut hasher);
    peer.group_key = hasher.finish();
    peer.options.idle_timeout = Some(Duration::ZERO);
}

/// The tunnel through a forward proxy; `None` for a reverse proxy.
pub fn tunnel_by(upstream: &Upstream, proxy: &Proxy, address: SocketAddr) -> Option<Tunnel> {
    let ProxyKind::Forward { kind, login, target } = &proxy.kind else { return None };
    let deadline = upstream.timeouts.connect;
    Some(Tunnel { kind: *kind, proxy: address, login: login.clone(), target: target.clone(), deadline })
}

/// Keeps connections apart that Pingora's own hash would share: two upstreams at one address with different authorities or CAs, two
/// proxies, two logins at one proxy (T7).
fn group_key(upstream: &Upstream, endpoint: &Endpoint, via: Option<&Proxy>, of_tunnel: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    of_tunnel.hash(&mut hasher);
    upstream.name.hash(&mut hasher);
    upstream.ca_file.hash(&mut hasher);
    if let Some(proxy) = via {
        proxy.fingerprint.hash(&mut hasher);
        endpoint.authority().hash(&mut hasher);
        upstream.connect_to.hash(&mut hasher);
    }
    hasher.finish()
}
