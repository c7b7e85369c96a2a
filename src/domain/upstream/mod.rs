//! Upstreams: named places that answer for models, their endpoints and the credentials we send there.

pub mod advice;
mod carrier;
mod credential;
mod endpoint;
pub mod first_event;
pub mod forward;
pub mod health;
pub mod inheritance;
pub mod passed;
mod pick;
pub mod pool;
pub mod proxy;
pub mod registry;
pub mod retry_budget;
pub mod standing;
pub mod status;
pub mod verdict;
pub mod words;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::guard::KeyGuard;
use crate::domain::upstream::advice::Cooldowns;
use crate::domain::upstream::pool::Pool;
use crate::domain::upstream::proxy::Proxy;
use crate::domain::upstream::retry_budget::RetryBudget;

pub use carrier::{Out, Pick, Search, Tried};
pub use credential::{AuthHeader, Credential};
pub use endpoint::Endpoint;

/// A named place that requests are sent to. Only the configuration makes one; nothing in a request can.
#[derive(Debug)]
pub struct Upstream {
    /// `main`, `troll`, `ohmygpt`, a key of `upstreams`, or the authority of a URL target.
    pub name: Arc<str>,
    /// `None`: the name exists but nothing is configured for it (`Main target not configured`).
    pub endpoint: Option<Arc<Endpoint>>,
    /// Empty: requests go out without credentials. The first one is the primary.
    pub credentials: Vec<Credential>,
    /// The proxies that requests go through; `None`: connections are direct.
    pub pool: Option<Pool>,
    pub cooldowns: Cooldowns,
    pub retry_budget: RetryBudget,
    /// Whether the limit of the last key is the pool's being out (503, troll), or the client's own 429 (O5).
    pub hides_limits: bool,
    /// Whether a request may go out without any credential (URL targets and named upstreams), or must be refused (main, ohmygpt).
    pub requires_key: bool,
    pub auth_header: AuthHeader,
    /// The TCP address to connect to in place of the endpoint's; Host, SNI and the certificate's check stay the endpoint's.
    pub connect_to: Option<SocketAddr>,
    /// A PEM file of certificate authorities that replaces the system's for this upstream.
    pub ca_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered in the TLS handshake.
    pub http2: bool,
    pub timeouts: Timeouts,
    /// Whether 400, 404, 413 and 422 keep the provider's own message (masked).
    pub pass_client_faults: bool,
    /// Looks for the credentials above in what the upstream sends back.
    pub guard: KeyGuard,
}

impl Upstream {
    /// What the upstream lacks to be used; `None`: it is configured.
    pub fn missing(&self) -> Option<&'static str> {
        match &self.endpoint {
            None => Some("base_url"),
            Some(_) if self.requires_key && self.credentials.is_empty() => Some("key"),
            Some(_) => None,
        }
    }

    /// The pool's proxies; none where connections are direct.
    pub fn proxies(&self) -> &[Proxy] {
        self.pool.as_ref().map_or(&[], |pool| &pool.proxies)
    }
}

/// Prints the start-up line's half: `configured, https://api.openai.com/v1, 1 key`. Never a key.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missing() {
            Some(missing) => write!(f, "not configured (no {missing})")?,
            None => f.write_str("configured")?,
        }
        if let Some(endpoint) = &self.endpoint {
            write!(f, ", {endpoint}")?;
        }
        if let Some(address) = self.connect_to {
            write!(f, " (by {address})")?;
        }
        match self.credentials.len() {
            0 => f.write_str(", no key"),
            1 => f.write_str(", 1 key"),
            several => write!(f, ", {several} keys"),
        }?;
        match self.proxies().len() {
            0 => Ok(()),
            1 => f.write_str(", 1 proxy"),
            several => write!(f, ", {several} proxies"),
        }
    }
}

/// Deadlines of one attempt. None of them bounds a stream's total length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS together.
    pub connect: Duration,
    /// From the request's dispatch to the complete response head.
    pub first_byte: Duration,
    /// Between two reads of the response's body.
    pub idle: Duration,
}
