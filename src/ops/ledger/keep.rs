//! Looks after the ledger in the background: tries again what the disk refused, folds what was written, removes what is old.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Ledger;
use super::fold::{self, FoldError};
use super::others::Others;
use crate::domain::billing::NanoUsd;
use crate::ops::clock;
use crate::ops::store::Store;

const TEND_EVERY: Duration = Duration::from_millis(250);
const FOLD_EVERY: Duration = Duration::from_secs(2);
const REMOVE_EVERY: Duration = Duration::from_secs(3_600);

/// The background thread of the ledger; ends when it is dropped.
pub struct Keeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Who is told what other processes bill: the client and the cost.
pub type Told = Box<dyn Fn(&str, NanoUsd) + Send>;

#[derive(Default)]
struct Stop {
    is_asked: Mutex<bool>,
    wake: Condvar,
}

/// Starts the thread. Not before the process went into the background: a thread does not survive the fork.
///
/// # Errors
///
/// The operating system has no thread left.
pub fn keep(
    ledger: Ledger,
    state_dir: PathBuf,
    retention: Option<Duration>,
    others: Option<(Others, Told)>,
) -> io::Result<Keeper> {
    let stop = Arc::new(Stop::default());
    let asked = stop.clone();
    let run = move || run(&ledger, &state_dir, retention, others, &asked);
    let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(run)?;
    Ok(Keeper { stop, thread: Some(thread) })
}

fn run(ledger: &Ledger, state_dir: &Path, retention: Option<Duration>, mut others: Option<(Others, Told)>, stop: &Stop) {
    let mut store: Option<Store> = None;
    let (mut folded_at, mut removed_at): (Option<Instant>, Option<Instant>) = (None, None);
    let mut trouble = None;
    let is_due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
    loop {
        let is_last = stop.wait(TEND_EVERY);
        ledger.tend(clock::now_unix_ms());
        if is_last || is_due(folded_at, FOLD_EVERY) {
            if let Some((others, told)) = &mut others
                && let Err(error) = others.look(ledger, told)
            {
                log::warn!("ledger: what another process bills is not in the balances yet: {error}");
            }
            // Opened here, again and again: a database that is locked for a while must not end the keeping.
            let opened = match store.take() {
                Some(store) => Ok(store),
                None => Store::open(state_dir).map_err(FoldError::from),
            };
            let done = opened.and_then(|opened| ledger.fold(store.insert(opened)));
            report(&mut trouble, done.err());
            folded_at = Some(Instant::now());
        }
        if is_last {
            return;
        }
        if let (Some(retention), Some(store)) = (retention.filter(|_| is_due(removed_at, REMOVE_EVERY)), &store) {
            if let Err(error) = fold::remove_old(ledger.directory(), store, retention, clock::now_unix_ms()) {
                log::warn!("ledger: old segments stay: {error}");
            }
            removed_at = Some(Instant::now());
        }
    }
}

/// Says once that folding fails, and once that it works again.
fn report(trouble: &mut Option<String>, error: Option<FoldError>) {
    let now = error.map(|error| error.to_string());
    if *trouble != now {
        match &now {
            Some(error) => log::error!("ledger: entries can't be added to the roll-ups, they wait in their segments: {error}"),
            None => log::info!("ledger: entries are added to the roll-ups again"),
        }
    }
    *trouble = now;
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
