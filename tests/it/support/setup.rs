//! The configuration of a test's gateway: sensible where the test does not care, changed where it does.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use trollbridge::provider_mock::Tls;

use super::gateway::{self, Gateway};
use super::provider::Mock;
use super::request::CLIENT_KEY;

pub const MAIN_KEY: &str = "sk-main-planted-7f3a9c51e2d84b06";
pub const OHMYGPT_KEY: &str = "sk-ohmygpt-planted-51c0aa96f3e7d2b8";
pub const TROLL_KEY: &str = "sk-troll-planted-e88d10b7c4a6f593";
pub const NAMED_KEY: &str = "sk-named-planted-0b6f2d7798ce4a1d";
pub const ADMIN_TOKEN: &str = "admin-token-planted-93d1";
/// The name of ohmygpt's fixed endpoint (K11); a provider that plays it needs a certificate for it.
pub const OHMYGPT_HOST: &str = "apic1.ohmycdn.com";
/// A name for `main` where it needs one for its certificate.
pub const MAIN_PLACE: &str = "main.provider.test";

/// Models that every setup knows, by the upstream that answers for them.
pub const MAIN_MODEL: &str = "claude-sonnet-4-5-20250929";
pub const SECOND_MAIN_MODEL: &str = "claude-haiku-4-5-20251001";
pub const TROLL_MODEL: &str = "claude-opus-4-5-20251101";
pub const OHMYGPT_MODEL: &str = "gpt-ohmygpt";
/// Known once [`Setup::named`] was called.
pub const NAMED_MODEL: &str = "gpt-named";

/// What a gateway is started with.
pub struct Setup {
    /// config.json without the addresses, which [`Setup::start`] fills in.
    pub config: Value,
    env: BTreeMap<String, String>,
    secrets: Vec<String>,
    dir: TempDir,
    tls_listener: Option<(PathBuf, PathBuf)>,
    threads: usize,
    grace_seconds: u64,
    shell_prelude: Option<String>,
    pid_file: String,
}

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    pub tls: Option<SocketAddr>,
}

impl Setup {
    pub fn new() -> Self {
        let model = |id: &str, upstream: &str| {
            json!({ "id": id, "upstream": upstream, "input_price_per_mtok": 3, "output_price_per_mtok": 15,
                    "cache_write_price_per_mtok": 3.75, "cache_hit_price_per_mtok": 0.3 })
        };
        let config = json!({
            "auth": { "mode": "keys", "static_key": "${PROXY_API_KEY}" },
            "admin": { "token": "${TROLLBRIDGE_ADMIN_TOKEN}" },
            "upstreams": { "main": {}, "ohmygpt": {}, "troll": {} },
            "timeouts": { "connect_ms": 5000, "first_byte_s": 60, "idle_s": 60 },
            "models": [
                model(MAIN_MODEL, "main"), model(SECOND_MAIN_MODEL, "main"), model(TROLL_MODEL, "troll"), model(OHMYGPT_MODEL, "ohmygpt"),
            ],
        });
        let setup = Self {
            config,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
            tls_listener: None,
            threads: 2,
            grace_seconds: 1,
            shell_prelude: None,
            pid_file: "pid".to_owned(),
        };
        setup.secret_env("PROXY_API_KEY", CLIENT_KEY).secret_env("TROLLBRIDGE_ADMIN_TOKEN", ADMIN_TOKEN)
    }

    /// Sets a value of config.json by its JSON pointer; missing objects are made, `-` appends to a list.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.config;
        for step in pointer.split('/').skip(1) {
            if let Value::Array(items) = place {
                let index = step.parse().unwrap_or(items.len());
                if index == items.len() {
                    items.push(Value::Null);
                }
                place = items.get_mut(index).expect("an index within the list");
                continue;
            }
            if place.is_null() {
                *place = json!({});
            }
            place = place.as_object_mut().expect("an object on the way").entry(step).or_insert(Value::Null);
        }
        *place = value;
        self
    }

    /// Sets a variable of the gateway's otherwise empty environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a variable whose value may appear nowhere.
    pub fn secret_env(self, name: &str, value: &str) -> Self {
        self.env(name, value).planted(value)
    }

    /// Watches for a text that may appear in no answer and no log line.
    pub fn planted(mut self, text: &str) -> Self {
        self.secrets.push(text.to_owned());
        self
    }

    /// Writes a file that the configuration can name.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// `main` at this provider, by plain http.
    pub fn main(self, mock: &Mock) -> Self {
        self.set("/upstreams/main/base_url", json!(mock.base_url())).secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
    }

    /// `troll` at this provider, with one key.
    pub fn troll(self, mock: &Mock) -> Self {
        self.set("/upstreams/troll/base_url", json!(mock.base_url()))
            .set("/upstreams/troll/keys", json!([{ "id": "k1", "key": "${TROLL_API_KEY}" }]))
            .secret_env("TROLL_API_KEY", TROLL_KEY)
    }

    /// `ohmygpt` at this provider: its name stays fixed, the connection goes to the mock, which has a certificate by `ca_pem`.
    pub fn ohmygpt(self, mock: &Mock, ca_pem: &str) -> Self {
        self.secret_env("OHMYGPT_API_KEY", OHMYGPT_KEY).connected("ohmygpt", mock, ca_pem)
    }

    /// An upstream `named` at this provider, and [`NAMED_MODEL`] that goes there.
    pub fn named(self, mock: &Mock) -> Self {
        self.set("/upstreams/named", json!({ "base_url": mock.base_url(), "key": "${NAMED_KEY}" }))
            .set("/models/-", json!({ "id": NAMED_MODEL, "upstream": "named" }))
            .secret_env("NAMED_KEY", NAMED_KEY)
    }

    /// `upstream` at `https://host…`, in truth at this provider, whose certificate is by `ca_pem`.
    pub fn at_host(self, upstream: &str, base_url: &str, mock: &Mock, ca_pem: &str) -> Self {
        self.set(&format!("/upstreams/{upstream}/base_url"), json!(base_url)).connected(upstream, mock, ca_pem)
    }

    fn connected(self, upstream: &str, mock: &Mock, ca_pem: &str) -> Self {
        let ca_file = self.file(&format!("{upstream}-ca.pem"), ca_pem);
        self.set(&format!("/upstreams/{upstream}/connect_to"), json!(mock.addr()))
            .set(&format!("/upstreams/{upstream}/ca_file"), json!(ca_file))
    }

    /// Listens with TLS too.
    pub fn tls_listener(mut self, tls: &Tls) -> Self {
        self.tls_listener = Some((self.file("listener-cert.pem", &tls.cert_pem), self.file("listener-key.pem", &tls.key_pem)));
        self
    }

    /// Runs with this many worker threads in place of two.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Drains for this many seconds after SIGTERM in place of one.
    pub fn grace_seconds(mut self, seconds: u64) -> Self {
        self.grace_seconds = seconds;
        self
    }

    /// Keeps its pid file under this name in its directory.
    pub fn pid_file(mut self, name: &str) -> Self {
        self.pid_file = name.to_owned();
        self
    }

    /// Runs these words of a shell first, in the process that becomes the gateway.
    pub fn after_shell(mut self, prelude: &str) -> Self {
        self.shell_prelude = Some(prelude.to_owned());
        self
    }

    /// Starts the gateway and waits until it accepts; a port that somebody else took meanwhile is replaced.
    pub async fn start(self) -> Gateway {
        gateway::start(self).await
    }

    /// Starts the gateway that must refuse to start; returns its exit code and what it said.
    pub async fn start_refused(self) -> (i32, String) {
        gateway::start_refused(self).await
    }

    pub(super) fn plant(&mut self, text: &str) {
        self.secrets.push(text.to_owned());
    }

    pub(super) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    pub(super) fn env_vars(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    pub(super) fn shell_prelude(&self) -> Option<&str> {
        self.shell_prelude.as_deref()
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes both files for addresses that are free at this moment.
    pub(super) fn write(&self) -> Ports {
        let ip = own_loopback();
        let [clients, admin, tls] = free_ports(ip);
        let ports = Ports { clients, admin, tls: self.tls_listener.as_ref().map(|_| tls) };
        let mut listen = vec![json!({ "addr": ports.clients, "h2c": true })];
        if let (Some(addr), Some((cert, key))) = (ports.tls, &self.tls_listener) {
            listen.push(json!({ "addr": addr, "tls": { "cert": cert, "key": key } }));
        }
        let mut config = self.config.clone();
        let fields = config.as_object_mut().expect("config.json is an object");
        fields.entry("listen").or_insert(Value::Array(listen));
        fields.entry("state_dir").or_insert(json!(self.dir().join("state")));
        fields["admin"]["addr"] = json!(ports.admin);
        self.file("config.json", &serde_json::to_string_pretty(&config).unwrap());

        let dir = self.dir().display();
        self.file(
            "pingora.yaml",
            &format!(
                "---\nversion: 1\nthreads: {}\npid_file: {dir}/{}\nupgrade_sock: {dir}/upgrade.sock\ngrace_period_seconds: {}\n\
                 graceful_shutdown_timeout_seconds: 1\n",
                self.threads, self.pid_file, self.grace_seconds
            ),
        );
        ports
    }
}

/// Ports that the kernel gave and took back, each another one: free now, though not reserved.
fn free_ports<const N: usize>(ip: Ipv4Addr) -> [SocketAddr; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind((ip, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// An address of the loopback network that no other gateway of these tests has.
///
/// Between [`free_ports`] and the gateway's own bind, the kernel may give a port of 127.0.0.1 to any provider or client of the tests that
/// run beside this one; what connects to it then talks to the wrong side. On an address of its own nobody else binds.
pub(super) fn own_loopback() -> Ipv4Addr {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(64).wrapping_add(STARTED.fetch_add(1, Ordering::Relaxed));
    // Outside 127.0.0.0/16, where the providers are, and without a last byte of 0 or 255.
    let [_, second, third, last] = number.to_be_bytes();
    Ipv4Addr::new(127, second.max(1), third, last.clamp(1, 254))
}
