//! Step 5: the connection of one attempt. It comes from the configuration alone; nothing in a request can change it (M16).

use std::net::SocketAddr;
use std::time::Instant;

use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use crate::domain::answer::Refusal;
use crate::domain::upstream::{Pick, Upstream};
use crate::edge::checks;
use crate::edge::context::{Attempt, Context};
use crate::edge::exchange::Watch;
use crate::edge::fail;
use crate::edge::gateway::Gateway;
use crate::edge::peer;
use crate::edge::rotation::{self, Because};
use crate::edge::tunnel::TunnelFailure;
use crate::ops::host::resolver::Resolver;
use crate::ops::watch::counters::Phase;

/// A body up to this size never blocks on Pingora's pipe to the upstream: it holds four pieces.
const PIPE_BYTES: usize = 8 * 1024;

/// Begins the next attempt, and finds the address that carries it.
pub async fn peer(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
    look_for_client(session, ctx).await?;
    loop {
        begin(ctx);
        let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else {
            return Err(Error::explain(ErrorType::InternalError, "no route"));
        };
        arrival.exchange.watch(Watch::Off);
        let upstream = routed.route.upstream.clone();
        let Some(endpoint) = &upstream.endpoint else {
            return Err(Error::explain(ErrorType::InternalError, "no endpoint"));
        };
        let address = match address(&gateway.resolver, &upstream, ctx.attempt.pick).await {
            Ok(address) => address,
            Err(detail) if upstream.proxy(ctx.attempt.pick).is_some() => {
                checks::connection_failed(&upstream, ctx.attempt.pick, false, &detail);
                if take_next(ctx, Refusal::UpstreamFailed { detail }) {
                    continue;
                }
                return Err(Error::explain(ErrorType::ConnectError, "the proxy's name has no address").into_up());
            }
            Err(detail) => {
                ctx.outcome.refusal = Some(Refusal::UpstreamFailed { detail });
                return Err(Error::explain(ErrorType::ConnectError, "the upstream's name has no address").into_up());
            }
        };
        ctx.attempt.peer = Some(address);
        let cas = gateway.cas.load();
        let mut peer = peer::peer(&upstream, endpoint, upstream.proxy(ctx.attempt.pick), address, &cas)?;
        // The replayed session keeps the deadlines of head and body; a timer for every read as well would cost more than the read.
        // What it can't see is an upstream that takes no more of a body that does not fit into Pingora's pipe.
        let fits_the_pipe = routed.length.is_some_and(|bytes| bytes <= PIPE_BYTES);
        peer.options.write_timeout = (!fits_the_pipe).then_some(upstream.timeouts.idle);
        return Ok(Box::new(peer));
    }
}

/// Ends the attempts of a client that has left (T12): Pingora looks at its connection while it waits for an answer, but not while it
/// opens a connection, which a proxy may draw out.
async fn look_for_client(session: &mut Session, ctx: &mut Context) -> Result<()> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return Ok(()) };
    // What comes from the client is its leaving only once its body was read to the end.
    if ctx.attempt.number == 0 || routed.length.is_none() {
        return Ok(());
    }
    arrival.exchange.watch(Watch::Off);
    let left = tokio::select! {
        biased;
        read = session.as_downstream_mut().read_body_or_idle(true) => read.err(),
        () = std::future::ready(()) => None,
    };
    let Some(left) = left else { return Ok(()) };
    ctx.outcome.refusal = None;
    Err(left.into_down())
}

/// Forgets what the attempt before left behind, and counts this one.
fn begin(ctx: &mut Context) {
    let pick = ctx.rotation.next.take().unwrap_or(ctx.attempt.pick);
    ctx.attempt = Attempt { number: ctx.attempt.number + 1, pick, began: Some(Instant::now()), ..Attempt::default() };
    ctx.outcome.refusal = None;
    ctx.delivery = Default::default();
    let Some(routed) = ctx.routed.as_deref() else { return };
    if let Some(credential) = routed.route.upstream.credential(pick) {
        credential.standing.count_attempt();
    }
    if let Some(proxy) = routed.route.upstream.proxy(pick) {
        proxy.health.count_attempt();
    }
}

/// The address to open a connection to, or what stands in the way.
async fn address(resolver: &Resolver, upstream: &Upstream, pick: Pick) -> Result<SocketAddr, String> {
    let (host, port) = match (upstream.proxy(pick), upstream.connect_to, &upstream.endpoint) {
        (Some(proxy), ..) => (&*proxy.host, proxy.port),
        (None, Some(address), _) => return Ok(address),
        (None, None, Some(endpoint)) => (endpoint.host(), endpoint.port()),
        (None, None, None) => return Err("no endpoint".to_owned()),
    };
    resolver.pick(host, port).await.map_err(|error| format!("no address of {host}: {error}"))
}

/// The connection stands; from here on the head is due.
pub fn connected(ctx: &mut Context) {
    let Some(began) = ctx.attempt.began else { return };
    let took = began.elapsed();
    ctx.attempt.connect = Some(took);
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return };
    arrival.in_flight.counters().phase(Phase::Connect, took);
    let by = Instant::now() + routed.route.upstream.timeouts.first_byte;
    arrival.exchange.watch(Watch::Until { by });
}

/// A connection that did not come about is tried again while the limits allow it: by another proxy, or at another address.
pub fn failed(gateway: &Gateway, peer: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let Some(routed) = ctx.routed.as_deref() else { return error };
    let upstream = routed.route.upstream.clone();
    let detail = fail::cause(&error, ctx);
    let proxy = upstream.proxy(ctx.attempt.pick);
    let resolved = match (proxy, upstream.connect_to, &upstream.endpoint) {
        (Some(proxy), ..) => Some(&*proxy.host),
        (None, None, Some(endpoint)) => Some(endpoint.host()),
        _ => None,
    };
    if let (Some(host), Some(address)) = (resolved, peer.address().as_inet()) {
        gateway.resolver.failed(host, *address);
    }
    if proxy.is_some() {
        let is_certain = matches!(TunnelFailure::of(&error), Some(TunnelFailure::AuthRefused(_)));
        checks::connection_failed(&upstream, ctx.attempt.pick, is_certain, &detail);
    }
    let retries = take_next(ctx, Refusal::UpstreamFailed { detail });
    error.set_retry(retries);
    error
}

/// Turns to the next attempt; where there is none, keeps what the client is told.
fn take_next(ctx: &mut Context, last: Refusal) -> bool {
    let refusal = match rotation::turn(ctx, Because::Connection) {
        Ok(()) => last,
        Err(stop) => stop.refusal(ctx, Because::Connection, last),
    };
    ctx.outcome.refusal = Some(refusal);
    ctx.rotation.next.is_some()
}
