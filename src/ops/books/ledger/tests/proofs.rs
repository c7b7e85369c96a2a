//! `verify` says what is wrong, and nothing about what is not.

use super::*;
use crate::ops::books::store::Store;
use crate::ops::books::store::usage;

fn findings(state: &TempDir) -> Vec<String> {
    let verdict = verify::verify(&directory(state.path()), None).unwrap();
    verdict.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn g5_what_is_in_flight_is_no_damage() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    entry(&ledger, 1);
    let tickets: Vec<Ticket> = (2..5).map(|nth| ledger.open(&opened(nth)).unwrap()).collect();
    let verdict = verify::verify(ledger.directory(), None).unwrap();
    assert_eq!((verdict.opens, verdict.closes, verdict.in_flight, verdict.to_recover), (4, 1, 3, 0));
    assert_eq!(verdict.findings, []);
    kill(ledger, tickets);
    let verdict = verify::verify(&directory(state.path()), None).unwrap();
    assert_eq!((verdict.in_flight, verdict.to_recover, verdict.findings), (0, 3, vec![]));
}

/// A writer that never stops, and a reader that looks all the time.
#[test]
fn g5_live_files_are_never_called_damaged() {
    let state = tempfile::tempdir().unwrap();
    let settings = LedgerSettings { segment_bytes: 16_384, ..SETTINGS };
    let ledger = Ledger::start(state.path(), settings, false, NOW).unwrap().0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|part| (part, &ledger))
            .map(|(part, ledger)| scope.spawn(move || (0..400).for_each(|nth| entry(ledger, part * 1_000 + nth))))
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            assert_eq!(findings(&state), [""; 0]);
        }
    });
}

#[test]
fn g5_a_record_that_is_missing_is_named() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    (0..3).for_each(|nth| entry(&ledger, nth));
    drop(ledger);
    let file = files(&state)[0].clone();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let without = |nth: usize| {
        let kept: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != nth).map(|(_, line)| *line).collect();
        std::fs::write(&file, kept.join("\n") + "\n").unwrap();
        findings(&state)
    };
    let lost_close = without(2);
    assert!(
        lost_close.iter().any(|said| said.contains(&format!("request {} was opened and never closed", id(0)))),
        "{lost_close:?}"
    );
    assert!(lost_close.iter().any(|said| said.contains("line 3 stands where line 2 should")), "{lost_close:?}");
    let lost_open = without(3);
    assert!(
        lost_open.iter().any(|said| said.contains(&format!("request {} was closed and never opened", id(1)))),
        "{lost_open:?}"
    );
}

#[test]
fn g5_sums_that_were_changed_in_the_database_are_named() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    (0..10).for_each(|nth| entry(&ledger, nth));
    let store = Store::open(state.path()).unwrap();
    fold::fold_once(ledger.directory(), &store).unwrap();
    let check = || {
        let (marks, totals) = store.with(usage::snapshot).unwrap();
        let verdict = verify::verify(ledger.directory(), Some((&marks, totals))).unwrap();
        verdict.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(check(), "");
    store.with(|conn| conn.execute_batch("UPDATE usage SET cost_nano_usd = cost_nano_usd + 1 WHERE model = 'gpt-5'")).unwrap();
    assert!(check().contains("were added to them"), "{}", check());
    store.with(|conn| conn.execute_batch("UPDATE ledger_segments SET tokens = tokens - 1")).unwrap();
    assert!(check().contains("but it holds"), "{}", check());
}

#[test]
fn g5_a_segment_that_is_gone_is_named_unless_it_was_removed_for_its_age() {
    let state = tempfile::tempdir().unwrap();
    let settings = LedgerSettings { segment_bytes: 4_096, ..SETTINGS };
    let ledger = Ledger::start(state.path(), settings, false, NOW).unwrap().0;
    (0..40).for_each(|nth| entry(&ledger, nth));
    drop(ledger);
    let store = Store::open(state.path()).unwrap();
    let all = files(&state);
    let name = |nth: usize| all[nth].file_name().unwrap().to_str().unwrap().to_owned();
    let bytes: Vec<Vec<u8>> = all.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let missing = |gone: &[usize], with_roll_ups: bool| {
        gone.iter().for_each(|nth| std::fs::remove_file(&all[*nth]).unwrap());
        let (marks, totals) = store.with(usage::snapshot).unwrap();
        let verdict = verify::verify(&directory(state.path()), with_roll_ups.then_some((&marks, totals))).unwrap();
        gone.iter().for_each(|nth| std::fs::write(&all[*nth], &bytes[*nth]).unwrap());
        let said = verdict.findings.iter().map(ToString::to_string).filter(|said| said.contains("missing")).collect::<Vec<_>>();
        (verdict.missing, said.join("\n"))
    };
    // Without a fold the gap alone tells, the begin and the end do not.
    assert_eq!(missing(&[2], false), (1, format!("{}: is missing; no fold has seen it", name(2))));
    assert_eq!(missing(&[2, 3, 4], true).0, 3);
    assert!(missing(&[2, 3, 4], true).1.starts_with(&format!("{}: and those behind it, 3 in all, are missing", name(2))));
    assert_eq!(missing(&[0, all.len() - 1], true).0, 0);
    fold::fold_once(&directory(state.path()), &store).unwrap();
    for nth in [0, 2, all.len() - 1] {
        let (count, said) = missing(&[nth], true);
        assert!(count == 1 && said.starts_with(&format!("{}: is missing; the roll-ups took", name(nth))), "{said}");
    }
    // Whoever is killed between the word and the deed has removed nothing.
    assert_eq!(store.with(|conn| usage::set_removed(conn, &name(2))).unwrap(), 1);
    assert_eq!(missing(&[], true), (0, String::new()));
    assert_eq!(missing(&[2], true), (0, String::new()));
    let later = crate::ops::host::clock::now_unix_ms() + 86_400_000;
    let removed = fold::remove_old(&directory(state.path()), &store, Duration::from_secs(1), later).unwrap();
    assert_eq!((removed, missing(&[], true)), (all.len(), (0, String::new())));
}
