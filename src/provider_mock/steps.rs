//! A response's body as a list of steps: bytes that leave on their own, pauses, and the ways to end.
//!
//! After every piece the body says "pending" once, so that the server flushes what it has before it sees the next piece.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::wire::Tap;
use super::witness::{Event, Witness};

pub enum Step {
    Piece(Bytes),
    Pause(Duration),
    /// Until there is a permit, which is used up.
    Wait(Arc<Semaphore>),
    /// This piece, again and again.
    Repeat(Bytes),
    /// Nothing more, for ever.
    Stall,
    /// Breaks the body off once everything before it has left.
    BreakOff {
        reset: bool,
    },
}

/// What a body that breaks off tells the server.
#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script ends the connection here")
    }
}

impl std::error::Error for BrokenOff {}

/// Tells that an exchange was finished, or was cancelled where it is dropped before.
pub struct Exchange {
    witness: Witness,
    finished: bool,
}

impl Exchange {
    pub fn begin(witness: Witness) -> Self {
        Self { witness, finished: false }
    }

    pub fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            (self.witness)(Event::Finished);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.finished {
            (self.witness)(Event::Cancelled);
        }
    }
}

async fn take_one(permits: Arc<Semaphore>) {
    // Nobody closes the semaphore.
    if let Ok(permit) = permits.acquire().await {
        permit.forget();
    }
}

/// The body that the server polls.
pub struct Steps {
    steps: VecDeque<Step>,
    length_bytes: Option<u64>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    flush_first: bool,
    /// Everything before the break has been given the time to leave.
    all_left: bool,
    tap: Tap,
    exchange: Exchange,
}

impl Steps {
    /// `length_bytes` is what Content-Length says; without it the body is chunked.
    pub fn new(steps: VecDeque<Step>, length_bytes: Option<u64>, tap: Tap, mut exchange: Exchange) -> Self {
        if steps.is_empty() {
            exchange.finish();
        }
        Self { steps, length_bytes, waiting: None, flush_first: false, all_left: false, tap, exchange }
    }

    fn wait(&mut self, pause: Duration) {
        self.waiting = Some(Box::pin(sleep(pause)));
    }

    fn send(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.flush_first = !self.steps.is_empty();
        if self.steps.is_empty() {
            self.exchange.finish();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl hyper::body::Body for Steps {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        if std::mem::take(&mut this.flush_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(waiting) = &mut this.waiting {
                ready!(waiting.as_mut().poll(cx));
                this.waiting = None;
            }
            match this.steps.pop_front() {
                None => {
                    this.exchange.finish();
                    return Poll::Ready(None);
                }
                Some(Step::Piece(piece)) if piece.is_empty() => {}
                Some(Step::Piece(piece)) => return this.send(piece),
                Some(Step::Pause(pause)) => this.wait(pause),
                Some(Step::Wait(permits)) => this.waiting = Some(Box::pin(take_one(permits))),
                Some(Step::Repeat(piece)) => {
                    this.steps.push_front(Step::Repeat(piece.clone()));
                    return this.send(piece);
                }
                Some(Step::Stall) => {
                    this.steps.push_front(Step::Stall);
                    return Poll::Pending;
                }
                Some(Step::BreakOff { reset }) if this.all_left => {
                    if reset {
                        this.tap.reset();
                    }
                    this.exchange.finish();
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                Some(broken @ Step::BreakOff { .. }) => {
                    this.steps.push_front(broken);
                    this.all_left = true;
                    let tap = this.tap.clone();
                    this.waiting = Some(Box::pin(async move { tap.quiet().await }));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length_bytes.map(SizeHint::with_exact).unwrap_or_default()
    }
}
