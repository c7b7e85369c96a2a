//! Appends lines to the segment of this process, and keeps the file right when the disk does not play along.
//!
//! A line is one `write`: the kernel has it before the call returns, so that a killed process loses nothing. A line that was written in
//! part is cut off again before anything follows it; where even that fails, the segment is left and a new one begun.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::disk::{Disk, Segment};
use super::names::SegmentName;
use crate::domain::ledger::{self, Header, time};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::ledger::writer";

/// After a failure: how long no new try is made on behalf of a request.
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub struct Writer {
    disk: Arc<dyn Disk>,
    name: String,
    segment_bytes: u64,
    /// Whether somebody will ask for what has to be synced.
    is_synced: bool,
    segment: Option<Current>,
    next_number: u32,
    /// Opens without a written close, by the segment that holds them.
    in_flight: BTreeMap<u32, u64>,
    /// Closes that the disk did not take. Nothing is opened while there are any, so there are never more than requests were in flight.
    kept: VecDeque<Unwritten>,
    trouble: Option<Trouble>,
    signs: Arc<Signs>,
    unsynced: Vec<Arc<dyn Segment>>,
    has_new_name: bool,
    /// All lines that were written, of all segments.
    lines: u64,
    /// All bytes that were written, headers included.
    bytes: u64,
    folded: FoldedTo,
}

/// What can be asked without the lock, which is held while a hung disk takes its time.
#[derive(Debug, Default)]
pub struct Signs {
    kept: AtomicUsize,
    is_in_trouble: AtomicBool,
}

impl Signs {
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Acquire)
    }

    pub fn is_in_trouble(&self) -> bool {
        self.is_in_trouble.load(Ordering::Acquire)
    }
}

/// How much of what was written is in the roll-ups.
struct FoldedTo {
    bytes: u64,
    at: Instant,
}

struct Current {
    file: Arc<dyn Segment>,
    number: u32,
    day: u64,
    bytes: u64,
    seq: u64,
    is_dirty: bool,
}

struct Unwritten {
    line: Vec<u8>,
    unix_ms: u64,
    opened_in: u32,
}

struct Trouble {
    reason: Arc<str>,
    retry_at: Instant,
}

/// What became of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// In the kernel; the count of lines after it.
    Written(u64),
    /// In memory, until the disk takes it.
    Kept,
}

/// Files with lines that a power cut would take.
pub struct Unsynced {
    files: Vec<Arc<dyn Segment>>,
    names: Option<Arc<dyn Disk>>,
    /// The count of lines that are durable once these files are.
    pub lines: u64,
}

impl Unsynced {
    pub fn sync(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync())?;
        self.names.as_ref().map_or(Ok(()), |names| names.sync_names())
    }
}

/// How the writer fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Why nothing can be opened.
    pub trouble: Option<Arc<str>>,
    pub in_flight: u64,
    /// Closes that wait in memory.
    pub kept: usize,
    /// What this process has written and no fold of its own has seen: reports and other processes' balances lack it.
    pub unfolded_bytes: u64,
    /// How long ago the last fold began that took all it found; zero where nothing waits.
    pub unfolded_for: Duration,
}

impl Writer {
    pub fn new(disk: Arc<dyn Disk>, name: String, segment_bytes: u64, is_synced: bool) -> Self {
        Self {
            disk,
            name,
            segment_bytes,
            is_synced,
            segment: None,
            next_number: 1,
            in_flight: BTreeMap::new(),
            kept: VecDeque::new(),
            trouble: None,
            signs: Arc::default(),
            unsynced: Vec::new(),
            has_new_name: false,
            lines: 0,
            bytes: 0,
            folded: FoldedTo { bytes: 0, at: Instant::now() },
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn signs(&self) -> Arc<Signs> {
        self.signs.clone()
    }

    /// Writes an open; returns the segment that holds it. `line` is left as it came.
    pub fn open(&mut self, line: &mut Vec<u8>, unix_ms: u64) -> Result<u32, Arc<str>> {
        if let Some(trouble) = &self.trouble {
            if Instant::now() < trouble.retry_at {
                return Err(trouble.reason.clone());
            }
            self.write_kept()?;
        }
        let number = self.append(line, unix_ms).map_err(|error| self.fail(&error))?;
        self.recovered();
        *self.in_flight.entry(number).or_default() += 1;
        Ok(number)
    }

    /// Writes a close, or keeps it.
    pub fn close(&mut self, line: &mut Vec<u8>, unix_ms: u64, opened_in: u32) -> Placed {
        let is_tried = self.trouble.as_ref().is_none_or(|trouble| Instant::now() >= trouble.retry_at);
        if is_tried && self.write_kept().is_ok() {
            match self.append(line, unix_ms) {
                Ok(_) => {
                    self.recovered();
                    self.settle(opened_in);
                    return Placed::Written(self.lines);
                }
                Err(error) => drop(self.fail(&error)),
            }
        }
        self.kept.push_back(Unwritten { line: line.clone(), unix_ms, opened_in });
        self.show();
        Placed::Kept
    }

    /// Writes one line that belongs to no request in flight.
    pub fn append(&mut self, line: &mut Vec<u8>, unix_ms: u64) -> io::Result<u32> {
        let fields = line.len();
        let appended = self.seal_and_append(line, unix_ms);
        line.truncate(fields);
        appended
    }

    /// Tries again what failed, once for many requests, and leaves a segment that somebody deleted.
    pub fn tend(&mut self, now_unix_ms: u64) {
        if self.segment.as_ref().is_some_and(|current| !current.file.is_there()) {
            let lost = io::Error::other("the segment was deleted while it was written to");
            self.abandon();
            drop(self.fail(&lost));
        }
        let is_due = self.trouble.as_ref().is_some_and(|trouble| Instant::now() >= trouble.retry_at);
        if !is_due {
            return;
        }
        if !self.kept.is_empty() {
            return if self.write_kept().is_ok() {
                self.recovered()
            };
        }
        // Without a line to write, the start of a segment shows whether the disk takes any.
        match self.begin_segment(now_unix_ms) {
            Ok(()) => self.recovered(),
            Err(error) => drop(self.fail(&error)),
        }
    }

    /// What has to be synced now.
    pub fn take_unsynced(&mut self) -> Unsynced {
        let mut files = std::mem::take(&mut self.unsynced);
        if let Some(current) = self.segment.as_mut().filter(|current| current.is_dirty) {
            current.is_dirty = false;
            files.push(current.file.clone());
        }
        let names = std::mem::take(&mut self.has_new_name).then(|| self.disk.clone());
        Unsynced { files, names, lines: self.lines }
    }

    /// After a failed sync nobody knows what of the segment is on the disk: nothing more goes there.
    pub fn distrust(&mut self, error: &io::Error) {
        self.segment = None;
        drop(self.fail(error));
    }

    pub fn condition(&self) -> Condition {
        let trouble = self.trouble.as_ref().map(|trouble| trouble.reason.clone());
        let unfolded_bytes = self.bytes.saturating_sub(self.folded.bytes);
        let unfolded_for = if unfolded_bytes > 0 { self.folded.at.elapsed() } else { Duration::ZERO };
        Condition { trouble, in_flight: self.in_flight.values().sum(), kept: self.kept.len(), unfolded_bytes, unfolded_for }
    }

    /// What is written by now, for [`Writer::folded`].
    pub fn written_bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes that a fold which began at `at` has taken everything up to so many bytes.
    pub fn folded(&mut self, bytes: u64, at: Instant) {
        self.folded = FoldedTo { bytes, at };
    }

    /// Writes what was kept, if the disk takes it now.
    pub fn settle_kept(&mut self) {
        drop(self.write_kept());
    }

    fn seal_and_append(&mut self, line: &mut Vec<u8>, unix_ms: u64) -> io::Result<u32> {
        let is_over = |current: &Current| current.bytes >= self.segment_bytes || time::day(unix_ms) > current.day;
        if self.segment.as_ref().is_none_or(is_over) {
            self.begin_segment(unix_ms)?;
        }
        let Some(current) = &mut self.segment else { return Err(io::Error::other("no segment")) };
        ledger::seal(line, current.seq);
        if let Err(error) = append_whole(&*current.file, line) {
            if let Err(torn) = current.file.cut(current.bytes) {
                log::error!(target: LOG, "ledger: a torn line could not be cut off, a new segment follows: {torn}");
                self.abandon();
            }
            return Err(error);
        }
        current.seq += 1;
        current.bytes += line.len() as u64;
        self.bytes += line.len() as u64;
        current.is_dirty = self.is_synced;
        self.lines += 1;
        Ok(current.number)
    }

    /// Begins the next segment with its header, which proves that the disk takes lines.
    pub fn begin_segment(&mut self, unix_ms: u64) -> io::Result<()> {
        let number = self.next_number;
        let name = SegmentName { writer: self.name.clone(), number }.to_string();
        let file = self.disk.create(&name)?;
        self.next_number += 1;
        let oldest_open = self.in_flight.keys().next().copied().unwrap_or(number);
        let mut header = Vec::new();
        ledger::write_segment(
            &mut header,
            &Header { writer: (&*self.name).into(), number, started_at_unix_ms: unix_ms, oldest_open },
        );
        ledger::seal(&mut header, 0);
        if let Err(error) = append_whole(&*file, &header) {
            match self.disk.remove(&name) {
                // The numbers of a writer have no gaps: one that is missing is a segment that was lost.
                Ok(()) => self.next_number = number,
                Err(left) => log::warn!(target: LOG, "ledger: {name} could not be begun and stays: {left}"),
            }
            return Err(error);
        }
        self.abandon();
        self.bytes += header.len() as u64;
        self.has_new_name = self.is_synced;
        self.segment =
            Some(Current { file, number, day: time::day(unix_ms), bytes: header.len() as u64, seq: 1, is_dirty: self.is_synced });
        Ok(())
    }

    /// Writes to the current segment no more.
    fn abandon(&mut self) {
        if let Some(Current { file, is_dirty: true, .. }) = self.segment.take() {
            self.unsynced.push(file);
        }
    }

    fn write_kept(&mut self) -> Result<(), Arc<str>> {
        while let Some(mut kept) = self.kept.pop_front() {
            if let Err(error) = self.append(&mut kept.line, kept.unix_ms) {
                self.kept.push_front(kept);
                return Err(self.fail(&error));
            }
            self.settle(kept.opened_in);
            self.show();
        }
        Ok(())
    }

    fn settle(&mut self, opened_in: u32) {
        if let Some(open) = self.in_flight.get_mut(&opened_in) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.in_flight.remove(&opened_in);
            }
        }
    }

    fn fail(&mut self, error: &io::Error) -> Arc<str> {
        let reason: Arc<str> = error.to_string().into();
        let retry_at = Instant::now() + RETRY_AFTER;
        if self.trouble.replace(Trouble { reason: reason.clone(), retry_at }).is_none() {
            log::error!(target: LOG, "the ledger can't be written ({reason}): requests are refused with 503 until it can");
        }
        self.show();
        reason
    }

    fn recovered(&mut self) {
        if self.kept.is_empty() && self.trouble.take().is_some() {
            self.show();
            log::info!(target: LOG, "the ledger can be written again");
        }
    }

    fn show(&self) {
        self.signs.kept.store(self.kept.len(), Ordering::Release);
        self.signs.is_in_trouble.store(self.trouble.is_some(), Ordering::Release);
    }
}

fn append_whole(file: &dyn Segment, line: &[u8]) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        match file.append(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
