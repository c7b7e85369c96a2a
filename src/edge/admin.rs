//! The admin listener: binds the pages of `ops::admin::pages` to Pingora, with the deadlines of every other listener.

use std::sync::Arc;

use async_trait::async_trait;
use http::Response;
use pingora_core::Result;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use tokio::time::timeout;

use crate::edge::head::{self, Head};
use crate::edge::linger::linger;
use crate::edge::outlet::close;
use crate::ops::admin::answer::{AdminAnswer, MAX_BODY_BYTES};
use crate::ops::admin::pages::{Pages, Via};

/// The pages as an application of Pingora.
pub struct Admin(pub Arc<Pages>);

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let limits = self.0.parts.settings.load().limits;
        let answer = match head::read(&mut session, &limits).await {
            Head::Read => {
                let head = session.req_header().as_owned_parts();
                // As the client wishes, where nothing is left of the body that is to be answered.
                session.set_keepalive(Some(0));
                let answer = self.0.answer(&head, Via::AdminListener, read_body(&mut session)).await;
                if *shutdown.borrow() || !session.is_body_done() {
                    session.set_keepalive(None);
                }
                answer.into_response(&head.method)
            }
            Head::Refused { refusal, .. } => {
                session.set_keepalive(None);
                let refused = refusal.answer();
                AdminAnswer::error(refused.status, &refused.message).into_response(&http::Method::GET)
            }
            Head::None => {
                close(&mut session).await;
                return None;
            }
        };
        timeout(limits.body_read, write(&mut session, answer)).await.ok()?.ok()?;
        if session.get_keepalive().is_none() {
            linger(session).await;
            return None;
        }
        head::keep(session).await
    }
}

async fn write(session: &mut ServerSession, answer: Response<Vec<u8>>) -> Result<()> {
    let (head, body) = answer.into_parts();
    session.write_response_header(Box::new(ResponseHeader::from(head))).await?;
    if !body.is_empty() {
        session.write_response_body(body.into(), true).await?;
    }
    session.finish_body().await
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
