//! The waits of one request that others can end.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Instant;

use pingora_core::{Error, ErrorType, Result};
use tokio::time::Sleep;

use crate::ops::host::drain::{CutWatch, Drain};

/// The drain's cut has come: the process ends, and the request does with it.
pub const STOPPING: ErrorType = ErrorType::Custom("Stopping");

/// Reads from the client until the drain's cut comes. What has arrived by then counts for nothing: its answer would be cut.
pub async fn unless_cut<T>(drain: &Drain, cut: &mut Option<CutWatch>, read: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = poll_fn(|context| drain.poll_cut(cut, context)) => Err(Error::explain(STOPPING, "the gateway stops").into_in()),
        read = read => read,
    }
}

/// The timer that fires at `due` or earlier. One that is set for earlier stays: re-arming it for each event of a stream would cost
/// more than one look too many.
pub fn armed(timer: &mut Option<Pin<Box<Sleep>>>, due: Instant) -> Pin<&mut Sleep> {
    let due = tokio::time::Instant::from_std(due);
    if timer.as_ref().is_some_and(|timer| timer.deadline() > due) {
        *timer = None;
    }
    timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due))).as_mut()
}
