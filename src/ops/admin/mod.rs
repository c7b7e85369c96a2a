//! The operator's doors: what is asked of the running gateway, and what it is told to do.
//!
//! ```text
//! admin listener (edge::admin) ──┐            ┌── table.rs ───┬─► views.rs     health, metrics, status
//! control/  NAME.sock ───────────┴─► pages.rs ┤  which page   └─► clients.rs   the clients
//! SIGHUP ─────────────────────────────────────┴─────────────────► reload.rs    the configuration again
//! ```
//!
//! A room of its own because it uses all the others: it shows what `watch` sees, changes what `books` hold, swaps what `host` read.

pub mod answer;
mod clients;
pub mod control;
pub mod pages;
pub mod reload;
mod table;
mod views;
