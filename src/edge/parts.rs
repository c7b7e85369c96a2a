//! What every request shares.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::settings::Settings;
use crate::ops::books::clients::Directory;
use crate::ops::books::ledger::Ledger;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::ca::CaStore;
use crate::ops::host::resolver::Resolver;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::Counters;
use crate::relay::stage::Records;

/// The gateway: a `ProxyHttp` whose steps stand in `gateway`.
pub struct Gateway {
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) cas: Arc<ArcSwap<CaStore>>,
    pub(super) budget: BodyBudget,
    pub(super) directory: Arc<Directory>,
    pub(super) ledger: Ledger,
    pub(super) records: Records,
}

/// What the gateway is plugged together from.
pub struct Parts {
    pub settings: Arc<ArcSwap<Settings>>,
    pub cas: Arc<ArcSwap<CaStore>>,
    pub resolver: Arc<Resolver>,
    pub budget: BodyBudget,
    pub directory: Arc<Directory>,
    pub ledger: Ledger,
    pub counters: Arc<Counters>,
    pub access_log: Arc<AccessLog>,
}

impl Gateway {
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, cas, resolver, budget, directory, ledger, counters, access_log } = parts;
        Self { settings, resolver, cas, budget, directory, ledger, records: Records { counters, access_log } }
    }

    /// For what is refused before it becomes a request.
    pub(super) fn records(&self) -> Records {
        self.records.clone()
    }
}
