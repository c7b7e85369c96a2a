//! Processes that start, run side by side, rotate, and are killed.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ops::books::store::usage;
use crate::ops::host::clock;

#[test]
fn g1_an_entry_is_in_the_file_when_close_returns() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    for nth in 0..100 {
        entry(&ledger, nth);
        assert_eq!(records(&state).1.len() as u64, nth + 1);
    }
}

#[test]
fn only_the_owner_reads_the_files() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    entry(&ledger, 1);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(ledger.directory()), 0o700);
    for file in std::fs::read_dir(ledger.directory()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn a_second_process_is_refused_and_an_upgrade_is_not() {
    let state = tempfile::tempdir().unwrap();
    let first = start(&state);
    let Err(error) = Ledger::start(state.path(), SETTINGS, false, NOW) else { panic!("started") };
    let said = error.to_string();
    assert!(matches!(error, StartError::Busy { .. }));
    assert!(said.contains(&std::process::id().to_string()) && said.contains("--upgrade"), "{said}");

    let (second, recovery) = Ledger::start(state.path(), SETTINGS, true, NOW).unwrap();
    assert_eq!(recovery, Recovery::default());
    std::thread::scope(|scope| {
        for (ledger, from) in [(&first, 0), (&second, 10_000)] {
            for part in 0..4 {
                scope.spawn(move || (0..250).for_each(|nth| entry(ledger, from + part * 1_000 + nth)));
            }
        }
    });
    assert_eq!(files(&state).len(), 2);
    let verdict = verify::verify(first.directory(), None).unwrap();
    assert_eq!((verdict.closes, verdict.findings), (2_000, vec![]));

    drop(first);
    assert!(Ledger::start(state.path(), SETTINGS, false, NOW).is_err(), "the upgraded one still runs");
    drop(second);
    start(&state);
}

#[test]
fn g3_a_process_that_never_served_leaves_a_segment_that_disturbs_nobody() {
    let state = tempfile::tempdir().unwrap();
    entry(&start(&state), 1);
    drop(start(&state));
    kill(start(&state), Vec::new());
    let (ledger, recovery) = Ledger::start(state.path(), SETTINGS, false, NOW).unwrap();
    assert_eq!((recovery, files(&state).len()), (Recovery::default(), 4));
    let store = Store::open(state.path()).unwrap();
    assert_eq!(ledger.fold(&store).unwrap(), Folded { entries: 1, ..Folded::default() });
    let (marks, totals) = store.with(usage::snapshot).unwrap();
    let verdict = verify::verify(ledger.directory(), Some((&marks, totals))).unwrap();
    assert_eq!((verdict.segments, verdict.missing, verdict.closes, verdict.findings), (4, 0, 1, vec![]));
    // The one that is written to stays.
    let long_after = clock::now_unix_ms() + 10 * 86_400_000;
    assert_eq!(fold::remove_old(ledger.directory(), &store, Duration::from_secs(86_400), long_after).unwrap(), 3);
    entry(&ledger, 2);
    let verdict = verify::verify(ledger.directory(), None).unwrap();
    assert_eq!((verdict.segments, verdict.findings), (1, vec![]));
}

#[test]
fn g1_what_a_killed_process_left_open_is_closed_once_as_interrupted() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    entry(&ledger, 1);
    let tickets = (2..7).map(|nth| ledger.open(&opened(nth)).unwrap()).collect();
    kill(ledger, tickets);

    let (ledger, recovery) = Ledger::start(state.path(), SETTINGS, false, NOW).unwrap();
    assert_eq!(recovery, Recovery { interrupted: 5, ..Recovery::default() });
    kill(ledger, Vec::new());
    let (_ledger, recovery) = Ledger::start(state.path(), SETTINGS, false, NOW).unwrap();
    assert_eq!(recovery, Recovery::default());
    let (_, closes) = records(&state);
    assert_eq!(closes.len(), 6);
    for (of, ends) in closes {
        assert_eq!(ends, [if of == id(1) { End::Ok } else { End::Interrupted }]);
    }
}

/// The recovery was killed after it wrote its closes, before it removed the lock file of the dead.
#[test]
fn g1_a_recovery_that_was_killed_itself_repeats_nothing() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    let tickets = (0..5).map(|nth| ledger.open(&opened(nth)).unwrap()).collect();
    let lock_of = |ledger: &Ledger| ledger.files.lock.as_ref().unwrap().kept_name();
    let mut locks = vec![lock_of(&ledger)];
    kill(ledger, tickets);
    for _ in 0..3 {
        let (ledger, _) = Ledger::start(state.path(), SETTINGS, false, NOW).unwrap();
        locks.push(lock_of(&ledger));
        kill(ledger, Vec::new());
        locks.iter().for_each(|lock| std::fs::write(lock, b"").unwrap());
    }
    let (_, closes) = records(&state);
    assert_eq!(closes.len(), 5);
    assert!(closes.values().all(|ends| ends == &[End::Interrupted]), "{closes:?}");
}

#[test]
fn segments_follow_each_other_by_size_and_by_day() {
    let state = tempfile::tempdir().unwrap();
    let settings = LedgerSettings { segment_bytes: 4_096, ..SETTINGS };
    let ledger = Ledger::start(state.path(), settings, false, NOW).unwrap().0;
    (0..100).for_each(|nth| entry(&ledger, nth));
    let by_size = files(&state).len();
    assert!(by_size > 10, "{by_size}");
    assert!(files(&state).iter().all(|file| std::fs::metadata(file).unwrap().len() < 4_096 + 1_000));

    let day = 86_400_000;
    let at = |nth, unix_ms| {
        let mut open = opened(nth);
        open.sent.opened_at_unix_ms = unix_ms;
        let close = Close { closed_at_unix_ms: unix_ms, ..closed(nth) };
        drop(ledger.open(&open).unwrap().close(&close));
        files(&state).len()
    };
    let tomorrow = at(200, NOW + day);
    assert_eq!(tomorrow, by_size + 1);
    assert_eq!(at(201, NOW), tomorrow, "a clock that is set back starts no segment");
    assert_eq!(at(202, NOW + 2 * day), tomorrow + 1);
    assert_eq!(verify::verify(ledger.directory(), None).unwrap().findings, []);
}

/// A start reads from the first segment that holds something open, and finds it there.
#[test]
fn g1_an_open_many_segments_ago_is_found() {
    let state = tempfile::tempdir().unwrap();
    let settings = LedgerSettings { segment_bytes: 4_096, ..SETTINGS };
    let ledger = Ledger::start(state.path(), settings, false, NOW).unwrap().0;
    (0..20).for_each(|nth| entry(&ledger, nth));
    let ticket = ledger.open(&opened(1_000)).unwrap();
    let held = ticket.segment;
    (20..80).for_each(|nth| entry(&ledger, nth));
    let last = read::header(files(&state).last().unwrap()).unwrap().unwrap();
    assert_eq!((last.oldest_open, held > 1), (held, true));
    assert!(last.number > held + 3);
    // Damage before that segment would be seen if it were read.
    std::fs::write(&files(&state)[0], b"not a ledger\n").unwrap();
    kill(ledger, vec![ticket]);
    let (_ledger, recovery) = Ledger::start(state.path(), settings, false, NOW).unwrap();
    assert_eq!(recovery, Recovery { interrupted: 1, ..Recovery::default() });
    assert_eq!(records(&state).1[&id(1_000)], [End::Interrupted]);
}

#[test]
fn a_clock_that_was_set_back_meets_no_old_name() {
    let state = tempfile::tempdir().unwrap();
    for nth in 0..5 {
        entry(&start(&state), nth);
    }
    assert_eq!(files(&state).len(), 5);
    assert_eq!(verify::verify(&directory(state.path()), None).unwrap().closes, 5);
}

#[test]
fn a_segment_of_another_version_is_refused_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    entry(&ledger, 1);
    kill(ledger, Vec::new());
    let file = &files(&state)[0];
    let mut line = br#"{"v":3,"record":"segment","new":true"#.to_vec();
    crate::domain::ledger::seal(&mut line, 0);
    std::fs::write(file, &line).unwrap();

    let (ledger, recovery) = Ledger::start(state.path(), SETTINGS, false, NOW).unwrap();
    assert_eq!(recovery.refused, [file.file_name().unwrap().to_str().unwrap()]);
    entry(&ledger, 2);
    let store = Store::open(state.path()).unwrap();
    let folded = fold::fold_once(ledger.directory(), &store).unwrap();
    assert_eq!((folded.entries, folded.refused.len()), (1, 1));
    let findings = verify::verify(ledger.directory(), None).unwrap().findings;
    assert!(findings.len() == 1 && findings[0].message.contains("another version (v3"), "{findings:?}");
    assert_eq!(std::fs::read(file).unwrap(), line);
}

#[test]
fn a_ticket_that_is_dropped_is_closed_by_the_next_start() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    drop(ledger.open(&opened(1)).unwrap());
    drop(ledger);
    assert_eq!(Ledger::start(state.path(), SETTINGS, false, NOW).unwrap().1.interrupted, 1);
}
