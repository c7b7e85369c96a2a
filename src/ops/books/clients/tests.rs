//! A directory over a real database that another connection changes.

use super::operations::{self, NewClient};
use super::*;

fn new(name: &str, credits: Option<&str>) -> NewClient {
    NewClient { name: name.to_owned(), credits: credits.map(str::to_owned), ..NewClient::default() }
}

struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store }
    }

    fn load(&self, spent: &[(&str, u64)]) -> Directory {
        let spent = spent.iter().map(|(name, nanos)| ((*name).to_owned(), NanoUsd::from_nanos(*nanos))).collect();
        Directory::load(self.dir.path(), &spent).unwrap()
    }
}

#[test]
fn h5_a_key_is_found_by_its_whole_text_only() {
    let place = Place::new();
    let (alice, key) = operations::add(&place.store, &new("alice", None)).unwrap();
    operations::add(&place.store, &new("bob", None)).unwrap();
    let directory = place.load(&[]);
    let key = key.reveal().as_bytes();
    assert_eq!(directory.find(key).unwrap().client, alice);
    let mut other = key.to_vec();
    other[10] ^= 1;
    for wrong in [&other[..], &key[1..], &key.to_ascii_uppercase(), &[key, b"x"].concat(), b"", b"tb-"] {
        assert!(directory.find(wrong).is_none());
    }
}

#[test]
fn h5_what_another_connection_changes_is_seen_at_the_next_look() {
    let place = Place::new();
    let directory = place.load(&[]);
    let mut watch = Watch { store: None, changes: None, complaint: String::new() };
    watch.look(&directory);
    let (_, key) = operations::add(&place.store, &new("alice", None)).unwrap();
    let alice = || directory.find(key.reveal().as_bytes());
    assert!(alice().is_none());
    watch.look(&directory);
    assert!(alice().unwrap().client.admit(0).is_ok());
    operations::revoke(&place.store, "alice").unwrap();
    watch.look(&directory);
    assert!(alice().unwrap().client.admit(0).is_err());
    operations::restore(&place.store, "alice").unwrap();
    watch.look(&directory);
    assert!(alice().unwrap().client.admit(0).is_ok());
}

#[test]
fn the_last_clients_stay_when_the_database_can_t_be_read() {
    let place = Place::new();
    let (_, key) = operations::add(&place.store, &new("alice", None)).unwrap();
    let directory = place.load(&[]);
    let mut watch = Watch { store: None, changes: None, complaint: String::new() };
    place.store.with(|conn| conn.execute("UPDATE clients SET models = 'nonsense'", [])).unwrap();
    watch.look(&directory);
    assert!(watch.complaint.contains("alice"), "{}", watch.complaint);
    assert!(directory.find(key.reveal().as_bytes()).is_some());
    place.store.with(|conn| conn.execute("UPDATE clients SET models = '[\"m\"]'", [])).unwrap();
    watch.look(&directory);
    assert!(watch.complaint.is_empty());
    assert_eq!(directory.find(key.reveal().as_bytes()).unwrap().client.models.entries(), ["m"]);
}

#[test]
fn g4_an_account_outlives_a_refresh_and_takes_a_grant_as_a_difference() {
    let place = Place::new();
    let (_, key) = operations::add(&place.store, &new("alice", Some("1"))).unwrap();
    operations::add(&place.store, &new("free", None)).unwrap();
    let directory = place.load(&[("alice", 100_000_000), ("free", 5)]);
    let account = directory.account("alice").unwrap();
    assert_eq!(account.balance_nano_usd(), 900_000_000, "grants − what the ledger holds");
    let held = account.reserve(NanoUsd::from_nanos(400_000_000)).unwrap();

    operations::credit(&place.store, "alice", "+0.5").unwrap();
    assert!(directory.refresh(&place.store).unwrap());
    assert!(!directory.refresh(&place.store).unwrap(), "nothing is added twice");
    let known = directory.find(key.reveal().as_bytes()).unwrap();
    assert!(Arc::ptr_eq(known.account.as_ref().unwrap(), &account));
    assert_eq!((account.balance_nano_usd(), account.free_nano_usd()), (1_400_000_000, 1_000_000_000));
    held.settle(NanoUsd::from_nanos(300_000_000));
    directory.account("alice").unwrap().settle(NanoUsd::from_nanos(50_000_000));
    for stranger in ["free", "nobody", "static", ""] {
        assert!(directory.account(stranger).is_none());
    }
    operations::credit(&place.store, "alice", "-1").unwrap();
    directory.refresh(&place.store).unwrap();
    assert_eq!(account.balance_nano_usd(), 50_000_000);
}

#[test]
fn a_client_that_is_added_later_begins_with_its_grants() {
    let place = Place::new();
    let directory = place.load(&[]);
    operations::add(&place.store, &new("late", Some("0.25"))).unwrap();
    directory.refresh(&place.store).unwrap();
    assert_eq!(directory.account("late").unwrap().balance_nano_usd(), 250_000_000);
}

#[test]
fn h5_no_file_holds_a_key() {
    let place = Place::new();
    let (_, key) = operations::add(&place.store, &new("alice", Some("1"))).unwrap();
    let secret = key.reveal().trim_start_matches("tb-");
    for file in std::fs::read_dir(place.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(16).any(|window| secret.as_bytes().windows(16).any(|part| part == window)));
    }
}
