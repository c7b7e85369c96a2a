//! The files that this process writes: its segments, what flushes them, and the lock that says it lives.
//!
//! Every handle shares one: the ledger, a request's ticket, who waits for the disk. The last one that goes leaves the files in order.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::flush::Flusher;
use super::lock::WriterLock;
use super::names;
use super::writer::{Signs, Writer};
use crate::domain::settings::LedgerSync;
use crate::ops::host::regular;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger";

/// How long an answer's last byte waits for a disk that takes nothing.
const WAIT_FOR_DISK: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Files {
    pub directory: PathBuf,
    pub signs: Arc<Signs>,
    pub flusher: Arc<Flusher>,
    pub lock: Option<WriterLock>,
    /// Requests of killed writers that were closed while others of theirs could not be.
    pub rescued: Mutex<HashSet<String>>,
    writer: Arc<Mutex<Writer>>,
}

impl Files {
    pub fn new(directory: PathBuf, writer: Writer, sync: LedgerSync, lock: Option<WriterLock>) -> Self {
        let (signs, flusher) = (writer.signs(), Arc::new(Flusher::new(sync)));
        Self { directory, signs, flusher, lock, rescued: Mutex::default(), writer: Arc::new(Mutex::new(writer)) }
    }

    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody makes durable what is written.
    pub fn start_flushing(&self) -> io::Result<()> {
        self.flusher.start(&self.writer)
    }

    /// Writes one line that belongs to no request in flight.
    pub fn append(&self, line: &mut Vec<u8>, unix_ms: u64) -> io::Result<()> {
        self.writer().append(line, unix_ms).map(drop)
    }

    /// Makes durable what this process wrote, where anything is to be; beside the flusher, whose count of lines stays its own.
    pub fn sync_all(&self) -> io::Result<()> {
        if self.flusher.sync == LedgerSync::Process {
            return Ok(());
        }
        let own = self.writer().name().to_owned();
        for segment in names::segments(&self.directory)?.iter().filter(|segment| segment.writer == own) {
            regular::open_to_read(&self.directory.join(segment.to_string()))?.sync_data()?;
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Whether the disk takes within some seconds what is kept; a client does not wait longer for its last byte.
    pub async fn written_soon(&self) -> bool {
        for _ in 0..WAIT_FOR_DISK.as_millis() / LOOK_AGAIN.as_millis() {
            tokio::time::sleep(LOOK_AGAIN).await;
            if self.signs.kept() == 0 {
                return true;
            }
        }
        false
    }
}

/// A ledger that has nothing open when it ends needs no look by the next start.
impl Drop for Files {
    fn drop(&mut self) {
        self.writer().settle_kept();
        self.flusher.close(&self.writer);
        let condition = self.writer().condition();
        if condition.kept > 0 {
            log::error!(target: LOG, "ledger: {} entries could not be written and end with the process", condition.kept);
        }
        if let Some(lock) = self.lock.as_ref().filter(|_| condition.in_flight == 0)
            && let Err(error) = lock.settle()
        {
            log::warn!(target: LOG, "ledger: the lock file stays: {error}");
        }
    }
}
