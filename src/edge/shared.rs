//! The gateway, as far as it is one thing: what every request borrows from.

use std::sync::Arc;

use crate::ops::parts::Parts;
use crate::relay::stage::Records;

/// A `ProxyHttp` whose steps stand in `gateway`.
pub struct Gateway {
    pub(super) parts: Arc<Parts>,
}

impl Gateway {
    pub fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// Where requests are written down and counted, those included that are refused before they become one.
    pub(super) fn records(&self) -> Records {
        Records { counters: self.parts.counters.clone(), access_log: self.parts.access_log.clone() }
    }
}
