//! What the tests stand on.

#![expect(dead_code, reason = "the foundation offers what later tests use")]

pub mod certs;
pub mod client;
pub mod distrust;
pub mod exposition;
pub mod gateway;
pub mod process;
pub mod provider;
pub mod proxies;
pub mod raw;
pub mod request;
pub mod setup;
pub mod sse;

use std::future::Future;
use std::time::Duration;

pub use certs::Authority;
pub use client::{Alpn, Client};
pub use distrust::Distrust;
pub use exposition::Exposition;
pub use gateway::Gateway;
pub use provider::{Counts, Gate, Mock, Recorded, Shorthand};
pub use proxies::{Act, ScriptedProxy};
pub use raw::RawClient;
pub use request::Request;
pub use setup::Setup;

/// No wait of a test is longer; only a test that would hang gets here.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Awaits something that must happen; fails the test instead of hanging when it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TOO_LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting for {what}"),
    }
}
