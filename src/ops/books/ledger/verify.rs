//! Proves the ledger's files: every checksum, the count of lines, the count of segments, an open for each close and a close for each open,
//! and the sums of the roll-ups. A gateway may write meanwhile: what is in flight is no damage.
//!
//! What can't be proved: that a segment was there which no fold has seen, at the begin or the end of what its writer wrote.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;

use super::SegmentName;
use super::lock::Life;
use super::read::{Scan, Segments, header};
use crate::domain::end::End;
use crate::domain::ledger::{Close, Line, LineFault, Record, Sums};
use crate::ops::books::store::usage::{Progress, Totals};
use crate::ops::host::regular;

/// What the files show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub segments: usize,
    /// Segments that are gone, and were not removed for their age.
    pub missing: u64,
    pub opens: u64,
    pub closes: u64,
    /// Opened by a process that lives.
    pub in_flight: u64,
    /// Opened by a process that was killed; the next start, or a gateway that runs, closes them.
    pub to_recover: u64,
    pub sums: Sums,
    pub findings: Vec<Finding>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `None`: it concerns the ledger as a whole.
    pub segment: Option<String>,
    pub byte: Option<u64>,
    pub message: String,
}

/// What is known of a request's records.
struct Opened {
    segment: SegmentName,
    byte: u64,
}

#[derive(Default)]
struct Proof {
    verdict: Verdict,
    opens: HashMap<String, Opened>,
    /// Ids that were opened, closed or not.
    opened: HashSet<String>,
    closed: HashSet<String>,
}

/// Reads all segments. `folded`: the marks and sums of the database, where there is one.
///
/// # Errors
///
/// The directory or a segment can't be read.
pub fn verify(directory: &Path, folded: Option<(&HashMap<String, Progress>, Totals)>) -> io::Result<Verdict> {
    let segments = Segments::look(directory)?;
    let mut proof = Proof::default();
    let mut unopened = Vec::new();
    for segment in &segments.names {
        proof.segment(
            &segments,
            segment,
            folded.as_ref().and_then(|(marks, _)| marks.get(&segment.to_string())),
            &mut unopened,
        )?;
    }
    for stranger in &segments.strangers {
        let message = "is no regular file and was passed over".to_owned();
        proof.verdict.findings.push(Finding { segment: Some(stranger.clone()), byte: None, message });
    }
    proof.pairs(&segments, unopened);
    proof.presence(&segments, folded.as_ref().map(|(marks, _)| *marks));
    if let Some((_, totals)) = folded {
        proof.totals(&totals);
    }
    Ok(proof.verdict)
}

impl Proof {
    fn segment(
        &mut self,
        segments: &Segments,
        segment: &SegmentName,
        folded: Option<&Progress>,
        unopened: &mut Vec<(SegmentName, u64, String)>,
    ) -> io::Result<()> {
        let path = segments.path(segment);
        // Retention may have taken it since.
        if !regular::is_there(&path) {
            return Ok(());
        }
        self.verdict.segments += 1;
        if let Err(fault @ LineFault::Version(_)) = header(&path)? {
            self.find(segment, None, format!("{fault}; use that version to read it"));
            return Ok(());
        }
        let behind_mark = self.lines(segments, segment, folded.map_or(0, |folded| folded.bytes), unopened)?;
        if let Some(folded) = folded {
            self.mark(segment, folded, &behind_mark);
        }
        Ok(())
    }

    /// Reads the lines of a segment; returns what its first `folded` bytes bill, which the roll-ups have taken.
    fn lines(
        &mut self,
        segments: &Segments,
        segment: &SegmentName,
        folded: u64,
        unopened: &mut Vec<(SegmentName, u64, String)>,
    ) -> io::Result<Sums> {
        let may_change = segments.may_change(segment);
        let (mut next_seq, mut was_damaged, mut behind_mark) = (0, false, Sums::default());
        let mut scan = Scan::open(&segments.path(segment), 0)?;
        while let Some(raw) = scan.next_line()? {
            if raw.is_tail && may_change {
                break;
            }
            let (start, is_folded) = (raw.start, raw.end <= folded);
            let mut lines = Vec::new();
            let read = raw.each(|line| lines.push(owned(line)));
            for Line { seq, record } in lines {
                if seq != next_seq && !was_damaged {
                    self.find(segment, Some(start), format!("line {seq} stands where line {next_seq} should"));
                }
                (next_seq, was_damaged) = (seq + 1, false);
                match record {
                    Record::Segment(_) => {}
                    Record::Open(open) => self.open(open.sent.id.into_owned(), segment, start),
                    Record::Close(close) => {
                        if is_folded {
                            behind_mark.add(&Sums::of(&close));
                        }
                        self.close(&close, segment, start, unopened);
                    }
                }
            }
            if let Err(fault) = read {
                let what = if raw.is_tail { "the last line is torn".to_owned() } else { fault.to_string() };
                self.find(segment, Some(start), what);
                was_damaged = true;
            }
        }
        Ok(behind_mark)
    }

    /// What the roll-ups took of a segment is what it holds up to their mark.
    fn mark(&mut self, segment: &SegmentName, folded: &Progress, holds: &Sums) {
        if (folded.requests, folded.tokens, folded.cost) == (holds.requests, holds.tokens(), holds.cost) {
            return;
        }
        let (requests, tokens, cost) = (folded.requests, folded.tokens, folded.cost);
        let (held, of, at) = (holds.requests, holds.tokens(), holds.cost);
        let message = format!(
            "the roll-ups took {requests} requests, {tokens} tokens and {cost} USD from it, but it holds {held}, {of} and {at}"
        );
        self.find(segment, None, message);
    }

    fn open(&mut self, id: String, segment: &SegmentName, byte: u64) {
        self.verdict.opens += 1;
        if !self.opened.insert(id.clone()) {
            self.find(segment, Some(byte), format!("request {id} was opened twice"));
        } else if !self.closed.contains(&id) {
            self.opens.insert(id, Opened { segment: segment.clone(), byte });
        }
    }

    fn close(&mut self, close: &Close<'_>, segment: &SegmentName, byte: u64, unopened: &mut Vec<(SegmentName, u64, String)>) {
        let id = close.sent.id.to_string();
        self.verdict.closes += 1;
        if !self.closed.insert(id.clone()) {
            // Two recoveries that were killed themselves may both have written it.
            if close.end != End::Interrupted {
                self.find(segment, Some(byte), format!("request {id} was closed twice; it is billed once"));
            }
            return;
        }
        self.verdict.sums.add(&Sums::of(close));
        // An interrupted entry is closed by another process, whose segments may sort before those that opened it.
        if self.opens.remove(&id).is_none() && close.end != End::Interrupted {
            unopened.push((segment.clone(), byte, id));
        }
    }

    fn pairs(&mut self, segments: &Segments, unopened: Vec<(SegmentName, u64, String)>) {
        for (id, open) in std::mem::take(&mut self.opens) {
            match segments.life(&open.segment.writer) {
                Life::Alive => self.verdict.in_flight += 1,
                Life::Killed => self.verdict.to_recover += 1,
                Life::Settled => self.find(&open.segment, Some(open.byte), format!("request {id} was opened and never closed")),
            }
        }
        for (segment, byte, id) in unopened {
            // The open may stand in a segment that was removed for its age.
            let is_complete = segments.names.iter().any(|other| other.writer == segment.writer && other.number == 1);
            if is_complete {
                self.find(&segment, Some(byte), format!("request {id} was closed and never opened"));
            }
        }
        self.verdict.findings.sort_by(|a, b| (&a.segment, a.byte).cmp(&(&b.segment, b.byte)));
    }

    /// A writer counts its segments from 1 without a gap, and the database knows which were removed.
    fn presence(&mut self, segments: &Segments, marks: Option<&HashMap<String, Progress>>) {
        let mut known: BTreeMap<&str, BTreeMap<u32, Option<&Progress>>> = BTreeMap::new();
        let rows: Vec<_> =
            marks.into_iter().flatten().filter_map(|(name, mark)| Some((SegmentName::parse(name)?, mark))).collect();
        for segment in &segments.names {
            known.entry(&segment.writer).or_default().insert(segment.number, None);
        }
        for (segment, mark) in &rows {
            known.entry(&segment.writer).or_default().entry(segment.number).or_insert(Some(mark));
        }
        for (writer, numbers) in known {
            let name = |number| SegmentName { writer: writer.to_owned(), number };
            for (number, mark) in &numbers {
                // Seen by a fold, and gone from the list.
                if let Some(mark) = mark.filter(|mark| !mark.is_removed && !regular::is_there(&segments.path(&name(*number)))) {
                    let (requests, cost) = (mark.requests, mark.cost);
                    self.missing(
                        &name(*number),
                        1,
                        format!("is missing; the roll-ups took {requests} requests and {cost} USD from it"),
                    );
                }
            }
            for (before, behind) in numbers.keys().zip(numbers.keys().skip(1)) {
                let first = before + 1;
                // Listed while it was made, or not there.
                if first < *behind && !regular::is_there(&segments.path(&name(first))) {
                    let message = match behind - first {
                        1 => "is missing; no fold has seen it".to_owned(),
                        several => format!("and those behind it, {several} in all, are missing; no fold has seen them"),
                    };
                    self.missing(&name(first), u64::from(behind - first), message);
                }
            }
        }
    }

    fn missing(&mut self, segment: &SegmentName, count: u64, message: String) {
        self.verdict.missing += count;
        self.find(segment, None, message);
    }

    fn totals(&mut self, totals: &Totals) {
        if totals.rolled_up != totals.segments {
            let ((requests, tokens, cost), (from, of, at)) = (totals.rolled_up, totals.segments);
            let message = format!(
                "the roll-ups hold {requests} requests, {tokens} tokens and {cost} USD, but {from}, {of} and {at} were added to them"
            );
            self.verdict.findings.push(Finding { segment: None, byte: None, message });
        }
    }

    fn find(&mut self, segment: &SegmentName, byte: Option<u64>, message: String) {
        self.verdict.findings.push(Finding { segment: Some(segment.to_string()), byte, message });
    }
}

fn owned(line: Line<'_>) -> Line<'static> {
    let record = match line.record {
        Record::Segment(header) => {
            Record::Segment(crate::domain::ledger::Header { writer: header.writer.into_owned().into(), ..header })
        }
        Record::Open(open) => Record::Open(open.into_owned()),
        Record::Close(close) => Record::Close(close.into_owned()),
    };
    Line { seq: line.seq, record }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.segment, self.byte) {
            (Some(segment), Some(byte)) => write!(f, "{segment}, byte {byte}: ")?,
            (Some(segment), None) => write!(f, "{segment}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.message)
    }
}
