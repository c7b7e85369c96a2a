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
mod files;
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
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::domain::ledger::{Close, Open, write_close, write_open};
use crate::domain::settings::{LedgerSettings, LedgerSync};
use crate::ops::books::store::Store;

use company::{Company, Turn};
use disk::RealDisk;
use files::Files;
pub use flush::Flushing;
use fold::{FoldError, Folded};
use lock::{Life, WriterLock};
pub use names::SegmentName;
use others::{FindAccount, Others};
pub use recover::Recovery;
pub use writer::Condition;
use writer::{Placed, Writer};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger";

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(2048));
}

/// Where a state directory has its segments.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger")
}

/// The ledger that this process writes; cheap to share and to write to from every thread.
#[derive(Clone)]
pub struct Ledger {
    files: Arc<Files>,
    company: Arc<OnceLock<Company>>,
}

/// A request that was opened; it must be closed.
#[must_use = "a ticket that is not closed is an entry that is marked as interrupted"]
pub struct Ticket {
    files: Arc<Files>,
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
pub struct Kept(Arc<Files>);

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
        let disk = Arc::new(RealDisk(directory.clone()));
        let writer = Writer::new(disk, name, settings.segment_bytes, settings.sync != LedgerSync::Process);
        let ledger = Self::with(directory.clone(), writer, settings.sync, Some(lock));
        // Now, and not with the first request: a process that can't bill must not take the place of one that can.
        let begun = ledger.files.writer().begin_segment(now_unix_ms);
        begun.map_err(|error| StartError::Full { directory: directory.clone(), error })?;
        let recovery = recover::recover(&ledger.files, &killed, now_unix_ms).map_err(unusable)?;
        Ok((ledger, recovery))
    }

    fn with(directory: PathBuf, writer: Writer, sync: LedgerSync, lock: Option<WriterLock>) -> Self {
        Self { files: Arc::new(Files::new(directory, writer, sync, lock)), company: Arc::default() }
    }

    /// Writes that a request is about to be dispatched. Some microseconds; never waits for the disk.
    ///
    /// # Errors
    ///
    /// The disk takes nothing: the request must be refused.
    pub fn open(&self, open: &Open<'_>) -> Result<Ticket, Unwritable> {
        let files = &self.files;
        files.start_flushing().map_err(|error| Unwritable(error.to_string().into()))?;
        let at = open.sent.opened_at_unix_ms;
        let segment = with_line(|line| {
            write_open(line, open);
            files.writer().open(line, at)
        });
        Ok(Ticket { files: files.clone(), segment: segment.map_err(Unwritable)?, is_closed: false })
    }

    /// Tries again what the disk refused; for a caller that comes back some times a second.
    pub fn tend(&self, now_unix_ms: u64) {
        self.files.writer().tend(now_unix_ms);
    }

    /// Waits for the line that is written at this moment, so for the disk where it hangs.
    pub fn condition(&self) -> Condition {
        self.files.writer().condition()
    }

    /// How many entries wait in memory for the disk; waits for nothing.
    pub fn kept(&self) -> usize {
        self.files.signs.kept()
    }

    /// Whether the disk refused the last line; waits for nothing.
    pub fn is_in_trouble(&self) -> bool {
        self.files.signs.is_in_trouble()
    }

    /// Adds what is written by now, of whichever process, to the roll-ups; the lag that [`Ledger::condition`] tells begins anew.
    ///
    /// # Errors
    ///
    /// As [`fold::fold_once`].
    pub fn fold(&self, store: &Store) -> Result<Folded, FoldError> {
        let (began, written) = (Instant::now(), self.files.writer().written_bytes());
        let folded = fold::fold_once(&self.files.directory, store)?;
        self.files.writer().folded(written, began);
        Ok(folded)
    }

    /// From now on takes from the accounts what other processes reserve and bill, beginning with what they have open already.
    ///
    /// `billed`: how far the segments had been read when the accounts began.
    ///
    /// # Errors
    ///
    /// The file that turns are taken with can't be used. A segment that can't be read is said in the log, and read when it can be.
    pub fn meet(&self, billed: HashMap<String, u64>, accounts: FindAccount) -> io::Result<()> {
        let others = Others::new(self.writer_name(), self.directory().to_owned(), billed, accounts);
        let company = Company::new(self.directory(), others)?;
        self.company.get_or_init(|| company).meet();
        Ok(())
    }

    /// Waits until no other process reserves, and reads what they have reserved; to be held until the open is written.
    ///
    /// `None`: this process is alone. Some microseconds, on the caller's thread. Where the other process is stopped in its turn, up to
    /// 50 ms once a second, for the caller and for whoever reserves at the same time.
    pub fn turn(&self) -> Option<Turn<'_>> {
        self.company.get()?.turn()
    }

    /// Takes from the accounts what other processes reserve and bill, and closes what a killed one left open.
    ///
    /// # Errors
    ///
    /// What can't be read or written; it is tried again by the next call.
    pub fn look_around(&self, now_unix_ms: u64) -> io::Result<()> {
        let Some(company) = self.company.get() else { return Ok(()) };
        company.look()?;
        if !company.others().is_any_killed() {
            return Ok(());
        }
        // Who starts at this moment does the same.
        let Some(_alone) = lock::try_start_alone(self.directory())? else { return Ok(()) };
        let mut killed = Vec::new();
        for writer in names::locked_writers(self.directory())? {
            if lock::life(self.directory(), &writer)? == Life::Killed {
                killed.push(writer);
            }
        }
        let recovery = recover::recover(&self.files, &killed, now_unix_ms)?;
        for segment in recovery.refused.iter().filter_map(|segment| SegmentName::parse(segment)) {
            company.others().leave_alone(&segment.writer);
        }
        company.look()
    }

    /// Whether another process writes too, and is worth looking at often.
    pub fn has_company(&self) -> bool {
        self.company.get().is_some_and(|company| !company.is_alone())
    }

    /// The name of this process as a writer, as its segments begin with it.
    pub fn writer_name(&self) -> String {
        self.files.writer().name().to_owned()
    }

    /// Where the segments are.
    pub fn directory(&self) -> &Path {
        &self.files.directory
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
            self.files.writer().close(line, close.closed_at_unix_ms, self.segment)
        });
        match placed {
            Placed::Kept => Closed::Kept(Kept(self.files.clone())),
            Placed::Written(lines) => self.files.flusher.flush(lines).map_or(Closed::Written, Closed::Flushing),
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
            Self::Kept(Kept(files)) => files.written_soon().await,
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
