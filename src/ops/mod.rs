//! Touches the machine: clock, names of hosts, the database and the clients in it, logs, counters, the memory budget for bodies. One job per file.
//!
//! May use `domain`, `config` and tokio; never the proxy engine. Nothing here decides about a request.

pub mod access_log;
pub mod admin;
pub mod body_budget;
pub mod ca;
pub mod certificate;
pub mod child;
pub mod clients;
pub mod clock;
pub mod control;
pub mod counters;
pub mod drain;
pub mod handover;
pub mod health;
pub mod ledger;
pub mod line;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod pages;
pub mod pid_file;
pub mod reload;
pub mod resolver;
pub mod signals;
pub mod status;
pub mod store;
pub mod tls;
