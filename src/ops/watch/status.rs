//! `/status.json`: what an operator asks for at three in the morning, in one document. README explains its fields.
//!
//! Names and counts only: no key, no token, nothing from a request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::domain::ledger::time;
use crate::domain::upstream::status::UpstreamStatus;
use crate::ops::host::machine::Machine;
use crate::ops::watch::counters::{STATUS_CLASSES, Snapshot};
use crate::ops::watch::vitals::Vitals;

/// The whole document. Times are RFC 3339 in UTC, durations end in `_s`, sizes in `_bytes`; what the machine does not tell is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct StatusDocument {
    pub version: &'static str,
    pub pid: u32,
    pub started_at: String,
    pub uptime_s: u64,
    /// `starting`, `ready`, `draining` or `ledger_unwritable`, as `/health/ready` has it.
    pub state: &'static str,
    pub config: ConfigStatus,
    pub listeners: Vec<ListenerStatus>,
    pub admin: Option<SocketAddr>,
    pub requests_in_flight: usize,
    /// Event streams among them.
    pub open_streams: usize,
    pub clients: usize,
    pub access_lines_dropped: u64,
    pub request_bodies: BodiesStatus,
    pub process: ProcessStatus,
    pub ledger: LedgerStatus,
    pub totals: TotalsStatus,
    pub upstreams: Vec<UpstreamStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    pub path: Option<PathBuf>,
    /// When the settings in force were read.
    pub loaded_at: String,
    /// `null`: there was none since the start.
    pub last_reload: Option<ReloadStatus>,
    pub reloads_ok: u64,
    pub reloads_refused: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReloadStatus {
    pub at: String,
    /// `false`: it was refused, and what was in force before still is.
    pub ok: bool,
    /// What was said of it.
    pub words: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ListenerStatus {
    pub addr: SocketAddr,
    pub tls: bool,
    /// HTTP/2 without TLS is understood.
    pub h2c: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct BodiesStatus {
    pub taken_bytes: usize,
    pub limit_bytes: usize,
    pub client_limit_bytes: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProcessStatus {
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub resident_bytes: Option<u64>,
    pub cpu_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LedgerStatus {
    pub writable: bool,
    /// Why it is not.
    pub trouble: Option<String>,
    pub entries_open: u64,
    /// Closed entries that wait in memory for the disk.
    pub entries_waiting: usize,
    /// What reports and other processes' balances lack.
    pub unfolded_bytes: u64,
    pub lag_s: f64,
    pub state_dir: PathBuf,
    pub disk_free_bytes: Option<u64>,
}

/// Since the start of the process.
#[derive(Clone, Debug, Serialize)]
pub struct TotalsStatus {
    /// By the class of the status that the client saw.
    pub requests: BTreeMap<&'static str, u64>,
    pub ends: BTreeMap<&'static str, u64>,
    /// The gateway's own answers, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    pub routing: RoutingStatus,
    /// By class, as the ledger has them.
    pub tokens: BTreeMap<&'static str, u64>,
    /// An exact decimal.
    pub cost_usd: String,
    pub cost_nano_usd: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct RoutingStatus {
    pub attempts: u64,
    pub success: u64,
    pub fallback: u64,
    pub parsing_errors: u64,
}

impl StatusDocument {
    pub fn of(vitals: &Vitals<'_>) -> Self {
        let seen = vitals.counters.snapshot();
        let site = vitals.site;
        let Machine { open_fds, max_fds, resident_bytes, cpu_seconds, disk_free_bytes } = Machine::look(&site.state_dir);
        let listeners = site.listeners.iter();
        Self {
            version: vitals.version,
            pid: std::process::id(),
            started_at: time::text(seen.started_unix_ms),
            uptime_s: vitals.uptime.as_secs(),
            state: vitals.ready.label(),
            config: ConfigStatus {
                path: site.config.clone(),
                loaded_at: time::text(seen.reloads.loaded_unix_ms),
                last_reload: seen.reloads.last.map(|(at, ok)| ReloadStatus {
                    at: time::text(at),
                    ok,
                    words: vitals.reload_words.map(str::to_owned),
                }),
                reloads_ok: seen.reloads.ok,
                reloads_refused: seen.reloads.refused,
            },
            listeners: listeners.map(|of| ListenerStatus { addr: of.addr, tls: of.tls.is_some(), h2c: of.h2c }).collect(),
            admin: site.admin,
            requests_in_flight: seen.in_flight,
            open_streams: seen.open_streams,
            clients: vitals.clients,
            access_lines_dropped: vitals.access_lines_dropped,
            request_bodies: BodiesStatus {
                taken_bytes: vitals.body_budget.taken_bytes(),
                limit_bytes: vitals.body_budget.limit_bytes(),
                client_limit_bytes: vitals.body_budget.client_limit_bytes(),
            },
            process: ProcessStatus { open_fds, max_fds, resident_bytes, cpu_s: cpu_seconds },
            ledger: LedgerStatus {
                writable: vitals.ledger.trouble.is_none(),
                trouble: vitals.ledger.trouble.as_deref().map(str::to_owned),
                entries_open: vitals.ledger.in_flight,
                entries_waiting: vitals.ledger.kept,
                unfolded_bytes: vitals.ledger.unfolded_bytes,
                lag_s: vitals.ledger.unfolded_for.as_secs_f64(),
                state_dir: site.state_dir.clone(),
                disk_free_bytes,
            },
            totals: TotalsStatus::of(seen),
            upstreams: vitals.upstreams.iter().map(|upstream| UpstreamStatus::of(upstream, vitals.now)).collect(),
        }
    }
}

impl TotalsStatus {
    fn of(seen: Snapshot) -> Self {
        let billed = seen.billed();
        Self {
            requests: STATUS_CLASSES.into_iter().zip(seen.by_class).collect(),
            ends: seen.by_end.rows().collect(),
            refusals: seen.refusals,
            routing: RoutingStatus {
                attempts: seen.routing_attempts,
                success: seen.routing_success,
                fallback: seen.routing_fallback,
                parsing_errors: seen.parsing_errors,
            },
            tokens: billed.by_class().collect(),
            cost_usd: billed.cost.to_string(),
            cost_nano_usd: billed.cost.nanos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::billing::NanoUsd;
    use crate::domain::end::End;
    use crate::domain::settings::Listener;
    use crate::domain::usage::{Source, Usage};
    use crate::ops::books::ledger::Condition;
    use crate::ops::watch::counters::Counters;
    use crate::ops::watch::vitals::Site;

    #[test]
    fn l4_the_document_says_how_the_gateway_stands() {
        let counters = Counters::default();
        let usage = Usage { cache_read_tokens: 7, ..Usage::default() };
        counters.booked("main", &None, Source::Final, &usage, NanoUsd::from_nanos(1_500_000_001));
        counters.finished(200, End::Ok);
        counters.reloaded(false);
        let site = Site {
            config: Some("conf/config.json".into()),
            state_dir: "/no/such/place".into(),
            listeners: vec![Listener { addr: "127.0.0.1:8080".parse().unwrap(), h2c: true, tls: None }],
            admin: None,
        };
        let ledger = Condition { trouble: Some("no space left".into()), kept: 3, ..Condition::default() };
        let document = Vitals::example(&counters, |vitals| {
            StatusDocument::of(&Vitals { site: &site, ledger: &ledger, clients: 4, ..*vitals })
        });
        let document = serde_json::to_value(document).unwrap();
        assert_eq!(document["state"], "ready");
        assert_eq!(document["pid"], std::process::id());
        assert_eq!((&document["clients"], &document["request_bodies"]["limit_bytes"]), (&json!(4), &json!(1_000)));
        assert_eq!(document["listeners"], json!([{ "addr": "127.0.0.1:8080", "tls": false, "h2c": true }]));
        assert_eq!(
            (&document["config"]["path"], &document["config"]["last_reload"]["ok"]),
            (&json!("conf/config.json"), &json!(false))
        );
        assert_eq!(
            (&document["ledger"]["trouble"], &document["ledger"]["entries_waiting"]),
            (&json!("no space left"), &json!(3))
        );
        assert_eq!(document["ledger"]["disk_free_bytes"], json!(null));
        assert_eq!((&document["totals"]["requests"]["2xx"], &document["totals"]["ends"]["ok"]), (&json!(1), &json!(1)));
        assert_eq!(
            (&document["totals"]["tokens"]["cache_read"], &document["totals"]["cost_usd"]),
            (&json!(7), &json!("1.500000001"))
        );
        let started: jiff::Timestamp = document["started_at"].as_str().unwrap().parse().unwrap();
        assert!(started <= jiff::Timestamp::now());
    }
}
