//! What stands between the requests and the writer's thread: the lines that wait, and what either side knows of the other.

use std::io::Write;
use std::sync::atomic::AtomicU64;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lines on their way, and who is to be woken for them.
pub struct Buffer {
    pub waiting: Mutex<Waiting>,
    /// Wakes the writer: lines wait, the buffer is half full, or the log is closed.
    pub wake: Condvar,
    /// Tells [`AccessLog::close`] that the writer is done.
    pub done: Condvar,
    /// Lines that will never be written, from the start of the process.
    pub dropped: AtomicU64,
    pub sink: Mutex<Box<dyn Write + Send>>,
}

/// What is under the lock.
pub struct Waiting {
    pub lines: Vec<u8>,
    pub max_bytes: usize,
    pub writer: WriterState,
    pub is_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
/// What the writer's thread does.
pub enum WriterState {
    /// No thread yet.
    NotStarted,
    /// Sleeps until a line comes.
    Idle,
    /// Will look at the lines again by itself.
    Busy,
    Done,
}

impl Buffer {
    /// A thread that panicked left whole lines behind: every change under this lock is one append or one swap.
    pub fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
