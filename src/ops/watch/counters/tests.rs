//! Counts are exact, and fall into their places.

use super::*;

const TOOK: Duration = Duration::from_micros(3);

#[test]
fn l2_the_four_bodies_give_4_1_3_1() {
    let counters = Counters::default();
    counters.routed(true, TOOK);
    counters.routed(false, TOOK);
    counters.routed(false, TOOK);
    counters.parse_error();
    counters.routed(false, TOOK);
    let seen = counters.snapshot();
    assert_eq!((seen.routing_attempts, seen.routing_success, seen.routing_fallback, seen.parsing_errors), (4, 1, 3, 1));
    assert_eq!(seen.routing_time, 4 * TOOK);
}

#[test]
fn a_refused_route_is_an_attempt_without_success_or_fallback() {
    let counters = Counters::default();
    counters.route_refused(TOOK);
    let seen = counters.snapshot();
    assert_eq!((seen.routing_attempts, seen.routing_success, seen.routing_fallback), (1, 0, 0));
}

#[test]
fn l2_counts_are_exact_under_100_clients_of_10_requests() {
    let counters = Arc::new(Counters::default());
    std::thread::scope(|scope| {
        for client in 0..100u64 {
            let counters = &counters;
            scope.spawn(move || {
                for request in 0..10u64 {
                    let _in_flight = counters.enter();
                    counters.routed(client % 2 == 0, TOOK);
                    counters.refused(&if request == 0 { Refusal::NoKey } else { Refusal::UnknownModel { model: None } });
                    counters.finished(if client < 10 { 503 } else { 200 }, End::Ok);
                    let usage = Usage { input_tokens: client, output_tokens: request, ..Usage::default() };
                    let model = (client % 2 == 0).then(|| NamePattern::Exact("gpt-5".into()));
                    counters.booked("main", &model, Source::Final, &usage, NanoUsd::from_nanos(client));
                }
            });
        }
    });
    let seen = counters.snapshot();
    assert_eq!((seen.routing_attempts, seen.routing_success, seen.routing_fallback), (1_000, 500, 500));
    assert_eq!(seen.routing_time, 1_000 * TOOK);
    assert_eq!(seen.by_class, [0, 0, 900, 0, 0, 100]);
    assert_eq!(seen.by_end.some(), [("ok", 1_000)]);
    assert_eq!(seen.refusals, [("no_key", 100), ("unknown_model", 900)].into());
    assert_eq!(seen.by_source.first(), Some(&("final", 1_000)));
    let billed = seen.billed();
    assert_eq!((billed.usage.input_tokens, billed.usage.output_tokens), (49_500, 4_500));
    assert_eq!((billed.entries, billed.cost.nanos()), (1_000, 49_500));
    assert_eq!(seen.upstreams["main"].models.keys().collect::<Vec<_>>(), ["gpt-5", OTHER]);
    assert_eq!(seen.in_flight, 0);
}

#[test]
fn statuses_outside_the_list_have_their_place() {
    let counters = Counters::default();
    for status in [0, 99, 200, 418, 529, 999] {
        counters.finished(status, End::Interrupted);
    }
    let seen = counters.snapshot();
    assert_eq!(seen.by_class, [2, 0, 1, 0, 1, 2]);
    assert_eq!(seen.by_end.some(), [("interrupted", 6)]);
}

#[test]
fn reloads_are_told_by_their_outcome() {
    let counters = Counters::default();
    let started = counters.started_unix_ms;
    let none = ReloadsSeen { loaded_unix_ms: started, ..ReloadsSeen::default() };
    assert_eq!(counters.snapshot().reloads, none);
    counters.reloaded(false);
    let seen = counters.snapshot().reloads;
    assert_eq!((seen.ok, seen.refused, seen.loaded_unix_ms, seen.last.map(|(_, ok)| ok)), (0, 1, started, Some(false)));
    counters.reloaded(true);
    let seen = counters.snapshot().reloads;
    assert_eq!((seen.ok, seen.refused, seen.last), (1, 1, Some((seen.loaded_unix_ms, true))));
}

#[test]
fn a_stream_is_open_until_its_guard_is_dropped() {
    let counters = Arc::new(Counters::default());
    let request = counters.enter();
    let stream = request.open_stream();
    assert_eq!(counters.snapshot().open_streams, 1);
    drop(stream);
    assert_eq!((counters.snapshot().open_streams, counters.in_flight()), (0, 1));
}

#[test]
fn a_request_is_in_flight_until_its_guard_is_dropped() {
    let counters = Arc::new(Counters::default());
    let first = counters.enter();
    let second = counters.enter();
    assert_eq!(counters.in_flight(), 2);
    drop(first);
    assert_eq!(counters.in_flight(), 1);
    drop(second);
    assert_eq!(counters.in_flight(), 0);
}
