//! Entries and roll-ups: each entry is added once, whoever is killed when.

use super::*;
use crate::domain::ledger::{Sums, UNLISTED};
use crate::ops::books::store::Store;
use crate::ops::books::store::usage::{self, By};

fn store(state: &TempDir) -> Store {
    Store::open(state.path()).unwrap()
}

fn reported(store: &Store, by: By) -> Vec<(String, Sums)> {
    store.with(|conn| usage::report(conn, by, 0, u64::MAX)).unwrap()
}

fn total(store: &Store) -> Sums {
    let mut total = Sums::default();
    reported(store, By::Day).iter().for_each(|(_, sums)| total.add(sums));
    total
}

fn sum_of(entries: impl Iterator<Item = u64>) -> Sums {
    let mut sums = Sums::default();
    entries.for_each(|nth| sums.add(&Sums::of(&closed(nth))));
    sums
}

fn assert_right(state: &TempDir, store: &Store) {
    let (marks, totals) = store.with(usage::snapshot).unwrap();
    let verdict = verify::verify(&directory(state.path()), Some((&marks, totals))).unwrap();
    assert_eq!(verdict.findings, []);
    assert_eq!(verdict.sums, total(store));
}

#[test]
fn g5_the_sum_of_the_roll_ups_is_the_sum_of_the_entries() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    for nth in 0..500 {
        entry(&ledger, nth);
        if nth % 90 == 0 {
            fold::fold_once(ledger.directory(), &store).unwrap();
        }
    }
    fold::fold_once(ledger.directory(), &store).unwrap();
    assert_eq!(fold::fold_once(ledger.directory(), &store).unwrap().entries, 0);
    assert_eq!(total(&store), sum_of(0..500));
    let by_client = reported(&store, By::Client);
    assert_eq!(
        by_client,
        [("team-b".to_owned(), sum_of((1..500).step_by(2))), ("team-a".to_owned(), sum_of((0..500).step_by(2)))]
    );
    assert_eq!(reported(&store, By::Day)[0].0, "2026-01-01");
    assert_eq!(reported(&store, By::Model).len(), 3);
    assert_eq!(reported(&store, By::Key)[0].0, "k1");
    assert_eq!(reported(&store, By::Upstream)[0].0, "troll");
    let spent = store.with(|conn| usage::spent(conn)).unwrap();
    assert_eq!(spent["team-a"], by_client[1].1.cost);
    assert_right(&state, &store);
}

#[test]
fn l4_the_condition_tells_what_is_not_folded_yet_and_for_how_long() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    let lag = || (ledger.condition().unfolded_bytes, ledger.condition().unfolded_for > Duration::ZERO);
    ledger.fold(&store).unwrap();
    assert_eq!(lag(), (0, false), "nothing is written yet but the begin");
    let bytes = || std::fs::metadata(&files(&state)[0]).unwrap().len();
    let header = bytes();
    (0..3).for_each(|nth| entry(&ledger, nth));
    let written = bytes();
    assert_eq!(lag(), (written - header, true));
    store.with(|conn| conn.execute_batch("ALTER TABLE usage RENAME TO moved")).unwrap();
    assert!(ledger.fold(&store).is_err());
    assert_eq!(lag(), (written - header, true), "a fold that failed took nothing");
    store.with(|conn| conn.execute_batch("ALTER TABLE moved RENAME TO usage")).unwrap();
    ledger.fold(&store).unwrap();
    assert_eq!(lag(), (0, false));
    entry(&ledger, 3);
    assert_eq!(lag(), (bytes() - written, true));
}

/// Every statement of the transaction fails once: nothing is added; then nothing is missing.
#[test]
fn a_fold_that_breaks_off_at_any_step_adds_each_entry_once() {
    for (table, event) in [
        ("ledger_ids", "INSERT"),
        ("usage", "INSERT"),
        ("usage", "UPDATE"),
        ("ledger_segments", "INSERT"),
        ("ledger_segments", "UPDATE"),
    ] {
        let state = tempfile::tempdir().unwrap();
        let (ledger, store) = (start(&state), store(&state));
        (0..10).for_each(|nth| entry(&ledger, nth));
        if event == "UPDATE" {
            fold::fold_once(ledger.directory(), &store).unwrap();
            (10..20).for_each(|nth| entry(&ledger, nth));
        }
        let before = total(&store);
        let trigger = format!("CREATE TRIGGER fails BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'killed'); END");
        store.with(|conn| conn.execute_batch(&trigger)).unwrap();
        assert!(fold::fold_once(ledger.directory(), &store).is_err(), "{table} {event}");
        assert_eq!(total(&store), before);
        store.with(|conn| conn.execute_batch("DROP TRIGGER fails")).unwrap();
        fold::fold_once(ledger.directory(), &store).unwrap();
        assert_eq!(total(&store), sum_of(0..if event == "UPDATE" { 20 } else { 10 }), "{table} {event}");
        assert_right(&state, &store);
    }
}

#[test]
fn several_processes_that_fold_at_once_add_each_entry_once() {
    let state = tempfile::tempdir().unwrap();
    let ledger = start(&state);
    std::thread::scope(|scope| {
        for part in 0..2 {
            let ledger = &ledger;
            scope.spawn(move || (0..400).for_each(|nth| entry(ledger, part * 1_000 + nth)));
        }
        for _ in 0..3 {
            let (state, ledger) = (&state, &ledger);
            scope.spawn(move || {
                let store = store(state);
                for _ in 0..20 {
                    fold::fold_once(ledger.directory(), &store).unwrap();
                }
            });
        }
    });
    let store = store(&state);
    fold::fold_once(ledger.directory(), &store).unwrap();
    assert_eq!(total(&store), sum_of((0..400).chain(1_000..1_400)));
    assert_right(&state, &store);
}

/// A backup that was copied back under another name.
#[test]
fn a_copy_of_a_segment_is_billed_once() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    (0..10).for_each(|nth| entry(&ledger, nth));
    drop(ledger);
    let copy = SegmentName { writer: names::writer(NOW + 5, 1), number: 1 };
    std::fs::copy(&files(&state)[0], directory(state.path()).join(copy.to_string())).unwrap();
    assert_eq!(fold::fold_once(&directory(state.path()), &store).unwrap().entries, 20);
    assert_eq!(total(&store), sum_of(0..10));
    let (_, totals) = store.with(usage::snapshot).unwrap();
    assert_eq!(totals.rolled_up, totals.segments);
}

#[test]
fn an_unfinished_line_is_folded_when_it_is_finished() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    (0..2).for_each(|nth| entry(&ledger, nth));
    let file = files(&state)[0].clone();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    let folded = fold::fold_once(ledger.directory(), &store).unwrap();
    assert_eq!((folded.entries, folded.damaged), (1, 0));
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(fold::fold_once(ledger.directory(), &store).unwrap().entries, 1);
    assert_eq!(total(&store), sum_of(0..2));
}

#[test]
fn old_segments_go_when_they_are_folded_and_the_roll_ups_stay() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    (0..10).for_each(|nth| entry(&ledger, nth));
    drop(ledger);
    let ledger = start(&state);
    entry(&ledger, 10);
    let day = Duration::from_secs(86_400);
    let remove = |now| fold::remove_old(ledger.directory(), &store, 30 * day, now).unwrap();
    let later = crate::ops::host::clock::now_unix_ms() + 31 * 86_400_000;
    assert_eq!(remove(later), 0, "not folded yet");
    fold::fold_once(ledger.directory(), &store).unwrap();
    assert_eq!(remove(crate::ops::host::clock::now_unix_ms()), 0, "not old yet");
    assert_eq!(remove(later), 1, "the segment in use stays");
    assert_eq!(files(&state).len(), 1);
    assert_eq!(total(&store), sum_of(0..11));
    let (marks, totals) = store.with(usage::snapshot).unwrap();
    assert_eq!(verify::verify(ledger.directory(), Some((&marks, totals))).unwrap().findings, []);
    fold::fold_once(ledger.directory(), &store).unwrap();
    assert_eq!(total(&store), sum_of(0..11));
}

#[test]
fn g5_names_that_nobody_configured_are_one_row_and_stay_in_their_entries() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    for nth in 0..10_000 {
        let listed_as = if nth % 10 == 0 { "claude-*" } else { UNLISTED };
        let sent = Sent { model: Some(format!("invented-{nth}").into()), listed_as: Some(listed_as.into()), ..sent(nth) };
        let ticket = ledger.open(&Open { sent: sent.clone(), ..opened(nth) }).unwrap();
        drop(ticket.close(&Close { sent, ..closed(nth) }));
    }
    fold::fold_once(ledger.directory(), &store).unwrap();
    let rows: Vec<(String, u64)> = reported(&store, By::Model).into_iter().map(|(name, sums)| (name, sums.requests)).collect();
    assert_eq!(rows, [(UNLISTED.to_owned(), 9_000), ("claude-*".to_owned(), 1_000)]);
    let text: String = files(&state).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(text.contains("\"model\":\"invented-9999\""));
    assert_right(&state, &store);
}

#[test]
fn absurd_sums_stay_at_the_largest_number() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    for nth in 0..3 {
        let close = Close { cost: NanoUsd::MAX, ..closed(nth) };
        drop(ledger.open(&opened(nth)).unwrap().close(&close));
        fold::fold_once(ledger.directory(), &store).unwrap();
    }
    assert!(total(&store).cost >= NanoUsd::from_nanos(i64::MAX as u64));
}

#[test]
fn the_keeper_folds_by_itself_and_a_last_time() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, store) = (start(&state), store(&state));
    let keeper = keep::keep(ledger.clone(), state.path().to_owned(), Some(Duration::from_secs(86_400))).unwrap();
    entry(&ledger, 1);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while total(&store).requests == 0 {
        assert!(std::time::Instant::now() < deadline, "never folded");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    entry(&ledger, 2);
    drop(keeper);
    assert_eq!(total(&store), sum_of(1..3));
}
