//! What `ledger.sync` promises (G2).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::disk::{Disk, Segment};
use super::*;

/// Counts what reached the disk; fails when it is told to.
#[derive(Default)]
struct Counting {
    syncs: AtomicUsize,
    names: AtomicUsize,
    fails: AtomicBool,
}

struct CountingDirectory(RealDisk, Arc<Counting>);

struct CountingSegment(Arc<dyn Segment>, Arc<Counting>);

impl Disk for CountingDirectory {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(CountingSegment(self.0.create(name)?, self.1.clone())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.1.names.fetch_add(1, Ordering::SeqCst);
        self.0.sync_names()
    }
}

impl Segment for CountingSegment {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.0.cut(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        if self.1.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk lost its cache"));
        }
        self.0.sync()
    }

    fn is_there(&self) -> bool {
        self.0.is_there()
    }
}

fn counting(state: &TempDir, sync: LedgerSync) -> (Ledger, Arc<Counting>) {
    let directory = directory(state.path());
    disk::make_directory(&directory).unwrap();
    let counting = Arc::new(Counting::default());
    let disk = Arc::new(CountingDirectory(RealDisk(directory.clone()), counting.clone()));
    let (lock, name) = WriterLock::take(&directory, NOW).unwrap();
    let writer = Writer::new(disk, name, SETTINGS.segment_bytes, sync != LedgerSync::Process);
    (Ledger::with(directory, writer, sync, Some(lock)), counting)
}

#[test]
fn g2_process_never_waits_for_the_disk() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, counting) = counting(&state, LedgerSync::Process);
    entry(&ledger, 1);
    drop(ledger);
    assert_eq!(counting.syncs.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_each_entry_is_on_the_disk_before_its_answer_ends_and_many_share_a_flush() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, counting) = counting(&state, LedgerSync::Each);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for nth in 0..20 {
                    let nth = task * 100 + nth;
                    let closed = ledger.open(&opened(nth)).unwrap().close(&closed(nth));
                    assert!(matches!(closed, Closed::Flushing(_)));
                    assert!(closed.durable().await);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let syncs = counting.syncs.load(Ordering::SeqCst);
    assert!((1..320).contains(&syncs), "{syncs} flushes for 320 entries");
    assert_eq!(counting.names.load(Ordering::SeqCst), 1, "a new file's name is made durable, once");
    assert_eq!(records(&state).1.len(), 320);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_disk_that_fails_is_not_trusted_again() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, counting) = counting(&state, LedgerSync::Each);
    let ticket = ledger.open(&opened(1)).unwrap();
    counting.fails.store(true, Ordering::SeqCst);
    assert!(!ticket.close(&closed(1)).durable().await);
    assert!(ledger.open(&opened(2)).is_err());
    counting.fails.store(false, Ordering::SeqCst);
    while ledger.condition().trouble.is_some() {
        ledger.tend(NOW);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(ledger.open(&opened(3)).unwrap().close(&closed(3)).durable().await);
    assert_eq!(files(&state).len(), 2, "what follows goes to a segment of its own");
}

#[test]
fn g2_an_interval_flushes_without_being_asked() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, counting) = counting(&state, LedgerSync::Interval(Duration::from_millis(1)));
    entry(&ledger, 1);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while counting.syncs.load(Ordering::SeqCst) == 0 {
        assert!(std::time::Instant::now() < deadline, "never flushed");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    entry(&ledger, 2);
    drop(ledger);
    assert!(counting.syncs.load(Ordering::SeqCst) >= 2, "the last lines are flushed at the end");
}
