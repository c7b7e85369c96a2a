//! The proxies of an upstream, and whose turn it is among them; `pick.rs` chooses.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::domain::upstream::health::HealthCheck;
use crate::domain::upstream::proxy::Proxy;

/// The proxies of an upstream; never empty.
#[derive(Debug)]
pub struct Pool {
    pub proxies: Vec<Proxy>,
    pub check: HealthCheck,
    /// Whether requests go out without a proxy once all of them are down.
    pub allow_direct_when_down: bool,
    pub(super) turn: Arc<AtomicUsize>,
}

impl Pool {
    pub fn new(proxies: Vec<Proxy>, check: HealthCheck, allow_direct_when_down: bool, turn: Arc<AtomicUsize>) -> Self {
        Self { proxies, check, allow_direct_when_down, turn }
    }
}
