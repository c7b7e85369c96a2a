//! The metrics page: Prometheus' text format, version 0.0.4, of the counters that exist so far.
//!
//! Labels hold words of the program, and the names that the configuration gives to upstreams, keys and proxies: never a value from a
//! request. Histograms come with the operating work; the names here stay.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::{Display, Write};

use crate::domain::upstream::status::UpstreamStatus;
use crate::ops::admin::Vitals;
use crate::ops::counters::{ENDS, STATUS_CLASSES};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the whole page.
pub fn page(vitals: &Vitals<'_>) -> String {
    let seen = vitals.counters.snapshot();
    let mut page = Page(String::with_capacity(4096));

    page.family("requests_total", "counter", "Finished requests by the class of the status that the client saw.");
    page.labelled("requests_total", "status", STATUS_CLASSES.into_iter().zip(seen.by_class));
    page.family("requests_ended_total", "counter", "Finished requests by how they ended.");
    page.labelled("requests_ended_total", "end", ENDS.into_iter().zip(seen.by_end));
    page.family("refusals_total", "counter", "Answers of the gateway's own, by reason.");
    page.labelled("refusals_total", "reason", seen.refusals);
    page.single("requests_in_flight", "gauge", "Requests that have begun and not ended.", seen.in_flight);

    page.single("routing_attempts_total", "counter", "Requests whose body was read to route them.", seen.routing_attempts);
    page.single("routing_success_total", "counter", "Requests routed by their own model.", seen.routing_success);
    page.single("routing_fallback_total", "counter", "Requests routed by a default.", seen.routing_fallback);
    page.single("parsing_errors_total", "counter", "Bodies that were not valid JSON.", seen.parsing_errors);
    page.family("routing_seconds", "summary", "Time from a complete body to a decided route.");
    page.sample("routing_seconds_sum", seen.routing_time.as_secs_f64());
    page.sample("routing_seconds_count", seen.routing_attempts);

    page.family("tokens_total", "counter", "Tokens that upstreams reported, by class.");
    page.labelled(
        "tokens_total",
        "class",
        [
            ("input", seen.usage.input_tokens),
            ("cache_write", seen.usage.cache_write_tokens),
            ("cache_write_1h", seen.usage.cache_write_1h_tokens),
            ("cache_read", seen.usage.cache_read_tokens),
            ("output", seen.usage.output_tokens),
        ],
    );
    page.single("usage_clamped_total", "counter", "Reported token counts that were absurd.", seen.usage_clamped);

    rotation(&mut page, vitals);

    let books = vitals.ledger;
    page.single(
        "ledger_writable",
        "gauge",
        "0 while the disk takes nothing: requests are refused.",
        u64::from(books.trouble.is_none()),
    );
    page.single("ledger_entries_open", "gauge", "Requests that were opened and not closed.", books.in_flight);
    page.single("ledger_entries_waiting", "gauge", "Closed entries that wait in memory for the disk.", books.kept);

    page.single("request_body_bytes", "gauge", "Memory that request bodies in flight take.", vitals.body_budget.taken_bytes());
    page.single("request_body_bytes_limit", "gauge", "Memory that they may take.", vitals.body_budget.limit_bytes());
    page.single("access_lines_dropped_total", "counter", "Access lines that were not written.", vitals.access_lines_dropped);
    page.single("uptime_seconds", "gauge", "Seconds since the start of the process.", vitals.uptime.as_secs());
    page.family("build_info", "gauge", "The running version; always 1.");
    page.labelled("build_info", "version", [(vitals.version, 1)]);
    page.0
}

/// How keys and proxies stand, of the upstreams that have something to rotate.
fn rotation(page: &mut Page, vitals: &Vitals<'_>) {
    let rotating = vitals.upstreams.iter().filter(|upstream| upstream.rotates());
    let statuses: Vec<_> = rotating.map(|upstream| UpstreamStatus::of(upstream, vitals.now)).collect();
    let keys = || statuses.iter().flat_map(|of| of.keys.iter().map(|key| (&of.name, &key.id, key)));
    let proxies = || statuses.iter().flat_map(|of| of.proxies.iter().map(|proxy| (&of.name, &proxy.id, proxy)));

    page.family("key_state", "gauge", "1 for the state that an upstream's key is in: ready, cooling or dead.");
    for (upstream, id, key) in keys() {
        for state in ["ready", "cooling", "dead"] {
            page.named("key_state", &[("upstream", upstream), ("key", id), ("state", state)], u64::from(key.state == state));
        }
    }
    page.family("key_ready_in_seconds", "gauge", "Seconds until a cooling key is used again; 0 for one that is not cooling.");
    for (upstream, id, key) in keys() {
        page.named("key_ready_in_seconds", &[("upstream", upstream), ("key", id)], key.ready_in_s.unwrap_or(0));
    }
    page.family("key_attempts_total", "counter", "Attempts that were to carry the key, those without a connection included.");
    for (upstream, id, key) in keys() {
        page.named("key_attempts_total", &[("upstream", upstream), ("key", id)], key.attempts);
    }
    page.family("key_rests_total", "counter", "Answers that sent the key to rest.");
    for (upstream, id, key) in keys() {
        page.named("key_rests_total", &[("upstream", upstream), ("key", id)], key.rests);
    }
    page.family("proxy_up", "gauge", "1 while checks and connections say that the proxy can be reached.");
    for (upstream, id, proxy) in proxies() {
        page.named("proxy_up", &[("upstream", upstream), ("proxy", id)], u64::from(proxy.health == "up"));
    }
    page.family("proxy_ready", "gauge", "1 while the proxy is up and one of its keys is ready.");
    for (upstream, id, proxy) in proxies() {
        let ready = proxy.health == "up" && proxy.quota == "ready";
        page.named("proxy_ready", &[("upstream", upstream), ("proxy", id)], u64::from(ready));
    }
    page.family("proxy_attempts_total", "counter", "Attempts that went through the proxy.");
    for (upstream, id, proxy) in proxies() {
        page.named("proxy_attempts_total", &[("upstream", upstream), ("proxy", id)], proxy.attempts);
    }
    page.family("proxy_connect_failures_total", "counter", "Of those, the ones whose connection did not come about.");
    for (upstream, id, proxy) in proxies() {
        page.named("proxy_connect_failures_total", &[("upstream", upstream), ("proxy", id)], proxy.connect_failures);
    }
}

/// Writing to a `String` cannot fail, so the results of `write!` are dropped.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP trollbridge_{name} {help}\n# TYPE trollbridge_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "trollbridge_{name} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, value);
    }

    /// A sample whose labels hold names of the configuration.
    fn named(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let _ = write!(self.0, "trollbridge_{name}{{");
        for (nth, (label, text)) in labels.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{comma}{label}=\"{escaped}\"");
        }
        let _ = writeln!(self.0, "}} {value}");
    }

    fn labelled<'l>(&mut self, name: &str, label: &str, samples: impl IntoIterator<Item = (&'l str, u64)>) {
        for (word, value) in samples {
            let _ = writeln!(self.0, "trollbridge_{name}{{{label}=\"{word}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::domain::usage::Usage;
    use crate::ops::body_budget::BodyBudget;
    use crate::ops::counters::Counters;
    use crate::ops::health::Ready;

    fn page_of(counters: &Counters) -> String {
        page(&Vitals {
            counters,
            ready: Ready::Yes,
            routing_enabled: true,
            models_configured: 1,
            default_target: Some("https://secret.internal/v1"),
            body_budget: &BodyBudget::new(1_000),
            access_lines_dropped: 7,
            version: "1.2.3",
            uptime: Duration::from_secs(9),
            upstreams: &[],
            now: Default::default(),
            ledger: &crate::ops::ledger::Condition { trouble: None, in_flight: 0, kept: 0 },
            last_reload: None,
        })
    }

    #[test]
    fn l4_every_sample_has_a_type_and_help_before_it_and_no_line_comes_twice() {
        let counters = Counters::default();
        counters.refused("no_key");
        counters.refused("unknown_model");
        let page = page_of(&counters);
        assert!(page.ends_with('\n'));
        let (mut described, mut samples) = (String::new(), HashSet::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                described = rest.split(' ').next().unwrap().to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, described);
                assert!(["counter", "gauge", "summary"].contains(&kind), "{line}");
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
        let counters = Arc::new(Counters::default());
        let _in_flight = counters.enter();
        counters.routed(true, Duration::from_micros(1_500));
        counters.parse_error();
        counters.refused("no_key");
        counters.finished(401, "refused");
        counters.used(&Usage { output_tokens: 12, ..Usage::default() });
        let page = page_of(&counters);
        for line in [
            "trollbridge_requests_total{status=\"4xx\"} 1",
            "trollbridge_requests_ended_total{end=\"refused\"} 1",
            "trollbridge_refusals_total{reason=\"no_key\"} 1",
            "trollbridge_requests_in_flight 1",
            "trollbridge_routing_attempts_total 1",
            "trollbridge_routing_success_total 1",
            "trollbridge_routing_fallback_total 0",
            "trollbridge_parsing_errors_total 1",
            "trollbridge_routing_seconds_sum 0.0015",
            "trollbridge_routing_seconds_count 1",
            "trollbridge_tokens_total{class=\"output\"} 12",
            "trollbridge_request_body_bytes_limit 1000",
            "trollbridge_access_lines_dropped_total 7",
            "trollbridge_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line} is missing in\n{page}");
        }
        assert!(!page.contains("secret.internal"));
    }
}
