//! The table of a request's steps: one hook each, in Pingora's order. What a step decides stands in the relay; how it is done, in the
//! file that the hook calls.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::edge::context::Context;
use crate::edge::shared::Gateway;
use crate::edge::{admit, body, connect, deliver, fail, inject, judge};

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::New
    }

    /// 1 accept.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        *ctx = admit::arrive(self, session)?;
        Ok(())
    }

    /// 2 authenticate, 3 peek, 4 route.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        Box::pin(admit::admit(self, session, ctx)).await
    }

    /// 5 pick.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        connect::peer(self, session, ctx).await
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        connect::connected(ctx)
    }

    fn fail_to_connect(&self, _session: &mut Session, peer: &HttpPeer, ctx: &mut Context, error: Box<Error>) -> Box<Error> {
        connect::failed(self, peer, ctx, error)
    }

    /// 6 inject.
    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
        inject::inject(session.req_header(), request, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        chunk: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        body::count_passing(chunk.as_ref(), ctx)?;
        deliver::release_due(session, chunk.as_ref(), end).await
    }

    /// 7 judge.
    async fn upstream_response_filter(&self, _session: &mut Session, head: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
        judge::judge(head, ctx)
    }

    /// 8 meter.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        chunk: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        deliver::deliver(chunk, end, ctx)
    }

    /// Nothing of these APIs stands in trailers, and what an upstream writes there nobody has looked at.
    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        _ctx: &mut Context,
    ) -> Result<()> {
        trailers.clear();
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        fail::may_retry(session, error, ctx, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        fail::answer(&self.parts.drain, session, error, ctx).await
    }

    /// 9 finish.
    async fn logging(&self, _session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        ctx.finish(error.is_some());
    }

    /// The access line and `fail` say what happened, with the request's id and without its query.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _session: &Session, _ctx: &Context, _error: &Error, _what: ProxyWarnLogContext) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
