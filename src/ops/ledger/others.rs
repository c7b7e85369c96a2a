//! What other processes write at the same time: the old one of an upgrade ends its requests beside the new one, whose accounts began
//! before those ended (`domain::credit`, step 3).
//!
//! Whoever folds first, a report or either gateway, moves the marks of the database. So nobody who keeps accounts can tell by the folds
//! what is new to it: this one has marks of its own, which begin where the sums that the accounts began with ended.

use std::collections::HashMap;
use std::fs;
use std::io;

use super::Ledger;
use super::SegmentName;
use super::read::{Scan, Segments};
use crate::domain::billing::NanoUsd;
use crate::domain::ledger::{Line, Record};

/// Reads the segments of every writer but one.
pub struct Others {
    own: String,
    /// The bytes of each segment that were counted.
    counted: HashMap<String, u64>,
}

impl Others {
    /// `counted`: how far the segments had been read when the accounts began.
    pub fn new(own: &Ledger, counted: HashMap<String, u64>) -> Self {
        Self { own: own.writer_name(), counted }
    }

    /// Gives the client and the cost of each entry that came since the last look, once.
    ///
    /// # Errors
    ///
    /// A segment or the directory can't be read; what was given before is not given again.
    pub fn look(&mut self, ledger: &Ledger, mut found: impl FnMut(&str, NanoUsd)) -> io::Result<()> {
        let segments = Segments::look(ledger.directory())?;
        for segment in &segments.names {
            if segment.writer == self.own {
                continue;
            }
            match self.read(&segments, segment, &mut found) {
                // Retention has taken it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn read(&mut self, segments: &Segments, segment: &SegmentName, found: &mut impl FnMut(&str, NanoUsd)) -> io::Result<()> {
        let (name, path) = (segment.to_string(), segments.path(segment));
        let counted = self.counted.get(&name).copied().unwrap_or_default();
        if fs::metadata(&path)?.len() <= counted {
            return Ok(());
        }
        let mut scan = Scan::open(&path, counted)?;
        while let Some(raw) = scan.next_line()? {
            if raw.is_tail && segments.may_change(segment) {
                break;
            }
            // What is damaged is reported by the folds.
            let _ = raw.each(|Line { record, .. }| {
                if let Record::Close(close) = record
                    && let Some(client) = &close.dispatch.client
                {
                    found(client, close.cost);
                }
            });
            self.counted.insert(name.clone(), raw.end);
        }
        Ok(())
    }
}
