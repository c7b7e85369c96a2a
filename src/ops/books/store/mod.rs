//! The database under the state directory: `trollbridge.db`, SQLite in WAL mode.
//!
//! Several processes share it (the gateway, its successor during an upgrade, the commands); each waits for the others' writes up to
//! [`BUSY`]. What was committed survives a power cut. No request waits for it: what requests need is held in memory.

pub mod clients;
pub mod usage;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

const FILE: &str = "trollbridge.db";
const BUSY: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What each version of the schema adds to the one before. Only ever appended to: the number of a migration is `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &[clients::SCHEMA, usage::SCHEMA, usage::REMOVED_SCHEMA, usage::APART_SCHEMA];

/// The open database.
#[derive(Debug)]
pub struct Store {
    conn: Mutex<Connection>,
    path: PathBuf,
}

/// Why the store can't be used; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {error}. The state directory (`state_dir`, $STATE_DIRECTORY) must be writable for the gateway's user.")]
    Unusable { path: PathBuf, error: io::Error },
    #[error("{path} is no regular file. Move it away, or put a copy of the database in its place.")]
    NoFile { path: PathBuf },
    #[error("There is no {path}. Name the state directory by `state_dir` in the configuration or by --state-dir.")]
    Missing { path: PathBuf },
    #[error(
        "{path} was written by a newer trollbridge (schema {found}, this one knows {known}). Run the newer version, or restore a copy."
    )]
    Newer { path: PathBuf, found: i64, known: usize },
    #[error("{path} is locked by another process for more than {} seconds. Try again.", BUSY.as_secs())]
    Busy { path: PathBuf },
    #[error("{path}: {error}")]
    Sqlite { path: PathBuf, error: rusqlite::Error },
}

impl Store {
    /// Opens the database, and makes it where it is missing: the directory for its owner alone (0700), the file too (0600).
    ///
    /// # Errors
    ///
    /// A directory that can't be written, a file that is no database or a newer one, a lock that nobody gives back.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        create(state_dir, &path).map_err(|error| StoreError::Unusable { path: path.clone(), error })?;
        Self::connect(path)
    }

    /// Whether there is a database under this directory.
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(FILE).exists()
    }

    /// Opens the database that must be there already: a command in the wrong directory must not answer with an empty one.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`StoreError::Missing`].
    pub fn open_existing(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        if !Self::exists(state_dir) {
            return Err(StoreError::Missing { path });
        }
        Self::connect(path)
    }

    /// Opens the database that must be there already, for reading: neither made nor migrated.
    ///
    /// # Errors
    ///
    /// As [`Store::open_existing`].
    pub fn open_for_reading(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        if !Self::exists(state_dir) {
            return Err(StoreError::Missing { path });
        }
        are_files(&path)?;
        let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|conn| {
            conn.busy_timeout(BUSY)?;
            Ok(conn)
        });
        let conn = conn.map_err(|error| fault(&path, error))?;
        Ok(Self { conn: Mutex::new(conn), path })
    }

    /// Runs statements on the one connection of this store.
    ///
    /// # Errors
    ///
    /// What SQLite says, a lock that nobody gives back as [`StoreError::Busy`].
    pub fn with<T>(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut conn).map_err(|error| fault(&self.path, error))
    }

    fn connect(path: PathBuf) -> Result<Self, StoreError> {
        are_files(&path)?;
        let mut conn = open(&path).map_err(|error| fault(&path, error))?;
        match migrate(&mut conn, MIGRATIONS).map_err(|error| fault(&path, error))? {
            Migrated::Known => Ok(Self { conn: Mutex::new(conn), path }),
            Migrated::Newer(found) => Err(StoreError::Newer { path, found, known: MIGRATIONS.len() }),
        }
    }
}

fn create(state_dir: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    // A command run as root must not leave a file behind that the gateway's user can't open. (SQLite itself gives the files beside
    // it to the database's owner: os_unix.c, `robustFchown`.)
    let (dir, file) = (fs::metadata(state_dir)?, fs::metadata(path)?);
    if dir.uid() != file.uid() {
        std::os::unix::fs::chown(path, Some(dir.uid()), Some(dir.gid()))?;
    }
    Ok(())
}

/// SQLite opens what lies beside the database as well, and would wait for a pipe's other end.
fn are_files(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let path = PathBuf::from(file);
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(StoreError::NoFile { path });
        }
    }
    Ok(())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(BUSY)?;
    switch_to_wal(&conn)?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    Ok(conn)
}

/// SQLite waits for no lock here: of two processes that open a new database at once, the second one is refused at once, not after
/// [`BUSY`].
fn switch_to_wal(conn: &Connection) -> rusqlite::Result<()> {
    let until = Instant::now() + BUSY;
    loop {
        match conn.pragma_update(None, "journal_mode", "wal") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < until => {
                thread::park_timeout(LOOK_AGAIN);
            }
            switched => return switched,
        }
    }
}

enum Migrated {
    Known,
    /// The version found.
    Newer(i64),
}

/// Brings the schema up to date in one transaction, so that two processes that start together don't both do it.
fn migrate(conn: &mut Connection, migrations: &[&str]) -> rusqlite::Result<Migrated> {
    let version = |conn: &Connection| conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    match version(conn)? {
        found if found > known => return Ok(Migrated::Newer(found)),
        found if found == known => return Ok(Migrated::Known),
        _ => {}
    }
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = usize::try_from(version(&transaction)?).unwrap_or(0);
    for migration in migrations.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(Migrated::Known)
}

fn fault(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::Unusable { path, error: io::Error::other(error.to_string()) }
        }
        _ => StoreError::Sqlite { path, error },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn makes_a_directory_and_a_file_that_only_their_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/state");
        let store = Store::open(&state).unwrap();
        store.with(|conn| conn.execute_batch("CREATE TABLE t (x)")).unwrap();
        assert_eq!(mode(&state), 0o700);
        for file in ["trollbridge.db", "trollbridge.db-wal", "trollbridge.db-shm"] {
            assert_eq!(mode(&state.join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn commits_survive_a_power_cut_and_readers_don_t_block_writers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let pragma = |name: &str| {
            store.with(|conn| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0)))
        };
        assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
        assert_eq!(pragma("synchronous").unwrap(), 2i64.into());
        assert_eq!(pragma("busy_timeout").unwrap(), 5_000i64.into());
    }

    #[test]
    fn migrations_run_once_and_in_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        let (one, two) = ("CREATE TABLE a (x); INSERT INTO a VALUES (1);", "INSERT INTO a SELECT x + 1 FROM a;");
        for migrations in [&[one][..], &[one, two], &[one, two]] {
            assert!(matches!(migrate(&mut conn, migrations), Ok(Migrated::Known)));
        }
        assert_eq!(conn.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
        assert!(matches!(migrate(&mut conn, &[one]), Ok(Migrated::Newer(2))));
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut conn = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut conn, &["CREATE TABLE a (x);", "nonsense"]).is_err());
        assert!(conn.execute("INSERT INTO a VALUES (1)", []).is_err());
    }

    #[test]
    fn a_newer_database_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path()).unwrap().with(|conn| conn.pragma_update(None, "user_version", 1_000)).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 1_000, .. }) && error.to_string().contains("newer trollbridge"));
    }

    #[test]
    fn what_is_no_database_and_what_can_t_be_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "x".repeat(5_000)).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Sqlite { .. })));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Store::open(&file.join("state")).unwrap_err();
        assert!(error.to_string().contains("state_dir"), "{error}");
        assert!(matches!(Store::open_existing(&dir.path().join("nowhere")), Err(StoreError::Missing { .. })));
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn what_is_no_file_beside_or_in_place_of_the_database_is_named_and_not_waited_for() {
        for name in [FILE, "trollbridge.db-journal", "trollbridge.db-wal", "trollbridge.db-shm"] {
            let dir = tempfile::tempdir().unwrap();
            assert!(std::process::Command::new("mkfifo").arg(dir.path().join(name)).status().unwrap().success());
            let refused = Store::open(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(&format!("{name} is no regular file")), "{refused}");
            assert!(Store::open_for_reading(dir.path()).is_err() && Store::open_existing(dir.path()).is_err());
        }
    }

    #[test]
    fn processes_that_start_together_migrate_once() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            std::thread::scope(|scope| {
                let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(dir.path()).map(drop))).collect();
                for opened in opened {
                    opened.join().unwrap().unwrap();
                }
            });
        }
    }
}
