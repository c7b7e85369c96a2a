//! The names of the ledger's files: `20260131T235959.999Z-4711-000001.jsonl` is the first segment of the process 4711 that started then,
//! `20260131T235959.999Z-4711.lock` is locked as long as that process lives.

use std::fmt;
use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ledger::time;

const SEGMENT: &str = ".jsonl";
const LOCK: &str = ".lock";

/// A segment's name; segments of one writer sort in the order of their writing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    pub writer: String,
    pub number: u32,
}

impl SegmentName {
    pub fn parse(file: &str) -> Option<Self> {
        let (writer, number) = file.strip_suffix(SEGMENT)?.rsplit_once('-')?;
        let name = Self { writer: is_writer(writer).then(|| writer.to_owned())?, number: number.parse().ok()? };
        (name.to_string() == file).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:06}{SEGMENT}", self.writer, self.number)
    }
}

/// The name of a process that writes.
pub fn writer(started_unix_ms: u64, pid: u32) -> String {
    let started: String = time::text(started_unix_ms).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{started}-{pid}")
}

pub fn lock_file(directory: &Path, writer: &str) -> PathBuf {
    directory.join(format!("{writer}{LOCK}"))
}

/// All segments of a ledger, in order.
pub fn segments(directory: &Path) -> io::Result<Vec<SegmentName>> {
    let mut found = listed(directory, Kind::File, SegmentName::parse)?;
    found.sort();
    Ok(found)
}

/// The writers that hold a lock file: those that live, and those that did not come to a good end.
pub fn locked_writers(directory: &Path) -> io::Result<Vec<String>> {
    let mut found = listed(directory, Kind::File, |file| locked(file).map(str::to_owned))?;
    found.sort();
    Ok(found)
}

/// What has the name of a segment or of a writer's lock and is no regular file: a pipe, a device, a folder. Nobody opens it.
pub fn strangers(directory: &Path) -> io::Result<Vec<String>> {
    let is_ours = |file: &str| SegmentName::parse(file).is_some() || locked(file).is_some();
    let mut found = listed(directory, Kind::Other, |file| is_ours(file).then(|| file.to_owned()))?;
    found.sort();
    Ok(found)
}

fn locked(file: &str) -> Option<&str> {
    file.strip_suffix(LOCK).filter(|writer| is_writer(writer))
}

fn is_writer(text: &str) -> bool {
    text.split_once('-').is_some_and(|(started, pid)| {
        started.len() == "20260131T235959.999Z".len() && !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// What stands behind a name of the directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A regular file, or a link to one.
    File,
    Other,
}

fn listed<T>(directory: &Path, kind: Kind, parse: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Some(parsed) = entry.file_name().to_str().and_then(&parse) else { continue };
        match kind_of(&entry) {
            Ok(its) if its == kind => found.push(parsed),
            Ok(_) => {}
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn kind_of(entry: &DirEntry) -> io::Result<Kind> {
    let its = entry.file_type()?;
    let is_file =
        if its.is_symlink() { std::fs::metadata(entry.path()).is_ok_and(|found| found.is_file()) } else { its.is_file() };
    Ok(if is_file { Kind::File } else { Kind::Other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_are_passed_over() {
        let name = SegmentName { writer: writer(1_767_225_599_001, 4711), number: 7 };
        assert_eq!(name.to_string(), "20251231T235959.001Z-4711-000007.jsonl");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        for stranger in
            ["", "x.jsonl", "notes-1.jsonl", "20251231T235959.001Z-4711-7.jsonl", "20251231T235959.001Z-4711-000007.jsonl.gz"]
        {
            assert_eq!(SegmentName::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn segments_of_a_writer_sort_by_number_even_after_a_million() {
        let name = |number| SegmentName { writer: writer(0, 1), number };
        assert!(name(999_999) < name(1_000_000));
    }
}
