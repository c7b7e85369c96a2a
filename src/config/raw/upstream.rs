//! The keys under `upstreams` and `timeouts`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Entries;

/// The places that answer for models. `main`, `troll` and `ohmygpt` exist without being written; other keys name your own.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Upstreams {
    /// `$MAIN_TARGET_SERVER` and `$MAIN_UPSTREAM_KEY` win over what is written here.
    pub main: Upstream,
    /// Its endpoint is fixed; `$OHMYGPT_API_KEY` wins over the key that is written here.
    pub ohmygpt: Upstream,
    pub troll: Troll,
    #[serde(flatten)]
    pub named: Entries<Upstream>,
}

/// An upstream with one key.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// `https://host[:port][/path]`
    pub base_url: Option<String>,
    /// What is sent to the upstream; without it, no credentials at all.
    pub key: Option<Secret>,
    /// The address to connect to in place of the URL's host, as `ip:port`. Host, SNI and certificate check stay the URL's.
    pub connect_to: Option<String>,
    /// The header that carries the key.
    pub auth_header: Option<AuthHeader>,
    /// A PEM file of certificate authorities, in place of the system's.
    pub ca_file: Option<String>,
    /// Offer HTTP/2 to an https upstream; `true` where it is not written.
    pub http2: Option<bool>,
    pub timeouts: Option<TimeoutsOverride>,
    /// Whether clients see the provider's own message for 400, 404, 413 and 422, masked.
    pub pass_client_faults: Option<bool>,
}

/// The upstream with several keys and, in a later version, a pool of proxies. It takes the models that name no upstream.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Troll {
    /// `https://host[:port][/path]`
    pub base_url: Option<String>,
    /// The first one is the primary; `$TROLL_API_KEY` wins over it.
    pub keys: Vec<TrollKey>,
    /// The proxies of the pool.
    pub proxies: Vec<Proxy>,
    pub health_check: Option<HealthCheck>,
    pub cooldown: Option<Cooldown>,
    /// Connect without a proxy when all of them are down.
    pub allow_direct_when_down: bool,
    /// The address to connect to in place of the URL's host, as `ip:port`. Host, SNI and certificate check stay the URL's.
    pub connect_to: Option<String>,
    /// The header that carries the key.
    pub auth_header: Option<AuthHeader>,
    /// A PEM file of certificate authorities, in place of the system's.
    pub ca_file: Option<String>,
    /// Offer HTTP/2 to an https upstream; `true` where it is not written.
    pub http2: Option<bool>,
    pub timeouts: Option<TimeoutsOverride>,
    /// Whether clients see the provider's own message for 400, 404, 413 and 422, masked.
    pub pass_client_faults: Option<bool>,
}

/// One of troll's keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrollKey {
    /// What logs and metrics call it.
    pub id: String,
    pub key: Option<Secret>,
}

/// A proxy of the troll pool.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked by its shape; read when the proxy pool is built")]
pub struct Proxy {
    pub id: String,
    pub kind: ProxyKind,
    /// `host:port`
    pub addr: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// For a reverse proxy: speak https to it.
    pub tls: Option<ProxyTls>,
    /// The ids of the keys that go through it, the primary first.
    #[serde(default)]
    pub keys: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyKind {
    /// HTTP CONNECT.
    Connect,
    /// SOCKS5.
    Socks5,
    /// Speaks HTTP itself.
    Reverse,
}

/// TLS to a reverse proxy.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked by its shape; read when the proxy pool is built")]
pub struct ProxyTls {
    pub server_name: String,
}

/// When a proxy counts as down.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    #[schemars(range(min = 1))]
    pub interval_s: u64,
    #[schemars(range(min = 1))]
    pub timeout_s: u64,
    #[schemars(range(min = 1))]
    pub failures: u32,
    #[schemars(range(min = 1))]
    pub successes: u32,
}

/// How long a key rests after a refusal that does not say it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cooldown {
    #[schemars(range(min = 1))]
    pub rate_limited_s: u64,
    #[schemars(range(min = 1))]
    pub exhausted_s: u64,
}

/// A secret: `${VAR}`, a file, or (with a warning) plain text.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secret {
    Text(String),
    File(SecretFile),
}

/// A file that holds a secret and nothing else; a newline at its end is dropped.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    pub file: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthHeader {
    /// `Authorization: Bearer KEY`
    #[serde(rename = "authorization")]
    Authorization,
    /// `x-api-key: KEY`
    #[serde(rename = "x-api-key")]
    XApiKey,
    /// Both headers.
    #[serde(rename = "both")]
    Both,
}

/// Deadlines of one attempt at an upstream. None of them bounds a stream's length.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TCP and TLS together.
    #[schemars(range(min = 1, max = 3600000))]
    pub connect_ms: u64,
    /// Until the response's head is complete.
    #[schemars(range(min = 1, max = 86400))]
    pub first_byte_s: u64,
    /// Between two pieces of the response.
    #[schemars(range(min = 1, max = 86400))]
    pub idle_s: u64,
}

/// Deadlines that differ from the file's `timeouts`.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsOverride {
    /// TCP and TLS together.
    #[schemars(range(min = 1, max = 3600000))]
    pub connect_ms: Option<u64>,
    /// Until the response's head is complete.
    #[schemars(range(min = 1, max = 86400))]
    pub first_byte_s: Option<u64>,
    /// Between two pieces of the response.
    #[schemars(range(min = 1, max = 86400))]
    pub idle_s: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_s: 360, idle_s: 300 }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { interval_s: 30, timeout_s: 10, failures: 3, successes: 1 }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        Self { rate_limited_s: 60, exhausted_s: 3_600 }
    }
}
