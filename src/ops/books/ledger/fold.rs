//! Adds written entries to the roll-ups, each exactly once.
//!
//! Lines are read without a lock on anything; what they add up to and how far they were read becomes true in one transaction. Whoever is
//! killed between any two steps has changed nothing or everything of a batch, and several processes may fold at the same time.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::SegmentName;
use super::read::{Scan, Segments, header};
use crate::domain::ledger::{Line, LineFault, Record};
use crate::ops::books::store::usage::{self, Batch};
use crate::ops::books::store::{Store, StoreError};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger::fold";

/// Lines of one transaction.
const BATCH_LINES: usize = 20_000;
/// Ids are remembered for some days longer than segments are kept: requests take time.
const IDS_OUTLIVE: Duration = Duration::from_secs(7 * 86_400);

/// What a fold has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Entries that were read, copies included.
    pub entries: u64,
    pub damaged: u64,
    /// Segments that were left alone, as another version wrote them.
    pub refused: Vec<String>,
    /// What has a segment's name and is no file: passed over.
    pub strangers: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("the ledger's segment {segment} can't be read: {error}")]
    Segment { segment: String, error: io::Error },
    #[error("the ledger's directory can't be read: {0}")]
    Directory(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Folds all that is written by now, of whichever process.
///
/// # Errors
///
/// A segment or the database can't be used; what was folded before stays folded.
pub fn fold_once(directory: &Path, store: &Store) -> Result<Folded, FoldError> {
    let mut folded = Folded::default();
    let segments = match Segments::look(directory) {
        Ok(segments) => segments,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folded),
        Err(error) => return Err(FoldError::Directory(error)),
    };
    folded.strangers.clone_from(&segments.strangers);
    let progress = store.with(|conn| usage::progress(conn))?;
    let mut unreadable = None;
    for segment in &segments.names {
        let name = segment.to_string();
        let mark = progress.get(&name).map_or(0, |progress| progress.bytes);
        match fold_segment(&segments, segment, mark, store, &mut folded) {
            // Retention may have taken it since.
            Err(FoldError::Segment { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            // One file that can't be read must not keep the others from being counted.
            Err(error @ FoldError::Segment { .. }) => unreadable = Some(error),
            done => done?,
        }
    }
    unreadable.map_or(Ok(folded), Err)
}

/// Removes segments that were read to their end, are not written any more, and were last written before `retention`.
///
/// # Errors
///
/// As [`fold_once`].
pub fn remove_old(directory: &Path, store: &Store, retention: Duration, now_unix_ms: u64) -> Result<usize, FoldError> {
    let segments = Segments::look(directory).map_err(FoldError::Directory)?;
    let progress = store.with(|conn| usage::progress(conn))?;
    let before = now_unix_ms.saturating_sub(millis(retention));
    let mut removed = 0;
    for segment in segments.names.iter().filter(|segment| !segments.may_change(segment)) {
        let (name, path) = (segment.to_string(), segments.path(segment));
        let unreadable = |error| FoldError::Segment { segment: name.clone(), error };
        let metadata = match fs::metadata(&path) {
            // The other process of an upgrade removes too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(unreadable)?,
        };
        let written =
            metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(u64::MAX, millis);
        if written < before && progress.get(&name).is_some_and(|progress| progress.bytes >= metadata.len()) {
            // First the word, then the deed: a file that is gone without it counts as lost.
            store.with(|conn| usage::set_removed(conn, &name))?;
            fs::remove_file(&path).map_err(unreadable)?;
            log::info!(target: LOG, "ledger: {name} is older than ledger.retention_days and was removed");
            removed += 1;
        }
    }
    store.with(|conn| usage::forget_ids(conn, before.saturating_sub(millis(IDS_OUTLIVE))))?;
    Ok(removed)
}

fn fold_segment(
    segments: &Segments,
    segment: &SegmentName,
    mut mark: u64,
    store: &Store,
    folded: &mut Folded,
) -> Result<(), FoldError> {
    let (name, path) = (segment.to_string(), segments.path(segment));
    let unreadable = |error| FoldError::Segment { segment: name.clone(), error };
    let bytes = fs::metadata(&path).map_err(unreadable)?.len();
    if bytes <= mark {
        return Ok(());
    }
    if let Err(LineFault::Version(_)) = header(&path).map_err(unreadable)? {
        folded.refused.push(name);
        return Ok(());
    }
    loop {
        let batch = read_batch(&path, mark, segments.may_change(segment)).map_err(unreadable)?;
        // Somebody else who folds does the rest.
        if batch.to == mark || !store.with(|conn| usage::fold(conn, &name, &batch))? {
            return Ok(());
        }
        if batch.damaged > 0 {
            log::warn!(target: LOG, "ledger: {} lines of {name} are damaged; `trollbridge ledger verify` lists them", batch.damaged);
        }
        mark = batch.to;
        folded.entries += batch.closes.len() as u64;
        folded.damaged += batch.damaged;
    }
}

fn read_batch(path: &Path, from: u64, may_change: bool) -> io::Result<Batch> {
    let mut batch = Batch { from, to: from, closes: Vec::new(), damaged: 0 };
    let mut scan = Scan::open(path, from)?;
    for _ in 0..BATCH_LINES {
        let Some(raw) = scan.next_line()? else { break };
        if raw.is_tail && may_change {
            break;
        }
        batch.to = raw.end;
        if raw.is_intact_open() {
            continue;
        }
        let closes = &mut batch.closes;
        let read = raw.each(|Line { record, .. }| {
            if let Record::Close(close) = record {
                closes.push(close.into_owned());
            }
        });
        batch.damaged += u64::from(read.is_err());
    }
    Ok(batch)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
