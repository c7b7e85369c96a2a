//! Makes written lines durable (G2): now and then, or together for all that wait for it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::writer::Writer;
use crate::domain::settings::LedgerSync;

/// Hands lines to the disk in a thread of its own, which starts with the first line.
pub struct Flusher {
    pub(super) sync: LedgerSync,
    asked: Mutex<Asked>,
    wake: Condvar,
    done: watch::Sender<Flushed>,
}

#[derive(Default)]
struct Asked {
    /// The count of lines that somebody waits for.
    lines: u64,
    has_thread: bool,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flushed {
    lines: u64,
    /// Flushes that failed.
    failures: u64,
}

/// Waits until a line is on the disk.
#[derive(Debug)]
pub struct Flushing {
    lines: u64,
    failures: u64,
    done: watch::Receiver<Flushed>,
}

impl Flusher {
    pub fn new(sync: LedgerSync) -> Self {
        Self { sync, asked: Mutex::default(), wake: Condvar::new(), done: watch::Sender::default() }
    }

    /// Sees to it that somebody flushes.
    pub fn start(self: &Arc<Self>, writer: &Arc<Mutex<Writer>>) -> io::Result<()> {
        if self.sync == LedgerSync::Process {
            return Ok(());
        }
        let mut asked = self.lock();
        if asked.has_thread {
            return Ok(());
        }
        let (flusher, writer) = (self.clone(), writer.clone());
        std::thread::Builder::new().name("ledger-sync".to_owned()).spawn(move || flusher.run(&writer))?;
        asked.has_thread = true;
        Ok(())
    }

    /// For `each`: what to wait for until so many lines are durable.
    pub fn flush(&self, lines: u64) -> Option<Flushing> {
        if self.sync != LedgerSync::Each {
            return None;
        }
        let done = self.done.subscribe();
        let failures = done.borrow().failures;
        let mut asked = self.lock();
        asked.lines = asked.lines.max(lines);
        drop(asked);
        self.wake.notify_one();
        Some(Flushing { lines, failures, done })
    }

    /// Ends the thread, after a last flush by the caller.
    pub fn close(&self, writer: &Mutex<Writer>) {
        self.lock().is_closed = true;
        self.wake.notify_one();
        if self.sync != LedgerSync::Process {
            self.flush_now(writer);
        }
    }

    fn run(&self, writer: &Mutex<Writer>) {
        loop {
            let waits = |asked: &mut Asked| !asked.is_closed && asked.lines <= self.done.borrow().lines;
            let asked = self.lock();
            let asked = match self.sync {
                LedgerSync::Process => return,
                LedgerSync::Interval(interval) => self.wait(asked, interval, |asked| !asked.is_closed),
                LedgerSync::Each => self.wake.wait_while(asked, waits).unwrap_or_else(PoisonError::into_inner),
            };
            if asked.is_closed {
                return;
            }
            drop(asked);
            self.flush_now(writer);
        }
    }

    fn wait<'a>(
        &self,
        asked: std::sync::MutexGuard<'a, Asked>,
        most: Duration,
        waits: impl FnMut(&mut Asked) -> bool,
    ) -> std::sync::MutexGuard<'a, Asked> {
        self.wake.wait_timeout_while(asked, most, waits).unwrap_or_else(PoisonError::into_inner).0
    }

    fn flush_now(&self, writer: &Mutex<Writer>) {
        let unsynced = writer.lock().unwrap_or_else(PoisonError::into_inner).take_unsynced();
        let flushed = unsynced.sync();
        if let Err(error) = &flushed {
            writer.lock().unwrap_or_else(PoisonError::into_inner).distrust(error);
        }
        self.done.send_modify(|done| {
            done.lines = done.lines.max(unsynced.lines);
            done.failures += u64::from(flushed.is_err());
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flushing {
    /// Returns whether the line is durable; `false`: the disk failed meanwhile.
    pub async fn done(mut self) -> bool {
        let lines = self.lines;
        match self.done.wait_for(|done| done.lines >= lines).await {
            Ok(done) => done.failures == self.failures,
            Err(_) => false,
        }
    }
}
