//! Sends the answers of ours: the only file that writes a response head of the gateway's own.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_core::Result;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

use crate::domain::answer::{Answer, body::error_body};
use crate::domain::dialect::Dialect;
use crate::domain::id::RequestId;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Writes a refusal whole: head, JSON body, end.
pub async fn refuse(session: &mut ServerSession, answer: &Answer, dialect: Dialect, id: &RequestId) -> Result<()> {
    let body = Bytes::from(error_body(dialect, answer, id));
    let mut head = refusal_head(answer, dialect, id)?;
    head.set_content_length(body.len())?;
    write(session, head, body).await
}

/// Refuses a head that may not have been understood: nothing of it is looked at.
pub async fn refuse_head(session: &mut ServerSession, answer: &Answer, dialect: Dialect, id: &RequestId) -> Result<()> {
    let body = Bytes::from(error_body(dialect, answer, id));
    let mut head = refusal_head(answer, dialect, id)?;
    head.set_content_length(body.len())?;
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(body, true).await
}

/// Writes a JSON answer of the gateway's own with status 200.
pub async fn json(session: &mut ServerSession, body: Bytes, dialect: Dialect, id: &RequestId) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, JSON)?;
    head.set_content_length(body.len())?;
    name_request(&mut head, dialect, id)?;
    write(session, head, body).await
}

/// The head of a refusal, without its length.
pub fn refusal_head(answer: &Answer, dialect: Dialect, id: &RequestId) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(answer.status, Some(10))?;
    write_refusal_headers(&mut head, answer, dialect, id)?;
    Ok(head)
}

/// Sets what a refusal's head says, on a new head or on an upstream's that was emptied before.
pub fn write_refusal_headers(head: &mut ResponseHeader, answer: &Answer, dialect: Dialect, id: &RequestId) -> Result<()> {
    head.insert_header(header::CONTENT_TYPE, JSON)?;
    if let Some(wait) = answer.retry_after {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        head.insert_header(header::RETRY_AFTER, seconds.to_string())?;
    }
    if !answer.retry_helps {
        head.insert_header("x-should-retry", "false")?;
    }
    if let Some(allow) = answer.allow {
        head.insert_header(header::ALLOW, allow)?;
    }
    name_request(head, dialect, id)
}

/// Puts the request's id where each SDK looks for it.
pub fn name_request(head: &mut ResponseHeader, dialect: Dialect, id: &RequestId) -> Result<()> {
    head.insert_header("x-request-id", id.as_str())?;
    if dialect == Dialect::Anthropic {
        head.insert_header("request-id", id.as_str())?;
    }
    Ok(())
}

async fn write(session: &mut ServerSession, head: ResponseHeader, body: Bytes) -> Result<()> {
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head)).await?;
    if bodiless {
        return session.finish_body().await;
    }
    session.write_response_body(body, true).await
}
