//! Reads segments line by line, whole ones, damaged ones and those that another process is writing.
//!
//! Memory: one line, however large the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SegmentName;
use super::lock::{self, Life};
use super::names;
use crate::domain::ledger::{self, Header, Line, LineFault, Record};
use crate::ops::host::regular;

/// No line of ours is longer; what is, is damage.
const MAX_LINE: u64 = 64 * 1024;
const USUAL_LINE: usize = 2_048;
const MAX_BUFFER: usize = 256 * 1024;

/// The segments as they stood when somebody looked, and who was alive then.
pub struct Segments {
    pub directory: PathBuf,
    pub names: Vec<SegmentName>,
    /// What has such a name and is no file: passed over.
    pub strangers: Vec<String>,
    /// Writers with a lock file.
    unsettled: Vec<(String, Life)>,
}

/// A segment under the eyes of a reader.
pub struct Scan {
    file: BufReader<File>,
    offset: u64,
    line: Vec<u8>,
}

/// What stands between two line feeds.
pub struct Raw<'s> {
    pub start: u64,
    pub end: u64,
    /// Not ended by a line feed: torn, or not written to its end yet.
    pub is_tail: bool,
    bytes: &'s [u8],
}

impl Segments {
    /// Asks who lives before and after it lists the segments: a process that ends or starts meanwhile must not look as if it had
    /// forgotten what it has open.
    pub fn look(directory: &Path) -> io::Result<Self> {
        let lives = || -> io::Result<Vec<(String, Life)>> {
            let writers = names::locked_writers(directory)?;
            writers.into_iter().map(|writer| Ok((writer.clone(), lock::life(directory, &writer)?))).collect()
        };
        let mut unsettled = lives()?;
        let (names, strangers) = (names::segments(directory)?, names::strangers(directory)?);
        unsettled.extend(lives()?);
        unsettled.retain(|(_, life)| *life != Life::Settled);
        Ok(Self { directory: directory.to_owned(), names, strangers, unsettled })
    }

    pub fn path(&self, name: &SegmentName) -> PathBuf {
        self.directory.join(name.to_string())
    }

    /// The writers that live, and those that were killed and not looked after.
    pub fn unsettled(&self) -> impl Iterator<Item = &str> {
        self.unsettled.iter().map(|(writer, _)| &**writer)
    }

    pub fn life(&self, writer: &str) -> Life {
        self.unsettled.iter().find(|(name, _)| name == writer).map_or(Life::Settled, |(_, life)| *life)
    }

    /// Whether lines may still be added to a segment, or its torn end be cut off.
    pub fn may_change(&self, name: &SegmentName) -> bool {
        let is_last = !self.names.iter().any(|other| other.writer == name.writer && other.number > name.number);
        is_last && self.life(&name.writer) != Life::Settled
    }
}

impl Scan {
    /// Reads on from a place between two lines.
    pub fn open(path: &Path, offset: u64) -> io::Result<Self> {
        Self::open_for(path, offset, u64::MAX)
    }

    /// Reads on where some bytes are expected; there may be more.
    pub fn open_for(path: &Path, offset: u64, expected: u64) -> io::Result<Self> {
        let mut file = regular::open_to_read(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let buffer = usize::try_from(expected).map_or(MAX_BUFFER, |expected| expected.clamp(1, MAX_BUFFER));
        Ok(Self { file: BufReader::with_capacity(buffer, file), offset, line: Vec::with_capacity(buffer.min(USUAL_LINE)) })
    }

    /// The next line; `None` at the end of what is written so far.
    pub fn next_line(&mut self) -> io::Result<Option<Raw<'_>>> {
        self.line.clear();
        let read = (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut self.line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        let start = self.offset;
        self.offset += read;
        let has_end = self.line.last() == Some(&b'\n');
        if has_end {
            self.line.pop();
            if ledger::read(&self.line).is_err() {
                // A writer that cut off a torn line and went on may have done so between two of our reads.
                self.file.get_ref().read_exact_at(&mut self.line, start)?;
            }
        }
        let is_tail = !has_end && read < MAX_LINE;
        Ok(Some(Raw { start, end: self.offset, is_tail, bytes: &self.line }))
    }
}

impl Raw<'_> {
    /// As [`ledger::is_intact_open`].
    pub fn is_intact_open(&self) -> bool {
        ledger::is_intact_open(self.bytes)
    }

    /// Calls back with each record that is intact; returns what is wrong with the rest.
    pub fn each(&self, mut found: impl FnMut(Line<'_>)) -> Result<(), LineFault> {
        let fault = match ledger::read(self.bytes) {
            Ok(line) => {
                found(line);
                return Ok(());
            }
            Err(fault) => fault,
        };
        for range in ledger::split_glued(self.bytes) {
            if let Some(Ok(line)) = self.bytes.get(range).map(ledger::read) {
                found(line);
            }
        }
        Err(fault)
    }
}

/// The first of a writer's segments that may hold an open without its close, by the last header that can be read; or the segment that
/// another version wrote.
pub fn first_open<'s>(directory: &Path, segments: &[&'s SegmentName]) -> io::Result<Result<u32, (&'s SegmentName, u32)>> {
    for segment in segments.iter().rev() {
        match header(&directory.join(segment.to_string()))? {
            Ok(header) => return Ok(Ok(header.oldest_open)),
            Err(LineFault::Version(version)) => return Ok(Err((segment, version))),
            // The header before it, then, says where to begin.
            Err(_) => {}
        }
    }
    Ok(Ok(1))
}

/// Reads a segment's first line.
pub fn header(path: &Path) -> io::Result<Result<Header<'static>, LineFault>> {
    let mut scan = Scan::open_for(path, 0, 1_024)?;
    let Some(raw) = scan.next_line()? else { return Ok(Err(LineFault::Shape)) };
    Ok(match ledger::read(raw.bytes) {
        Ok(Line { record: Record::Segment(header), .. }) => Ok(Header { writer: header.writer.into_owned().into(), ..header }),
        Ok(_) => Err(LineFault::Shape),
        Err(fault) => Err(fault),
    })
}
