//! The end of a process that still serves: no new connections, then time for what is open, then a cut.
//!
//! ```text
//!   serving ── stop ──► draining ── nothing open any more ──────────────► ended
//!                          └─ limit, or a second signal ── cut ──► what is left gets an error of its dialect ──► ended
//! ```
//!
//! Every request looks at the cut on each turn of its wait, so the look is one atomic load; a request that sleeps is woken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};

/// How long a connection that has sent no request yet, or none since its last one, may still send one when the drain begins. A client
/// whose request crosses the end of its connection would see a failure that nobody can explain to it.
pub const PARTING: Duration = Duration::from_secs(1);

/// One for the process.
#[derive(Debug)]
pub struct Drain {
    clients: watch::Sender<bool>,
    admin: watch::Sender<bool>,
    open: AtomicUsize,
    is_cut: AtomicBool,
    cut: Arc<Notify>,
}

/// One request's place among those that the cut wakes.
pub struct CutWatch {
    notified: Pin<Box<OwnedNotified>>,
    /// Whom it wakes. The same task waits for the whole of a request, so that asking again takes no lock.
    waker: Waker,
}

/// A request that is not over: the process waits for it.
#[derive(Debug)]
pub struct Open(Arc<Drain>);

impl Default for Drain {
    fn default() -> Self {
        Self {
            clients: watch::Sender::new(false),
            admin: watch::Sender::new(false),
            open: AtomicUsize::new(0),
            is_cut: AtomicBool::new(false),
            cut: Arc::default(),
        }
    }
}

impl Drain {
    /// Turns true when clients' connections are not taken any more.
    pub fn clients(&self) -> watch::Receiver<bool> {
        self.clients.subscribe()
    }

    /// The same for the admin listener, which goes on for as long as no other process answers in its place.
    pub fn admin(&self) -> watch::Receiver<bool> {
        self.admin.subscribe()
    }

    pub fn stop_clients(&self) {
        self.clients.send_replace(true);
    }

    pub fn stop_admin(&self) {
        self.admin.send_replace(true);
    }

    /// Counts a request as open until the guard is dropped: until its answer is written and its connection is kept or closed.
    pub fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Ends all that is left.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.cut.notify_waiters();
    }

    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Ready once the cut has come; else `watch` sees to it that the task is woken then.
    pub fn poll_cut(&self, watch: &mut Option<CutWatch>, context: &mut Context<'_>) -> Poll<()> {
        let is_watched = watch.as_ref().is_some_and(|watch| watch.waker.will_wake(context.waker()));
        if !is_watched {
            let mut notified = Box::pin(self.cut.clone().notified_owned());
            // A cut that comes after this is not missed, and one that came before is seen below.
            if notified.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            *watch = Some(CutWatch { notified, waker: context.waker().clone() });
        }
        if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}

impl std::fmt::Debug for CutWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CutWatch").field("notified", &self.notified).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_request_that_waits_is_woken_by_the_cut() {
        let drain = Arc::new(Drain::default());
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move {
                let mut watch = None;
                poll_fn(|context| drain.poll_cut(&mut watch, context)).await;
            }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drain.cut();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_begins_to_wait_after_the_cut_does_not_wait() {
        let drain = Drain::default();
        drain.cut();
        let mut watch = None;
        poll_fn(|context| drain.poll_cut(&mut watch, context)).await;
    }

    #[test]
    fn a_request_is_open_until_its_guard_is_dropped() {
        let drain = Arc::new(Drain::default());
        let (first, second) = (drain.enter(), drain.enter());
        assert_eq!(drain.open(), 2);
        drop(first);
        assert_eq!(drain.open(), 1);
        drop(second);
        assert_eq!(drain.open(), 0);
    }

    #[test]
    fn the_admin_listener_may_outlive_the_clients_one() {
        let drain = Drain::default();
        let (clients, admin) = (drain.clients(), drain.admin());
        drain.stop_clients();
        assert_eq!((*clients.borrow(), *admin.borrow()), (true, false));
        drain.stop_admin();
        assert!(*admin.borrow());
    }
}
