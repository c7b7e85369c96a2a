//! The clients in memory: who a key belongs to, answered without touching the database.
//!
//! ```text
//! command ─► trollbridge.db ◄─ looks five times a second ─ watch thread ─► snapshot ◄─ requests
//! ```
//! A snapshot is immutable and swapped whole; a request that began with the old one ends with it. A change that any process commits
//! is in force within a second. When the database can't be read the last snapshot stays, and the log says so.
//!
//! An [`Account`] lives as long as the process: a new snapshot takes it over and adds the difference of the grants to it. Who else
//! adds what is written in `domain::credit`.

pub mod operations;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::billing::NanoUsd;
use crate::domain::client::{Caller, Client, ClientKey, ClientName, HeldBytes, KeyHash, Known};
use crate::domain::credit::Account;
use crate::ops::books::store::{Store, StoreError, clients as rows};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::clients";

/// Between two looks at the database.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

type Snapshot = HashMap<KeyHash, Arc<Known>>;

/// Every client, ready for the requests.
pub struct Directory {
    state_dir: PathBuf,
    snapshot: ArcSwap<Snapshot>,
    /// Requests wait for it: never held while the database is read.
    accounts: Mutex<Accounts>,
    /// Bodies of whoever holds the static key, who is one client.
    bodies_of_static_key: Arc<HeldBytes>,
    /// One refresh at a time, so that no older reading follows a newer one.
    refreshes: Mutex<()>,
    /// For the admin listener's operations; opened at the first one.
    store: Mutex<Option<Arc<Store>>>,
}

/// What outlives a snapshot.
struct Accounts {
    /// That of the snapshot.
    version: i64,
    by_name: HashMap<ClientName, Limited>,
    /// A key that is made anew, or a balance that changes, lets go of no body.
    bodies: HashMap<ClientName, Arc<HeldBytes>>,
}

struct Limited {
    account: Arc<Account>,
    /// The grants that the account knows of.
    granted_nano_usd: i64,
}

impl Directory {
    /// Reads all clients once, and closes the database again.
    ///
    /// `spent` is what the ledger's roll-ups hold at this moment for each client, by its name (`domain::credit`, step 1).
    ///
    /// # Errors
    ///
    /// What [`Store::open`] says, and rows that can't be read.
    pub fn load(state_dir: &Path, spent: &HashMap<String, NanoUsd>) -> Result<Self, StoreError> {
        let store = Store::open(state_dir)?;
        let (version, clients) = read(&store)?;
        let mut accounts = Accounts { version, by_name: HashMap::new(), bodies: HashMap::new() };
        let snapshot = accounts.take(clients, spent);
        Ok(Self {
            state_dir: state_dir.to_owned(),
            snapshot: ArcSwap::from_pointee(snapshot),
            accounts: Mutex::new(accounts),
            bodies_of_static_key: Arc::default(),
            refreshes: Mutex::default(),
            store: Mutex::new(None),
        })
    }

    /// Finds the client behind a presented key, whatever its standing.
    ///
    /// The key is hashed and looked up by its hash: the time tells nothing about any key's bytes.
    pub fn find(&self, presented: &[u8]) -> Option<Arc<Known>> {
        if !ClientKey::has_length_of(presented) {
            return None;
        }
        self.snapshot.load().get(&KeyHash::of(presented)).cloned()
    }

    /// Where a caller's bodies are counted beside the process's own count (A4); `None`: there are no others from whom it could take
    /// the room. Without keys nobody can be told from anybody.
    pub fn bodies_of<'c>(&'c self, caller: &'c Caller) -> Option<&'c Arc<HeldBytes>> {
        match caller {
            Caller::Client(known) => Some(&known.bodies),
            Caller::StaticKey => (!self.is_empty()).then_some(&self.bodies_of_static_key),
            Caller::Anonymous => None,
        }
    }

    /// How many keys are known, those that have ended included.
    pub fn len(&self) -> usize {
        self.snapshot.load().len()
    }

    pub fn is_empty(&self) -> bool {
        self.snapshot.load().is_empty()
    }

    /// The account of a client; `None` for one that is not limited and for strangers.
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        let name = ClientName::parse(name).ok()?;
        self.accounts().by_name.get(&name).map(|limited| limited.account.clone())
    }

    /// Looks for changes on a thread of its own until the process ends.
    pub fn watch(self: &Arc<Self>) {
        let directory = self.clone();
        let watching = move || {
            let mut watch = Watch { store: None, changes: None, complaint: String::new() };
            loop {
                watch.look(&directory);
                thread::park_timeout(LOOK_AGAIN);
            }
        };
        if let Err(error) = thread::Builder::new().name("clients".to_owned()).spawn(watching) {
            log::error!(target: LOG, "no thread to watch the clients, changes need a restart: {error}");
        }
    }

    /// Reads the clients again if they have changed; says whether they had.
    ///
    /// # Errors
    ///
    /// What the database says; the old snapshot stays.
    pub fn refresh(&self, store: &Store) -> Result<bool, StoreError> {
        let _refresh = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner);
        if store.with(|conn| rows::version(conn))? == self.accounts().version {
            return Ok(false);
        }
        let (version, clients) = read(store)?;
        let mut accounts = self.accounts();
        let snapshot = accounts.take(clients, &HashMap::new());
        accounts.version = version;
        self.snapshot.store(Arc::new(snapshot));
        Ok(true)
    }

    /// The database for an operation of the admin listener.
    pub fn store(&self) -> Result<Arc<Store>, StoreError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match &*store {
            Some(store) => Ok(store.clone()),
            None => Ok(store.insert(Arc::new(Store::open(&self.state_dir)?)).clone()),
        }
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(store: &Store) -> Result<(i64, Vec<Client>), StoreError> {
    store.with(|conn| {
        let transaction = conn.transaction()?;
        Ok((rows::version(&transaction)?, rows::all(&transaction)?))
    })
}

impl Accounts {
    /// Makes a snapshot, with the accounts of before where there are any.
    fn take(&mut self, clients: Vec<Client>, spent: &HashMap<String, NanoUsd>) -> Snapshot {
        let known = clients.into_iter().map(|client| {
            let account = client.granted_nano_usd.map(|granted| self.account(&client.name, granted, spent));
            let bodies = self.bodies.entry(client.name.clone()).or_default().clone();
            (client.key, Arc::new(Known { client, account, bodies }))
        });
        known.collect()
    }

    fn account(&mut self, name: &ClientName, granted: i64, spent: &HashMap<String, NanoUsd>) -> Arc<Account> {
        if let Some(limited) = self.by_name.get_mut(name) {
            limited.account.grant(granted.saturating_sub(limited.granted_nano_usd));
            limited.granted_nano_usd = granted;
            return limited.account.clone();
        }
        let account = Arc::new(Account::new(granted));
        if let Some(spent) = spent.get(name.as_str()) {
            account.settle(*spent);
        }
        self.by_name.insert(name.clone(), Limited { account: account.clone(), granted_nano_usd: granted });
        account
    }
}

/// The watch thread's own connection: one that sees every other one's changes.
struct Watch {
    store: Option<Store>,
    changes: Option<i64>,
    /// Said once, until it is another.
    complaint: String,
}

impl Watch {
    fn look(&mut self, directory: &Directory) {
        match self.try_look(directory) {
            Ok(()) => self.complaint.clear(),
            Err(error) => {
                let complaint = error.to_string();
                if complaint != self.complaint {
                    log::error!(target: LOG, "clients can't be read, the last known ones stay in force: {complaint}");
                    self.complaint = complaint;
                }
            }
        }
    }

    fn try_look(&mut self, directory: &Directory) -> Result<(), StoreError> {
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&directory.state_dir)?),
        };
        let changes = store.with(|conn| rows::changes_of_others(conn))?;
        if self.changes == Some(changes) {
            return Ok(());
        }
        if directory.refresh(store)? {
            log::info!(target: LOG, "clients: {} in force after a change", directory.snapshot.load().len());
        }
        self.changes = Some(changes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
