//! The thread behind the access log: takes what waits, writes it in one piece, sleeps.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::buffer::{Buffer, Waiting, WriterState};
use super::entry;
use crate::domain::settings::LogFormat;
use crate::ops::host::clock;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::access_log::writer";

/// How long a line may wait for others to share its write.
const GATHER: Duration = Duration::from_millis(5);
/// How long to wait for a sink that is full for now (a non-blocking pipe).
const SINK_PAUSE: Duration = Duration::from_millis(1);
/// How much of an emptied buffer is kept.
const KEPT_BYTES: usize = 256 << 10;

/// Starts the thread.
///
/// # Errors
///
/// The operating system has no thread left.
pub fn spawn(buffer: &Arc<Buffer>, format: LogFormat) -> io::Result<()> {
    let buffer = Arc::clone(buffer);
    thread::Builder::new().name("access-log".to_owned()).spawn(move || run(&buffer, format)).map(drop)
}

fn run(buffer: &Buffer, format: LogFormat) {
    let _done = Done(buffer);
    let mut sink = buffer.sink.lock().unwrap_or_else(PoisonError::into_inner);
    let mut batch = Vec::new();
    let mut state = SinkState::default();
    loop {
        let is_last = take_batch(buffer, &mut batch);
        let dropped = buffer.dropped.load(Ordering::Relaxed);
        if dropped > state.reported {
            entry::write_dropped(&mut batch, format, clock::now_unix_ms(), dropped - state.reported);
        }
        match write_batch(&mut **sink, &batch, &mut state) {
            Ok(()) => state.reported = dropped,
            Err(lost) => {
                // The report itself is one of the lost lines where there was one; it comes again with the next batch.
                let own = u64::from(dropped > state.reported);
                buffer.dropped.fetch_add(lost.saturating_sub(own), Ordering::Relaxed);
            }
        }
        batch.clear();
        batch.shrink_to(KEPT_BYTES);
        if is_last {
            return;
        }
    }
}

/// Waits for lines and swaps them into the batch. Returns whether they are the last ones.
fn take_batch(buffer: &Buffer, batch: &mut Vec<u8>) -> bool {
    let mut waiting = buffer.lock();
    while waiting.lines.is_empty() && !waiting.is_closed {
        waiting.writer = WriterState::Idle;
        waiting = buffer.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
    }
    waiting.writer = WriterState::Busy;
    let gathers = |waiting: &mut Waiting| !waiting.is_closed && waiting.lines.len() < waiting.max_bytes / 2;
    let (mut waiting, _) = buffer.wake.wait_timeout_while(waiting, GATHER, gathers).unwrap_or_else(PoisonError::into_inner);
    std::mem::swap(&mut waiting.lines, batch);
    waiting.is_closed
}

/// What the writer remembers of its sink.
#[derive(Default)]
struct SinkState {
    /// Dropped lines that a line told of.
    reported: u64,
    /// The last write ended within a line.
    is_torn: bool,
    /// The failure was logged already.
    is_failing: bool,
}

/// Writes a batch; where the sink fails, returns how many lines are lost.
fn write_batch(sink: &mut dyn Write, batch: &[u8], state: &mut SinkState) -> Result<(), u64> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut rest = batch;
    let result = end_torn_line(sink, state).and_then(|()| write_all(sink, &mut rest)).and_then(|()| sink.flush());
    let Err(error) = result else {
        if std::mem::take(&mut state.is_failing) {
            log::info!(target: LOG, "the access log's sink takes lines again");
        }
        return Ok(());
    };
    if !std::mem::replace(&mut state.is_failing, true) {
        log::error!(target: LOG, "the access log cannot be written, lines are dropped until it can: {error}");
    }
    let written = batch.len() - rest.len();
    if written > 0 {
        state.is_torn = batch.get(written - 1) != Some(&b'\n');
    }
    Err(rest.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// A line that a failure cut gets its end before the next one begins.
fn end_torn_line(sink: &mut dyn Write, state: &mut SinkState) -> io::Result<()> {
    if state.is_torn {
        write_all(sink, &mut &b"\n"[..])?;
        state.is_torn = false;
    }
    Ok(())
}

/// As [`Write::write_all`], but keeps what is left, and waits where a non-blocking sink is full.
fn write_all(sink: &mut dyn Write, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => *rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(SINK_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says that the writer ended, however it ended.
struct Done<'a>(&'a Buffer);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.lock().writer = WriterState::Done;
        self.0.done.notify_all();
    }
}
