//! Measures what the ledger costs a request: its two records, from the values to the kernel.
//!
//! `lines` is the encoding alone; `process` writes to a real directory (`BENCH_DIR`, else the temporary one); `shared` does so from as many
//! threads as there are processors, per entry of one thread.
#![expect(clippy::expect_used, reason = "a ledger that can't be written must stop the benchmark")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use trollbridge::domain::billing::{Decimal, NanoUsd};
use trollbridge::domain::end::End;
use trollbridge::domain::ledger::{Close, Open, Sent, read, seal, write_close, write_open};
use trollbridge::domain::settings::{LedgerSettings, LedgerSync};
use trollbridge::domain::usage::{Source, Usage};
use trollbridge::ops::books::ledger::Ledger;

const NOW: u64 = 1_767_225_600_000;

fn sent() -> Sent<'static> {
    Sent {
        id: "019b7000-0000-7000-8000-000000000001".into(),
        opened_at_unix_ms: NOW,
        client: Some("team-a".into()),
        client_key: Some("ck_01".into()),
        model: Some("claude-opus-4-5-20251101".into()),
        listed_as: None,
        upstream: "troll".into(),
        endpoint: Some("llm.example.com:443".into()),
        proxy: Some("p1".into()),
        key: Some("k1".into()),
    }
}

fn opened() -> Open<'static> {
    Open { sent: sent(), reservation: NanoUsd::from_nanos(11_808_000) }
}

fn closed() -> Close<'static> {
    Close {
        sent: sent(),
        closed_at_unix_ms: NOW + 1_234,
        attempts: 1,
        status: 200,
        end: End::Ok,
        stream: true,
        source: Source::Final,
        usage: Usage { input_tokens: 12_345, cache_read_tokens: 20_000, output_tokens: 678, ..Usage::default() },
        lines: (&[]).into(),
        conditions: Vec::new(),
        cost: NanoUsd::from_nanos(11_808_000),
        multiplier: Decimal::from_nanos(1_200_000_000),
        first_byte: Some(Duration::from_micros(345_678)),
        total: Duration::from_micros(1_234_567),
    }
}

fn start(directory: &Path, sync: LedgerSync) -> Ledger {
    let settings = LedgerSettings { sync, segment_bytes: 64 << 20, retention: None };
    Ledger::start(directory, settings, false, NOW).expect("a fresh directory").0
}

fn directory() -> tempfile::TempDir {
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    tempfile::tempdir_in(parent).expect("a directory")
}

fn lines(criterion: &mut Criterion) {
    let (open, close) = (opened(), closed());
    criterion.bench_function("lines/write_both", |bencher| {
        let mut line = Vec::with_capacity(2_048);
        bencher.iter(|| {
            line.clear();
            write_open(&mut line, black_box(&open));
            seal(&mut line, 1);
            line.clear();
            write_close(&mut line, black_box(&close));
            seal(&mut line, 2);
            line.len()
        });
    });
    let mut line = Vec::new();
    write_close(&mut line, &close);
    seal(&mut line, 2);
    line.pop();
    criterion.bench_function("lines/read_close", |bencher| bencher.iter(|| read(black_box(&line)).is_ok()));
}

fn entries(criterion: &mut Criterion) {
    let (open, close) = (opened(), closed());
    let state = directory();
    let ledger = start(state.path(), LedgerSync::Process);
    criterion.bench_function("process/open_and_close", |bencher| {
        bencher.iter(|| drop(ledger.open(&open).expect("the disk has room").close(&close)));
    });
    drop(ledger);

    let state = directory();
    let ledger = start(state.path(), LedgerSync::Process);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    criterion.bench_function("process/shared_by_all_processors", |bencher| {
        bencher.iter_custom(|entries| {
            let began = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..entries).for_each(|_| drop(ledger.open(&open).expect("the disk has room").close(&close))));
                }
            });
            began.elapsed()
        });
    });
}

criterion_group!(benches, lines, entries);
criterion_main!(benches);
