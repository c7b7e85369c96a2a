//! Steps 1 to 4, as far as they touch the wire: the head comes in, the body is read, an answer of ours goes out. What is decided on the
//! way stands in `relay::admit`.

use std::sync::Arc;
use std::time::Instant;

use http::header;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::domain::admission::Head;
use crate::domain::answer::Fault;
use crate::domain::dialect::{Api, Dialect};
use crate::edge::body::{self, Body, Unread};
use crate::edge::context::{Context, Stage};
use crate::edge::respond;
use crate::edge::shared::Gateway;
use crate::edge::wire::Wire;
use crate::ops::host::clock;
use crate::relay::admit::Entry;
use crate::relay::stage::{Admitted, Arrived, Local, Says};

const HOOK: &str = "request_filter";
/// What the lines about a refusal are called in the log.
const LOG: &str = "trollbridge::edge::fail";

/// Names the request and reads its dialect from the path.
pub fn arrive(gateway: &Gateway, session: &mut Session) -> Result<Context> {
    let request = session.req_header_mut();
    // Taken out: Pingora clones the head for the upstream, extensions included.
    let wire = std::mem::take(request.extensions_mut()).remove::<Arc<Wire>>();
    let wire = wire.ok_or_else(|| Error::explain(ErrorType::InternalError, "a request without its front"))?;
    let (method, uri) = (request.method.clone(), request.uri.clone());
    let path = uri.path();
    let (now, asked, parts) = (clock::step(), Api::of(path), &gateway.parts);
    let arrived = Box::new(Arrived {
        id: clock::new_request_id(),
        at: now.moment,
        unix_ms: now.unix_ms,
        asked,
        dialect: Dialect::of(asked, path, request.headers.contains_key("anthropic-version")),
        method,
        uri,
        settings: parts.settings.load_full(),
        in_flight: parts.counters.enter(),
        access_log: parts.access_log.clone(),
    });
    Ok(Context::begin(wire, arrived))
}

/// Walks the request through authentication, peek and route; `true`: it is answered.
pub async fn admit(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<bool> {
    let parts = &gateway.parts;
    let arrived = ctx.take_arrived(HOOK)?;
    let request = session.req_header();
    let head = Head { method: &request.method, path: request.uri.path(), host: host_of(request), headers: &request.headers };
    let entry = arrived.enter(head, session.is_upgrade_req(), &parts.directory);
    if entry.is_ok() {
        ctx.wire(HOOK)?.know_client();
    }
    let admitted = match entry {
        Err(local) => return answer(session, ctx, local).await,
        Ok(Entry::Through(admitted)) => {
            let body_read = admitted.arrived.settings.limits.body_read;
            ctx.wire(HOOK)?.expect_body_by(Instant::now() + body_read);
            *admitted
        }
        Ok(Entry::Read(reading)) => {
            let limits = reading.arrived.settings.limits;
            let permit = parts.budget.permit(parts.directory.bodies_of(&reading.caller).cloned());
            ctx.come_to(Stage::Reading(reading));
            let read = Box::pin(body::read(session, &limits, permit)).await;
            match by_model(ctx, read)? {
                Ok(admitted) => admitted,
                Err(local) => return answer(session, ctx, local).await,
            }
        }
    };
    match admitted.dispatch(&parts.ledger, clock::now()) {
        Ok(dispatch) => {
            ctx.come_to(Stage::Out(dispatch));
            Ok(false)
        }
        Err(local) => answer(session, ctx, local).await,
    }
}

/// Routes a request by the body that was read, and keeps the body for every attempt.
fn by_model(ctx: &mut Context, read: Result<Body, Unread>) -> Result<Result<Admitted, Box<Local>>> {
    let Body { read, permit } = match read {
        Ok(body) => body,
        Err(Unread::Refused(refusal)) => return Ok(Err(ctx.take_reading(HOOK)?.refused(refusal))),
        // The request stays where it is: `fail` answers it, should anybody be left.
        Err(Unread::Broken(error)) => return Err(error),
    };
    let began = clock::now();
    let routed = ctx.take_reading(HOOK)?.route(read);
    match routed.admit(began.until(clock::now())) {
        Ok((admitted, chunks)) => {
            ctx.wire(HOOK)?.keep_body(chunks, permit);
            Ok(Ok(admitted))
        }
        Err(local) => Ok(Err(local)),
    }
}

/// Says what the gateway itself has to say; the connection stays usable where its framing is sure.
async fn answer(session: &mut Session, ctx: &mut Context, local: Box<Local>) -> Result<bool> {
    if let Says::Refusal(refusal) = local.says() {
        let id = &local.arrived().id;
        match refusal.fault() {
            Fault::Client => log::debug!(target: LOG, "request {id}: {refusal}"),
            Fault::Gateway | Fault::Upstream => log::warn!(target: LOG, "request {id}: {refusal}"),
        }
    }
    say(session, ctx, local).await.map(|()| true)
}

/// Writes an answer of the gateway's own; the request stands in its stage meanwhile.
pub async fn say(session: &mut Session, ctx: &mut Context, local: Box<Local>) -> Result<()> {
    if local.closes() {
        ctx.wire(HOOK)?.close_after_answer();
    }
    let Arrived { id, dialect, .. } = local.arrived();
    let (id, dialect, says) = (id.clone(), *dialect, local.says().clone());
    ctx.come_to(Stage::Local(local));
    let downstream = session.as_downstream_mut();
    match says {
        Says::Json(body) => respond::json(downstream, body, dialect, &id).await,
        Says::Refusal(refusal) => respond::refuse(downstream, &refusal.answer(), dialect, &id).await,
        Says::Nothing => {
            downstream.shutdown().await;
            Ok(())
        }
    }
}

/// The target's host, else that of `Host`.
fn host_of(request: &RequestHeader) -> Option<&str> {
    request.uri.host().or_else(|| request.headers.get(header::HOST)?.to_str().ok())
}
