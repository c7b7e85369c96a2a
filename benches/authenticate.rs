//! Measures what it costs to find the client behind a key, with 10, 1 000 and 100 000 clients in memory (P9), and to reserve and settle.
//!
//! The keys asked for change with every lookup, so that no cache makes one client look like all. `unknown` is a key of the right length
//! that nobody has; `wrong_length` is what most strangers send.
#![expect(clippy::expect_used, reason = "a store that does not open must stop the benchmark")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use trollbridge::domain::billing::NanoUsd;
use trollbridge::domain::client::{Client, ClientKey, ClientName, Models};
use trollbridge::domain::credit::Account;
use trollbridge::ops::books::clients::Directory;
use trollbridge::ops::books::store::{Store, clients as rows};

fn key(nth: u64) -> ClientKey {
    let mut random = [7; 32];
    random.iter_mut().zip(nth.to_le_bytes()).for_each(|(byte, of_number)| *byte = of_number);
    ClientKey::new(random).expect("a key has a text")
}

fn client(nth: u64) -> Client {
    Client {
        id: Client::new_id(nth.to_le_bytes()),
        name: ClientName::parse(&format!("client-{nth}")).expect("a name"),
        key: key(nth).hash(),
        models: Models::All,
        created_at_unix_s: 0,
        expires_at_unix_s: None,
        revoked_at_unix_s: None,
        note: String::new(),
        rpm: None,
        tpm: None,
        granted_nano_usd: None,
    }
}

fn filled(clients: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    // The benchmark is about memory: no wait for the disk while it is filled.
    store.with(|conn| conn.pragma_update(None, "synchronous", "off")).expect("a setting");
    for nth in 0..clients {
        store.with(|conn| rows::add(conn, &client(nth))).expect("a client is added");
    }
    dir
}

/// Reads all clients as a start does, and a gateway whose clients have changed.
fn directory(dir: &tempfile::TempDir) -> Directory {
    Directory::load(dir.path(), &HashMap::new()).expect("a directory of clients")
}

fn authenticate(c: &mut Criterion) {
    let mut group = c.benchmark_group("authenticate");
    for clients in [10, 1_000, 100_000] {
        let dir = filled(clients);
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("load", clients), |b| b.iter(|| directory(&dir)));
        group.sample_size(100);
        let directory = directory(&dir);
        let keys: Vec<ClientKey> = (0..1_024).map(|nth| key(nth * 97 % clients)).collect();
        let mut next = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("known", clients), |b| {
            b.iter(|| {
                let presented = next.next().map(|key| key.reveal().as_bytes()).unwrap_or_default();
                let known = directory.find(black_box(presented)).expect("a known client");
                known.client.admit(1)
            });
        });
        let stranger = key(u64::MAX);
        group.bench_function(BenchmarkId::new("unknown", clients), |b| {
            b.iter(|| directory.find(black_box(stranger.reveal().as_bytes())).is_none());
        });
    }
    let directory = directory(&filled(10));
    group.bench_function("wrong_length", |b| b.iter(|| directory.find(black_box(b"sk-something-else")).is_none()));
    group.finish();

    let account = Arc::new(Account::new(i64::MAX));
    c.bench_function("reserve_and_settle", |b| {
        b.iter(|| account.reserve(black_box(NanoUsd::from_nanos(1_000))).map(|held| held.settle(NanoUsd::from_nanos(1))));
    });
}

criterion_group!(benches, authenticate);
criterion_main!(benches);
