//! Who writes: a lock file for each process, and one that lets only one process start at a time.
//!
//! The kernel lets go of a lock when its process ends, however it ends. A lock file that is left and not locked is that of a process
//! that was killed: its opens are looked at by the next start, or by a process that lives beside it, which then removes the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::names;
use crate::ops::host::regular;

const START: &str = "start.lock";
/// A start is over within a second; one that takes longer hangs.
const START_WAIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is known of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Alive,
    /// Ended without a word; a process that lives, or the next start, closes what it left open.
    Killed,
    /// Ended well, or was looked after since.
    Settled,
}

/// The lock of a process that writes.
pub struct WriterLock {
    _file: File,
    path: PathBuf,
}

/// Waits until no other process starts. `None`: one still does after a long wait.
pub fn start_alone(directory: &Path) -> io::Result<Option<File>> {
    let began = Instant::now();
    loop {
        match try_start_alone(directory)? {
            None if began.elapsed() < START_WAIT => std::thread::park_timeout(LOOK_AGAIN),
            alone_or_late => return Ok(alone_or_late),
        }
    }
}

/// `None`: another process starts, or looks after the killed, at this moment.
pub fn try_start_alone(directory: &Path) -> io::Result<Option<File>> {
    let file =
        regular::open(&directory.join(START), OpenOptions::new().create(true).append(true).mode(0o600)).map_err(named(START))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Says of which of the directory's files an error speaks.
pub fn named(file: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{file}: {error}"))
}

pub fn life(directory: &Path, writer: &str) -> io::Result<Life> {
    let file = match regular::open_to_read(&names::lock_file(directory, writer)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Life::Settled),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Life::Killed),
        Err(TryLockError::WouldBlock) => Ok(Life::Alive),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl WriterLock {
    /// Takes a name that no process has or had.
    pub fn take(directory: &Path, started_unix_ms: u64) -> io::Result<(Self, String)> {
        let mut unix_ms = started_unix_ms;
        loop {
            let name = names::writer(unix_ms, std::process::id());
            let path = names::lock_file(directory, &name);
            // A clock that was set back can meet its own past.
            let is_used = names::segments(directory)?.iter().any(|segment| segment.writer == name);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) if !is_used => {
                    // Nobody holds a new file longer than a look at it takes.
                    file.lock()?;
                    return Ok((Self { _file: file, path }, name));
                }
                Ok(_) => std::fs::remove_file(&path)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            unix_ms += 1;
        }
    }

    /// Where the file is.
    #[cfg(test)]
    pub fn kept_name(&self) -> PathBuf {
        self.path.clone()
    }

    /// Says that this writer leaves nothing open.
    pub fn settle(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}
