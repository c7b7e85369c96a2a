//! How the gateway fares, gathered for one answer: what the health document, the metrics page and the status document are made of.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::moment::Moment;
use crate::domain::settings::Listener;
use crate::domain::upstream::Upstream;
use crate::ops::books::ledger::Condition;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::watch::counters::Counters;
use crate::ops::watch::readiness::Ready;

/// What the pages show; gathered by whoever answers.
#[derive(Clone, Copy, Debug)]
pub struct Vitals<'a> {
    pub counters: &'a Counters,
    pub ready: Ready,
    pub routing_enabled: bool,
    pub models_configured: usize,
    pub default_target: Option<&'a str>,
    pub body_budget: &'a BodyBudget,
    pub access_lines_dropped: u64,
    pub version: &'static str,
    pub uptime: Duration,
    pub upstreams: &'a [Arc<Upstream>],
    pub now: Moment,
    pub ledger: &'a Condition,
    pub clients: usize,
    pub site: &'a Site,
    /// What was said of the last reload.
    pub reload_words: Option<&'a str>,
}

/// Where a process was started, and on what; a reload changes none of it.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// `None`: settings that came from no file.
    pub config: Option<PathBuf>,
    pub state_dir: PathBuf,
    pub listeners: Vec<Listener>,
    pub admin: Option<SocketAddr>,
}

#[cfg(test)]
impl Vitals<'_> {
    /// Lends a gateway at rest: ready, with one model and no upstream.
    pub fn example<T>(counters: &Counters, look: impl FnOnce(&Vitals<'_>) -> T) -> T {
        look(&Vitals {
            counters,
            ready: Ready::Yes,
            routing_enabled: true,
            models_configured: 1,
            default_target: None,
            body_budget: &BodyBudget::of(1_000, 250),
            access_lines_dropped: 0,
            version: "1.2.3",
            uptime: Duration::from_secs(9),
            upstreams: &[],
            now: Moment::default(),
            ledger: &Condition::default(),
            clients: 0,
            site: &Site::default(),
            reload_words: None,
        })
    }
}
