//! The client's session as Pingora sees it: the real one, with a request body that can be read again on every attempt.
//!
//! Pingora keeps at most 64 KiB of a body for a second attempt and never sends a larger one that a filter read to its end
//! (pingora-proxy `proxy_h1.rs`, `get_retry_buffer`). This session hands out the chunks that `edge::body` kept, as often as
//! Pingora asks, without a copy; all else goes to the real session.
//!
//! It also holds the upstream to its deadlines: Pingora polls [`Session::read_body_or_idle`] for as long as it waits for the
//! upstream, so this is where a total deadline for the head and an idle deadline for the body can end the wait.
//!
//! And it holds an answer's beginning back while the [`Wire`] says so (`relay::hold`). A wait may be dropped at any moment, a write
//! must not be: when the hold's time is up, the wait ends with an empty piece of the request's body, which Pingora hands to the body's
//! filter and sends nowhere, and the filter writes what is held.
//!
//! Where the client leaves when nothing but the usage is missing, it stays in its place (`edge::unattended`).
//!
//! The trait is `#[doc(hidden)]` in Pingora 0.9.1; `tests/it/matrix.rs` shows at once what an upgrade moved.

use std::future::pending;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Method};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::Sleep;

use crate::domain::settings::Limits;
use crate::edge::head::expects_continue;
use crate::edge::outlet::Outlet;
use crate::edge::tasks;
use crate::edge::unattended::Unattended;
use crate::edge::waits::{armed, unless_cut};
use crate::edge::wire::{Watch, Wire};
use crate::ops::host::drain::{CutWatch, Drain};

/// The upstream did not keep a deadline of [`Watch`].
pub const UPSTREAM_TOO_LATE: ErrorType = ErrorType::Custom("UpstreamTooLate");

/// The client did not keep the deadline of a body that passes through.
pub const BODY_TOO_SLOW: ErrorType = ErrorType::Custom("BodyTooSlow");

pub struct ReplaySession {
    /// Always present until `drop` hands it back.
    real: Option<Box<ServerSession>>,
    wire: Arc<Wire>,
    outlet: Outlet,
    body: Body,
    finished: bool,
    last_progress: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// The answer's beginning, of which the client has seen nothing: its head first.
    held: Vec<HttpTask>,
    /// The wait was ended by an empty piece that is not the body's.
    woke: bool,
    unattended: Unattended,
    drain: Arc<Drain>,
    /// Wakes the wait at the drain's cut; made with the first wait.
    cut: Option<CutWatch>,
}

/// Where the request's body comes from.
enum Body {
    /// From the client, once: while `edge::body` reads it, or when the request passes through unread.
    Live,
    /// From memory, again and again.
    Kept { chunks: Arc<[Bytes]>, next: usize },
}

impl ReplaySession {
    pub fn new(real: Box<ServerSession>, wire: Arc<Wire>, drain: Arc<Drain>, limits: &Limits) -> Self {
        Self {
            outlet: Outlet::new(&real, wire.clone(), limits),
            real: Some(real),
            unattended: Unattended::new(wire.clone(), limits.read_on),
            wire,
            body: Body::Live,
            finished: false,
            last_progress: Instant::now(),
            timer: None,
            held: Vec::new(),
            woke: false,
            drain,
            cut: None,
        }
    }

    #[expect(clippy::expect_used, reason = "the session leaves in drop alone, after which nobody can call")]
    fn real(&self) -> &ServerSession {
        self.real.as_deref().expect("present until drop")
    }

    #[expect(clippy::expect_used, reason = "the session leaves in drop alone, after which nobody can call")]
    fn real_mut(&mut self) -> &mut ServerSession {
        self.real.as_deref_mut().expect("present until drop")
    }

    #[expect(clippy::expect_used, reason = "as for `real`")]
    fn writing(&mut self) -> (&mut ServerSession, &mut Outlet) {
        (self.real.as_deref_mut().expect("present until drop"), &mut self.outlet)
    }

    fn next_kept(&mut self) -> Option<Bytes> {
        let Body::Kept { chunks, next } = &mut self.body else { return None };
        let chunk = chunks.get(*next)?.clone();
        *next += 1;
        Some(chunk)
    }

    /// Whether Pingora has taken every piece of a kept body.
    fn body_is_out(&self) -> bool {
        matches!(&self.body, Body::Kept { chunks, next } if *next >= chunks.len())
    }

    /// Answers `Expect: 100-continue` before the first byte is asked for.
    ///
    /// Without the switch around it Pingora would count the interim answer as one that came before the body's end and give up
    /// keep-alive silently (`v1/server.rs`, `prepare_response_header`).
    async fn invite_body(&mut self) -> Result<()> {
        let (ServerSession::H1(real), outlet) = self.writing() else { return Ok(()) };
        let is_old = real.req_header().version < http::Version::HTTP_11;
        if is_old || real.response_written().is_some() || !expects_continue(real.req_header()) {
            return Ok(());
        }
        real.set_close_on_response_before_downstream_finish(false);
        let written = outlet.write(0, real.write_continue_response()).await;
        real.set_close_on_response_before_downstream_finish(true);
        written
    }

    /// The instant at which the wait for the upstream ends, as things stand.
    fn due(&self) -> Option<Instant> {
        match self.wire.watched() {
            _ if self.unattended.is_on() => None,
            Watch::Off => None,
            Watch::Until { by } => Some(by),
            Watch::Idle { limit } => Some(self.last_progress + limit),
        }
    }

    /// The instant at which what is held goes out, whatever it is.
    fn hold_due(&self) -> Option<Instant> {
        if self.held.is_empty() { None } else { self.wire.held_until() }
    }

    /// Waits for the client to leave, for the upstream's deadline, for the end of the hold or for the drain's limit, whichever comes
    /// first. It is dropped and called again with every piece of the answer: what it keeps between the calls stands in `self`.
    async fn idle(&mut self) -> Result<Option<Bytes>> {
        loop {
            let until = self.unattended.until()?;
            let due = [self.due(), self.hold_due(), until].into_iter().flatten().min();
            let Self { real: Some(real), timer, drain, cut, .. } = self else { return Ok(None) };
            let read = async { if until.is_some() { pending().await } else { real.read_body_or_idle(true).await } };
            let read = unless_cut(drain, cut, read);
            let timer = async {
                match due {
                    Some(due) => armed(timer, due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                read = read => match read {
                    Err(gone) => {
                        self.unattended.begin(gone)?;
                        continue;
                    }
                    read => return read,
                },
                () = timer => {}
            }
            // The timer may have been set for an earlier deadline: look again before giving up.
            let now = Instant::now();
            if self.hold_due().is_some_and(|due| now >= due) {
                self.timer = None;
                self.woke = true;
                return Ok(Some(Bytes::new()));
            }
            if self.due().is_some_and(|due| now >= due) {
                return Err(Error::explain(UPSTREAM_TOO_LATE, "the upstream kept the client waiting for too long").into_up());
            }
            self.timer = None;
        }
    }

    /// Frees the body once it was sent in full and the answer has begun: nothing asks for it again.
    fn release_sent_body(&mut self) {
        let Body::Kept { chunks, next } = &self.body else { return };
        if chunks.is_empty() || *next < chunks.len() {
            return;
        }
        if self.real().response_written().is_some_and(|head| !head.status.is_informational()) {
            self.body = Body::Kept { chunks: Arc::default(), next: 0 };
            self.wire.release_body();
        }
    }

    /// Keeps the answer's beginning while it is to be held; gives back what may be written now.
    ///
    /// # Errors
    /// When the upstream failed while the client had seen nothing: what came of it is dropped, so that a whole answer can follow.
    fn hold(&mut self, tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
        if !matches!(tasks.first(), Some(HttpTask::Header(..))) {
            return Ok(tasks);
        }
        if self.wire.hears() {
            self.held = tasks::of_an_error(tasks)?;
            return Ok(Vec::new());
        }
        let Some(until) = self.wire.held_until() else { return Ok(tasks) };
        let tasks = tasks::of_an_answer(tasks)?;
        let now = Instant::now();
        // While Pingora still waits for room to send the request's body, nobody waits for the hold's end.
        if tasks.iter().any(HttpTask::is_end) || now >= until || !self.body_is_out() {
            self.wire.end_hold();
            return Ok(tasks);
        }
        self.held = tasks;
        self.last_progress = now;
        Ok(Vec::new())
    }

    /// Keeps the answer's last bytes until its ledger entry is as safe as `ledger.sync` promises.
    async fn wait_for_the_books(&mut self) {
        if let Some(closed) = self.wire.entry_under_way()
            && !closed.durable().await
        {
            log::error!(
                "the disk fails under the ledger: an answer goes out whose entry may not outlive the process or the machine"
            );
        }
    }

    fn close_if_told(&mut self) {
        if self.wire.closes() {
            self.real_mut().set_keepalive(None);
        }
    }
}

impl Drop for ReplaySession {
    fn drop(&mut self) {
        if let Some(real) = self.real.take() {
            self.wire.give_back(*real, self.finished);
        }
    }
}

#[async_trait]
impl Session for ReplaySession {
    fn req_header(&self) -> &RequestHeader {
        self.real().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.real_mut().req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        if let Body::Kept { .. } = self.body {
            return Ok(self.next_kept());
        }
        self.invite_body().await?;
        let Self { real: Some(real), drain, cut, .. } = self else { return Ok(None) };
        unless_cut(drain, cut, real.read_request_body()).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.real_mut().drain_request_body().await
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.held.clear();
        self.close_if_told();
        let (real, outlet) = self.writing();
        outlet.write(0, real.write_response_header(resp)).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, _end: bool) -> Result<()> {
        self.held.clear();
        self.close_if_told();
        let (real, outlet) = self.writing();
        outlet.write(0, real.write_response_header_ref(resp)).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.wait_for_the_books().await;
        let (real, outlet) = self.writing();
        outlet.body(real, data, end).await?;
        self.finished |= end;
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let (real, outlet) = self.writing();
        outlet.write(0, real.write_response_trailers(trailers)).await
    }

    /// Writes what is held first. Without a task of its own it writes what is due.
    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        self.wait_for_the_books().await;
        if self.unattended.is_on() {
            self.last_progress = Instant::now();
            return self.unattended.take(&tasks);
        }
        if !self.held.is_empty() {
            tasks = mem::take(&mut self.held).into_iter().chain(tasks).collect();
        }
        if matches!(tasks.first(), Some(HttpTask::Header(..))) {
            self.close_if_told();
            tasks.retain(|task| !tasks::is_interim(task));
            tasks = self.hold(tasks)?;
            tasks::put_head(&mut tasks, &self.wire);
            let may_have_body = self.real().req_header().method != Method::HEAD;
            tasks::append_tail(&mut tasks, &self.wire, may_have_body)?;
        }
        if tasks.is_empty() {
            return Ok(false);
        }
        let ends = tasks.iter().any(HttpTask::is_end);
        let (real, outlet) = self.writing();
        let written = outlet.tasks(real, tasks).await;
        self.release_sent_body();
        self.last_progress = Instant::now();
        written.or_else(|gone| self.unattended.begin(gone).map(|()| ends))
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.real_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.real().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.real_mut().set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.real().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.real_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.real().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.real().request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.real().response_written()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        let (real, outlet) = self.writing();
        outlet.shutdown(real).await;
    }

    fn is_body_done(&mut self) -> bool {
        if mem::take(&mut self.woke) {
            return false;
        }
        match &self.body {
            Body::Live => self.real_mut().is_body_done(),
            Body::Kept { .. } => self.body_is_out(),
        }
    }

    /// Called when the answer is complete: the last chunk goes out. Pingora calls it again before it drops the session.
    async fn finish(&mut self) -> Result<()> {
        self.wait_for_the_books().await;
        if self.unattended.is_on() {
            return Ok(());
        }
        let (real, outlet) = self.writing();
        outlet.write(0, real.finish_body()).await?;
        self.finished = true;
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        match &self.body {
            Body::Live => self.real_mut().is_body_empty(),
            Body::Kept { chunks, .. } => chunks.is_empty(),
        }
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected {
            return self.idle().await;
        }
        if let Body::Kept { .. } = self.body {
            return Ok(self.next_kept());
        }
        self.invite_body().await?;
        let due = self.wire.body_due();
        let Self { real: Some(real), drain, cut, .. } = self else { return Ok(None) };
        let read = unless_cut(drain, cut, real.read_body_or_idle(false));
        let Some(due) = due else { return read.await };
        match tokio::time::timeout_at(due.into(), read).await {
            Ok(read) => read,
            Err(_) => Err(Error::explain(BODY_TOO_SLOW, "a passing body did not arrive in time").into_down()),
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.real().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.real().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.real().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.real_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.real().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.real().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.real().to_h1_raw()
    }

    /// Called once at the start of every attempt: the place to rewind.
    fn enable_retry_buffering(&mut self) {
        self.held.clear();
        if let Some(chunks) = self.wire.body() {
            self.body = Body::Kept { chunks, next: 0 };
        }
        self.last_progress = Instant::now();
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    /// `None`: the body comes from [`Session::read_body_or_idle`] instead, whatever its size.
    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }

    fn is_upgrade_req(&self) -> bool {
        self.real().is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.real().was_upgraded()
    }
}
