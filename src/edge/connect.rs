//! Step 5: the peer of one attempt. It comes from the configuration alone; nothing in a request can change it (M16).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};

use crate::domain::answer::Refusal;
use crate::domain::upstream::Upstream;
use crate::edge::context::{Attempt, Context};
use crate::edge::exchange::Watch;
use crate::edge::fail;
use crate::edge::gateway::Gateway;

/// Streams that share one HTTP/2 connection; Pingora's own default of 1 would make HTTP/2 a slower HTTP/1.
const H2_STREAMS_PER_CONNECTION: usize = 100;
/// A body up to this size never blocks on Pingora's pipe to the upstream: it holds four pieces.
const PIPE_BYTES: usize = 8 * 1024;
/// How long an upstream's connection is kept for the next request.
const KEEP_IDLE: Duration = Duration::from_secs(60);

/// Picks the address and the credential of the next attempt.
pub async fn peer(gateway: &Gateway, ctx: &mut Context) -> Result<Box<HttpPeer>> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else {
        return Err(Error::explain(ErrorType::InternalError, "no route"));
    };
    let upstream = &routed.route.upstream;
    let Some(endpoint) = &upstream.endpoint else {
        return Err(Error::explain(ErrorType::InternalError, "no endpoint"));
    };
    let next = Attempt {
        number: ctx.attempt.number + 1,
        credential: ctx.attempt.credential + usize::from(ctx.attempt.tries_next_credential),
        began: Some(Instant::now()),
        ..Attempt::default()
    };
    ctx.attempt = next;
    ctx.outcome.refusal = None;
    ctx.delivery = Default::default();
    arrival.exchange.watch(Watch::Off);

    let address = match upstream.connect_to {
        Some(address) => address,
        None => gateway.resolver.pick(endpoint.host(), endpoint.port()).await.map_err(|error| {
            ctx.outcome.refusal = Some(Refusal::UpstreamFailed { detail: format!("no address of {}: {error}", endpoint.host()) });
            Error::explain(ErrorType::ConnectError, "the upstream's name has no address").into_up()
        })?,
    };
    ctx.attempt.peer = Some(address);
    let tls = endpoint.is_https();
    // Never empty with TLS: Pingora verifies nothing without a server name.
    let sni = if tls { endpoint.sni().to_owned() } else { String::new() };
    let mut peer = HttpPeer::new(address, tls, sni);
    let timeouts = &upstream.timeouts;
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    // The replayed session keeps the deadlines of head and body; a timer for every read as well would cost more than the read. What
    // it can't see is an upstream that takes no more of a body that does not fit into Pingora's pipe.
    let fits_the_pipe = routed.length.is_some_and(|bytes| bytes <= PIPE_BYTES);
    options.write_timeout = (!fits_the_pipe).then_some(timeouts.idle);
    options.idle_timeout = Some(KEEP_IDLE);
    options.max_h2_streams = H2_STREAMS_PER_CONNECTION;
    if tls && upstream.http2 {
        options.alpn = ALPN::H2H1;
    }
    if let Some(path) = &upstream.ca_file {
        // Without its own authority the upstream would be held to the system's: never quietly.
        let ca = gateway.cas.load().get(path).cloned();
        options.ca = Some(ca.ok_or_else(|| Error::explain(ErrorType::InternalError, "the upstream's ca_file is not loaded"))?);
    }
    peer.group_key = group_key(upstream);
    Ok(Box::new(peer))
}

/// The connection stands; from here on the head is due.
pub fn connected(ctx: &mut Context) {
    let Some(began) = ctx.attempt.began else { return };
    ctx.attempt.connect = Some(began.elapsed());
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return };
    let by = Instant::now() + routed.route.upstream.timeouts.first_byte;
    arrival.exchange.watch(Watch::Until { by });
}

/// A connection that did not come about is tried again, at another address where there is one, while the budget lasts.
pub fn failed(gateway: &Gateway, peer: &HttpPeer, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let (Some(arrival), Some(routed)) = (&ctx.arrival, ctx.routed.as_deref()) else { return error };
    let upstream = &routed.route.upstream;
    if let (None, Some(endpoint), Some(address)) = (upstream.connect_to, &upstream.endpoint, peer.address().as_inet()) {
        gateway.resolver.failed(endpoint.host(), *address);
    }
    let retry = &arrival.settings.retry;
    let may_retry = ctx.attempt.number < retry.max_attempts && arrival.at.elapsed() < retry.budget;
    error.set_retry(may_retry);
    ctx.outcome.refusal = Some(Refusal::UpstreamFailed { detail: fail::cause(&error, ctx) });
    error
}

/// Keeps connections apart that Pingora's own hash would share: two upstreams at one address with different authorities or CAs.
fn group_key(upstream: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.name.hash(&mut hasher);
    upstream.ca_file.hash(&mut hasher);
    hasher.finish()
}
