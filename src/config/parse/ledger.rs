//! How the ledger's files are written and kept.

use std::time::Duration;

use crate::config::parse::Context;
use crate::config::raw;
use crate::config::source::At;
use crate::domain::settings::{LedgerSettings, LedgerSync};

/// For `interval`, where no `interval_ms` is written.
const INTERVAL_MS: u64 = 200;
const DAY: Duration = Duration::from_secs(86_400);

pub fn ledger(raw: &raw::Ledger, cx: &mut Context<'_, '_>) -> LedgerSettings {
    if raw.interval_ms.is_some() && raw.sync != raw::LedgerSync::Interval {
        cx.fault(&At::Root.key("ledger").key("interval_ms"), "belongs to `\"sync\": \"interval\"`");
    }
    let sync = match raw.sync {
        raw::LedgerSync::Process => LedgerSync::Process,
        raw::LedgerSync::Interval => LedgerSync::Interval(Duration::from_millis(raw.interval_ms.unwrap_or(INTERVAL_MS))),
        raw::LedgerSync::Each => LedgerSync::Each,
    };
    let retention = raw.retention_days.map(|days| DAY * u32::try_from(days).unwrap_or(u32::MAX));
    LedgerSettings { sync, segment_bytes: raw.segment_bytes, retention }
}
