//! Step 5: the connection of one attempt. It comes from the configuration alone; nothing in a request can change it (M16).

use std::net::SocketAddr;
use std::time::Instant;

use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use crate::domain::upstream::{Endpoint, Pick, Upstream};
use crate::edge::context::Context;
use crate::edge::peer;
use crate::edge::pingora_errors::of_connecting;
use crate::edge::shared::Gateway;
use crate::edge::tell::tell;
use crate::edge::tls_fault::TlsFault;
use crate::edge::wire::Watch;
use crate::ops::host::clock;
use crate::ops::host::resolver::Resolver;
use crate::relay::dispatch::Then;
use crate::relay::failure::{Failure, NoWay, Reached};
use crate::relay::stage::{Admitted, Attempt};

/// A body up to this size never blocks on Pingora's pipe to the upstream: it holds four pieces.
const PIPE_BYTES: usize = 8 * 1024;

/// Begins the next attempt, and finds the address that carries it.
pub async fn peer(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
    look_for_client(session, ctx).await?;
    loop {
        let (wire, dispatch) = ctx.ready("upstream_peer")?;
        wire.watch(Watch::Off);
        wire.forget_answer();
        let Attempt { pick, on_its_own, .. } = *dispatch.begin(clock::now());
        let Admitted { way, .. } = dispatch.walk().admitted();
        let (upstream, endpoint) = (&*way.route.upstream, &*way.endpoint);
        let proxy = upstream.proxy(pick);
        let detail = match address(&gateway.parts.resolver, upstream, endpoint, pick).await {
            Ok(address) => {
                let mut peer = peer::peer(upstream, endpoint, proxy, address, &gateway.parts.cas.load())?;
                // The replayed session keeps the deadlines of head and body; a timer for every read as well would cost more than the
                // read. What it can't see is an upstream that takes no more of a body that does not fit into Pingora's pipe.
                let fits_the_pipe = way.length.is_some_and(|bytes| bytes <= PIPE_BYTES);
                peer.options.write_timeout = (!fits_the_pipe).then_some(upstream.timeouts.idle);
                if on_its_own {
                    peer::on_its_own(&mut peer);
                }
                return Ok(Box::new(peer));
            }
            Err(detail) => detail,
        };
        let whose = if proxy.is_some() { "the proxy's name has no address" } else { "the upstream's name has no address" };
        let retry = dispatch.failed(&Failure::NoAddress { detail }, Reached::default(), clock::step());
        tell(dispatch.walk_mut().take_notes());
        if retry == Then::Over {
            return Err(Error::explain(ErrorType::ConnectError, whose).into_up());
        }
    }
}

/// Ends the attempts of a client that has left (T12): Pingora looks at its connection while it waits for an answer, but not while it
/// opens a connection, which a proxy may draw out.
async fn look_for_client(session: &mut Session, ctx: &mut Context) -> Result<()> {
    let (wire, dispatch) = ctx.ready("upstream_peer")?;
    if !dispatch.walk().may_have_left() {
        return Ok(());
    }
    wire.watch(Watch::Off);
    let left = tokio::select! {
        biased;
        read = session.as_downstream_mut().read_body_or_idle(true) => read.err(),
        () = std::future::ready(()) => None,
    };
    left.map_or(Ok(()), |left| Err(left.into_down()))
}

/// The address to open a connection to, or what stands in the way.
async fn address(resolver: &Resolver, upstream: &Upstream, endpoint: &Endpoint, pick: Pick) -> Result<SocketAddr, String> {
    let (host, port) = match (upstream.proxy(pick), upstream.connect_to) {
        (Some(proxy), _) => (&*proxy.host, proxy.port),
        (None, Some(address)) => return Ok(address),
        (None, None) => (endpoint.host(), endpoint.port()),
    };
    resolver.pick(host, port).await.map_err(|error| format!("no address of {host}: {error}"))
}

/// The connection stands; from here on the head is due.
pub fn connected(ctx: &mut Context) -> Result<()> {
    let (wire, dispatch) = ctx.asked("connected_to_upstream")?;
    dispatch.connected(clock::now());
    let by = Instant::now() + dispatch.walk().upstream().timeouts.first_byte;
    wire.watch(Watch::Until { by });
    Ok(())
}

/// A connection that did not come about is tried again while the limits allow it: by another proxy, or at another address.
pub fn failed(gateway: &Gateway, peer: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let dispatch = match ctx.asked("fail_to_connect") {
        Ok((_, dispatch)) => dispatch,
        Err(out_of_turn) => return out_of_turn,
    };
    let walk = dispatch.walk();
    let way = &walk.admitted().way;
    let upstream = &way.route.upstream;
    let proxy = upstream.proxy(walk.pick());
    let resolved = match (proxy, upstream.connect_to) {
        (Some(proxy), _) => Some(&*proxy.host),
        (None, None) => Some(way.endpoint.host()),
        (None, Some(_)) => None,
    };
    let mut failure = of_connecting(&error, walk.is_on_its_own());
    if let Failure::NoConnection { why, detail } = &mut failure {
        if let (Some(host), Some(address)) = (resolved, peer.address().as_inet()) {
            gateway.parts.resolver.failed(host, *address);
        }
        if let (NoWay::Tls, Some(fault)) = (why, TlsFault::of(&error)) {
            *detail = fault.words(&error, upstream, &way.endpoint, proxy);
        }
    }
    let retry = dispatch.failed(&failure, Reached::default(), clock::step());
    tell(dispatch.walk_mut().take_notes());
    error.set_retry(retry == Then::Again);
    error
}
