//! The SQLite database under `state_dir`: what is asked by commands and at start, never on a request's path.

pub mod usage;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

const FILE: &str = "trollbridge.db";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each brings the database one version on; a shipped one never changes.
const MIGRATIONS: &[&str] = &[usage::SCHEMA];

/// The database; one connection, used by one thread at a time.
pub struct Store {
    conn: Mutex<Connection>,
}

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {error}", .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("the database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the database was made by a newer version ({found}; this program knows {known}); use that version")]
    TooNew { found: i64, known: usize },
}

impl Store {
    /// Opens the database of a state directory, and makes both where they are missing.
    ///
    /// # Errors
    ///
    /// The files can't be used, or a newer version made them.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::File { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(file_error(state_dir))?;
        let path = state_dir.join(FILE);
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(file_error(&path))?;
        let mut conn = Connection::open(&path)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        migrate(&mut conn)?;
        Ok(Self { conn: Mutex::new(conn) })
    }

    /// Lends the connection.
    ///
    /// # Errors
    ///
    /// Those of the work.
    pub fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&mut conn)?)
    }
}

fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let too_new = || StoreError::TooNew { found, known: MIGRATIONS.len() };
    let missing = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)).ok_or_else(too_new)?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_reads_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        drop(Store::open(&state).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        drop(Store::open(&state).unwrap());
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.with(|conn| conn.pragma_update(None, "user_version", 99)).unwrap();
        drop(store);
        assert!(matches!(Store::open(dir.path()), Err(StoreError::TooNew { found: 99, .. })));
    }
}
