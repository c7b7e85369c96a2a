//! The admin listener: binds what `ops::admin` answers to Pingora.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderValue, Response, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use tokio::time::timeout;

use crate::domain::settings::Settings;
use crate::ops::access_log::AccessLog;
use crate::ops::admin::{self, AdminAnswer, Vitals};
use crate::ops::body_budget::BodyBudget;
use crate::ops::clients::{Directory, admin as clients};
use crate::ops::clock;
use crate::ops::counters::Counters;
use crate::ops::health::{Readiness, Ready};
use crate::ops::ledger::Ledger;
use crate::ops::status::Place;

/// What the admin pages look at.
pub struct Admin {
    pub settings: Arc<ArcSwap<Settings>>,
    pub counters: Arc<Counters>,
    pub budget: BodyBudget,
    pub access_log: Arc<AccessLog>,
    pub readiness: Arc<Readiness>,
    pub directory: Arc<Directory>,
    pub ledger: Ledger,
    pub started: Instant,
    pub place: Place,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let settings = self.settings.load_full();
        if clients::is_here(session.req_header().uri.path()) {
            let bodiless = session.req_header().method == http::Method::HEAD;
            return match admin::permit(&session.req_header().headers, settings.admin.token.as_ref()) {
                Ok(()) => write(self.clients(session, settings.limits.body_read).await, bodiless),
                Err(refused) => write(refused, bodiless),
            };
        }
        let routing = &settings.routing;
        let default_target = routing.default_target();
        let ledger = self.ledger.condition();
        let vitals = Vitals {
            counters: &self.counters,
            ready: match self.readiness.now() {
                Ready::Yes if ledger.trouble.is_some() => Ready::NoLedger,
                ready => ready,
            },
            routing_enabled: routing.enabled(),
            models_configured: routing.models_configured(),
            default_target: default_target.as_deref(),
            body_budget: &self.budget,
            access_lines_dropped: self.access_log.dropped(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed(),
            upstreams: &settings.upstreams,
            now: clock::now(),
            ledger: &ledger,
            clients: self.directory.len(),
            place: &self.place,
        };
        let request = session.req_header();
        let answer =
            admin::answer(request.method.as_str(), request.uri.path(), &request.headers, settings.admin.token.as_ref(), &vitals);
        write(answer, request.method == http::Method::HEAD)
    }
}

impl Admin {
    /// Reads the body within its bound, and lets a thread that may wait do the rest.
    async fn clients(&self, session: &mut ServerSession, body_within: Duration) -> AdminAnswer {
        let body = match timeout(body_within, read_body(session)).await {
            Ok(Ok(body)) => body,
            Ok(Err(refused)) => return refused,
            Err(_) => return AdminAnswer::error(408, "the body did not arrive in time"),
        };
        let request = session.req_header();
        let (method, path) = (request.method.to_string(), request.uri.path().to_owned());
        let directory = self.directory.clone();
        let answered = tokio::task::spawn_blocking(move || clients::answer(&directory, &method, &path, &body)).await;
        answered.unwrap_or_else(|_| AdminAnswer::error(500, "the operation failed"))
    }
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, AdminAnswer> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err(AdminAnswer::error(400, "the body could not be read")),
        }
        if body.len() > clients::MAX_BODY_BYTES {
            let message = format!("the body is larger than {} bytes", clients::MAX_BODY_BYTES);
            return Err(AdminAnswer::error(413, &message));
        }
    }
}

fn write(answer: AdminAnswer, bodiless: bool) -> Response<Vec<u8>> {
    let length = answer.body.len();
    let mut response = Response::new(if bodiless { Vec::new() } else { answer.body.into_bytes() });
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if let Some((name, value)) = answer.header {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
