//! Measures what all counters together cost a request, and what a scrape has to sum up.
//!
//! `request` is everything that one good request counts, from its arrival to its end; `shared` does so from as many threads as there are
//! processors, per request of one thread; `snapshot` sums up a thousand models.
#![expect(clippy::expect_used, reason = "a count that is missing must stop the benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use trollbridge::domain::billing::NanoUsd;
use trollbridge::domain::end::End;
use trollbridge::domain::route::table::NamePattern;
use trollbridge::domain::usage::{Source, Usage};
use trollbridge::ops::watch::counters::{Counters, Phase, Went};

fn count(counters: &Arc<Counters>, upstream: &str, model: &Option<NamePattern>) {
    let request = counters.enter();
    request.counters().phase(Phase::Peek, Duration::from_micros(12));
    request.counters().phase(Phase::Route, Duration::from_micros(2));
    request.counters().routed(true, Duration::from_micros(14));
    request.counters().phase(Phase::Connect, Duration::from_micros(39));
    let stream = request.open_stream();
    let usage = Usage { input_tokens: 12_345, cache_read_tokens: 20_000, output_tokens: 678, ..Usage::default() };
    request.counters().booked(upstream, model, Source::Final, &usage, NanoUsd::from_nanos(11_808_000));
    request.counters().finished(200, End::Ok);
    let (first_byte, total) = (Some(Duration::from_millis(345)), Duration::from_secs(2));
    request.counters().finished_at(upstream, &Went { end: End::Ok, attempts: 1, first_byte, total });
    drop(stream);
}

fn requests(criterion: &mut Criterion) {
    let model = Some(NamePattern::Exact("claude-opus-4-5-20251101".into()));
    let counters = Arc::new(Counters::default());
    criterion.bench_function("metrics/request", |bencher| {
        bencher.iter(|| count(black_box(&counters), black_box("troll"), black_box(&model)));
    });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    criterion.bench_function("metrics/request_shared_by_all_processors", |bencher| {
        bencher.iter_custom(|requests| {
            let began = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..requests).for_each(|_| count(&counters, "troll", &model)));
                }
            });
            began.elapsed()
        });
    });
}

fn page(criterion: &mut Criterion) {
    let counters = Arc::new(Counters::default());
    for nth in 0..1_000 {
        count(&counters, "troll", &Some(NamePattern::Exact(format!("model-{nth}").into())));
    }
    criterion.bench_function("metrics/snapshot_of_1000_models", |bencher| {
        bencher.iter(|| black_box(counters.snapshot()).upstreams.get("troll").expect("it was counted").models.len());
    });
}

criterion_group!(benches, requests, page);
criterion_main!(benches);
