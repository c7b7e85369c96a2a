//! trollbridge: an edge gateway for LLM APIs.
//!
//! Clients point an OpenAI or Anthropic SDK at it with a client key that the gateway issued. The `model` in the JSON body picks the upstream; the gateway
//! injects that upstream's own key, streams the answer back byte for byte and reads the token usage on the way.
//!
//! # The rooms
//!
//! ```text
//!   client ◄──► edge ◄──► upstream          app, cli: plug the parts together, one file per command
//!                │  hooks and bytes
//!                ▼
//!              relay                        one request, walked as values: what comes next
//!                │  narrowly
//!                ▼
//!               ops                         the machine: admin ─► watch ─► books ─► host
//!                │
//!                ▼          config          config.json, parsed
//!              domain ◄───────┘             what is decided, on values
//! ```
//!
//! | room | does | may use | never |
//! |---|---|---|---|
//! | [`domain`] | *decides*: dialects, peek, splice, routes, verdicts, usage, prices, answers | | pingora, tokio, log, files, clock, environment |
//! | [`config`] | *parses* `config.json` into domain values, all faults at once | domain | pingora, tokio, log |
//! | [`ops`] | *touches the machine*: clock, resolver, store, clients, access log, counters, certificates, reload | domain, config | pingora-proxy |
//! | [`relay`] | *walks* one request from arrival to its ledger entry and decides what comes next | domain, ops | pingora, tokio, log, files, clock, environment, edge |
//! | [`edge`] | *moves bytes*: the only room that knows `ProxyHttp` | domain, ops, relay | files, environment |
//! | [`provider_mock`] | a provider with a script, for the demo and tests | | pingora |
//! | [`cli`] | one file per command | all | |
//! | [`app`] | plugs the parts together | all | |
//!
//! A room uses the rooms of its third column and no others, and of other crates all but what stands in its last. Nothing uses itself in a
//! circle: no file, no folder, no room. `tests/it/rooms.rs` reads this table and keeps it.

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod edge;
pub mod ops;
pub mod provider_mock;
pub mod relay;
