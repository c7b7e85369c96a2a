//! Steps 1 to 4: who is it, what does the request ask for, where does it go.
//!
//! Everything that can be refused is refused here, before an upstream hears of it, and before the body is read wherever the head
//! alone tells.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, header};
use pingora_core::{Error, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::domain::admission::{self, Head, Rewrite, Way};
use crate::domain::answer::models::ListedModel;
use crate::domain::answer::{Refusal, models};
use crate::domain::client::Caller;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::headers;
use crate::domain::json::splice::splice;
use crate::domain::route::Model;
use crate::domain::settings::Auth;
use crate::edge::accounting;
use crate::edge::body::{self, Body, Unread};
use crate::edge::context::{Arrival, Context, Routed};
use crate::edge::exchange::Exchange;
use crate::edge::gateway::Gateway;
use crate::edge::respond;
use crate::edge::rotation;
use crate::ops::host::clock;
use crate::ops::watch::counters::Phase;

/// What becomes of a request.
pub enum Admission {
    Upstream,
    Answered,
    Refused(Box<Refusal>),
    /// The client's connection failed while its body was read.
    Broken(Box<Error>),
}

/// Why [`admit`] stopped on the way.
enum Stop {
    Refused(Refusal),
    Broken(Box<Error>),
    Answered,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unread> for Stop {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Refused(refusal) => Self::Refused(refusal),
            Unread::Broken(error) => Self::Broken(error),
        }
    }
}

impl From<Box<Error>> for Stop {
    fn from(error: Box<Error>) -> Self {
        Self::Broken(error)
    }
}

/// Names the request and reads its dialect from the path.
pub fn arrive(gateway: &Gateway, session: &mut Session) -> Result<Arrival> {
    let request = session.req_header_mut();
    // Taken out: Pingora clones the head for the upstream, extensions included.
    let exchange = std::mem::take(request.extensions_mut()).remove::<Arc<Exchange>>();
    let exchange =
        exchange.ok_or_else(|| Error::explain(pingora_core::ErrorType::InternalError, "a request without its front"))?;
    let (method, uri) = (request.method.clone(), request.uri.clone());
    let path = uri.path();
    let api = Api::of(path);
    let unix_ms = clock::now_unix_ms();
    Ok(Arrival {
        id: clock::new_request_id(),
        at: Instant::now(),
        unix_ms,
        api,
        dialect: Dialect::of(api, path, request.headers.contains_key("anthropic-version")),
        method,
        uri,
        settings: gateway.settings.load_full(),
        exchange,
        in_flight: gateway.records.counters.enter(),
        access_log: gateway.records.access_log.clone(),
    })
}

/// Walks the request through authentication, peek and route.
pub async fn admit(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Admission {
    match steps(gateway, session, ctx).await {
        Ok(()) => Admission::Upstream,
        Err(Stop::Answered) => Admission::Answered,
        Err(Stop::Refused(refusal)) => Admission::Refused(Box::new(refusal)),
        Err(Stop::Broken(error)) => Admission::Broken(error),
    }
}

async fn steps(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
    let Some(arrival) = ctx.arrival.as_ref() else {
        return Err(Refusal::Internal { detail: "a request that never arrived".to_owned() }.into());
    };
    let (api, settings, exchange) = (arrival.api, arrival.settings.clone(), arrival.exchange.clone());
    if session.is_upgrade_req() {
        exchange.close_after_answer();
        return Err(Refusal::UpgradeRequested.into());
    }
    if api == Api::Root {
        return answer_probe(session, ctx).await;
    }
    let caller = authenticate(gateway, &settings.auth, &session.req_header().headers)?;
    let caller = ctx.client.insert(caller).clone();
    admission::may_call(&settings, &caller, api, arrival.unix_ms)?;
    let request = session.req_header();
    let head = Head { method: &request.method, path: request.uri.path(), host: host_of(request), headers: &request.headers };
    let route = match admission::way(&settings, api, head)? {
        Way::Models => return answer_models(session, ctx).await,
        Way::ByModel => {
            let read = Box::pin(body::read(session, &settings.limits, &gateway.budget)).await?;
            return route_by_model(gateway, ctx, read).map_err(Stop::from);
        }
        Way::ByHost(route) => route,
    };
    if let Some(declared) = body::declared_length(&session.req_header().headers)
        && declared > settings.limits.max_body_bytes
    {
        return Err(Refusal::BodyTooLarge { limit_bytes: settings.limits.max_body_bytes }.into());
    }
    admission::permitted(&settings, &caller, api, None, &route)?;
    exchange.expect_body_by(Instant::now() + settings.limits.body_read);
    let upstream = route.upstream.clone();
    ctx.routed = Some(Box::new(Routed { route, length: None, asked_model: None, usage_asked_by_us: false }));
    admission::configured(&upstream)?;
    rotation::begin(ctx)?;
    Ok(accounting::open(gateway, ctx)?)
}

/// Finds who holds the request's one credential.
fn authenticate(gateway: &Gateway, auth: &Auth, headers: &http::HeaderMap) -> Result<Caller, Refusal> {
    let Auth::Keys { static_key } = auth else { return Ok(Caller::Anonymous) };
    let presented = headers::presented_key(headers)?.ok_or(Refusal::NoKey)?;
    match static_key {
        Some(key) if key.matches(presented) => Ok(Caller::StaticKey),
        _ => gateway.directory.find(presented).map(Caller::Client).ok_or(Refusal::WrongKey),
    }
}

/// Routes a JSON request and prepares the body that every attempt sends.
fn route_by_model(gateway: &Gateway, ctx: &mut Context, read: Body) -> Result<(), Refusal> {
    let Some(arrival) = ctx.arrival.as_ref() else { return Ok(()) };
    let (routing, counters) = (&arrival.settings.routing, &gateway.records.counters);
    let Body { mut chunks, peeked, took, permit } = read;
    let deciding = Instant::now();
    ctx.asked.body_bytes = chunks.iter().map(Bytes::len).sum();
    ctx.asked.peek = took;
    match &peeked {
        Ok(peeked) => {
            ctx.asked.model = peeked.model.as_ref().map(|model| model.name.clone());
            ctx.asked.stream = peeked.stream;
            ctx.asked.output = admission::asked_output(arrival.api, peeked, chunks.iter().map(|chunk| &**chunk));
        }
        Err(_) => counters.parse_error(),
    }
    let routed = admission::route_of(routing, &peeked);
    let decided_in = deciding.elapsed();
    counters.phase(Phase::Peek, took);
    counters.phase(Phase::Route, decided_in);
    let spent = took + decided_in;
    // With model routing off there is nothing to succeed or to fall back from (K14).
    match &routed {
        _ if !routing.model_based() => {}
        Ok(route) => counters.routed(route.rule.is_success(), spent),
        Err(_) => counters.route_refused(spent),
    }
    let route = routed?;
    if let Some(caller) = &ctx.client {
        admission::permitted(&arrival.settings, caller, arrival.api, ctx.asked.model.as_deref(), &route)?;
    }
    let rewrite = peeked.as_ref().map(|peeked| admission::rewrite(&arrival.settings, arrival.api, peeked, &route));
    let Rewrite { edits, is_renamed, asks_for_usage } = rewrite.unwrap_or_default();
    if !edits.is_empty() {
        splice(&mut chunks, edits);
    }
    let length = chunks.iter().map(Bytes::len).sum();
    arrival.exchange.keep_body(chunks, permit);
    let upstream = route.upstream.clone();
    let asked_model = is_renamed.then(|| ctx.asked.model.clone()).flatten();
    ctx.routed = Some(Box::new(Routed { route, length: Some(length), asked_model, usage_asked_by_us: asks_for_usage }));
    admission::configured(&upstream)?;
    rotation::begin(ctx)?;
    accounting::open(gateway, ctx)
}

async fn answer_probe(session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
    if !is_read(&session.req_header().method) {
        return Err(Refusal::WrongMethod { allow: "GET, HEAD" }.into());
    }
    answer_json(session, ctx, Bytes::from_static(br#"{"name":"trollbridge","status":"ok"}"#)).await
}

async fn answer_models(session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
    if !is_read(&session.req_header().method) {
        return Err(Refusal::WrongMethod { allow: "GET, HEAD" }.into());
    }
    let Some(arrival) = ctx.arrival.as_ref() else { return Ok(()) };
    let (routing, needs_price) = (&arrival.settings.routing, arrival.settings.billing.require_price);
    let caller = ctx.client.as_ref();
    let shown = |model: &&Arc<Model>| {
        caller.is_some_and(|caller| caller.may_use(model.names())) && (model.price.is_some() || !needs_price)
    };
    let listed = routing.listed().filter(shown).map(|model| ListedModel { id: &model.id, upstream: &model.upstream.name });
    let body = match models::asked_id(session.req_header().uri.path()) {
        None => models::list(arrival.dialect, listed),
        Some(asked) => {
            // An alias is answered with the model that it stands for.
            let id = routing.find(&asked).map_or(&*asked, |model| &model.id);
            let found = models::one(arrival.dialect, listed, id);
            found.ok_or_else(|| Refusal::ModelNotListed { model: asked.into_owned() })?
        }
    };
    answer_json(session, ctx, body.into()).await
}

async fn answer_json(session: &mut Session, ctx: &mut Context, body: Bytes) -> Result<(), Stop> {
    let Some(arrival) = ctx.arrival.as_ref() else { return Ok(()) };
    ctx.outcome.status = 200;
    respond::json(session.as_downstream_mut(), body, arrival.dialect, &arrival.id).await?;
    Err(Stop::Answered)
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The target's host, else that of `Host`.
fn host_of(request: &RequestHeader) -> Option<&str> {
    request.uri.host().or_else(|| request.headers.get(header::HOST)?.to_str().ok())
}
