//! After a kill: what was open becomes `interrupted`, a torn last line is cut off. The next start does it, or a process that lives beside
//! the killed one.
//!
//! It can itself be killed at any moment. The lock files of the dead are removed last; until then the next one does the same again and
//! finds the closes that this one wrote.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use super::files::Files;
use super::names::{self, SegmentName};
use super::read::{Scan, first_open};
use crate::domain::ledger::{Line, Open, Record, write_close};
use crate::ops::host::regular;

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger::recover";

/// What was found of processes that were killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries that were open, and are closed now.
    pub interrupted: u64,
    /// Segments whose torn last line was dropped, with its bytes.
    pub torn: Vec<(String, u64)>,
    /// Lines that were damaged otherwise.
    pub damaged: u64,
    /// Segments that were left alone, as another version wrote them.
    pub refused: Vec<String>,
}

#[derive(Default)]
struct Found {
    open: HashMap<String, Open<'static>>,
    closed: HashSet<String>,
    tails: Vec<(SegmentName, u64)>,
    recovery: Recovery,
}

/// Closes what these writers left open, in the segments of a writer that lives. To be called by one process at a time.
pub fn recover(files: &Files, killed: &[String], now_unix_ms: u64) -> io::Result<Recovery> {
    let directory = &*files.directory;
    let mut found = Found::default();
    let mut settled: Vec<&String> = Vec::new();
    let segments = names::segments(directory)?;
    for dead in killed {
        let theirs: Vec<&SegmentName> = segments.iter().filter(|segment| segment.writer == *dead).collect();
        if found.read_writer(directory, &theirs)? {
            settled.push(dead);
        }
    }
    let Found { open, closed, tails, mut recovery } = found;
    // What was closed before the disk took no more, by the last call.
    let mut rescued = files.rescued.lock().unwrap_or_else(PoisonError::into_inner);
    let mut line = Vec::new();
    for (id, open) in open.into_iter().filter(|(id, _)| !closed.contains(id)) {
        if !rescued.contains(&id) {
            line.clear();
            write_close(&mut line, &open.interrupted(now_unix_ms));
            files.append(&mut line, now_unix_ms)?;
            rescued.insert(id);
        }
        recovery.interrupted += 1;
    }
    if recovery.interrupted > 0 {
        files.sync_all()?;
    }
    for (segment, bytes) in tails {
        let file = regular::open(&directory.join(segment.to_string()), OpenOptions::new().write(true))?;
        let torn = file.metadata()?.len().saturating_sub(bytes);
        file.set_len(bytes)?;
        recovery.torn.push((segment.to_string(), torn));
    }
    for dead in settled {
        std::fs::remove_file(names::lock_file(directory, dead))?;
    }
    rescued.clear();
    recovery.announce();
    Ok(recovery)
}

impl Found {
    /// Reads the segments that may hold open entries. `false`: another version wrote them.
    fn read_writer(&mut self, directory: &Path, segments: &[&SegmentName]) -> io::Result<bool> {
        let first = match first_open(directory, segments)? {
            Ok(first) => first,
            Err((segment, version)) => {
                log::error!(target: LOG, "ledger: {segment} was written by another version (v{version}) and is left alone");
                self.recovery.refused.push(segment.to_string());
                return Ok(false);
            }
        };
        for segment in segments.iter().filter(|segment| segment.number >= first) {
            let is_last = segments.last() == Some(segment);
            self.read_segment(directory, segment, is_last)?;
        }
        Ok(true)
    }

    fn read_segment(&mut self, directory: &Path, segment: &SegmentName, is_last: bool) -> io::Result<()> {
        let Self { open, closed, tails, recovery } = self;
        let mut scan = Scan::open(&directory.join(segment.to_string()), 0)?;
        while let Some(raw) = scan.next_line()? {
            let read = raw.each(|Line { record, .. }| match record {
                Record::Segment(_) => {}
                Record::Open(opened) => drop(open.insert(opened.sent.id.to_string(), opened.into_owned())),
                Record::Close(close) => drop(closed.insert(close.sent.id.into_owned())),
            });
            if read.is_ok() {
                continue;
            }
            if raw.is_tail && is_last {
                tails.push((segment.clone(), raw.start));
            } else {
                log::warn!(target: LOG, "ledger: {segment} has a damaged line at byte {}", raw.start);
                recovery.damaged += 1;
            }
        }
        Ok(())
    }
}

impl Recovery {
    fn announce(&self) {
        for (segment, bytes) in &self.torn {
            log::warn!(target: LOG, "ledger: the torn last line of {segment} ({bytes} bytes) was dropped");
        }
        if self.interrupted > 0 {
            log::warn!(target: LOG, "ledger: {} entries that a killed process left open were closed as interrupted", self.interrupted);
        }
    }
}
