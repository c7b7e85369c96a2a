//! The table of a request's steps: one hook each, in Pingora's order. What a step does stands in the file it calls.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::domain::settings::Settings;
use crate::edge::admit::{self, Admission};
use crate::edge::context::Context;
use crate::edge::{body, connect, deliver, fail, finish, hold, inject, judge};
use crate::ops::books::clients::Directory;
use crate::ops::books::ledger::Ledger;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::ca::CaStore;
use crate::ops::host::resolver::Resolver;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::Counters;

/// The gateway: what every request shares.
pub struct Gateway {
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) cas: Arc<ArcSwap<CaStore>>,
    pub(super) budget: BodyBudget,
    pub(super) directory: Arc<Directory>,
    pub(super) ledger: Ledger,
    pub(super) records: Records,
}

/// Where finished requests are written down and counted.
#[derive(Clone)]
pub struct Records {
    pub(super) counters: Arc<Counters>,
    pub(super) access_log: Arc<AccessLog>,
}

/// What the gateway is plugged together from.
pub struct Parts {
    pub settings: Arc<ArcSwap<Settings>>,
    pub cas: Arc<ArcSwap<CaStore>>,
    pub resolver: Arc<Resolver>,
    pub budget: BodyBudget,
    pub directory: Arc<Directory>,
    pub ledger: Ledger,
    pub counters: Arc<Counters>,
    pub access_log: Arc<AccessLog>,
}

impl Gateway {
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, cas, resolver, budget, directory, ledger, counters, access_log } = parts;
        Self { settings, resolver, cas, budget, directory, ledger, records: Records { counters, access_log } }
    }

    /// For what is refused before it becomes a request.
    pub(super) fn records(&self) -> Records {
        self.records.clone()
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::default()
    }

    /// 1 accept.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        ctx.arrival = Some(admit::arrive(self, session)?);
        Ok(())
    }

    /// 2 authenticate, 3 peek, 4 route.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        match Box::pin(admit::admit(self, session, ctx)).await {
            Admission::Upstream => Ok(false),
            Admission::Answered => Ok(true),
            Admission::Refused(refusal) => fail::refuse(session, ctx, *refusal).await.map(|()| true),
            Admission::Broken(error) => Err(error),
        }
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
        connect::connected(ctx);
        Ok(())
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
        hold::release_due(session, chunk.as_ref(), end).await
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
        hold::look(chunk.as_ref(), ctx)?;
        deliver::deliver(chunk, end, ctx)?;
        Ok(None)
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
        fail::answer(session, error, ctx).await
    }

    /// 9 finish.
    async fn logging(&self, _session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        finish::finish(error, ctx);
    }

    /// The access line and `fail` say what happened, with the request's id and without its query.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _session: &Session, _ctx: &Context, _error: &Error, _what: ProxyWarnLogContext) -> bool {
        true
    }
}
