//! Life beside another process that writes the same ledger: taking turns on the clients' balances, and looking after the dead.
//!
//! ```text
//! this process    turn: read what the other wrote ─ reserve ─ write the open ─ end of turn
//! the other one                                                                            turn: read ─ reserve ─ write …
//! ```
//! One lock file goes from hand to hand, so that no reservation is made which the other process does not see before its next one: the
//! two never reserve more than there is. A process that is alone takes no turns; the directory's time, which it asks for once in a
//! millisecond at most, tells it that it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lock::named;
use super::others::Others;
use crate::ops::host::regular;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger::company";

const TURN: &str = "turn.lock";
/// Held by whoever has the next turn: a process with many requests would take one turn after the other, and never leave one.
const NEXT_TURN: &str = "next-turn.lock";
/// A turn takes some microseconds. Whoever holds one longer is stopped, and must not stop the others for longer than this; it is waited
/// for on the request's own thread, and the process's other reservations wait with it.
const LONGEST_TURN: Duration = Duration::from_millis(50);
/// So long nobody is waited for once one was not given back in time.
const IMPATIENT_FOR: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_micros(50);
/// The times of files are coarse: a change so shortly before the look may be followed by another one with the same time.
const COARSE: Duration = Duration::from_millis(50);
/// So long a process is alone once it was seen to be: one that starts takes longer from its lock to its first request.
const ALONE_FOR: Duration = Duration::from_millis(1);
/// The time of a directory that must be looked at.
const UNKNOWN: i64 = i64::MIN;

/// Who else writes, and what is shared with them.
pub struct Company {
    others: Mutex<Others>,
    directory: File,
    turn: File,
    next_turn: File,
    is_alone: AtomicBool,
    /// When the directory had last changed before the last look, in nanoseconds since the epoch.
    looked_at: AtomicI64,
    born: Instant,
    /// When a request has asked last whether this process is alone, in microseconds since `born`.
    asked_at: AtomicU64,
    /// Until when no turn is waited for, likewise.
    impatient_until: AtomicU64,
}

/// The right to reserve; what the other process wrote is read.
pub struct Turn<'c> {
    _others: MutexGuard<'c, Others>,
    /// `None`: the other process did not give it back in time.
    held: Option<&'c File>,
}

impl Company {
    pub fn new(directory: &Path, others: Others) -> io::Result<Self> {
        let open = |name| {
            let mut options = OpenOptions::new();
            regular::open(&directory.join(name), options.create(true).append(true).mode(0o600)).map_err(named(name))
        };
        Ok(Self {
            others: Mutex::new(others),
            directory: File::open(directory)?,
            turn: open(TURN)?,
            next_turn: open(NEXT_TURN)?,
            is_alone: AtomicBool::new(false),
            looked_at: AtomicI64::new(UNKNOWN),
            born: Instant::now(),
            asked_at: AtomicU64::new(0),
            impatient_until: AtomicU64::new(0),
        })
    }

    /// The first look; what it can't read, the keeper reads when it can be.
    pub fn meet(&self) {
        if let Err(error) = self.look() {
            log::error!(target: LOG, "ledger: what another process has open or bills is not in the balances yet: {error}");
        }
    }

    /// Takes from the accounts what others wrote, if there is anybody; alone, it is one system call.
    pub fn look(&self) -> io::Result<()> {
        let changed = Changed::of(&self.directory)?;
        if self.is_alone() && self.looked_at.load(Ordering::Acquire) == changed.at {
            return Ok(());
        }
        let mut others = self.others();
        let looked = others.look();
        // What can't be read does not bring the requests here again and again: the keeper comes back for it.
        self.looked_at.store(if changed.is_just_now { UNKNOWN } else { changed.at }, Ordering::Release);
        self.is_alone.store(looked.is_ok() && !others.has_company(), Ordering::Release);
        looked
    }

    pub fn turn(&self) -> Option<Turn<'_>> {
        if self.is_alone() && self.was_asked_just_now() {
            return None;
        }
        // What can't be read is said by the keeper, and read by it when it can be; a request goes on with what is known.
        if Changed::of(&self.directory).is_ok_and(|changed| changed.at != self.looked_at.load(Ordering::Acquire)) {
            drop(self.look());
        }
        if self.is_alone() {
            return None;
        }
        let mut others = self.others();
        let held = self.wait_for_turn().then_some(&self.turn);
        drop(others.catch_up());
        Some(Turn { _others: others, held })
    }

    fn was_asked_just_now(&self) -> bool {
        let now = micros(self.born.elapsed());
        if now.saturating_sub(self.asked_at.load(Ordering::Relaxed)) < micros(ALONE_FOR) {
            return true;
        }
        self.asked_at.store(now, Ordering::Relaxed);
        false
    }

    fn wait_for_turn(&self) -> bool {
        let now = micros(self.born.elapsed());
        if now < self.impatient_until.load(Ordering::Relaxed) {
            return self.turn.try_lock().is_ok();
        }
        let until = Instant::now() + LONGEST_TURN;
        let is_next = lock_until(&self.next_turn, until);
        let held = is_next && lock_until(&self.turn, until);
        if is_next && let Err(error) = self.next_turn.unlock() {
            log::warn!(target: LOG, "ledger: the next turn was not given back: {error}");
        }
        if !held {
            self.impatient_until.store(now.saturating_add(micros(IMPATIENT_FOR)), Ordering::Relaxed);
        }
        held
    }

    pub fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Acquire)
    }

    pub fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.held.map(File::unlock) {
            log::warn!(target: LOG, "ledger: the turn was not given back: {error}");
        }
    }
}

fn lock_until(file: &File, until: Instant) -> bool {
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(_) if Instant::now() >= until => return false,
            Err(_) => std::thread::park_timeout(ASK_AGAIN),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// When a directory has changed last.
struct Changed {
    at: i64,
    is_just_now: bool,
}

impl Changed {
    fn of(directory: &File) -> io::Result<Self> {
        let metadata = directory.metadata()?;
        let at = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        // A time to come is that of a clock which was set back.
        let is_just_now = metadata.modified()?.elapsed().is_ok_and(|age| age < COARSE);
        Ok(Self { at, is_just_now })
    }
}
