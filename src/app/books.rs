//! Opens the books at the start, and keeps them while the gateway runs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::Obstacle;
use crate::domain::billing::NanoUsd;
use crate::domain::settings::Settings;
use crate::ops::clients::Directory;
use crate::ops::clock;
use crate::ops::ledger::fold::FoldError;
use crate::ops::ledger::keep::{Keeper, Told, keep as keep_folding};
use crate::ops::ledger::others::Others;
use crate::ops::ledger::{self, Ledger, StartError, fold};
use crate::ops::store::{Store, usage};

/// The books at the start.
pub struct Books {
    pub ledger: Ledger,
    /// What each client was billed so far.
    pub spent: HashMap<String, NanoUsd>,
    /// What is written by others from there on.
    pub others: Others,
}

/// Opens the ledger for writing, completes what a killed process left, and adds up what each client has spent so far.
///
/// Closes the database again: the process may fork after this.
///
/// # Errors
/// When another process writes there, or when files can't be used.
pub fn open(settings: &Settings, upgrade: bool) -> Result<Books, Obstacle> {
    let started = Ledger::start(&settings.state_dir, settings.ledger, upgrade, clock::now_unix_ms());
    let (ledger, _recovery) = started.map_err(|error| match error {
        StartError::Busy { .. } => Obstacle::TryAgain(error.to_string()),
        StartError::Unusable { .. } => Obstacle::Unusable(error.to_string()),
    })?;
    let store = Store::open(&settings.state_dir).map_err(Obstacle::of_store)?;
    match fold::fold_once(&ledger::directory(&settings.state_dir), &store) {
        Ok(_) => {}
        Err(error @ FoldError::Segment { .. }) => {
            log::error!("ledger: {error}; its entries are missing from balances and reports")
        }
        Err(error) => return Err(Obstacle::Unusable(error.to_string())),
    }
    // In one transaction: a fold by somebody else in between would count in both or in neither.
    let at_one_moment = store.with(|conn| {
        let transaction = conn.transaction()?;
        Ok((usage::spent(&transaction)?, usage::progress(&transaction)?))
    });
    let (spent, progress) = at_one_moment.map_err(Obstacle::of_store)?;
    let others = Others::new(&ledger, progress.into_iter().map(|(segment, progress)| (segment, progress.bytes)).collect());
    Ok(Books { ledger, spent, others })
}

/// Begins to fold in the background, and to take from the clients' accounts what other processes bill; must be called behind a fork.
pub fn keep(
    ledger: Ledger,
    others: Others,
    directory: Arc<Directory>,
    state_dir: &Path,
    retention: Option<Duration>,
) -> Option<Keeper> {
    let told: Told = Box::new(move |client, cost| directory.settled(client, cost));
    keep_folding(ledger, state_dir.to_owned(), retention, Some((others, told)))
        .inspect_err(|error| log::error!("ledger: no thread to keep the roll-ups, entries wait in their segments: {error}"))
        .ok()
}
