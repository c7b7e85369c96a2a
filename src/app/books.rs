//! Opens the books at the start, and keeps them while the gateway runs.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crate::app::Obstacle;
use crate::domain::billing::NanoUsd;
use crate::domain::settings::Settings;
use crate::ops::clock;
use crate::ops::ledger::fold::FoldError;
use crate::ops::ledger::keep::{Keeper, keep as keep_folding};
use crate::ops::ledger::{self, Ledger, StartError, fold};
use crate::ops::store::{Store, usage};

/// Opens the ledger for writing, completes what a killed process left, and adds up what each client has spent so far.
///
/// Closes the database again: the process may fork after this.
///
/// # Errors
/// When another process writes there, or when files can't be used.
pub fn open(settings: &Settings, upgrade: bool) -> Result<(Ledger, HashMap<String, NanoUsd>), Obstacle> {
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
    let spent = store.with(|conn| usage::spent(conn)).map_err(Obstacle::of_store)?;
    Ok((ledger, spent))
}

/// Begins to fold in the background; must be called behind a fork.
pub fn keep(ledger: Ledger, state_dir: &Path, retention: Option<Duration>) -> Option<Keeper> {
    keep_folding(ledger, state_dir.to_owned(), retention)
        .inspect_err(|error| log::error!("ledger: no thread to keep the roll-ups, entries wait in their segments: {error}"))
        .ok()
}
