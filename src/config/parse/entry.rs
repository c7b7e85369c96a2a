//! One entry of `upstreams`: what main, troll and all others have in common becomes an upstream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::parse::{Context, pool};
use crate::config::raw;
use crate::config::source::At;
use crate::domain::guard::{KeyGuard, MIN_KEY_BYTES};
use crate::domain::upstream::retry_budget::RetryBudget;
use crate::domain::upstream::{AuthHeader, Credential, Endpoint, Timeouts, Upstream};

/// An entry whose endpoint and keys are read already: where they come from differs from one kind to the next.
pub struct Entry<'r> {
    pub name: &'r str,
    pub at: &'r At<'r>,
    pub endpoint: Option<Endpoint>,
    pub credentials: Vec<Credential>,
    pub requires_key: bool,
    /// What `pass_client_faults` is where it is not written.
    pub shows_client_faults: bool,
    pub common: Common<'r>,
}

/// The keys that troll and the others have in common.
pub struct Common<'r> {
    connect_to: Option<&'r str>,
    auth_header: Option<raw::AuthHeader>,
    ca_file: Option<&'r str>,
    http2: Option<bool>,
    timeouts: Option<&'r raw::TimeoutsOverride>,
    pass_client_faults: Option<bool>,
    cooldown: Option<&'r raw::Cooldown>,
}

impl Entry<'_> {
    /// Makes the upstream, without a pool; `timeouts` hold where the entry has none of its own.
    pub fn upstream(self, timeouts: Timeouts, cx: &mut Context<'_, '_>) -> Upstream {
        let connect_to = self.connect_to(cx);
        self.warn_about_keys(connect_to, cx);
        let Self { name, at, endpoint, credentials, requires_key, shows_client_faults, common } = self;
        Upstream {
            name: name.into(),
            endpoint: endpoint.map(Arc::new),
            guard: KeyGuard::new(credentials.iter().map(|credential| &credential.key)),
            credentials,
            pool: None,
            cooldowns: pool::cooldowns(common.cooldown),
            retry_budget: RetryBudget::default(),
            hides_limits: false,
            requires_key,
            auth_header: match common.auth_header {
                None | Some(raw::AuthHeader::Authorization) => AuthHeader::Authorization,
                Some(raw::AuthHeader::XApiKey) => AuthHeader::XApiKey,
                Some(raw::AuthHeader::Both) => AuthHeader::Both,
            },
            connect_to,
            ca_file: common.ca_file.map(|file| cx.pem(&at.key("ca_file"), file, "CERTIFICATE")),
            http2: common.http2.unwrap_or(true),
            timeouts: common.timeouts.map_or(timeouts, |own| overridden(timeouts, own)),
            pass_client_faults: common.pass_client_faults.unwrap_or(shows_client_faults),
        }
    }

    fn connect_to(&self, cx: &mut Context<'_, '_>) -> Option<SocketAddr> {
        let at = self.at.key("connect_to");
        let address = self.common.connect_to.and_then(|text| cx.address(&at, text));
        if address.is_some_and(|address| address.port() == 0) {
            cx.fault(&at, "the port must be 1 to 65535");
        }
        address
    }

    fn warn_about_keys(&self, connect_to: Option<SocketAddr>, cx: &mut Context<'_, '_>) {
        let leaves_machine = |endpoint: &Endpoint| match connect_to {
            Some(address) => !address.ip().is_loopback(),
            None => endpoint.host() != "localhost" && !endpoint.host().parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        };
        let travels_plain = |endpoint: &Endpoint| !endpoint.is_https() && leaves_machine(endpoint);
        let name = self.name;
        if !self.credentials.is_empty() && self.endpoint.as_ref().is_some_and(travels_plain) {
            cx.warn(self.at, format!("the key of \"{name}\" travels unencrypted: its URL is http"));
        }
        if self.credentials.iter().any(|credential| credential.key.expose().len() < MIN_KEY_BYTES) {
            cx.warn(
                self.at,
                format!("a key of \"{name}\" is shorter than {MIN_KEY_BYTES} characters, too short to be looked for in answers"),
            );
        }
    }
}

fn overridden(all: Timeouts, own: &raw::TimeoutsOverride) -> Timeouts {
    Timeouts {
        connect: own.connect_ms.map_or(all.connect, Duration::from_millis),
        first_byte: own.first_byte_s.map_or(all.first_byte, Duration::from_secs),
        idle: own.idle_s.map_or(all.idle, Duration::from_secs),
    }
}

impl<'r> From<&'r raw::Upstream> for Common<'r> {
    fn from(raw: &'r raw::Upstream) -> Self {
        Self {
            connect_to: raw.connect_to.as_deref(),
            auth_header: raw.auth_header,
            ca_file: raw.ca_file.as_deref(),
            http2: raw.http2,
            timeouts: raw.timeouts.as_ref(),
            pass_client_faults: raw.pass_client_faults,
            cooldown: raw.cooldown.as_ref(),
        }
    }
}

impl<'r> From<&'r raw::Troll> for Common<'r> {
    fn from(raw: &'r raw::Troll) -> Self {
        Self {
            connect_to: raw.connect_to.as_deref(),
            auth_header: raw.auth_header,
            ca_file: raw.ca_file.as_deref(),
            http2: raw.http2,
            timeouts: raw.timeouts.as_ref(),
            pass_client_faults: raw.pass_client_faults,
            cooldown: raw.cooldown.as_ref(),
        }
    }
}
