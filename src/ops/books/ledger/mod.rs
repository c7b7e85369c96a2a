//! The ledger's files (G1, G2, G3): append-only segments under `state_dir/ledger`, one series for each process that writes.
//!
//! ```text
//! dispatch ─► Ledger::open ─► line ─► write(2) ──► 20260131T…-4711-000001.jsonl
//! end ──────► Ticket::close ─► line ─► write(2) ──►           │ fold_once
//!                                                             ▼
//!                                                  trollbridge.db (roll-ups)
//! ```
//! What is written is in the kernel when the call returns: a killed process loses nothing that it released to a client. Where the disk
//! refuses, nothing new is opened; what is in flight is kept in memory and written as soon as the disk takes it.

pub mod company;
mod disk;
pub mod export;
mod flush;
pub mod fold;
pub mod keep;
mod lock;
mod names;
pub mod others;
pub mod read;
mod recover;
pub mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::ledger::{Close, Open, write_close, write_open};
use crate::domain::settings::{LedgerSettings, LedgerSync};
use crate::ops::books::store::Store;

use company::Company;
use disk::Directory;
use flush::Flusher;
pub use flush::Flushing;
use fold::{FoldError, Folded};
use lock::{Life, WriterLock};
pub use names::SegmentName;
pub use recover::Recovery;
pub use writer::Condition;
use writer::{Placed, Signs, Writer};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger";

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(2048));
}

/// How long an answer's last byte waits for a disk that takes nothing.
const WAIT_FOR_DISK: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where a state directory has its segments.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger")
}

/// The ledger that this process writes; cheap to share and to write to from every thread.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    writer: Arc<Mutex<Writer>>,
    signs: Arc<Signs>,
    flusher: Arc<Flusher>,
    lock: Option<WriterLock>,
    company: OnceLock<Company>,
    /// Requests of killed writers that were closed while others of theirs could not be.
    rescued: Mutex<HashSet<String>>,
}

/// A request that was opened; it must be closed.
#[must_use = "a ticket that is not closed is an entry that is marked as interrupted"]
pub struct Ticket {
    shared: Arc<Shared>,
    segment: u32,
    is_closed: bool,
}

/// Where a closed entry is.
#[derive(Debug)]
pub enum Closed {
    /// In the kernel: it survives the process.
    Written,
    /// In the kernel, and on its way to the disk (`sync: each`).
    Flushing(Flushing),
    /// In memory: the disk does not take it yet. New requests are refused meanwhile.
    Kept(Kept),
}

/// Waits until the disk takes what is kept in memory.
pub struct Kept(Arc<Shared>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kept in memory")
    }
}

/// Why nothing can be opened: new billable requests are to be refused (G3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger can't be written: {0}")]
pub struct Unwritable(Arc<str>);

/// Why a ledger does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Exit code 75.
    #[error(
        "another trollbridge (process {pid}) uses the state directory {}; stop it first, give this one a state_dir of its own, or \
         start it with --upgrade to take over",
        .state_dir.display()
    )]
    Busy { state_dir: PathBuf, pid: String },
    #[error("the ledger in {} can't be used: {error}; the directory must exist or be creatable, and be writable", .directory.display())]
    Unusable { directory: PathBuf, error: io::Error },
    /// Exit code 75: there may be room soon.
    #[error(
        "the ledger in {} can't be written: the disk takes nothing ({error}). What can't be billed is not served; make room or mend the \
         mount of state_dir, then start again",
        .directory.display()
    )]
    Full { directory: PathBuf, error: io::Error },
}

impl Ledger {
    /// Opens the ledger for writing: refuses a second process, proves that the disk takes lines, closes what a killed one left open.
    ///
    /// `upgrade`: another process may write meanwhile, each to segments of its own.
    ///
    /// # Errors
    ///
    /// [`StartError::Busy`] when another process writes already, [`StartError::Full`] when the disk takes nothing, else why the files
    /// can't be used.
    pub fn start(
        state_dir: &Path,
        settings: LedgerSettings,
        upgrade: bool,
        now_unix_ms: u64,
    ) -> Result<(Self, Recovery), StartError> {
        let directory = directory(state_dir);
        let unusable = |error| StartError::Unusable { directory: directory.clone(), error };
        let busy = |pid: &str| StartError::Busy { state_dir: state_dir.to_owned(), pid: pid.to_owned() };
        disk::make_directory(&directory).map_err(unusable)?;
        let Some(_alone) = lock::start_alone(&directory).map_err(unusable)? else { return Err(busy("that starts")) };
        let mut killed = Vec::new();
        for writer in names::locked_writers(&directory).map_err(unusable)? {
            match lock::life(&directory, &writer).map_err(unusable)? {
                Life::Alive if upgrade => {}
                Life::Alive => return Err(busy(writer.rsplit('-').next().unwrap_or_default())),
                Life::Killed => killed.push(writer),
                Life::Settled => {}
            }
        }
        let (lock, name) = WriterLock::take(&directory, now_unix_ms).map_err(unusable)?;
        let disk = Arc::new(Directory(directory.clone()));
        let writer = Writer::new(disk, name, settings.segment_bytes, settings.sync != LedgerSync::Process);
        let ledger = Self::with(directory.clone(), writer, settings.sync, Some(lock));
        // Now, and not with the first request: a process that can't bill must not take the place of one that can.
        let begun = ledger.shared.writer().begin_segment(now_unix_ms);
        begun.map_err(|error| StartError::Full { directory: directory.clone(), error })?;
        let recovery = recover::recover(&ledger, &killed, now_unix_ms).map_err(unusable)?;
        Ok((ledger, recovery))
    }

    fn with(directory: PathBuf, writer: Writer, sync: LedgerSync, lock: Option<WriterLock>) -> Self {
        let signs = writer.signs();
        let (writer, flusher) = (Arc::new(Mutex::new(writer)), Arc::new(Flusher::new(sync)));
        let (company, rescued) = (OnceLock::new(), Mutex::default());
        Self { shared: Arc::new(Shared { directory, writer, signs, flusher, lock, company, rescued }) }
    }

    /// Writes that a request is about to be dispatched. Some microseconds; never waits for the disk.
    ///
    /// # Errors
    ///
    /// The disk takes nothing: the request must be refused.
    pub fn open(&self, open: &Open<'_>) -> Result<Ticket, Unwritable> {
        let shared = &self.shared;
        shared.flusher.start(&shared.writer).map_err(|error| Unwritable(error.to_string().into()))?;
        let at = open.dispatch.opened_at_unix_ms;
        let segment = with_line(|line| {
            write_open(line, open);
            shared.writer().open(line, at)
        });
        Ok(Ticket { shared: shared.clone(), segment: segment.map_err(Unwritable)?, is_closed: false })
    }

    /// Tries again what the disk refused; for a caller that comes back some times a second.
    pub fn tend(&self, now_unix_ms: u64) {
        self.shared.writer().tend(now_unix_ms);
    }

    /// Waits for the line that is written at this moment, so for the disk where it hangs.
    pub fn condition(&self) -> Condition {
        self.shared.writer().condition()
    }

    /// How many entries wait in memory for the disk; waits for nothing.
    pub fn kept(&self) -> usize {
        self.shared.signs.kept()
    }

    /// Whether the disk refused the last line; waits for nothing.
    pub fn is_in_trouble(&self) -> bool {
        self.shared.signs.is_in_trouble()
    }

    /// Adds what is written by now, of whichever process, to the roll-ups; the lag that [`Ledger::condition`] tells begins anew.
    ///
    /// # Errors
    ///
    /// As [`fold::fold_once`].
    pub fn fold(&self, store: &Store) -> Result<Folded, FoldError> {
        let (began, written) = (Instant::now(), self.shared.writer().written_bytes());
        let folded = fold::fold_once(&self.shared.directory, store)?;
        self.shared.writer().folded(written, began);
        Ok(folded)
    }

    /// The name of this process as a writer, as its segments begin with it.
    pub fn writer_name(&self) -> String {
        self.shared.writer().name().to_owned()
    }

    /// Where the segments are.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }
}

impl Ticket {
    /// Writes the request's entry. Some microseconds; never waits for the disk, and never loses the entry while the process lives.
    ///
    /// Has to be called before the last byte of the answer is released; with `sync: each` that byte waits for [`Closed::durable`].
    pub fn close(mut self, close: &Close<'_>) -> Closed {
        self.is_closed = true;
        let placed = with_line(|line| {
            write_close(line, close);
            self.shared.writer().close(line, close.closed_at_unix_ms, self.segment)
        });
        match placed {
            Placed::Kept => Closed::Kept(Kept(self.shared.clone())),
            Placed::Written(lines) => self.shared.flusher.flush(lines).map_or(Closed::Written, Closed::Flushing),
        }
    }
}

impl Closed {
    /// Waits until the entry is as durable as `ledger.sync` promises. `false`: the disk failed, and the entry may not outlive the machine
    /// (or, when it was kept in memory, the process).
    pub async fn durable(self) -> bool {
        match self {
            Self::Written => true,
            Self::Flushing(flushing) => flushing.done().await,
            Self::Kept(Kept(shared)) => shared.written_soon().await,
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a ticket of segment {}", self.segment)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_closed {
            log::error!(target: LOG, "ledger: a request ended without its entry; the next start marks it as interrupted");
        }
    }
}

impl Shared {
    /// Whether the disk takes within some seconds what is kept; a client does not wait longer for its last byte.
    async fn written_soon(&self) -> bool {
        for _ in 0..WAIT_FOR_DISK.as_millis() / LOOK_AGAIN.as_millis() {
            tokio::time::sleep(LOOK_AGAIN).await;
            if self.signs.kept() == 0 {
                return true;
            }
        }
        false
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ledger that has nothing open when it ends needs no look by the next start.
impl Drop for Shared {
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

/// Lends the thread's line buffer, empty.
fn with_line<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    LINE.with(|line| match line.try_borrow_mut() {
        Ok(mut line) => {
            line.clear();
            write(&mut line)
        }
        Err(_) => write(&mut Vec::new()),
    })
}
