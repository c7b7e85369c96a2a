//! Measures how long it takes to find who carries an attempt: proxy and key out of many, when all are ready, when most rest, and when
//! nobody is left.
#![expect(clippy::expect_used, reason = "a configuration that is refused must stop the benchmark")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;
use trollbridge::config;
use trollbridge::domain::moment::Moment;
use trollbridge::domain::upstream::standing::Cause;
use trollbridge::domain::upstream::{Search, Tried, Upstream};

const NOW: Moment = Moment::from_millis(1_800_000_000_000);

/// As many proxies as keys, two keys at each proxy.
fn upstream(count: usize) -> Arc<Upstream> {
    let keys: Vec<_> = (0..count).map(|nth| json!({ "id": format!("k{nth}"), "key": format!("key-number-{nth}") })).collect();
    let proxies: Vec<_> = (0..count)
        .map(|nth| {
            let carried =
                if count == 1 { vec!["k0".to_owned()] } else { vec![format!("k{nth}"), format!("k{}", (nth + 1) % count)] };
            json!({ "id": format!("p{nth}"), "kind": "connect", "addr": "127.0.0.1:3128", "keys": carried })
        })
        .collect();
    let troll = json!({ "base_url": "https://llm.example.com", "keys": keys, "proxies": proxies });
    let text = json!({ "models": [], "upstreams": { "troll": troll } }).to_string();
    let loaded = config::load(Path::new("bench"), &|_| None, &|_| Ok(text.clone())).expect("an accepted configuration");
    loaded.settings.upstreams.iter().find(|upstream| &*upstream.name == "troll").cloned().expect("troll always exists")
}

/// Lets all keys rest but those that `spares` keeps.
fn rest(upstream: &Upstream, spares: impl Fn(usize) -> bool) {
    let until = NOW.after(Duration::from_secs(60));
    let resting = upstream.credentials.iter().enumerate().filter(|(nth, _)| !spares(*nth));
    for (_, credential) in resting {
        credential.standing.cool(until, Cause::RateLimited);
    }
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let tried = Tried::default();
    for count in [1, 10, 1_000] {
        let all_ready = upstream(count);
        let half_rest = upstream(count);
        rest(&half_rest, |nth| nth % 4 < 2);
        let nobody = upstream(count);
        rest(&nobody, |_| false);
        for (name, upstream) in [("all ready", all_ready), ("half rest", half_rest), ("nobody left", nobody)] {
            group.bench_with_input(BenchmarkId::new(name, count), &upstream, |b, upstream| {
                b.iter(|| black_box(upstream.pick(&Search { tried: &tried, model: Some("m"), now: NOW })));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
