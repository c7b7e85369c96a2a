//! Looks after the ledger in the background: tries again what the disk refused, follows what other processes write, folds what was
//! written, removes what is old.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Ledger;
use super::fold::{self, FoldError};
use crate::ops::books::store::Store;
use crate::ops::host::clock;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger::keep";

const TEND_EVERY: Duration = Duration::from_millis(250);
/// While another process writes: how old its reservations and costs are at most in what this one shows.
const LOOK_AROUND_EVERY: Duration = Duration::from_millis(100);
const FOLD_EVERY: Duration = Duration::from_secs(2);
const REMOVE_EVERY: Duration = Duration::from_secs(3_600);

/// The background thread of the ledger; ends when it is dropped.
pub struct Keeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    is_asked: Mutex<bool>,
    wake: Condvar,
}

/// Starts the thread.
///
/// # Errors
///
/// The operating system has no thread left.
pub fn keep(ledger: Ledger, state_dir: PathBuf, retention: Option<Duration>) -> io::Result<Keeper> {
    let stop = Arc::new(Stop::default());
    let asked = stop.clone();
    let run = move || run(&ledger, &state_dir, retention, &asked);
    let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(run)?;
    Ok(Keeper { stop, thread: Some(thread) })
}

fn run(ledger: &Ledger, state_dir: &Path, retention: Option<Duration>, stop: &Stop) {
    let mut store: Option<Store> = None;
    let (mut looked_at, mut folded_at, mut removed_at): (Option<Instant>, Option<Instant>, Option<Instant>) = (None, None, None);
    let (mut unseen, mut unfolded, mut strange) = (
        Complaint::new(
            "what another process has open or bills is not in the balances yet",
            "what other processes bill is seen again",
        ),
        Complaint::new(
            "entries can't be added to the roll-ups, they wait in their segments",
            "entries are added to the roll-ups again",
        ),
        Complaint::new("what is no regular file is passed over", "there are regular files alone in its directory again"),
    );
    let is_due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
    loop {
        let is_last = stop.wait(if ledger.has_company() { LOOK_AROUND_EVERY } else { TEND_EVERY });
        ledger.tend(clock::now_unix_ms());
        if unseen.now.is_none() || is_due(looked_at, FOLD_EVERY) {
            unseen.report(ledger.look_around(clock::now_unix_ms()).err());
            looked_at = Some(Instant::now());
        }
        if is_last || is_due(folded_at, FOLD_EVERY) {
            // Opened here, again and again: a database that is locked for a while must not end the keeping.
            let opened = match store.take() {
                Some(store) => Ok(store),
                None => Store::open(state_dir).map_err(FoldError::from),
            };
            let done = opened.and_then(|opened| ledger.fold(store.insert(opened)));
            if let Ok(folded) = &done {
                strange.report((!folded.strangers.is_empty()).then(|| folded.strangers.join(", ")));
            }
            unfolded.report(done.err());
            folded_at = Some(Instant::now());
        }
        if is_last {
            return;
        }
        if let (Some(retention), Some(store)) = (retention.filter(|_| is_due(removed_at, REMOVE_EVERY)), &store) {
            if let Err(error) = fold::remove_old(ledger.directory(), store, retention, clock::now_unix_ms()) {
                log::warn!(target: LOG, "ledger: old segments stay: {error}");
            }
            removed_at = Some(Instant::now());
        }
    }
}

/// Something that fails for a while: said once, and once that it works again.
struct Complaint {
    now: Option<String>,
    begins: &'static str,
    ends: &'static str,
}

impl Complaint {
    fn new(begins: &'static str, ends: &'static str) -> Self {
        Self { now: None, begins, ends }
    }

    fn report(&mut self, error: Option<impl ToString>) {
        let now = error.map(|error| error.to_string());
        if self.now != now {
            match &now {
                Some(error) => log::error!(target: LOG, "ledger: {}: {error}", self.begins),
                None => log::info!(target: LOG, "ledger: {}", self.ends),
            }
        }
        self.now = now;
    }
}

impl Stop {
    /// Whether the end was asked for.
    fn wait(&self, most: Duration) -> bool {
        let asked = self.is_asked.lock().unwrap_or_else(PoisonError::into_inner);
        *self.wake.wait_timeout_while(asked, most, |asked| !*asked).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Folds a last time.
impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.is_asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
