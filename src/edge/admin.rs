//! The admin listener: binds the pages of `ops::admin::pages` to Pingora.

use std::sync::Arc;

use async_trait::async_trait;
use http::Response;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;

use crate::ops::admin::answer::{AdminAnswer, MAX_BODY_BYTES};
use crate::ops::admin::pages::{Pages, Via};

/// The pages as an application of Pingora.
pub struct Admin(pub Arc<Pages>);

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header().as_owned_parts();
        let answer = self.0.answer(&head, Via::AdminListener, read_body(session)).await;
        answer.into_response(&head.method)
    }
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, AdminAnswer> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err(AdminAnswer::body_unreadable()),
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(AdminAnswer::body_too_large());
        }
    }
}
