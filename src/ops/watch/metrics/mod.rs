//! The metrics page: Prometheus' text format, version 0.0.4. README has the table of its names and what they mean.
//!
//! Labels hold words of the program, and the names that the configuration gives to upstreams, models, keys and proxies: never a value
//! from a request. <https://prometheus.io/docs/instrumenting/exposition_formats/>

mod exposition;

use crate::domain::upstream::status::UpstreamStatus;
use crate::ops::host::machine::Machine;
use crate::ops::watch::counters::{STATUS_CLASSES, Snapshot, UpstreamSeen};
use crate::ops::watch::readiness::Ready;
use crate::ops::watch::vitals::Vitals;

use exposition::{Exposition, Labels, Unit, single};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the whole page.
pub fn page(vitals: &Vitals<'_>) -> String {
    let seen = vitals.counters.snapshot();
    let machine = Machine::look(&vitals.site.state_dir);
    let mut page = Exposition::default();
    requests(&mut page, &seen);
    routing(&mut page, &seen);
    upstreams(&mut page, &seen);
    books(&mut page, vitals, &seen, &machine);
    rotation(&mut page, vitals);
    gateway(&mut page, vitals, &seen);
    process(&mut page, &seen, &machine);
    page.text()
}

fn requests(page: &mut Exposition, seen: &Snapshot) {
    let by = labelled("status", STATUS_CLASSES.into_iter().zip(seen.by_class));
    page.counter("requests_total", "Finished requests by the class of the status that the client saw.", by);
    let by = labelled("end", seen.by_end.rows());
    page.counter("requests_ended_total", "Finished requests by how they ended.", by);
    let by = labelled("reason", seen.refusals.iter().map(|(reason, count)| (*reason, *count)));
    page.counter("refusals_total", "Answers of the gateway's own, by reason.", by);
    page.gauge("requests_in_flight", "Requests that have begun and not ended.", single(seen.in_flight as f64));
    page.gauge("open_streams", "Event streams that have begun and not ended.", single(seen.open_streams as f64));
}

fn routing(page: &mut Exposition, seen: &Snapshot) {
    page.counter("routing_attempts_total", "Requests whose body was read to route them.", single(seen.routing_attempts as f64));
    page.counter("routing_success_total", "Requests routed by their own model.", single(seen.routing_success as f64));
    page.counter("routing_fallback_total", "Requests routed by a default.", single(seen.routing_fallback as f64));
    page.counter("parsing_errors_total", "Bodies that were not valid JSON.", single(seen.parsing_errors as f64));
    let help = "Time from a complete body to a decided route.";
    page.summary("routing_seconds", help, seen.routing_attempts, seen.routing_time.as_secs_f64());
    let by = seen.phases.iter().map(|(phase, seen)| (vec![("phase", phase.label())], seen));
    let help = "The gateway's own share of a request's time: reading the body's fields, routing, getting a connection.";
    page.histogram("overhead_seconds", help, Unit::Seconds, by);
}

/// What went where, and how.
fn upstreams(page: &mut Exposition, seen: &Snapshot) {
    let all = || seen.upstreams.iter().map(|(name, of)| (name.as_str(), of));
    let ends = all().flat_map(|(name, of)| {
        let by = of.ends.rows().filter(|(_, count)| *count > 0);
        by.map(move |(end, count)| (vec![("upstream", name), ("end", end)], count as f64))
    });
    page.counter("upstream_requests_total", "Finished requests that were routed to an upstream, by how they ended.", ends);
    let by = |of: fn(&UpstreamSeen) -> &_| all().map(move |(name, seen)| (vec![("upstream", name)], of(seen)));
    page.histogram("request_attempts", "Attempts that a request took.", Unit::One, by(|of| &of.attempts));
    let help = "From a request's arrival to the head of its good answer.";
    page.histogram("first_byte_seconds", help, Unit::Seconds, by(|of| &of.first_byte));
    let help = "From a request's arrival to its end.";
    page.histogram("request_duration_seconds", help, Unit::Seconds, by(|of| &of.total));
}

/// What was billed, and how the ledger fares.
fn books(page: &mut Exposition, vitals: &Vitals<'_>, seen: &Snapshot, machine: &Machine) {
    let each = || {
        let models = seen.upstreams.iter().flat_map(|(upstream, of)| of.models.iter().map(move |model| (upstream, model)));
        models.map(|(upstream, (model, billed))| (vec![("model", &**model), ("upstream", &**upstream)], billed))
    };
    let tokens = each().flat_map(|(labels, billed)| {
        billed.by_class().map(move |(class, count)| ([labels.clone(), vec![("class", class)]].concat(), count as f64))
    });
    page.counter("tokens_total", "Tokens of closed ledger entries, by class.", tokens);
    let cost = each().map(|(labels, billed)| (labels, billed.cost.nanos() as f64 / 1e9));
    page.counter("cost_usd_total", "Cost of closed ledger entries in US dollars, to the nano-dollar.", cost);
    let entries = each().map(|(labels, billed)| (labels, billed.entries as f64));
    page.counter("ledger_entries_total", "Closed ledger entries.", entries);
    let by = labelled("source", seen.by_source.iter().copied());
    page.counter("usage_source_total", "Closed ledger entries by where their usage is from.", by);
    let by = labelled("what", seen.unpriced.iter().map(|(what, count)| (*what, *count)));
    page.counter("usage_unpriced_total", "What answers reported and no price covers.", by);
    page.counter("usage_clamped_total", "Reported token counts that were absurd.", single(seen.usage_clamped as f64));

    let ledger = vitals.ledger;
    let help = "0 while the disk takes nothing: requests are refused.";
    page.gauge("ledger_writable", help, single(flag(ledger.trouble.is_none())));
    let help = "Requests that were opened and not closed.";
    page.gauge("ledger_entries_open", help, single(ledger.in_flight as f64));
    let help = "Closed entries that wait in memory for the disk.";
    page.gauge("ledger_entries_waiting", help, single(ledger.kept as f64));
    let help = "What this process wrote to the ledger and reports and balances of others lack.";
    page.gauge("ledger_unfolded_bytes", help, single(ledger.unfolded_bytes as f64));
    let help = "Age of the last fold that took all it found, while something waits to be folded.";
    page.gauge("ledger_lag_seconds", help, single(ledger.unfolded_for.as_secs_f64()));
    let help = "Bytes that the file system of the state directory has left.";
    page.gauge("state_disk_free_bytes", help, optional(machine.disk_free_bytes));
}

/// How keys and proxies stand, of the upstreams that have something to rotate.
fn rotation(page: &mut Exposition, vitals: &Vitals<'_>) {
    let rotating = vitals.upstreams.iter().filter(|upstream| upstream.rotates());
    let statuses: Vec<_> = rotating.map(|upstream| UpstreamStatus::of(upstream, vitals.now)).collect();
    let keys =
        || statuses.iter().flat_map(|of| of.keys.iter().map(|key| (vec![("upstream", &*of.name), ("key", &*key.id)], key)));
    let proxies = || {
        statuses
            .iter()
            .flat_map(|of| of.proxies.iter().map(|proxy| (vec![("upstream", &*of.name), ("proxy", &*proxy.id)], proxy)))
    };

    let states = keys().flat_map(|(labels, key)| {
        ["ready", "cooling", "dead"].map(|state| ([labels.clone(), vec![("state", state)]].concat(), flag(key.state == state)))
    });
    page.gauge("key_state", "1 for the state that an upstream's key is in: ready, cooling or dead.", states);
    let help = "Seconds until a cooling key is used again; 0 for one that is not cooling.";
    page.gauge("key_ready_in_seconds", help, keys().map(|(labels, key)| (labels, key.ready_in_s.unwrap_or(0) as f64)));
    let help = "Attempts that were to carry the key, those without a connection included.";
    page.counter("key_attempts_total", help, keys().map(|(labels, key)| (labels, key.attempts as f64)));
    let help = "Answers that sent the key to rest.";
    page.counter("key_rests_total", help, keys().map(|(labels, key)| (labels, key.rests as f64)));
    let help = "Models that the key rests for, while it carries the others.";
    page.gauge("key_models_resting", help, keys().map(|(labels, key)| (labels, key.models.len() as f64)));
    let help = "1 while checks and connections say that the proxy can be reached.";
    page.gauge("proxy_up", help, proxies().map(|(labels, proxy)| (labels, flag(proxy.health == "up"))));
    let ready = proxies().map(|(labels, proxy)| (labels, flag(proxy.health == "up" && proxy.quota == "ready")));
    page.gauge("proxy_ready", "1 while the proxy is up and one of its keys is ready.", ready);
    let help = "Attempts that went through the proxy.";
    page.counter("proxy_attempts_total", help, proxies().map(|(labels, proxy)| (labels, proxy.attempts as f64)));
    let help = "Of those, the ones whose connection did not come about.";
    let failures = proxies().map(|(labels, proxy)| (labels, proxy.connect_failures as f64));
    page.counter("proxy_connect_failures_total", help, failures);
}

fn gateway(page: &mut Exposition, vitals: &Vitals<'_>, seen: &Snapshot) {
    page.gauge("ready", "1 while new traffic should come here.", single(flag(vitals.ready == Ready::Yes)));
    let taken = vitals.body_budget.taken_bytes();
    page.gauge("request_body_bytes", "Memory that request bodies in flight take.", single(taken as f64));
    let limit = vitals.body_budget.limit_bytes();
    page.gauge("request_body_bytes_limit", "Memory that they may take.", single(limit as f64));
    let limit = vitals.body_budget.client_limit_bytes();
    page.gauge("request_body_bytes_client_limit", "Memory that those of one client may take.", single(limit as f64));
    let dropped = vitals.access_lines_dropped;
    page.counter("access_lines_dropped_total", "Access lines that were not written.", single(dropped as f64));
    page.gauge("clients", "Clients that have a key.", single(vitals.clients as f64));
    let by = labelled("outcome", [("ok", seen.reloads.ok), ("refused", seen.reloads.refused)]);
    page.counter("reloads_total", "Reloads of the configuration by their outcome.", by);
    let help = "1 unless the last reload was refused.";
    page.gauge("reload_last_ok", help, single(flag(seen.reloads.last.is_none_or(|(_, ok)| ok))));
    let help = "When the configuration in force was read, in seconds since 1970.";
    page.gauge("config_loaded_timestamp_seconds", help, single(seen.reloads.loaded_unix_ms as f64 / 1e3));
    page.gauge("uptime_seconds", "Seconds since the start of the process.", single(vitals.uptime.as_secs() as f64));
    page.gauge("build_info", "The running version; always 1.", [(vec![("version", vitals.version)], 1.0)]);
}

/// By the names that every process of every language has.
fn process(page: &mut Exposition, seen: &Snapshot, machine: &Machine) {
    let help = "When the process started, in seconds since 1970.";
    page.gauge("process_start_time_seconds", help, single(seen.started_unix_ms as f64 / 1e3));
    page.gauge("process_open_fds", "Open file descriptors.", optional(machine.open_fds));
    page.gauge("process_max_fds", "The most file descriptors that may be open.", optional(machine.max_fds));
    page.gauge("process_resident_memory_bytes", "Resident memory.", optional(machine.resident_bytes));
    page.counter("process_cpu_seconds_total", "Processor time of user and system.", machine.cpu_seconds.map(|s| (Vec::new(), s)));
}

fn labelled<'l>(name: &'static str, counts: impl IntoIterator<Item = (&'l str, u64)>) -> impl Iterator<Item = (Labels<'l>, f64)> {
    counts.into_iter().map(move |(word, count)| (vec![(name, word)], count as f64))
}

fn optional(value: Option<u64>) -> Option<(Labels<'static>, f64)> {
    value.map(|value| (Vec::new(), value as f64))
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[cfg(test)]
mod tests;
