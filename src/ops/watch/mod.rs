//! What is seen of the gateway: counted while requests pass, written down when they end, shown to people and to scrapers.
//!
//! ```text
//! counters/    what is counted ──┐              ┌─► metrics/     the metrics page
//! readiness    ready or not ─────┼─► vitals.rs ─┼─► health.rs    the health document
//! books, host  how they fare ────┘              └─► status.rs    the whole state in one document
//!
//! access_log/  a line per request ───┬─► line.rs      how a value stands in a line
//! log.rs       the program's words ──┘
//! ```
//!
//! Nothing here changes what it looks at, and nothing that is seen waits for who looks.

pub mod access_log;
pub mod counters;
pub mod health;
pub mod line;
pub mod log;
pub mod metrics;
pub mod readiness;
pub mod status;
pub mod vitals;
