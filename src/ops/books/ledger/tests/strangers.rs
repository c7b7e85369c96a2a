//! What is no file where one of ours could be: nobody waits for it, and somebody says so.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const FIFO: &str = "20251130T135443.505Z-1-000001.jsonl";
const STRANGERS: [&str; 5] = [
    FIFO,
    "20251130T135443.505Z-2-000001.jsonl",
    "20251130T135443.505Z-3-000001.jsonl",
    "20251130T135443.505Z-4-000001.jsonl",
    "20251130T135443.505Z-4.lock",
];

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A pipe, a device, a folder and a link to a pipe as segments, and a pipe as the lock of a writer.
fn litter(directory: &Path) {
    let [pipe, device, folder, link, lock] = STRANGERS.map(|name| directory.join(name));
    fifo(&pipe);
    symlink("/dev/zero", device).unwrap();
    std::fs::create_dir(folder).unwrap();
    symlink(FIFO, link).unwrap();
    fifo(&lock);
}

#[test]
fn what_is_no_file_is_passed_over_by_the_start_the_folds_the_export_and_the_proof() {
    let state = tempfile::tempdir().unwrap();
    disk::make_directory(&directory(state.path())).unwrap();
    litter(&directory(state.path()));
    let ledger = start(&state);
    let store = Store::open(state.path()).unwrap();
    (0..3).for_each(|nth| entry(&ledger, nth));
    ledger.meet(HashMap::new(), Box::new(|_| None)).unwrap();
    ledger.look_around(NOW).unwrap();
    let folded = ledger.fold(&store).unwrap();
    assert_eq!((folded.entries, &*folded.strangers), (3, &STRANGERS.map(str::to_owned)[..]));
    assert_eq!(fold::remove_old(ledger.directory(), &store, Duration::ZERO, NOW).unwrap(), 0);

    let mut entries = 0;
    let missed = export::each_entry(ledger.directory(), |_| {
        entries += 1;
        Ok(())
    });
    assert_eq!((entries, missed.unwrap().strangers), (3, 5));
    let verdict = verify::verify(ledger.directory(), None).unwrap();
    let found: Vec<_> = verdict.findings.iter().map(|finding| finding.segment.clone().unwrap()).collect();
    assert_eq!((found, verdict.closes), (STRANGERS.map(str::to_owned).to_vec(), 3), "{:?}", verdict.findings);
    assert!(verdict.findings[0].to_string().contains("no regular file"), "{}", verdict.findings[0]);
    drop(ledger);
    drop(start(&state));
}

/// A segment that was taken away is missed, whatever stands in its place.
#[test]
fn a_pipe_in_the_place_of_a_segment_is_a_segment_that_is_missing() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    entry(&ledger, 0);
    let store = Store::open(state.path()).unwrap();
    ledger.fold(&store).unwrap();
    drop(ledger);
    let [segment] = &files(&state)[..] else { panic!("one segment") };
    std::fs::remove_file(segment).unwrap();
    fifo(segment);
    let (marks, totals) = store.with(crate::ops::books::store::usage::snapshot).unwrap();
    let verdict = verify::verify(&directory(state.path()), Some((&marks, totals))).unwrap();
    assert_eq!(verdict.missing, 1, "{:?}", verdict.findings);
}

#[test]
fn a_lock_that_is_no_file_is_named_and_not_waited_for() {
    for lock in ["start.lock", "turn.lock", "next-turn.lock"] {
        let state = tempfile::tempdir().unwrap();
        disk::make_directory(&directory(state.path())).unwrap();
        fifo(&directory(state.path()).join(lock));
        let started = Ledger::start(state.path(), SETTINGS, false, NOW).map_err(|error| error.to_string());
        let met =
            started.and_then(|(ledger, _)| ledger.meet(HashMap::new(), Box::new(|_| None)).map_err(|error| error.to_string()));
        let said = met.unwrap_err();
        assert!(said.contains(lock) && said.contains("no regular file"), "{said}");
    }
}
