//! Reads the entries of all segments, each once.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::read::{Scan, Segments, header};
use crate::domain::ledger::{Close, Line, LineFault, Record};

/// What could not be exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    pub damaged_lines: u64,
    /// Of another version.
    pub segments: u64,
    /// What has a segment's name and is no file.
    pub strangers: u64,
}

/// Calls back with each entry, segment by segment.
///
/// # Errors
///
/// A segment can't be read, or what the callback says.
pub fn each_entry(directory: &Path, mut found: impl FnMut(&Close<'_>) -> io::Result<()>) -> io::Result<Missed> {
    let segments = Segments::look(directory)?;
    let strangers = segments.strangers.len() as u64;
    let (mut missed, mut seen) = (Missed { strangers, ..Missed::default() }, HashSet::new());
    for segment in &segments.names {
        let path = segments.path(segment);
        let mut scan = match header(&path) {
            Ok(Err(LineFault::Version(_))) => {
                missed.segments += 1;
                continue;
            }
            Ok(_) => Scan::open(&path, 0)?,
            // Removed for its age since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        while let Some(raw) = scan.next_line()? {
            if raw.is_tail && segments.may_change(segment) {
                break;
            }
            let mut told = Ok(());
            let read = raw.each(|Line { record, .. }| {
                if let Record::Close(close) = record
                    && told.is_ok()
                    && seen.insert(short(&close.sent.id))
                {
                    told = found(&close);
                }
            });
            told?;
            missed.damaged_lines += u64::from(read.is_err());
        }
    }
    Ok(missed)
}

/// A request's id in the least memory: a million of them are looked at in one run.
fn short(id: &str) -> Result<u128, Box<str>> {
    uuid::Uuid::try_parse(id).map(|uuid| uuid.as_u128()).map_err(|_| id.into())
}
