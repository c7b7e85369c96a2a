//! Decides. Values in, values out: no Pingora, no tokio, no log, no file, no clock, no environment; time is an argument.

pub mod admission;
pub mod answer;
pub mod billing;
pub mod client;
pub mod credit;
pub mod dialect;
pub mod digits;
pub mod end;
pub mod guard;
pub mod headers;
pub mod id;
pub mod json;
pub mod ledger;
pub mod local;
pub mod moment;
pub mod patience;
pub mod route;
pub mod secret;
pub mod settings;
pub mod upstream;
pub mod usage;
