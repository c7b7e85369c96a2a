//! Disks that are full, tear lines, break for good, or come back.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::disk::{Disk, Segment};
use super::*;

/// A real directory that takes so many bytes more, and then fails.
#[derive(Default)]
pub(super) struct Failing {
    pub(super) room: AtomicU64,
    /// The calls of `cut` that fail.
    broken_cuts: AtomicU64,
}

struct FailingDirectory(RealDisk, Arc<Failing>);

struct FailingSegment(Arc<dyn Segment>, Arc<Failing>);

impl Disk for FailingDirectory {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(FailingSegment(self.0.create(name)?, self.1.clone())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }
}

impl Segment for FailingSegment {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.1.room.load(Ordering::Relaxed)).unwrap();
        let taken = bytes.len().min(room);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1.room.fetch_sub(taken as u64, Ordering::Relaxed);
        self.0.append(&bytes[..taken])
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        if self.1.broken_cuts.load(Ordering::Relaxed) > 0 {
            self.1.broken_cuts.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other("the disk is broken"));
        }
        self.0.cut(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn is_there(&self) -> bool {
        self.0.is_there()
    }
}

pub(super) fn on_failing_disk(state: &TempDir, room: u64) -> (Ledger, Arc<Failing>) {
    let directory = directory(state.path());
    disk::make_directory(&directory).unwrap();
    let failing = Arc::new(Failing { room: AtomicU64::new(room), ..Failing::default() });
    let disk = Arc::new(FailingDirectory(RealDisk(directory.clone()), failing.clone()));
    let (lock, name) = WriterLock::take(&directory, NOW).unwrap();
    let writer = Writer::new(disk, name, SETTINGS.segment_bytes, false);
    (Ledger::with(directory, writer, LedgerSync::Process, Some(lock)), failing)
}

/// Waits until the writer would try again; it looks at the clock itself.
pub(super) fn tend_until(ledger: &Ledger, is_done: impl Fn(&Condition) -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_done(&ledger.condition()) {
        assert!(std::time::Instant::now() < deadline, "{:?}", ledger.condition());
        ledger.tend(NOW);
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn g3_a_full_disk_refuses_what_is_new_and_keeps_what_is_in_flight() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, failing) = on_failing_disk(&state, u64::MAX);
    let tickets: Vec<Ticket> = (0..20).map(|nth| ledger.open(&opened(nth)).unwrap()).collect();
    failing.room.store(100, Ordering::Relaxed);
    assert!(ledger.open(&opened(100)).unwrap_err().to_string().contains("can't be written"));
    for (nth, ticket) in (0..).zip(tickets) {
        assert!(matches!(ticket.close(&closed(nth)), Closed::Kept(_)));
    }
    assert!(ledger.open(&opened(101)).is_err());
    assert_eq!((ledger.condition().kept, ledger.condition().in_flight), (20, 20));
    assert_eq!((ledger.kept(), ledger.is_in_trouble()), (20, true));
    assert!(records(&state).1.is_empty());

    failing.room.store(u64::MAX, Ordering::Relaxed);
    tend_until(&ledger, |condition| condition.trouble.is_none());
    entry(&ledger, 200);
    let (opens, closes) = records(&state);
    assert_eq!((opens.len(), closes.len(), ledger.condition().kept), (21, 21, 0));
    assert!(closes.values().all(|ends| ends == &[End::Ok]));
    assert_eq!((ledger.kept(), ledger.is_in_trouble()), (0, false));
    drop(ledger);
    assert_eq!(verify::verify(&directory(state.path()), None).unwrap().findings, []);
}

/// Whatever part of a line the disk took, no later line is glued to it.
#[test]
fn g3_a_line_that_was_written_in_part_leaves_no_trace() {
    for room in (1..1_200).step_by(13) {
        let state = tempfile::tempdir().unwrap();
        let (ledger, failing) = on_failing_disk(&state, u64::MAX);
        entry(&ledger, 0);
        let ticket = ledger.open(&opened(1)).unwrap();
        failing.room.store(room, Ordering::Relaxed);
        let kept = matches!(ticket.close(&closed(1)), Closed::Kept(_));
        failing.room.store(u64::MAX, Ordering::Relaxed);
        tend_until(&ledger, |condition| condition.trouble.is_none());
        entry(&ledger, 2);
        let (opens, closes) = records(&state);
        assert_eq!((opens.len(), closes.len()), (3, 3), "{room} bytes, kept: {kept}");
        drop(ledger);
        let verdict = verify::verify(&directory(state.path()), None).unwrap();
        assert_eq!((verdict.findings, verdict.segments), (vec![], 1), "{room} bytes");
    }
}

#[test]
fn g3_where_a_torn_line_cannot_be_cut_off_a_new_segment_follows() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, failing) = on_failing_disk(&state, u64::MAX);
    let ticket = ledger.open(&opened(1)).unwrap();
    failing.room.store(50, Ordering::Relaxed);
    failing.broken_cuts.store(1, Ordering::Relaxed);
    assert!(matches!(ticket.close(&closed(1)), Closed::Kept(_)));
    failing.room.store(u64::MAX, Ordering::Relaxed);
    tend_until(&ledger, |condition| condition.trouble.is_none());
    entry(&ledger, 2);
    let (opens, closes) = records(&state);
    assert_eq!((opens.len(), closes.len(), files(&state).len()), (2, 2, 2));
    drop(ledger);
    let findings = verify::verify(&directory(state.path()), None).unwrap().findings;
    assert_eq!(findings.len(), 1, "the torn line itself is reported: {findings:?}");
    assert!(findings[0].message.contains("torn"));
}

/// Nothing is in flight and nobody asks: the probe alone has to find out.
#[test]
fn g3_an_idle_ledger_finds_out_by_itself_that_there_is_room_again() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, failing) = on_failing_disk(&state, 0);
    assert!(ledger.open(&opened(1)).is_err());
    assert_eq!(files(&state).len(), 0, "a segment without a header is taken back");
    failing.room.store(u64::MAX, Ordering::Relaxed);
    tend_until(&ledger, |condition| condition.trouble.is_none());
    entry(&ledger, 1);
    let name = SegmentName::parse(files(&state)[0].file_name().unwrap().to_str().unwrap()).unwrap();
    assert_eq!(name.number, 1, "the number is given again: a gap would mean that a segment was lost");
    assert_eq!(records(&state).1.len(), 1);
}

#[test]
fn g3_a_segment_that_was_deleted_is_not_written_to() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    entry(&ledger, 1);
    std::fs::remove_file(&files(&state)[0]).unwrap();
    ledger.tend(NOW);
    assert!(ledger.condition().trouble.is_some());
    tend_until(&ledger, |condition| condition.trouble.is_none());
    entry(&ledger, 2);
    assert_eq!(records(&state).0, [id(2)]);
}

#[test]
fn g3_a_directory_that_cannot_be_made_is_refused_with_its_name() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("ledger"), b"a file stands in the way").unwrap();
    let Err(error) = Ledger::start(state.path(), SETTINGS, false, NOW) else { panic!("started") };
    let said = error.to_string();
    assert!(matches!(error, StartError::Unusable { .. }));
    assert!(said.contains(&state.path().join("ledger").display().to_string()) && said.contains("writable"), "{said}");
}
