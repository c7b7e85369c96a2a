//! The admin listener: binds what `ops::admin` answers to Pingora.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderValue, Response, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;

use crate::domain::settings::Settings;
use crate::ops::access_log::AccessLog;
use crate::ops::admin::{self, AdminAnswer, Vitals};
use crate::ops::body_budget::BodyBudget;
use crate::ops::clock;
use crate::ops::counters::Counters;
use crate::ops::health::Readiness;

/// What the admin pages look at.
pub struct Admin {
    pub settings: Arc<ArcSwap<Settings>>,
    pub counters: Arc<Counters>,
    pub budget: BodyBudget,
    pub access_log: Arc<AccessLog>,
    pub readiness: Arc<Readiness>,
    pub started: Instant,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let settings = self.settings.load();
        let routing = &settings.routing;
        let default_target = routing.default_target();
        let vitals = Vitals {
            counters: &self.counters,
            ready: self.readiness.now(),
            routing_enabled: routing.enabled(),
            models_configured: routing.models_configured(),
            default_target: default_target.as_deref(),
            body_budget: &self.budget,
            access_lines_dropped: self.access_log.dropped(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed(),
            upstreams: &settings.upstreams,
            now: clock::now(),
        };
        let request = session.req_header();
        let answer =
            admin::answer(request.method.as_str(), request.uri.path(), &request.headers, settings.admin.token.as_ref(), &vitals);
        write(answer, request.method == http::Method::HEAD)
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
