//! G4 and G1 with two processes: reservations are respected, costs are taken once, the dead are looked after once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::disks::{on_failing_disk, tend_until};
use super::*;
use crate::domain::credit::{Account, Reservation};
use crate::ops::books::store::{Store, usage};

/// What the only client with a balance was granted. The others are not limited.
const GRANTED: i64 = 100_000_000;
const RESERVED: i64 = 1_000_000;

/// A process with the client's account in it.
struct Till {
    ledger: Ledger,
    account: Arc<Account>,
}

impl Till {
    /// As `app::books` opens them.
    fn open(state: &TempDir, settings: LedgerSettings, now: u64) -> Self {
        let ledger = Ledger::start(state.path(), settings, true, now).unwrap().0;
        Self::of(state, ledger, GRANTED)
    }

    fn of(state: &TempDir, ledger: Ledger, granted: i64) -> Self {
        let store = Store::open(state.path()).unwrap();
        ledger.fold(&store).unwrap();
        let (spent, progress) = store.with(|conn| Ok((usage::spent(conn)?, usage::progress(conn)?))).unwrap();
        let account = Arc::new(Account::new(granted));
        account.settle(spent.get("team-a").copied().unwrap_or_default());
        let of_team_a = account.clone();
        let billed = progress.into_iter().map(|(segment, progress)| (segment, progress.bytes)).collect();
        ledger.meet(billed, Box::new(move |client| (client == "team-a").then(|| of_team_a.clone()))).unwrap();
        Self { ledger, account }
    }

    fn look(&self) {
        self.ledger.look_around(NOW).unwrap();
    }

    /// What the account has left, and what of that is reserved.
    fn shows(&self) -> (i64, i64) {
        (self.account.balance_nano_usd(), self.account.reserved_nano_usd())
    }

    /// Opens a request as `relay::books` does.
    fn begin(&self, nth: u64, amount: NanoUsd) -> Option<(Ticket, Reservation)> {
        let _turn = self.ledger.turn();
        let reservation = self.account.reserve(amount).ok()?;
        let ticket = self.ledger.open(&Open { sent: sent(nth), reservation: amount }).unwrap();
        Some((ticket, reservation))
    }
}

/// Costs of the client with a balance.
fn cost_of(entries: impl IntoIterator<Item = u64>) -> i64 {
    entries.into_iter().filter(|nth| nth % 2 == 0).map(|nth| 1_000 + i64::try_from(nth).unwrap()).sum()
}

/// Every moment at which a process may fold or start, in a life of another one whose segments change all the time.
#[test]
fn g4_a_process_that_starts_at_any_moment_holds_what_is_open_and_takes_each_cost_once() {
    // Opens and closes: a few at a time, one of them from the first segment to the last.
    let events: Vec<(bool, u64)> = [(true, 0), (true, 1), (true, 2)]
        .into_iter()
        .chain((4..30).flat_map(|nth| [(true, nth), (false, nth - 2)]))
        .chain([(false, 28), (false, 29), (false, 0), (false, 1)])
        .collect();
    let settings = LedgerSettings { segment_bytes: 4_096, ..SETTINGS };
    for folded_at in (0..events.len()).step_by(5) {
        for started_at in (folded_at..events.len()).step_by(3) {
            let state = tempfile::tempdir().unwrap();
            let old = Ledger::start(state.path(), settings, false, NOW).unwrap().0;
            let (mut open, mut done) = (HashMap::new(), Vec::new());
            let mut new: Option<Till> = None;
            for (at, (is_open, nth)) in events.iter().copied().enumerate() {
                if at == folded_at {
                    fold::fold_once(old.directory(), &Store::open(state.path()).unwrap()).unwrap();
                }
                if at == started_at {
                    new = Some(Till::open(&state, settings, NOW + 1));
                }
                if is_open {
                    open.insert(nth, old.open(&opened(nth)).unwrap());
                } else if let Some(ticket) = open.remove(&nth) {
                    drop(ticket.close(&closed(nth)));
                    done.push(nth);
                }
                if let Some(new) = &new {
                    new.look();
                    let held = i64::try_from(open.keys().filter(|nth| *nth % 2 == 0).count()).unwrap() * RESERVED;
                    let left = GRANTED - cost_of(done.iter().copied());
                    assert_eq!(new.shows(), (left, held), "folded at {folded_at}, started at {started_at}, now at {at}");
                }
            }
            drop(open);
            drop(old);
            let new = new.unwrap();
            new.look();
            assert!(!new.ledger.has_company());
            assert_eq!(new.shows().1, 0);
        }
    }
}

#[test]
fn g4_the_old_process_holds_what_the_new_one_has_open_and_is_alone_again_behind_it() {
    let state = tempfile::tempdir().unwrap();
    let old = Till::open(&state, SETTINGS, NOW);
    assert!(old.ledger.turn().is_none() && !old.ledger.has_company(), "nobody else to wait for");
    let new = Till::open(&state, SETTINGS, NOW + 1);
    let (ticket, reservation) = new.begin(2, NanoUsd::from_nanos(1_000_000)).unwrap();
    // Before anybody looked around: whoever reserves finds out.
    let deadline = Instant::now() + Duration::from_secs(20);
    while old.ledger.turn().is_none() {
        assert!(Instant::now() < deadline, "the other process was never seen");
    }
    assert_eq!(old.shows(), (GRANTED, RESERVED));
    drop(ticket.close(&closed(2)));
    reservation.settle(closed(2).cost);
    assert!(new.ledger.turn().is_some());
    drop(new);
    old.look();
    assert_eq!(old.shows(), (GRANTED - cost_of([2]), 0));
    assert!(old.ledger.turn().is_none() && !old.ledger.has_company());
}

/// Two processes, a cent, and a thousand requests at once: as many are served as one process would serve.
#[test]
fn g4_two_processes_together_never_reserve_more_than_there_is() {
    const CENT: i64 = 10_000_000;
    for part in [1, 3] {
        let state = tempfile::tempdir().unwrap();
        let tills: Vec<Till> =
            (0..2).map(|nth| Till::of(&state, Ledger::start(state.path(), SETTINGS, true, NOW + nth).unwrap().0, CENT)).collect();
        tills.iter().for_each(Till::look);
        let (amount, cost) = (NanoUsd::from_nanos(300_000), NanoUsd::from_nanos(300_000 / part));
        let served = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (till, served) = (&tills[usize::try_from(thread % 2).unwrap()], &served);
                scope.spawn(move || {
                    for nth in 0..125 {
                        let nth = 2 * (thread * 1_000 + nth);
                        let Some((ticket, reservation)) = till.begin(nth, amount) else { continue };
                        std::thread::yield_now();
                        drop(ticket.close(&Close { cost, ..closed(nth) }));
                        reservation.settle(cost);
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        tills.iter().for_each(Till::look);
        let spent = i64::try_from(served.into_inner() * cost.nanos()).unwrap();
        assert!(spent <= CENT && CENT - spent < 300_000, "{spent} of {CENT}");
        assert!(tills.iter().all(|till| till.shows() == (CENT - spent, 0)));
    }
}

/// A process that is stopped in the middle of its turn.
#[test]
fn a_turn_that_is_not_given_back_is_not_waited_for_long() {
    let state = tempfile::tempdir().unwrap();
    let (old, _new) = (Till::open(&state, SETTINGS, NOW), Till::open(&state, SETTINGS, NOW + 1));
    old.look();
    let stopped = std::fs::File::open(old.ledger.directory().join("turn.lock")).unwrap();
    stopped.lock().unwrap();
    let began = Instant::now();
    for nth in 1..200 {
        assert!(old.begin(2 * nth, NanoUsd::from_nanos(1)).is_some());
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(stopped);
    assert!(old.ledger.turn().is_some());
}

#[test]
fn g1_what_a_killed_process_left_open_is_closed_by_one_that_lives() {
    let state = tempfile::tempdir().unwrap();
    let old = Till::open(&state, SETTINGS, NOW);
    let survivors = [Till::open(&state, SETTINGS, NOW + 1), Till::open(&state, SETTINGS, NOW + 2)];
    entry(&old.ledger, 2);
    let (tickets, reservations): (Vec<_>, Vec<_>) =
        (10..15).map(|nth| old.begin(nth, NanoUsd::from_nanos(1_000_000)).unwrap()).unzip();
    survivors.iter().for_each(Till::look);
    assert!(survivors.iter().all(|till| till.shows() == (GRANTED - cost_of([2]), 3 * RESERVED)));
    kill(old.ledger, tickets);
    drop(reservations);
    // Both find the dead at the same time.
    std::thread::scope(|scope| {
        for till in &survivors {
            scope.spawn(|| till.look());
        }
    });
    survivors.iter().for_each(Till::look);
    let (_, closes) = records(&state);
    assert_eq!(closes.len(), 6);
    assert!((10..15).all(|nth| closes[&id(nth)] == [End::Interrupted]), "{closes:?}");
    assert!(survivors.iter().all(|till| till.shows() == (GRANTED - cost_of([2]), 0)));
    assert_eq!(verify::verify(&directory(state.path()), None).unwrap().to_recover, 0);
    drop(survivors);
    assert_eq!(Ledger::start(state.path(), SETTINGS, false, NOW + 3).unwrap().1, Recovery::default());
}

/// Somebody who starts looks after the dead too; until that is done the reservations stay.
#[test]
fn g1_while_another_process_starts_the_dead_are_left_to_it() {
    let state = tempfile::tempdir().unwrap();
    let (old, till) = (Till::open(&state, SETTINGS, NOW), Till::open(&state, SETTINGS, NOW + 1));
    let (ticket, reservation) = old.begin(2, NanoUsd::from_nanos(1_000_000)).unwrap();
    kill(old.ledger, vec![ticket]);
    drop(reservation);
    let starting = lock::start_alone(till.ledger.directory()).unwrap().unwrap();
    till.look();
    assert_eq!((till.shows(), records(&state).1.len()), ((GRANTED, RESERVED), 0));
    drop(starting);
    till.look();
    assert_eq!((till.shows(), records(&state).1.len()), ((GRANTED, 0), 1));
}

#[test]
fn g1_a_rescue_that_meets_a_full_disk_goes_on_where_it_stopped() {
    let state = tempfile::tempdir().unwrap();
    let old = Till::open(&state, SETTINGS, NOW);
    let (living, failing) = on_failing_disk(&state, u64::MAX);
    let till = Till::of(&state, living, GRANTED);
    let (tickets, reservations): (Vec<_>, Vec<_>) =
        (0..20).map(|nth| old.begin(nth, NanoUsd::from_nanos(1_000_000)).unwrap()).unzip();
    kill(old.ledger, tickets);
    drop(reservations);
    failing.room.store(4_000, Ordering::Relaxed);
    assert!(till.ledger.look_around(NOW).is_err());
    let before = records(&state).1.len();
    assert!((1..20).contains(&before), "{before}");
    failing.room.store(u64::MAX, Ordering::Relaxed);
    tend_until(&till.ledger, |condition| condition.trouble.is_none());
    till.look();
    let (_, closes) = records(&state);
    assert!(closes.len() == 20 && closes.values().all(|ends| ends == &[End::Interrupted]), "{closes:?}");
    assert_eq!(till.shows(), (GRANTED, 0));
}

/// A file that can't be read is the keeper's: a request that listed the directory each time would pay for it.
#[test]
fn g4_a_segment_that_can_t_be_read_sends_no_request_through_the_directory_again() {
    let state = tempfile::tempdir().unwrap();
    let till = Till::open(&state, SETTINGS, NOW);
    let (directory, writer) = (till.ledger.directory().to_owned(), names::writer(NOW - 1, 1));
    let broken = directory.join(SegmentName { writer: writer.clone(), number: 1 }.to_string());
    // A file whose first byte gives an input/output error, of a writer that lives.
    std::os::unix::fs::symlink("/proc/self/mem", &broken).unwrap();
    let lock = names::lock_file(&directory, &writer);
    let alive = std::fs::File::create(&lock).unwrap();
    alive.lock().unwrap();
    let listed = std::fs::File::open(till.ledger.directory()).unwrap();
    let an_hour_ago = std::time::SystemTime::now() - Duration::from_secs(3_600);
    listed.set_modified(an_hour_ago).unwrap();
    assert!(till.ledger.look_around(NOW).is_err());

    // A start that the directory's time does not tell of.
    let other = Ledger::start(state.path(), SETTINGS, true, NOW + 1).unwrap().0;
    let first = other.open(&opened(2)).unwrap();
    listed.set_modified(an_hour_ago).unwrap();
    assert!(till.ledger.turn().is_some());
    assert_eq!(till.shows(), (GRANTED, 0), "a request has listed the directory");
    assert!(till.ledger.look_around(NOW).is_err());
    assert_eq!(till.shows(), (GRANTED, RESERVED), "the keeper has not");

    let second = other.open(&opened(4)).unwrap();
    assert!(till.ledger.turn().is_some());
    assert_eq!(till.shows(), (GRANTED, 2 * RESERVED), "a broken file keeps a request from the others");
    std::fs::remove_file(&broken).unwrap();
    std::fs::remove_file(&lock).unwrap();
    till.look();
    drop((first.close(&closed(2)), second.close(&closed(4))));
    drop(other);
    till.look();
    assert_eq!(till.shows(), (GRANTED - cost_of([2, 4]), 0));
    assert!(!till.ledger.has_company());
}

/// A process of another version died: it is left to its own version, and not asked for again and again.
#[test]
fn a_killed_writer_of_another_version_is_left_alone_and_is_no_company() {
    let state = tempfile::tempdir().unwrap();
    let (old, till) = (Till::open(&state, SETTINGS, NOW), Till::open(&state, SETTINGS, NOW + 1));
    entry(&old.ledger, 1);
    kill(old.ledger, Vec::new());
    let mut line = br#"{"v":3,"record":"segment","new":true"#.to_vec();
    crate::domain::ledger::seal(&mut line, 0);
    std::fs::write(&files(&state)[0], &line).unwrap();
    till.look();
    assert!(!till.ledger.has_company());
    assert_eq!(std::fs::read(&files(&state)[0]).unwrap(), line);
}
