//! The page of a gateway that has counted one of each.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::domain::answer::Refusal;
use crate::domain::billing::NanoUsd;
use crate::domain::end::End;
use crate::domain::route::table::NamePattern;
use crate::domain::usage::{Source, Usage};
use crate::ops::watch::counters::{Counters, Phase, Went};

fn page_of(counters: &Counters) -> String {
    Vitals::example(counters, |vitals| {
        page(&Vitals { default_target: Some("https://secret.internal/v1"), access_lines_dropped: 7, ..*vitals })
    })
}

/// One request of each counter.
fn counted() -> Arc<Counters> {
    let counters = Arc::new(Counters::default());
    counters.routed(true, Duration::from_micros(1_500));
    counters.parse_error();
    counters.phase(Phase::Peek, Duration::from_micros(12));
    counters.refused(&Refusal::NoKey);
    counters.refused(&Refusal::UnknownModel { model: None });
    counters.finished(401, End::Refused);
    let went = Went { end: End::Ok, attempts: 2, first_byte: Some(Duration::from_millis(30)), total: Duration::from_secs(2) };
    counters.finished_at("main", &went);
    let usage = Usage { input_tokens: 9, output_tokens: 12, ..Usage::default() };
    let model = Some(NamePattern::Prefix("gemini-".into()));
    counters.booked("main", &model, Source::Final, &usage, NanoUsd::from_nanos(11_808_000));
    counters.reloaded(false);
    counters
}

#[test]
fn l4_every_sample_has_a_type_and_help_before_it_and_no_line_comes_twice() {
    let page = page_of(&counted());
    assert!(page.ends_with('\n'));
    let (mut described, mut samples) = (String::new(), HashSet::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            described = rest.split(' ').next().unwrap().to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, described);
            assert!(["counter", "gauge", "summary", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.split('{').next().unwrap().starts_with(&described), "{line} stands under {described}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(name.to_owned()), "{line} comes twice");
        }
    }
}

#[test]
fn l4_the_page_shows_the_counters() {
    let counters = counted();
    let request = counters.enter();
    let _stream = request.open_stream();
    let page = page_of(&counters);
    for line in [
        "trollbridge_requests_total{status=\"4xx\"} 1",
        "trollbridge_requests_ended_total{end=\"refused\"} 1",
        "trollbridge_refusals_total{reason=\"no_key\"} 1",
        "trollbridge_requests_in_flight 1",
        "trollbridge_open_streams 1",
        "trollbridge_routing_attempts_total 1",
        "trollbridge_routing_success_total 1",
        "trollbridge_routing_fallback_total 0",
        "trollbridge_parsing_errors_total 1",
        "trollbridge_routing_seconds_sum 0.0015",
        "trollbridge_routing_seconds_count 1",
        "trollbridge_overhead_seconds_bucket{phase=\"peek\",le=\"0.00001\"} 0",
        "trollbridge_overhead_seconds_bucket{phase=\"peek\",le=\"0.000025\"} 1",
        "trollbridge_overhead_seconds_count{phase=\"connect\"} 0",
        "trollbridge_upstream_requests_total{upstream=\"main\",end=\"ok\"} 1",
        "trollbridge_request_attempts_bucket{upstream=\"main\",le=\"1\"} 0",
        "trollbridge_request_attempts_sum{upstream=\"main\"} 2",
        "trollbridge_first_byte_seconds_sum{upstream=\"main\"} 0.03",
        "trollbridge_request_duration_seconds_bucket{upstream=\"main\",le=\"2.56\"} 1",
        "trollbridge_tokens_total{model=\"gemini-*\",upstream=\"main\",class=\"output\"} 12",
        "trollbridge_cost_usd_total{model=\"gemini-*\",upstream=\"main\"} 0.011808",
        "trollbridge_ledger_entries_total{model=\"gemini-*\",upstream=\"main\"} 1",
        "trollbridge_usage_source_total{source=\"final\"} 1",
        "trollbridge_ledger_writable 1",
        "trollbridge_ledger_lag_seconds 0",
        "trollbridge_request_body_bytes_limit 1000",
        "trollbridge_request_body_bytes_client_limit 250",
        "trollbridge_access_lines_dropped_total 7",
        "trollbridge_reloads_total{outcome=\"refused\"} 1",
        "trollbridge_reload_last_ok 0",
        "trollbridge_ready 1",
        "trollbridge_build_info{version=\"1.2.3\"} 1",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is missing in\n{page}");
    }
    assert!(!page.contains("secret.internal"));
}
