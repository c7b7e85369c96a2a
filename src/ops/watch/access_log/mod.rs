//! The access log (L1): one line per request, handed to a thread that writes, so that no request ever waits for a disk or a pipe.
//!
//! ```text
//! worker: format into its own buffer ── append under a short lock ──► waiting lines (bounded)
//! writer:                                    swap, one write per batch ◄──┘
//! ```
//!
//! Where the lines come faster than the sink takes them, new ones are dropped and counted, and a line says how many are missing
//! as soon as there is room. Two buffers of at most [`MAX_WAITING_BYTES`] are all the memory that it takes.

mod buffer;
mod entry;
mod writer;

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::domain::settings::LogFormat;

use buffer::{Buffer, Waiting, WriterState};
pub use entry::AccessEntry;

/// The most bytes of lines that wait for the writer; some 10 000 lines.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// How long [`AccessLog::close`] waits for a sink that takes nothing.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(1024));
}

/// The access log of the process; cheap to write to from every thread.
pub struct AccessLog {
    format: LogFormat,
    buffer: Arc<Buffer>,
}

impl AccessLog {
    /// Opens the log on a sink.
    ///
    /// Its thread starts with the first line.
    pub fn start(format: LogFormat, sink: impl Write + Send + 'static) -> Self {
        Self::with_bound(format, sink, MAX_WAITING_BYTES)
    }

    /// Opens the log on the standard output.
    pub fn to_stdout(format: LogFormat) -> Self {
        Self::start(format, std::io::stdout())
    }

    pub fn with_bound(format: LogFormat, sink: impl Write + Send + 'static, max_bytes: usize) -> Self {
        let waiting = Waiting { lines: Vec::new(), max_bytes, writer: WriterState::NotStarted, is_closed: false };
        let buffer = Buffer {
            waiting: Mutex::new(waiting),
            wake: Condvar::new(),
            done: Condvar::new(),
            dropped: AtomicU64::new(0),
            sink: Mutex::new(Box::new(sink)),
        };
        Self { format, buffer: Arc::new(buffer) }
    }

    /// Hands one line over. Never waits for the sink; a line that finds no room is dropped and counted.
    pub fn write(&self, entry: &AccessEntry<'_>) {
        let handed_over = LINE.try_with(|line| {
            let mut line = line.borrow_mut();
            line.clear();
            entry::write_line(&mut line, self.format, entry);
            self.hand_over(&line)
        });
        if handed_over != Ok(true) {
            self.buffer.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hand_over(&self, line: &[u8]) -> bool {
        let mut waiting = self.buffer.lock();
        if waiting.is_closed || waiting.lines.len() + line.len() > waiting.max_bytes {
            return false;
        }
        let half = waiting.max_bytes / 2;
        let crosses_half = waiting.lines.len() < half && waiting.lines.len() + line.len() >= half;
        waiting.lines.extend_from_slice(line);
        match waiting.writer {
            WriterState::Idle => waiting.writer = WriterState::Busy,
            WriterState::Busy if crosses_half => {}
            WriterState::NotStarted => {
                if writer::spawn(&self.buffer, self.format).is_ok() {
                    waiting.writer = WriterState::Busy;
                }
                return true;
            }
            WriterState::Busy | WriterState::Done => return true,
        }
        drop(waiting);
        self.buffer.wake.notify_one();
        true
    }

    /// Lines that were dropped since the start: no room, a closed log, or a sink that failed.
    pub fn dropped(&self) -> u64 {
        self.buffer.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits and ends the writer. Returns whether all of it went out in time; lines after this are dropped.
    pub fn close(&self) -> bool {
        let mut waiting = self.buffer.lock();
        waiting.is_closed = true;
        if waiting.writer == WriterState::NotStarted {
            waiting.writer = WriterState::Done;
            return waiting.lines.is_empty();
        }
        self.buffer.wake.notify_one();
        let still_writing = |waiting: &mut Waiting| waiting.writer != WriterState::Done;
        match self.buffer.done.wait_timeout_while(waiting, CLOSE_WAIT, still_writing) {
            Ok((_, wait)) => !wait.timed_out(),
            Err(_) => false,
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
