//! The one integration-test binary: the real gateway against the scripted provider, all on the loopback.
//!
//! `support` holds what every test uses: the gateway as a child process, clients that distrust every answer, certificates.
//! `mock_shapes` tests the provider itself, without a gateway, so that a failure elsewhere is the gateway's.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod answers;
mod bad_input;
mod books;
mod certificates;
mod clients;
mod commands;
mod configuration;
mod connections;
mod golden_bills;
mod harness;
mod headers;
mod held;
mod ledger;
mod lifetimes;
mod logs;
mod matrix;
mod metering;
mod metrics;
mod mock_shapes;
mod packaging;
mod pool;
mod retries;
mod rooms;
mod routing;
mod running;
mod smoke;
mod stale;
mod stalls;
mod support;
mod tunnels;
mod upgrades;
