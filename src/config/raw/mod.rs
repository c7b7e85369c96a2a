//! config.json as it is written: types that mirror the file, key by key. The JSON Schema is generated from them.
//!
//! Nothing here is checked beyond its shape and nothing is decided; `config::parse` makes settings of it. The types have no
//! `Debug`, because secrets in plain text pass through them. Descriptions and defaults below are the schema's.

mod entries;
mod model;
mod price;
mod upstream;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use entries::Entries;
pub use model::{Billing, Model, ModelRouting, OnLoss, Routing, UnknownModel};
pub use price::{Number, PriceRow, Prices, ToolPrices};
pub use upstream::{
    AuthHeader, Cooldown, HealthCheck, Key, Proxy, ProxyKind, Secret, SecretFile, Timeouts, TimeoutsOverride, Troll, Upstream,
    Upstreams,
};

/// The configuration of trollbridge. String values may hold `${VAR}` and `${VAR:-default}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "trollbridge config.json")]
pub struct Config {
    /// Where editors find this schema.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// The directory of the ledger and the database; `$STATE_DIRECTORY`, else `./state`.
    pub state_dir: Option<String>,
    /// Where clients connect.
    #[schemars(length(min = 1))]
    pub listen: Vec<Listen>,
    pub admin: Admin,
    pub auth: Auth,
    pub routing: Routing,
    pub upstreams: Upstreams,
    pub timeouts: Timeouts,
    /// The models that clients may name. A file needs `models`, `model_routing` or both.
    pub models: Option<Vec<Model>>,
    /// Models that go to a URL or a named upstream, for names that `models` does not hold.
    pub model_routing: Option<ModelRouting>,
    /// Where requests without a JSON body go, by their Host.
    pub host_routes: Vec<HostRoute>,
    pub retry: Retry,
    pub limits: Limits,
    /// How fast requests go out, per upstream host.
    pub rate_limits: Vec<RateLimit>,
    /// The rate for upstream hosts that `rate_limits` does not name.
    pub default_rate_limit: Option<Rate>,
    pub ledger: Ledger,
    pub billing: Billing,
    /// Asks OpenAI chat streams for their usage and takes the extra chunk out again.
    pub inject_include_usage: bool,
    pub log: Log,
    /// Requests with the route that they must take; the file is refused when one takes another.
    pub tests: Vec<GoldenTest>,
}

/// A listening address.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `ip:port`
    pub addr: String,
    /// Understand HTTP/2 without TLS too.
    #[serde(default)]
    pub h2c: bool,
    pub tls: Option<ListenTls>,
}

/// PEM files of a TLS listener.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The certificate's chain.
    pub cert: String,
    /// The private key.
    pub key: String,
}

/// The listener for health, metrics and the operator's calls.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// `ip:port`; `null`: no admin listener.
    pub addr: Option<String>,
    /// Without it health and metrics are answered and nothing else.
    pub token: Option<Secret>,
}

/// How clients prove who they are.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    pub mode: AuthMode,
    /// One key for every client; `$PROXY_API_KEY` where it is not written.
    pub static_key: Option<Secret>,
    /// With `none`: names beside the loopback ones by which this machine's programs call the gateway, such as `host.docker.internal`.
    pub allowed_hosts: Vec<String>,
    /// With `none`: pages that may call it beside those of this machine, by their origin, or `scheme://*` of an application.
    pub allowed_origins: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Every request needs a client key.
    #[default]
    Keys,
    /// No key; allowed on loopback listeners only.
    None,
}

/// A route by host name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRoute {
    /// A host name, or `*.` and a suffix.
    pub host: String,
    /// The name of an upstream, or a URL.
    pub upstream: String,
}

/// How long and how often a request is tried again.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// From a request's arrival: no attempt begins later.
    #[schemars(range(min = 1))]
    pub budget_ms: u64,
    /// Retries per hundred requests of an upstream (and ten a second besides), so that an outage does not multiply the load; 0: none.
    /// The next key after 429, 402, 401 or 403 is not counted.
    #[schemars(range(max = 100))]
    pub max_share_percent: u32,
    /// How long the beginning of an event stream is held back, at most until its first event: when that says overloaded or
    /// rate-limited, another key is tried and the client sees nothing of it. 0: not at all.
    #[schemars(range(max = 60000))]
    pub hold_first_event_ms: u64,
}

/// What a client may use.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body of a request.
    #[schemars(range(min = 1))]
    pub max_body_bytes: u64,
    /// All bodies that are held at one time.
    #[schemars(range(min = 1))]
    pub inflight_body_bytes: u64,
    /// How much of them may be one client's; one body of the largest size always.
    #[schemars(range(min = 1, max = 100))]
    pub client_body_percent: u32,
    /// For whatever a client has to do before it is known: the TLS handshake, HTTP/2's preface, a request's head; and for taking a refusal.
    #[schemars(range(min = 1, max = 86400))]
    pub header_read_s: u64,
    /// For a request's body to be complete.
    #[schemars(range(min = 1, max = 86400))]
    pub body_read_s: u64,
    /// Until an idle client connection is closed.
    #[schemars(range(min = 1, max = 86400))]
    pub keepalive_s: u64,
    /// How much of a compressed answer is decoded with one chunk of it.
    #[schemars(range(min = 65536, max = 1073741824))]
    pub decoded_chunk_bytes: u64,
    /// A compressed answer is read for its usage up to so many bytes for each compressed one; then its bill is an estimate.
    #[schemars(range(min = 1, max = 1000000))]
    pub decoded_ratio: u64,
    /// How long a client may take nothing of an answer that waits for it.
    #[schemars(range(min = 1, max = 86400))]
    pub write_stall_s: u64,
    /// How much a client takes of an answer that waits for it, at the least, in the long run.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub write_bytes_per_s: u64,
    /// How long a good head is held back, at most until something of an answer follows it: a 200 with nothing behind it becomes a 502.
    /// 0: not at all.
    #[schemars(range(max = 60000))]
    pub hold_answer_ms: u64,
    /// How long an answer is read on for its usage whose client left after its last word. 0: not at all.
    #[schemars(range(max = 600))]
    pub read_on_s: u64,
    /// How much of it is read on, at most.
    #[schemars(range(max = 1073741824))]
    pub read_on_bytes: u64,
}

/// The rate of requests to hosts of a domain.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked by its shape; read when rate limits are built")]
pub struct RateLimit {
    /// A host name, or `*.` and a suffix.
    pub domain: String,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub requests_per_second: f64,
    /// How long a request may wait for its turn.
    pub max_wait_ms: Option<u64>,
}

/// A rate of requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked by its shape; read when rate limits are built")]
pub struct Rate {
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub requests_per_second: f64,
    /// How long a request may wait for its turn.
    pub max_wait_ms: Option<u64>,
}

/// How the usage ledger is made durable.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    pub sync: LedgerSync,
    /// For `interval`: how much a power cut may cost; 200 where it is not written.
    #[schemars(range(min = 1, max = 3600000))]
    pub interval_ms: Option<u64>,
    /// A segment that is longer is followed by a new one; so is one of another day.
    #[schemars(range(min = 4096))]
    pub segment_bytes: u64,
    /// How long segments are kept after they were added to the roll-ups; `null`: for good.
    #[schemars(range(min = 1, max = 36500))]
    pub retention_days: Option<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerSync {
    /// Survives a killed process.
    #[default]
    Process,
    /// Flushed to the disk every `interval_ms`.
    Interval,
    /// Flushed to the disk for each entry.
    Each,
}

/// The access log.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A request and where it must go.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldenTest {
    pub model: String,
    /// The request's path; `/v1/chat/completions` where it is not written.
    pub path: Option<String>,
    /// The client's name.
    pub client: Option<String>,
    pub expect: Expectation,
}

/// What a test looks for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The upstream's name; a URL target is named by its host.
    pub upstream: String,
    /// The upstream's base URL, or the whole URL that `path` becomes.
    pub endpoint: Option<String>,
    /// The name that the upstream is asked for.
    pub upstream_model: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            schema: None,
            state_dir: None,
            listen: vec![Listen { addr: "127.0.0.1:8080".to_owned(), h2c: true, tls: None }],
            admin: Admin::default(),
            auth: Auth::default(),
            routing: Routing::default(),
            upstreams: Upstreams::default(),
            timeouts: Timeouts::default(),
            models: None,
            model_routing: None,
            host_routes: Vec::new(),
            retry: Retry::default(),
            limits: Limits::default(),
            rate_limits: Vec::new(),
            default_rate_limit: None,
            ledger: Ledger::default(),
            billing: Billing::default(),
            inject_include_usage: true,
            log: Log::default(),
            tests: Vec::new(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { addr: Some("127.0.0.1:9090".to_owned()), token: None }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 4, budget_ms: 15_000, max_share_percent: 25, hold_first_event_ms: 0 }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { sync: LedgerSync::Process, interval_ms: None, segment_bytes: 64 << 20, retention_days: Some(90) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            inflight_body_bytes: 1 << 30,
            client_body_percent: 25,
            header_read_s: 10,
            body_read_s: 60,
            keepalive_s: 60,
            decoded_chunk_bytes: 1 << 20,
            decoded_ratio: 100,
            write_stall_s: 120,
            write_bytes_per_s: 100,
            hold_answer_ms: 5_000,
            read_on_s: 10,
            read_on_bytes: 1 << 20,
        }
    }
}
