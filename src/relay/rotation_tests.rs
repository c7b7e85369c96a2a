//! Why × who stands how × who was tried × limits × moment → who is next, and what the client is told where nobody is.

use std::sync::Arc;

use super::*;
use crate::domain::moment::Now;
use crate::domain::settings::Settings;
use crate::domain::upstream::Upstream;
use crate::relay::testing::{House, NO_KEY, ONE_KEY, START, TWO_KEYS, troll_direct, troll_pool, who};

const RETRY: Retry =
    Retry { max_attempts: 4, budget: Duration::from_secs(15), max_share_percent: 25, hold_first_event: Duration::ZERO };

fn upstream(config: &str) -> Arc<Upstream> {
    let house = House::new(config);
    let settings: &Settings = &house.settings;
    settings.upstreams.iter().rfind(|upstream| upstream.missing().is_none()).unwrap().clone()
}

/// Brings keys and proxies into a state: `k1:cool`, `k1:spent`, `k1:dead`, `p1:down`, separated by spaces.
fn bring(upstream: &Upstream, states: &str, now: Now) {
    for state in states.split_whitespace() {
        let (id, state) = state.split_once(':').unwrap();
        let key = upstream.credentials.iter().find(|key| &*key.id == id);
        match (state, key) {
            ("cool", Some(key)) => drop(key.standing.cool(now.moment.after(Duration::from_secs(60)), Cause::RateLimited)),
            ("spent", Some(key)) => drop(key.standing.cool(now.moment.after(Duration::from_secs(3_600)), Cause::Exhausted)),
            ("dead", Some(key)) => drop(key.standing.kill(Cause::Unauthorized)),
            ("down", None) => {
                let pool = upstream.pool.as_ref().unwrap();
                let proxy = pool.proxies.iter().find(|proxy| &*proxy.id == id).unwrap();
                proxy.health.request_failed(true, &pool.check, now.moment);
            }
            _ => panic!("{id}:{state}"),
        }
    }
}

fn said(refusal: &Refusal) -> String {
    let answer = refusal.answer();
    let wait = answer.retry_after.map(|wait| format!(" {}s", wait.as_secs())).unwrap_or_default();
    format!("{} {}{wait}", answer.status, refusal.label())
}

/// Who carries the first attempt, or what is said.
fn first(config: &str, states: &str) -> String {
    let upstream = upstream(config);
    bring(&upstream, states, START);
    match Rotation::default().begin(&upstream, Some("m"), &RETRY, START.moment) {
        Ok(pick) => who(&upstream, pick),
        Err(refusal) => said(&refusal),
    }
}

#[test]
fn t4_t5_who_carries_the_first_attempt() {
    let (direct, pool) = (troll_direct(""), troll_pool(""));
    let rows: &[(&str, &str, &str)] = &[
        (ONE_KEY, "", "direct/main"),
        (NO_KEY, "", "direct/none"),
        (TWO_KEYS, "", "direct/k1"),
        (TWO_KEYS, "k1:cool", "direct/k2"),
        (TWO_KEYS, "k1:dead", "direct/k2"),
        (TWO_KEYS, "k1:cool k2:cool", "429 upstream_status 60s"),
        (TWO_KEYS, "k1:spent k2:spent", "502 key_refused"),
        (TWO_KEYS, "k1:spent k2:cool", "429 upstream_status 60s"),
        (TWO_KEYS, "k1:dead k2:cool", "429 upstream_status 60s"),
        (TWO_KEYS, "k1:dead k2:spent", "502 key_refused"),
        (TWO_KEYS, "k1:dead k2:dead", "502 key_refused"),
        (&direct, "", "direct/k1"),
        (&direct, "k1:cool k2:cool", "direct/k3"),
        (&direct, "k1:cool k2:cool k3:cool", "503 pool_out 60s"),
        (&direct, "k1:spent k2:spent k3:spent", "503 pool_out 3600s"),
        (&direct, "k1:spent k2:cool k3:dead", "503 pool_out 60s"),
        (&direct, "k1:dead k2:dead k3:dead", "502 key_refused"),
        (&pool, "", "p1/k1"),
        (&pool, "k1:cool", "p1/k2"),
        (&pool, "k1:cool k2:cool", "p2/k3"),
        (&pool, "p1:down", "p2/k3"),
        (&pool, "p1:down k3:cool", "503 pool_out 30s"),
        (&pool, "p1:down p2:down", "503 pool_out 30s"),
        (&pool, "k1:cool k2:cool k3:cool", "503 pool_out 60s"),
        (&pool, "k1:dead k2:dead k3:spent", "503 pool_out 3600s"),
        (&pool, "k1:dead k2:dead k3:dead", "502 key_refused"),
        (&pool, "k1:dead k2:dead k3:dead p1:down", "502 key_refused"),
    ];
    for (config, states, expected) in rows {
        assert_eq!(first(config, states), *expected, "{states} at {}", upstream(config).name);
    }
}

/// Who is next after so many attempts of which each failed because of the same.
fn next(config: &str, because: Because, times: usize, states: &str) -> String {
    let upstream = upstream(config);
    let mut rotation = Rotation::default();
    let mut before = rotation.begin(&upstream, Some("m"), &RETRY, START.moment).unwrap();
    bring(&upstream, states, START);
    let mut told = String::new();
    for attempts in 1..=times {
        let turn = Turn {
            upstream: &upstream,
            model: Some("m"),
            retry: &RETRY,
            before,
            attempts: u32::try_from(attempts).unwrap(),
            age: Duration::from_millis(1),
            can_send_again: true,
            now: START.moment,
        };
        match rotation.turn(because, &turn) {
            Ok(pick) => {
                assert_eq!(rotation.take_next(), Some(pick));
                before = pick;
                told = who(&upstream, pick);
            }
            Err(NoTurn::Limit) => return "limit".to_owned(),
            Err(NoTurn::Out(Out::KeysDead)) => return "dead".to_owned(),
            Err(NoTurn::Out(Out::Until(at))) => return format!("out {}s", START.moment.until(at).as_secs()),
        }
    }
    told
}

#[test]
fn t2_t3_t10_who_is_next_by_what_happened() {
    let (direct, pool) = (troll_direct(""), troll_pool(""));
    use Because::{Connection, Key, Overloaded, Protocol, Proxy, Stale, Unread};
    let rows: &[(&str, Because, usize, &str, &str)] = &[
        // The key: the same proxy's next key, then the next proxy.
        (&pool, Key, 1, "", "p1/k2"),
        (&pool, Key, 2, "", "p2/k3"),
        (&pool, Key, 3, "", "out 0s"),
        (&pool, Key, 1, "k2:cool", "p2/k3"),
        (&pool, Key, 1, "k2:dead p2:down", "out 0s"),
        (&pool, Key, 1, "k1:cool k2:cool k3:cool", "out 60s"),
        (&pool, Key, 1, "k1:dead k2:dead k3:dead", "dead"),
        (&direct, Key, 1, "", "direct/k2"),
        (&direct, Key, 2, "", "direct/k3"),
        (&direct, Key, 3, "", "out 0s"),
        (&direct, Key, 1, "k2:cool", "direct/k3"),
        (TWO_KEYS, Key, 1, "", "direct/k2"),
        (TWO_KEYS, Key, 2, "", "out 0s"),
        (ONE_KEY, Key, 1, "", "out 0s"),
        // Nobody is blamed for the provider's load; the order is the same.
        (&pool, Overloaded, 1, "", "p1/k2"),
        (&pool, Overloaded, 2, "", "p2/k3"),
        (&direct, Overloaded, 2, "", "direct/k3"),
        (ONE_KEY, Overloaded, 1, "", "out 0s"),
        // The proxy: the next one, with whatever key it has.
        (&pool, Proxy, 1, "", "p2/k3"),
        (&pool, Proxy, 2, "", "out 0s"),
        (&pool, Proxy, 1, "p2:down", "out 0s"),
        (&pool, Proxy, 1, "k3:cool", "out 0s"),
        (&pool, Connection, 1, "", "p2/k3"),
        (&pool, Connection, 2, "", "out 0s"),
        // Without proxies a connection is tried again where it failed.
        (&direct, Connection, 1, "", "direct/k1"),
        (&direct, Connection, 3, "", "direct/k1"),
        (ONE_KEY, Connection, 1, "", "direct/main"),
        (ONE_KEY, Connection, 4, "", "limit"),
        (NO_KEY, Connection, 1, "", "direct/none"),
        // The connection was at fault: another proxy where there is one, else a new connection.
        (&pool, Stale, 1, "", "p2/k3"),
        (&pool, Stale, 1, "p2:down", "p1/k1"),
        (&pool, Stale, 1, "k3:cool", "p1/k1"),
        (&direct, Stale, 1, "", "direct/k1"),
        (ONE_KEY, Stale, 1, "", "direct/main"),
        (ONE_KEY, Stale, 40, "", "direct/main"),
        // Refused unread: the same way once more.
        (&pool, Unread, 1, "", "p1/k1"),
        (&direct, Unread, 1, "", "direct/k1"),
        (ONE_KEY, Unread, 3, "", "direct/main"),
        (ONE_KEY, Unread, 4, "", "limit"),
        (&pool, Protocol, 1, "", "p1/k1"),
        (ONE_KEY, Protocol, 4, "", "limit"),
    ];
    for (config, because, times, states, expected) in rows {
        let told = next(config, *because, *times, states);
        assert_eq!(told, *expected, "{because:?} × {times} at {} with {states:?}", upstream(config).name);
    }
}

#[test]
fn t12_the_limits_of_attempts_time_body_and_budget() {
    use Because::{Connection, Key, Overloaded, Protocol, Proxy, Stale, Unread};
    // Why; attempts so far; milliseconds since the arrival; whether the body is kept; retries per hundred requests → whether it turns.
    let rows: &[(Because, u32, u64, bool, u32, bool)] = &[
        (Key, 1, 0, true, 25, true),
        (Key, 3, 0, true, 25, true),
        (Key, 4, 0, true, 25, false),
        (Key, 5, 0, true, 25, false),
        (Key, 1, 14_999, true, 25, true),
        (Key, 1, 15_000, true, 25, false),
        (Key, 1, 0, false, 25, false),
        (Key, 1, 0, true, 0, true),
        (Overloaded, 1, 0, true, 25, true),
        (Overloaded, 1, 0, true, 0, false),
        (Overloaded, 4, 0, true, 25, false),
        (Overloaded, 1, 15_000, true, 25, false),
        (Overloaded, 1, 0, false, 25, false),
        (Proxy, 1, 0, true, 25, true),
        (Proxy, 1, 0, true, 0, false),
        (Proxy, 1, 0, false, 25, false),
        (Connection, 1, 0, true, 25, true),
        (Connection, 1, 0, false, 25, true),
        (Connection, 1, 0, false, 0, false),
        (Connection, 4, 0, true, 25, false),
        (Connection, 1, 15_000, true, 25, false),
        (Stale, 1, 0, true, 0, true),
        (Stale, 1, 0, false, 25, false),
        // A6: it was no attempt, so no limit is asked.
        (Stale, 4, 0, true, 25, true),
        (Stale, 4, 15_000, true, 0, true),
        (Unread, 1, 0, true, 25, true),
        (Unread, 1, 0, true, 0, false),
        (Unread, 1, 0, false, 25, false),
        (Unread, 4, 0, true, 25, false),
        (Protocol, 1, 0, true, 25, true),
        (Protocol, 1, 0, true, 0, false),
        (Protocol, 4, 0, true, 25, false),
    ];
    for (because, attempts, age_ms, can_send_again, max_share_percent, turns) in rows {
        let upstream = upstream(&troll_pool(""));
        let retry = Retry { max_share_percent: *max_share_percent, ..RETRY };
        let mut rotation = Rotation::default();
        let before = rotation.begin(&upstream, Some("m"), &retry, START.moment).unwrap();
        let turn = Turn {
            upstream: &upstream,
            model: Some("m"),
            retry: &retry,
            before,
            attempts: *attempts,
            age: Duration::from_millis(*age_ms),
            can_send_again: *can_send_again,
            now: START.moment,
        };
        let turned = rotation.turn(*because, &turn);
        let row = format!("{because:?}, {attempts}, {age_ms} ms, {can_send_again}, {max_share_percent} %: {turned:?}");
        assert_eq!((turned.is_ok(), rotation.has_turned()), (*turns, *turns), "{row}");
        assert!(turned.is_ok() || turned == Err(NoTurn::Limit), "{row}");
    }
}

#[test]
fn o4_o5_what_the_client_is_told_where_nobody_is_next() {
    let (soon, now) = (Out::Until(START.moment.after(Duration::from_secs(9))), Out::Until(START.moment));
    let status = |status| Refusal::UpstreamStatus { status, message: None, retry_after: Some(Duration::from_secs(5)) };
    let refused = Refusal::KeyRefused { status: 403 };
    let failed = Refusal::UpstreamFailed { detail: String::new() };
    use Because::{Connection, Key, Model, Overloaded, Size};
    let direct = troll_direct("");
    let rows: &[(&str, NoTurn, Because, Refusal, &str)] = &[
        // A pool that hides its limits says its own.
        (&direct, NoTurn::Out(soon), Key, status(429), "503 pool_out 9s"),
        (&direct, NoTurn::Out(now), Key, status(429), "503 pool_out 1s"),
        (&direct, NoTurn::Out(soon), Key, refused.clone(), "503 pool_out 9s"),
        (&direct, NoTurn::Out(now), Key, refused.clone(), "502 key_refused"),
        (&direct, NoTurn::Out(Out::KeysDead), Key, refused.clone(), "502 key_refused"),
        (&direct, NoTurn::Limit, Key, status(429), "503 pool_out 1s"),
        (&direct, NoTurn::Limit, Key, refused.clone(), "502 key_refused"),
        (&direct, NoTurn::Out(soon), Connection, failed.clone(), "503 pool_out 9s"),
        (&direct, NoTurn::Limit, Connection, failed.clone(), "502 upstream_failed"),
        // The provider's load is no limit of ours.
        (&direct, NoTurn::Out(soon), Overloaded, status(529), "529 upstream_status 5s"),
        (&direct, NoTurn::Limit, Overloaded, status(503), "503 upstream_status 5s"),
        // Nor is what nobody may, or what is too large for all.
        (&direct, NoTurn::Out(now), Model, status(404), "404 upstream_status 5s"),
        (&direct, NoTurn::Out(now), Size, Refusal::BeyondLimit, "429 beyond_limit"),
        (&direct, NoTurn::Out(soon), Size, status(429), "429 upstream_status 5s"),
        // Any other upstream shows what its last key was told.
        (TWO_KEYS, NoTurn::Out(soon), Key, status(429), "429 upstream_status 5s"),
        (TWO_KEYS, NoTurn::Out(now), Key, refused.clone(), "502 key_refused"),
        (TWO_KEYS, NoTurn::Limit, Key, status(429), "429 upstream_status 5s"),
        (ONE_KEY, NoTurn::Out(now), Key, status(429), "429 upstream_status 5s"),
        (ONE_KEY, NoTurn::Limit, Connection, failed, "502 upstream_failed"),
    ];
    for (config, no_turn, because, last, expected) in rows {
        let upstream = upstream(config);
        let turn = Turn {
            upstream: &upstream,
            model: Some("m"),
            retry: &RETRY,
            before: Pick::default(),
            attempts: 1,
            age: Duration::ZERO,
            can_send_again: true,
            now: START.moment,
        };
        let told = no_turn.refusal(&turn, *because, last.clone());
        assert_eq!(said(&told), *expected, "{no_turn:?}, {because:?}, {last:?} at {}", upstream.name);
    }
}

#[test]
fn l1_the_access_line_hears_who_was_left_and_why() {
    let upstream = upstream(&troll_pool(""));
    let mut rotation = Rotation::default();
    let mut before = rotation.begin(&upstream, Some("m"), &RETRY, START.moment).unwrap();
    for (attempts, because) in [(1, Because::Overloaded), (2, Because::Connection)] {
        let turn = Turn {
            upstream: &upstream,
            model: Some("m"),
            retry: &RETRY,
            before,
            attempts,
            age: Duration::ZERO,
            can_send_again: true,
            now: START.moment,
        };
        before = rotation.turn(because, &turn).unwrap();
    }
    let text = rotation.passed.text(&upstream.credentials, upstream.proxies());
    assert_eq!(text.as_deref(), Some("k1:overloaded,p1:unreachable"));
}
