//! trollbridge: an edge gateway for LLM APIs.
//!
//! Clients point an OpenAI or Anthropic SDK at it with a key of ours. The `model` in the JSON body picks the upstream; the gateway
//! injects that upstream's key, streams the answer back byte for byte and reads the token usage on the way.
//!
//! # The rooms
//!
//! | room | does | may use | never |
//! |---|---|---|---|
//! | [`domain`] | *decides*: dialects, peek, splice, routes, verdicts, usage, prices, answers | values | pingora, tokio, log, files, clock, environment |
//! | [`config`] | *parses* `config.json` into domain values, all faults at once | domain | pingora, tokio |
//! | [`ops`] | *touches the machine*: clock, resolver, store, clients, access log, counters, certificates, reload | domain, config | pingora-proxy |
//! | [`edge`] | *moves bytes*: the only room that knows `ProxyHttp` | domain, ops, pingora | files, environment, config |
//! | [`provider_mock`] | a provider with a script, for the demo, tests and benches | tokio, hyper | the rooms above |
//! | [`cli`] | one file per command | all | |
//! | [`app`] | plugs the parts together | all | |
//!
//! `tests/it/rooms.rs` holds the arrows to this table.

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod edge;
pub mod ops;
pub mod provider_mock;
pub mod relay;
