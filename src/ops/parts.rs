//! The parts of one process that outlive every request: one list, made once, lent to whoever serves, shows, reloads or ends.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;
use crate::ops::books::clients::Directory;
use crate::ops::books::ledger::Ledger;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::ca::CaStore;
use crate::ops::host::drain::Drain;
use crate::ops::host::resolver::Resolver;
use crate::ops::host::tls::Certificates;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::Counters;
use crate::ops::watch::readiness::Readiness;

/// Each part once; what stands in an `Arc` of its own is also lent alone.
pub struct Parts {
    // In force until a reload swaps it.
    pub settings: Arc<ArcSwap<Settings>>,
    pub cas: Arc<ArcSwap<CaStore>>,
    pub certificates: Certificates,
    /// Hears of each reload that came into force.
    pub reloaded: Arc<Notify>,

    /// How keys and proxies stand, whatever settings name them.
    pub registry: Arc<Registry>,
    pub resolver: Arc<Resolver>,
    pub budget: BodyBudget,
    pub drain: Arc<Drain>,

    /// The clients, each with what it has left.
    pub directory: Arc<Directory>,
    pub ledger: Ledger,

    pub counters: Arc<Counters>,
    pub access_log: Arc<AccessLog>,
    pub readiness: Readiness,
}
