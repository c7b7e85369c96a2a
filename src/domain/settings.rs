//! Everything the gateway is told, parsed and proven: what the configuration becomes before any room of moving bytes sees it.
//!
//! A value of these types is valid; nobody checks it again. One immutable [`Settings`] serves a request from its first byte to its
//! last, even when a reload swaps it meanwhile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::billing::bill::Prices;
use crate::domain::billing::{Billing, MostTokens, NanoUsd, Price};
use crate::domain::credit::estimate;
use crate::domain::dialect::Api;
use crate::domain::json::AskedOutput;
use crate::domain::local::LocalOnly;
use crate::domain::route::{Route, RoutingTable};
use crate::domain::secret::Secret;
use crate::domain::upstream::Upstream;

#[derive(Debug)]
pub struct Settings {
    pub state_dir: PathBuf,
    pub listeners: Vec<Listener>,
    pub admin: Admin,
    pub auth: Auth,
    pub routing: RoutingTable,
    /// Every upstream that a route can name, URL targets included, in the order of start-up's log lines.
    pub upstreams: Vec<Arc<Upstream>>,
    pub limits: Limits,
    pub retry: Retry,
    pub billing: Billing,
    pub ledger: LedgerSettings,
    pub inject_include_usage: bool,
    pub log_format: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// As written: an upgrade hands sockets over by this text.
    pub addr: SocketAddr,
    /// HTTP/2 without TLS is understood on this listener.
    pub h2c: bool,
    pub tls: Option<TlsFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Admin {
    /// `None`: no admin listener.
    pub addr: Option<SocketAddr>,
    /// `None`: health and metrics only.
    pub token: Option<Secret>,
}

#[derive(Clone, Debug)]
pub enum Auth {
    /// Every request needs a client key.
    Keys { static_key: Option<Secret> },
    /// No key is asked for; only on loopback, and no web page.
    None(LocalOnly),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_body_bytes: usize,
    pub inflight_body_bytes: usize,
    /// Of them, what one client may hold; the largest body fits.
    pub client_body_bytes: usize,
    /// For each step before a client is known, and for taking an answer by a client that is not.
    pub header_read: Duration,
    pub body_read: Duration,
    pub keepalive: Duration,
    /// How long a known client may take nothing of an answer that waits for it.
    pub write_stall: Duration,
    /// What it takes of such an answer at the least, in the long run.
    pub write_bytes_per_s: u64,
    pub decode: DecodeBounds,
    /// How long a good head waits for something of an answer behind it; zero: not at all.
    pub hold_answer: Duration,
    pub read_on: ReadOn,
}

/// How far an answer is read on for its usage whose client left after its last word (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOn {
    /// Zero: not at all.
    pub time: Duration,
    pub bytes: usize,
}

/// How far a compressed answer is decoded beside its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeBounds {
    /// With one chunk of it.
    pub chunk_bytes: usize,
    /// For its usage: so many bytes for each compressed one, beyond those of one chunk.
    pub ratio: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub max_attempts: u32,
    pub budget: Duration,
    /// Retries per hundred requests, of those that nothing else bounds.
    pub max_share_percent: u32,
    /// How long an event stream's beginning is kept from the client while another key could still answer; zero: not at all.
    pub hold_first_event: Duration,
}

/// How the ledger's files are written and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    pub sync: LedgerSync,
    /// A segment that is longer is followed by a new one.
    pub segment_bytes: u64,
    /// How long folded segments are kept; `None`: for good.
    pub retention: Option<Duration>,
}

/// What of the ledger survives a power cut (G2); a killed process never loses a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerSync {
    /// What the kernel has written by itself.
    Process,
    /// All but the last moments.
    Interval(Duration),
    /// Every entry whose answer was released.
    Each,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// The price of a route's model; the default one where the model has none or the route has no model (U1).
    pub fn price_of<'s>(&'s self, route: &'s Route) -> &'s Price {
        route.model.as_ref().and_then(|model| model.price.as_ref()).unwrap_or(&self.billing.default_price)
    }

    /// The prices of an answer that came along `route`.
    pub fn prices_of<'s>(&'s self, route: &'s Route) -> PriceList<'s> {
        PriceList { settings: self, price: self.price_of(route) }
    }

    /// What to reserve before a request goes out along `route` (G4): see [`estimate`].
    pub fn reservation(&self, route: &Route, asked: Api, body_bytes: usize, output: AskedOutput) -> NanoUsd {
        let of_model = route.model.as_ref().and_then(|model| model.max_output_tokens);
        let most = MostTokens { output: of_model.unwrap_or(self.billing.most_tokens.output), ..self.billing.most_tokens };
        estimate(self.price_of(route), asked, body_bytes, output, most)
    }

    /// What start-up logs (K12): one line per upstream, never a key, then how many models are configured.
    pub fn startup_lines(&self) -> Vec<String> {
        let upstreams = self.upstreams.iter().map(|upstream| format!("upstream {}: {upstream}", upstream.name));
        upstreams.chain([format!("model routing: {} models configured", self.routing.models_configured())]).collect()
    }
}

/// What the configuration says that an answer's models cost.
#[derive(Clone, Copy)]
pub struct PriceList<'s> {
    settings: &'s Settings,
    price: &'s Price,
}

impl Prices for PriceList<'_> {
    fn main(&self) -> &Price {
        self.price
    }

    /// A model that no rule names costs what is the default.
    fn of(&self, model: &str) -> Price {
        let route = self.settings.routing.by_model(Some(model));
        route.map_or_else(|_| self.settings.billing.default_price.clone(), |route| self.settings.price_of(&route).clone())
    }
}
