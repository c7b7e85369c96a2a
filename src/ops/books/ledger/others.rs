//! What other processes write at the same time: the other one of an upgrade has requests open and ends them beside this one, whose
//! accounts began before (`domain::credit`, steps 3 and 4).
//!
//! Whoever folds first, a report or either gateway, moves the marks of the database. So nobody who keeps accounts can tell by the folds
//! what is new to it: this one has marks of its own. Costs begin where the sums ended that the accounts began with; opens are read from
//! the first segment that holds one without its close, so that nothing depends on the moment of the reading.
//!
//! Memory: an entry for each request that another process has open on a client's balance, and the segments' marks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SegmentName;
use super::lock::Life;
use super::read::{Scan, Segments, first_open};
use crate::domain::credit::{Account, Reservation};
use crate::domain::ledger::{Line, Record};
use crate::ops::host::regular;

/// The account of a client, by its name; `None`: it is not limited.
pub type FindAccount = Box<dyn Fn(&str) -> Option<Arc<Account>> + Send + Sync>;

/// Of writers of whose segments the costs matter alone.
const NOTHING_OPEN: u32 = u32::MAX;

/// Reads the segments of every writer but one.
pub struct Others {
    own: String,
    directory: PathBuf,
    accounts: FindAccount,
    /// The bytes of each segment whose costs the accounts began with.
    billed: HashMap<String, u64>,
    followed: BTreeMap<String, Followed>,
    /// Writers that write no more and were read to their end.
    finished: HashSet<String>,
}

/// One writer, as far as it was read.
struct Followed {
    life: Life,
    /// The first segment that may hold something open.
    first: u32,
    /// The bytes of each segment that were read, by its number.
    read: BTreeMap<u32, u64>,
    /// What its requests have reserved, by their ids.
    open: HashMap<Box<str>, Reservation>,
}

impl Others {
    /// `billed`: how far the segments had been read when the accounts began.
    pub fn new(own: String, directory: PathBuf, billed: HashMap<String, u64>, accounts: FindAccount) -> Self {
        Self { own, directory, accounts, billed, followed: BTreeMap::new(), finished: HashSet::new() }
    }

    /// Takes from the accounts what came since the last look, each cost once, and sees who is there.
    ///
    /// # Errors
    ///
    /// A segment or the directory can't be read; what was taken before is not taken again.
    pub fn look(&mut self) -> io::Result<()> {
        let segments = Segments::look(&self.directory)?;
        let mut by_writer: BTreeMap<&str, Vec<&SegmentName>> = segments.unsettled().map(|writer| (writer, Vec::new())).collect();
        for segment in &segments.names {
            by_writer.entry(&segment.writer).or_default().push(segment);
        }
        self.finished.retain(|writer| by_writer.contains_key(&**writer));
        // One that left nothing at all is no company any more.
        self.followed.retain(|writer, _| by_writer.contains_key(&**writer));
        let mut unreadable = None;
        for (writer, theirs) in by_writer {
            if writer == self.own || self.finished.contains(writer) {
                continue;
            }
            match self.follow(&segments, writer, &theirs) {
                Ok(()) if segments.life(writer) == Life::Settled => {
                    // What it seems to have open was closed by whoever looked after it: the reservations go back.
                    self.followed.remove(writer);
                    self.finished.insert(writer.to_owned());
                }
                Ok(()) => {}
                // One file that can't be read must not keep the others from being counted.
                Err(error) => unreadable = Some(error),
            }
        }
        unreadable.map_or(Ok(()), Err)
    }

    /// Takes what the writers that are known to live have written since: some system calls where that is nothing.
    ///
    /// # Errors
    ///
    /// As [`Others::look`].
    pub fn catch_up(&mut self) -> io::Result<()> {
        let Self { directory, accounts, billed, followed, .. } = self;
        let source = Source { directory, accounts, billed };
        let mut unreadable = None;
        for (writer, followed) in followed {
            if let Err(error) = followed.catch_up(&source, writer) {
                unreadable = Some(error);
            }
        }
        unreadable.map_or(Ok(()), Err)
    }

    /// Whether somebody else writes, or was killed and left something to look after.
    pub fn has_company(&self) -> bool {
        !self.followed.is_empty()
    }

    /// Whether a writer was killed and nobody has looked after it yet.
    pub fn is_any_killed(&self) -> bool {
        self.followed.values().any(|followed| followed.life == Life::Killed)
    }

    /// Has no more eyes for a writer: nobody here can read what another version wrote.
    pub fn leave_alone(&mut self, writer: &str) {
        self.followed.remove(writer);
        self.finished.insert(writer.to_owned());
    }

    fn follow(&mut self, segments: &Segments, writer: &str, theirs: &[&SegmentName]) -> io::Result<()> {
        let life = segments.life(writer);
        if !self.followed.contains_key(writer) {
            let first = match life {
                Life::Alive | Life::Killed => first_open(&self.directory, theirs)?.unwrap_or(NOTHING_OPEN),
                Life::Settled => NOTHING_OPEN,
            };
            let new = Followed { life, first, read: BTreeMap::new(), open: HashMap::new() };
            self.followed.insert(writer.to_owned(), new);
        }
        let Some(followed) = self.followed.get_mut(writer) else { return Ok(()) };
        followed.life = life;
        let source = Source { directory: &self.directory, accounts: &self.accounts, billed: &self.billed };
        theirs.iter().try_for_each(|segment| followed.read_on(&source, segment, segments.may_change(segment)))
    }
}

/// What the reading of a segment needs of [`Others`].
struct Source<'o> {
    directory: &'o Path,
    accounts: &'o FindAccount,
    billed: &'o HashMap<String, u64>,
}

impl Followed {
    fn catch_up(&mut self, source: &Source<'_>, writer: &str) -> io::Result<()> {
        let mut number = self.read.last_key_value().map_or(0, |(number, _)| *number);
        loop {
            let name = |number| SegmentName { writer: writer.to_owned(), number };
            // Asked before the reading: a writer that has gone on to the next segment adds nothing to this one.
            let has_next = regular::is_there(&source.directory.join(name(number + 1).to_string()));
            if number > 0 {
                self.read_on(source, &name(number), !has_next)?;
            }
            if !has_next {
                return Ok(());
            }
            number += 1;
        }
    }

    fn read_on(&mut self, source: &Source<'_>, segment: &SegmentName, may_change: bool) -> io::Result<()> {
        let name = segment.to_string();
        let billed = source.billed.get(&name).copied().unwrap_or_default();
        let begin = if segment.number < self.first { billed } else { 0 };
        let read = self.read.entry(segment.number).or_insert(begin);
        let path = source.directory.join(name);
        let new = match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= *read => return Ok(()),
            Ok(metadata) => metadata.len() - *read,
            // Retention has taken it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // Some lines mostly, and a request waits for them.
        let mut scan = Scan::open_for(&path, *read, new)?;
        while let Some(raw) = scan.next_line()? {
            if raw.is_tail && may_change {
                break;
            }
            // What is damaged is reported by the folds.
            let _ = raw.each(|Line { record, .. }| take(&mut self.open, source.accounts, record, raw.end > billed));
            *read = raw.end;
        }
        Ok(())
    }
}

/// `is_new`: the account began without the cost.
fn take(open: &mut HashMap<Box<str>, Reservation>, accounts: &FindAccount, record: Record<'_>, is_new: bool) {
    match record {
        Record::Open(opened) if opened.reservation > Default::default() => {
            if let Some(account) = opened.sent.client.as_deref().and_then(accounts) {
                open.insert(opened.sent.id.into(), account.hold(opened.reservation));
            }
        }
        Record::Close(close) => match open.remove(&*close.sent.id) {
            Some(reservation) if is_new => reservation.settle(close.cost),
            None if is_new => {
                if let Some(account) = close.sent.client.as_deref().and_then(accounts) {
                    account.settle(close.cost);
                }
            }
            Some(_) | None => {}
        },
        Record::Open(_) | Record::Segment(_) => {}
    }
}
