//! What the two processes of an upgrade say to each other, beside the listening sockets that Pingora carries.
//!
//! ```text
//!   old                                             new (run --upgrade)
//!    │                                                │ takes the lock, listens at upgrade_sock.state, opens the ledger
//!    │◄────────────── SIGQUIT (operator, `upgrade`) ──│ waits at upgrade_sock
//!    │── listening sockets ──────────────────────────►│
//!    │── Will: who rests, who is down ───────────────►│ starts to listen
//!    │◄── Taken ──────────────────────────────────────│
//!    │── Going ──────────────────────────────────────►│ pid file
//!    │ drains                                         │
//! ```
//!
//! Until `Taken` has come, the old process serves as if nothing had happened: a new one that dies, or never was, costs nothing. A new one
//! that does not hear `Going` ends: the old one lost patience and serves on.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::domain::upstream::inheritance::Inheritance;
use crate::ops::host::regular;

/// How long the new process waits for the old one's word once it has the sockets, and the other way round.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Some thousand keys and proxies, each by name.
const LONGEST_WILL_BYTES: u64 = 4 << 20;
/// `sun_path` of unix(7), with its closing zero.
const LONGEST_PATH_BYTES: usize = 107;

/// What the old process leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    pub pid: u32,
    /// The addresses whose sockets it gave away.
    pub listens: Vec<String>,
    pub inheritance: Inheritance,
}

/// The new process serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub pid: u32,
}

/// The old process drains from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Going {
    going: bool,
}

/// Why a hand-over can't begin, or did not come to its end; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HandoverFailure {
    #[error("another upgrade is under way ({lock} is held). Wait for its outcome, then try again.")]
    UnderWay { lock: PathBuf },
    #[error("{path} {why}")]
    Unfit { path: PathBuf, why: String },
    #[error("no new process waits at {path}: start one with `run --upgrade` first, or use the command `upgrade`")]
    NobodyWaits { path: PathBuf },
    #[error("the other process went silent: {0}")]
    Silent(String),
}

/// The new process's side: made before anything else of it, so that of two upgrades one begins.
#[derive(Debug)]
pub struct Heir {
    listener: StdListener,
    state: PathBuf,
    _lock: File,
}

/// The old process is on the line and waits.
#[derive(Debug)]
pub struct Awaiting {
    pid: u32,
    line: UnixStream,
    heir: Heir,
}

impl Heir {
    /// # Errors
    ///
    /// When another upgrade is under way, or when the paths are nothing to exchange sockets over.
    pub fn announce(upgrade_sock: &Path) -> Result<Self, HandoverFailure> {
        fit(upgrade_sock)?;
        let lock = beside(upgrade_sock, "lock");
        let unfit = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| HandoverFailure::Unfit { path, why: format!("can't be used for an upgrade: {error}") }
        };
        let file = regular::open(&lock, File::options().create(true).append(true)).map_err(unfit(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HandoverFailure::UnderWay { lock }),
            Err(TryLockError::Error(error)) => return Err(unfit(&lock)(error)),
        }
        let state = beside(upgrade_sock, "state");
        match fs::remove_file(&state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unfit(&state)(error)),
            _ => {}
        }
        let listener = StdListener::bind(&state).map_err(unfit(&state))?;
        fs::set_permissions(&state, Permissions::from_mode(0o600)).map_err(unfit(&state))?;
        listener.set_nonblocking(true).map_err(unfit(&state))?;
        Ok(Self { listener, state, _lock: file })
    }

    /// Hears what the old process leaves.
    ///
    /// # Errors
    ///
    /// When it says nothing, or nothing that can be read.
    pub async fn hear(self) -> Result<(Will, Awaiting), HandoverFailure> {
        let silent = |error: io::Error| HandoverFailure::Silent(error.to_string());
        let listener = self.listener.try_clone().and_then(UnixListener::from_std).map_err(silent)?;
        let heard = async {
            let (mut line, _) = listener.accept().await?;
            Ok((read::<Will>(&mut line).await?, line))
        };
        let (will, line) = timeout(PATIENCE, heard).await.map_err(|_| late())?.map_err(silent)?;
        let pid = will.pid;
        Ok((will, Awaiting { pid, line, heir: self }))
    }
}

impl Awaiting {
    /// The old process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells the old process that it may go, and hears that it does. Gives back what keeps other upgrades from beginning.
    ///
    /// # Errors
    ///
    /// When it is gone, or does not go.
    pub async fn taken(mut self) -> io::Result<Heir> {
        write(&mut self.line, &Taken { pid: std::process::id() }).await?;
        let going = timeout(PATIENCE, read::<Going>(&mut self.line)).await;
        going.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it did not answer"))??;
        Ok(self.heir)
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.state);
    }
}

/// The old process's side, once the listening sockets are across: leaves what it knows, and waits until the new one serves.
///
/// # Errors
///
/// When the new one does not say so: then nothing has changed for the old one.
pub async fn bequeath(upgrade_sock: &Path, will: &Will) -> Result<Taken, HandoverFailure> {
    let state = beside(upgrade_sock, "state");
    fit(upgrade_sock)?;
    let said = async {
        let mut line = loop {
            match UnixStream::connect(&state).await {
                Ok(line) => break line,
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        write(&mut line, will).await?;
        let taken = read::<Taken>(&mut line).await?;
        // Within the same time: whoever is told that this one goes can rely on it.
        write(&mut line, &Going { going: true }).await?;
        Ok(taken)
    };
    timeout(PATIENCE, said).await.map_err(|_| late())?.map_err(|error: io::Error| HandoverFailure::Silent(error.to_string()))
}

/// Whether a path may carry the listening sockets: whoever listens there gets them.
///
/// # Errors
///
/// When it is too long for a socket, something else than a socket, or somebody else's.
pub fn fit(path: &Path) -> Result<(), HandoverFailure> {
    let unfit = |why: String| Err(HandoverFailure::Unfit { path: path.to_owned(), why });
    if path.as_os_str().len() + ".state".len() > LONGEST_PATH_BYTES {
        return unfit(format!("is too long for a socket, which takes {LONGEST_PATH_BYTES} bytes: choose a shorter upgrade_sock"));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            unfit("is in the way: it is no socket. Move it, or choose another upgrade_sock".to_owned())
        }
        Ok(found) if found.uid() != own_uid() => unfit(format!(
            "belongs to user {}, and this process runs as {}: choose an upgrade_sock in a directory of its own user (mode 0700)",
            found.uid(),
            own_uid()
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => unfit(format!("can't be looked at: {error}")),
    }
}

/// Whether somebody waits for the sockets there.
pub fn somebody_waits(upgrade_sock: &Path) -> bool {
    fs::symlink_metadata(upgrade_sock).is_ok_and(|found| found.file_type().is_socket())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn beside(upgrade_sock: &Path, what: &str) -> PathBuf {
    let mut name = upgrade_sock.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

fn late() -> HandoverFailure {
    HandoverFailure::Silent(format!("it did not answer within {} seconds", PATIENCE.as_secs()))
}

async fn write(line: &mut UnixStream, said: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(said)?;
    bytes.push(b'\n');
    line.write_all(&bytes).await
}

async fn read<T: DeserializeOwned>(line: &mut UnixStream) -> io::Result<T> {
    let mut bytes = Vec::new();
    BufReader::new(line).take(LONGEST_WILL_BYTES).read_until(b'\n', &mut bytes).await?;
    if bytes.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended"));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn will() -> Will {
        Will { pid: 7, listens: vec!["127.0.0.1:1".to_owned()], inheritance: Inheritance::default() }
    }

    #[tokio::test]
    async fn t13_the_will_is_heard_and_the_old_one_may_go() {
        let dir = tempfile::tempdir().unwrap();
        let sock = dir.path().join("upgrade.sock");
        let heir = Heir::announce(&sock).unwrap();
        let taking = tokio::spawn(async move {
            let (heard, awaiting) = heir.hear().await.unwrap();
            drop(awaiting.taken().await.unwrap());
            heard
        });
        assert_eq!(bequeath(&sock, &will()).await.unwrap(), Taken { pid: std::process::id() });
        assert_eq!(taking.await.unwrap(), will());
        assert!(!dir.path().join("upgrade.sock.state").exists());
    }

    #[tokio::test]
    async fn a_new_process_that_dies_before_it_serves_is_noticed_by_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let sock = dir.path().join("upgrade.sock");
        let heir = Heir::announce(&sock).unwrap();
        let dying = tokio::spawn(async move { drop(heir.hear().await.unwrap()) });
        assert!(matches!(bequeath(&sock, &will()).await, Err(HandoverFailure::Silent(_))));
        dying.await.unwrap();
    }

    #[tokio::test]
    async fn of_two_upgrades_one_begins() {
        let dir = tempfile::tempdir().unwrap();
        let sock = dir.path().join("upgrade.sock");
        let first = Heir::announce(&sock).unwrap();
        assert!(matches!(Heir::announce(&sock), Err(HandoverFailure::UnderWay { .. })));
        drop(first);
        Heir::announce(&sock).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_of_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a-file");
        fs::write(&file, "precious").unwrap();
        let why = Heir::announce(&file).unwrap_err().to_string();
        assert!(why.contains("is no socket"), "{why}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let link = dir.path().join("a-link");
        symlink(&file, &link).unwrap();
        assert!(Heir::announce(&link).is_err());
        let why = Heir::announce(&dir.path().join("x".repeat(120))).unwrap_err().to_string();
        assert!(why.contains("too long"), "{why}");
        let why = Heir::announce(&dir.path().join("nowhere/upgrade.sock")).unwrap_err().to_string();
        assert!(why.contains("nowhere"), "{why}");
    }
}
