//! The health of proxies: checked in the background by Pingora's load balancer, and observed on the connections of requests.
//!
//! ```text
//!   settings ──► Members (service discovery) ──► LoadBalancer: every interval, all members at once
//!                                                   └ Check: handshake or request ──► Health of the proxy ◄── requests' connections
//! ```
//!
//! Pingora's balancer has the schedule and the members. Whether a proxy is up is kept beside the proxy itself, because connections
//! of requests count as well, and who is picked is decided in `domain/upstream/pick.rs`: Pingora tells its backends apart by
//! address alone, and two proxies may share one (one gateway, several logins).

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use async_trait::async_trait;
use http::header;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::l4::socket::SocketAddr as BackendAddress;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::HealthCheck;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};
use tokio::net::TcpStream;

use crate::domain::upstream::health::{Flip, HealthRequest};
use crate::domain::upstream::pool::Pool;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::{Endpoint, Upstream};
use crate::edge::peer;
use crate::edge::tell::tell;
use crate::edge::tls_fault::TlsFault;
use crate::edge::tunnel::{Tunnel, TunnelFailure};
use crate::ops::host::clock;
use crate::ops::parts::Parts;
use crate::relay::blame;

/// Checks the proxies of the settings in force, and begins anew when these change.
pub struct HealthChecks {
    pub parts: Arc<Parts>,
}

#[async_trait]
impl BackgroundService for HealthChecks {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            let reloaded = self.parts.reloaded.notified();
            let settings = self.parts.settings.load_full();
            let checked = settings.upstreams.iter().find_map(|upstream| Some((upstream, upstream.pool.as_ref()?)));
            let stop = shutdown.clone();
            let checks = async {
                match checked {
                    Some((upstream, pool)) => self.balancer(upstream, pool).run(stop, None).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                () = reloaded => {}
                () = checks => return,
            }
        }
    }
}

impl HealthChecks {
    fn balancer(&self, upstream: &Arc<Upstream>, pool: &Pool) -> LoadBalancer<RoundRobin> {
        let mut balancer = LoadBalancer::from_backends(Backends::new(Box::new(Members(upstream.clone()))));
        balancer.set_health_check(Box::new(Check {
            upstream: upstream.clone(),
            parts: self.parts.clone(),
            connector: Connector::new(None),
        }));
        balancer.health_check_frequency = Some(pool.check.interval);
        balancer.parallel_health_check = true;
        balancer
    }
}

/// The proxies of an upstream, as backends. Their addresses are places in the list and not addresses (of the range that leads nowhere,
/// RFC 6666): names have several addresses, and two proxies may have the same.
struct Members(Arc<Upstream>);

#[derive(Clone, Copy)]
struct Place(usize);

#[async_trait]
impl ServiceDiscovery for Members {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let count = self.0.pool.as_ref().map_or(0, |pool| pool.proxies.len());
        let backends = (0..count).map(|place| {
            let mut ext = Extensions::new();
            ext.insert(Place(place));
            let nowhere = Ipv6Addr::from_bits(0x0100_u128 << 112 | place as u128);
            Backend { addr: BackendAddress::Inet(SocketAddr::V6(SocketAddrV6::new(nowhere, 0, 0, 0))), weight: 1, ext }
        });
        Ok((backends.collect(), HashMap::new()))
    }
}

/// One check of one proxy, by the way that requests take.
struct Check {
    upstream: Arc<Upstream>,
    parts: Arc<Parts>,
    connector: Connector<()>,
}

#[async_trait]
impl HealthCheck for Check {
    async fn check(&self, target: &Backend) -> Result<()> {
        let place = target.ext.get::<Place>().map(|place| place.0);
        let Some((pool, proxy)) =
            self.upstream.pool.as_ref().zip(place).and_then(|(pool, place)| Some((pool, pool.proxies.get(place)?)))
        else {
            return Ok(());
        };
        let probed = tokio::time::timeout(pool.check.timeout, self.probe(pool, proxy)).await;
        let result = probed.unwrap_or_else(|_| Err(Error::explain(ErrorType::ConnectTimedout, "the check took too long")));
        match &result {
            Ok(()) => {
                if proxy.health.check_passed(&pool.check, clock::now()) == Some(Flip::CameUp) {
                    log::info!("proxy {} of {} is up again", proxy.id, self.upstream.name);
                }
            }
            Err(error) => {
                let fault = TlsFault::of(error).zip(self.upstream.endpoint.as_ref());
                // Behind a tunnel the certificate is not the proxy's.
                let is_certain = matches!(TunnelFailure::of(error), Some(TunnelFailure::AuthRefused(_)))
                    || (fault.is_some() && proxy.speaks_http());
                let now = clock::now();
                let flip = proxy.health.check_failed(is_certain, &pool.check, now);
                let detail = match fault {
                    Some((fault, endpoint)) => fault.words(error, &self.upstream, endpoint, Some(proxy)),
                    None => self.upstream.guard.mask(&error.to_string()),
                };
                tell(blame::told(&self.upstream, proxy, flip, is_certain, &detail, now));
            }
        }
        result
    }

    /// Never reached: whether a proxy is up is not decided by Pingora's own count.
    fn health_threshold(&self, _success: bool) -> usize {
        usize::MAX
    }
}

impl Check {
    async fn probe(&self, pool: &Pool, proxy: &Proxy) -> Result<()> {
        let unresolved = |error| Error::because(ErrorType::ConnectError, "no address", error);
        let address = self.parts.resolver.pick(&proxy.host, proxy.port).await.map_err(unresolved)?;
        let by_tunnel = peer::tunnel_by(&self.upstream, proxy, address);
        match (&pool.check.request, &self.upstream.endpoint, by_tunnel) {
            (Some(request), Some(endpoint), _) => self.ask(request, proxy, address, endpoint).await,
            (None, _, Some(tunnel)) => Ok(Tunnel { deadline: pool.check.timeout, ..tunnel }.probe().await?),
            (None, Some(endpoint), None) if proxy.speaks_tls() => self.shake_hands(proxy, address, endpoint).await,
            // Without an endpoint nobody is sent through it, and nothing of it can be asked.
            (Some(_), None, _) => Ok(()),
            (None, None, None) if proxy.speaks_tls() => Ok(()),
            (None, _, None) => TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|error| Error::because(ErrorType::ConnectError, "closed", error)),
        }
    }

    /// Opens a connection with TLS, its certificate checked.
    async fn shake_hands(&self, proxy: &Proxy, address: SocketAddr, endpoint: &Endpoint) -> Result<()> {
        let peer = peer::peer(&self.upstream, endpoint, Some(proxy), address, &self.parts.cas.load())?;
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        session.shutdown().await;
        Ok(())
    }

    /// Sends a request without credentials through the proxy to the upstream.
    async fn ask(&self, request: &HealthRequest, proxy: &Proxy, address: SocketAddr, endpoint: &Endpoint) -> Result<()> {
        let mut peer = peer::peer(&self.upstream, endpoint, Some(proxy), address, &self.parts.cas.load())?;
        // A connection of its own: a kept one proves nothing about the proxy.
        peer.options.idle_timeout = Some(std::time::Duration::ZERO);
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        let mut head = RequestHeader::build("GET", request.path.as_bytes(), None)?;
        head.insert_header(header::HOST, endpoint.authority())?;
        session.write_request_header(Box::new(head)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        session.shutdown().await;
        if status == request.expected_status {
            return Ok(());
        }
        Error::e_explain(ErrorType::HTTPStatus(status), format!("the check expects status {}", request.expected_status))
    }
}
