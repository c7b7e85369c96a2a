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

/// An upstream with one key, or with several that rotate.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// `https://host[:port][/path]`
    pub base_url: Option<String>,
    /// What is sent to the upstream; without it, no credentials at all.
    pub key: Option<Secret>,
    /// In place of `key`: several keys, the primary first. One that is refused rests, and the next one is used.
    pub keys: Vec<Key>,
    pub cooldown: Option<Cooldown>,
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

/// The upstream with several keys and a pool of proxies. It takes the models that name no upstream.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Troll {
    /// `https://host[:port][/path]`
    pub base_url: Option<String>,
    /// The first one is the primary; `$TROLL_API_KEY` wins over it.
    pub keys: Vec<Key>,
    /// The proxies that requests go through, in turn; without any, connections are direct.
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

/// One of several keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What logs and metrics call it.
    pub id: String,
    pub key: Option<Secret>,
}

/// A proxy of the troll pool.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    pub id: String,
    pub kind: ProxyKind,
    /// `host:port`
    pub addr: String,
    /// For `connect` and `socks5`.
    pub username: Option<String>,
    /// For `connect` and `socks5`.
    pub password: Option<Secret>,
    /// For a reverse proxy: speak https to it.
    pub tls: Option<ProxyTls>,
    /// The ids of the keys that go through it, the primary first; all keys in their order where none is written.
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
pub struct ProxyTls {
    /// The name in the proxy's certificate.
    pub server_name: String,
}

/// When a proxy counts as down.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// From one check to the next.
    #[schemars(range(min = 1, max = 86400))]
    pub interval_s: u64,
    /// For one check to pass.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_s: u64,
    /// In a row, of checks or of requests' connections, until the proxy is down.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// Checks in a row until it is up again.
    #[schemars(range(min = 1))]
    pub successes: u32,
    /// Ask the upstream for this path through the proxy, without a key; else connection and handshake are the check.
    pub path: Option<String>,
    /// What the answer to `path` must have; 200 where it is not written.
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: Option<u16>,
}

/// How long a key rests after a refusal that does not say it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cooldown {
    /// After 429.
    #[schemars(range(min = 1))]
    pub rate_limited_s: u64,
    /// After 402.
    #[schemars(range(min = 1))]
    pub exhausted_s: u64,
    /// For one model, after 403 or 404 says that the key may not use it and another key then may.
    #[schemars(range(min = 1))]
    pub no_access_s: u64,
    /// The most, whatever the provider says.
    #[schemars(range(min = 1))]
    pub longest_s: u64,
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
        Self { interval_s: 30, timeout_s: 10, failures: 3, successes: 1, path: None, expected_status: None }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        Self { rate_limited_s: 60, exhausted_s: 3_600, no_access_s: 3_600, longest_s: 86_400 }
    }
}
