//! Opens the books at the start, and keeps them while the gateway runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::Obstacle;
use crate::domain::settings::Settings;
use crate::ops::books::clients::Directory;
use crate::ops::books::ledger::fold::FoldError;
use crate::ops::books::ledger::keep::{Keeper, keep as keep_folding};
use crate::ops::books::ledger::{Ledger, StartError};
use crate::ops::books::store::{Store, usage};
use crate::ops::host::clock;

/// The books at the start.
pub struct Books {
    pub ledger: Ledger,
    /// The clients, each with what it has left.
    pub directory: Arc<Directory>,
}

/// Opens the ledger for writing, completes what a killed process left, and adds up what each client has spent so far and what another
/// process has reserved.
///
/// # Errors
/// When another process writes there, when the disk takes nothing, or when files can't be used.
pub fn open(settings: &Settings, upgrade: bool) -> Result<Books, Obstacle> {
    let started = Ledger::start(&settings.state_dir, settings.ledger, upgrade, clock::now_unix_ms());
    let (ledger, _recovery) = started.map_err(|error| match error {
        StartError::Busy { .. } | StartError::Full { .. } => Obstacle::TryAgain(error.to_string()),
        StartError::Unusable { .. } => Obstacle::Unusable(error.to_string()),
    })?;
    let store = Store::open(&settings.state_dir).map_err(Obstacle::of_store)?;
    match ledger.fold(&store) {
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
    drop(store);
    let directory = Arc::new(Directory::load(&settings.state_dir, &spent).map_err(Obstacle::of_store)?);
    // What others wrote since that moment, and what they had open at it, whenever it is read.
    let (billed, accounts) = (progress.into_iter().map(|(segment, progress)| (segment, progress.bytes)), directory.clone());
    let met = ledger.meet(billed.collect(), Box::new(move |client| accounts.account(client)));
    met.map_err(|error| Obstacle::Unusable(format!("{} can't be used: {error}", ledger.directory().display())))?;
    Ok(Books { ledger, directory })
}

/// Begins to look after the ledger in the background.
pub fn keep(ledger: Ledger, state_dir: &Path, retention: Option<Duration>) -> Option<Keeper> {
    keep_folding(ledger, state_dir.to_owned(), retention)
        .inspect_err(|error| log::error!("ledger: no thread to keep the roll-ups, entries wait in their segments: {error}"))
        .ok()
}
