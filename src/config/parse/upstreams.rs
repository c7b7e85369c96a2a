//! The catalog of upstreams: main, troll and ohmygpt, the operator's own, and one for each URL that is used as a target.
//!
//! An upstream's endpoint, address and key come from here and from nowhere else (M16). ohmygpt's endpoint is a constant; nothing
//! in the file or the environment changes it (K11).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::fault::nearest;
use crate::config::parse::{Context, pool};
use crate::config::raw::{self, Config};
use crate::config::source::At;
use crate::domain::guard::{KeyGuard, MIN_KEY_BYTES};
use crate::domain::upstream::advice::Cooldowns;
use crate::domain::upstream::retry_budget::RetryBudget;
use crate::domain::upstream::{AuthHeader, Credential, Endpoint, Timeouts, Upstream};

const OHMYGPT: &str = "https://apic1.ohmycdn.com/api/v1/ai/openai/cc-omg";

/// Every upstream of the file, found by name or by URL.
pub struct Catalog {
    /// In the order of start-up's lines.
    upstreams: Vec<Arc<Upstream>>,
    by_name: HashMap<Arc<str>, Arc<Upstream>>,
    by_url: HashMap<Endpoint, Arc<Upstream>>,
    /// Names whose entries are at fault: what refers to them is not.
    broken: Vec<String>,
    timeouts: Timeouts,
}

/// What a target names.
pub enum Target {
    Named(Arc<Upstream>),
    Url(Endpoint),
}

/// The keys that troll and the others have in common.
struct Common<'r> {
    base_url: Option<&'r str>,
    connect_to: Option<&'r str>,
    auth_header: Option<raw::AuthHeader>,
    ca_file: Option<&'r str>,
    http2: Option<bool>,
    timeouts: Option<&'r raw::TimeoutsOverride>,
    pass_client_faults: Option<bool>,
    cooldown: Option<&'r raw::Cooldown>,
}

impl Catalog {
    /// Parses the three names that always exist, then the operator's own in the file's order.
    pub fn parse(raw: &Config, cx: &mut Context<'_, '_>) -> Self {
        let timeouts = Timeouts {
            connect: Duration::from_millis(raw.timeouts.connect_ms),
            first_byte: Duration::from_secs(raw.timeouts.first_byte_s),
            idle: Duration::from_secs(raw.timeouts.idle_s),
        };
        let mut catalog =
            Self { upstreams: Vec::new(), by_name: HashMap::new(), by_url: HashMap::new(), broken: Vec::new(), timeouts };
        let list = At::Root.key("upstreams");
        catalog.main(&raw.upstreams.main, &list.key("main"), cx);
        catalog.troll(&raw.upstreams.troll, &list.key("troll"), cx);
        catalog.ohmygpt(&raw.upstreams.ohmygpt, &list.key("ohmygpt"), cx);
        for (name, upstream) in &raw.upstreams.named.0 {
            catalog.named(name, upstream, &list.key(name), cx);
        }
        catalog
    }

    pub fn troll_upstream(&self) -> Option<&Arc<Upstream>> {
        self.by_name.get("troll")
    }

    /// Finds an upstream by its name, or says which one is meant (K3). `whose` begins the message.
    pub fn by_name(&self, name: &str, whose: &str, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Arc<Upstream>> {
        let found = self.by_name.get(name).cloned();
        if found.is_none() && !self.broken.iter().any(|broken| broken == name) {
            let names = || self.upstreams.iter().map(|upstream| &*upstream.name);
            let meant = nearest(name, names()).unwrap_or_default();
            let known = names().collect::<Vec<_>>().join(", ");
            if name.contains("://") {
                let message =
                    format!("{whose}: a name is expected, not a URL; write the URL under `upstreams`. Known names: {known}");
                cx.fault(at, message);
                return None;
            }
            cx.fault(at, format!("{whose}: no upstream is called \"{name}\"; did you mean \"{meant}\"? Known names: {known}"));
        }
        found
    }

    /// Reads a target: a URL, or the name of an upstream (K4).
    pub fn target(&self, text: &str, whose: &str, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Target> {
        if !text.contains("://") {
            return self.by_name(text, whose, at, cx).map(Target::Named);
        }
        match Endpoint::from_url(text) {
            Ok(endpoint) => {
                let is_behind =
                    |upstream: &&Arc<Upstream>| upstream.pool.is_some() && upstream.endpoint.as_deref() == Some(&endpoint);
                if let Some(owner) = self.upstreams.iter().find(is_behind) {
                    let name = &owner.name;
                    // It would inherit the keys and go out without a proxy.
                    cx.fault(at, format!("{whose}: requests to this URL go through the proxies of \"{name}\"; write that name"));
                }
                Some(Target::Url(endpoint))
            }
            Err(message) => {
                cx.fault(at, format!("{whose}: {message}"));
                None
            }
        }
    }

    /// Makes one upstream of each distinct URL. A URL that is some upstream's base URL inherits that one's key and connection.
    pub fn add_url_targets<'t>(&mut self, targets: impl Iterator<Item = &'t Target>) {
        let mut endpoints: Vec<&Endpoint> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut of_authority: HashMap<&str, usize> = HashMap::new();
        for target in targets {
            let Target::Url(endpoint) = target else { continue };
            if seen.insert(endpoint) {
                *of_authority.entry(endpoint.authority()).or_default() += 1;
                endpoints.push(endpoint);
            }
        }
        let mut owners: HashMap<Endpoint, Arc<Upstream>> = HashMap::new();
        for owner in &self.upstreams {
            if let Some(endpoint) = &owner.endpoint {
                owners.entry(Endpoint::clone(endpoint)).or_insert_with(|| owner.clone());
            }
        }
        for endpoint in endpoints {
            let shares_authority = of_authority.get(endpoint.authority()).is_some_and(|count| *count > 1);
            let upstream = Arc::new(self.url_target(endpoint, owners.get(endpoint), shares_authority));
            self.by_url.insert(endpoint.clone(), upstream.clone());
            self.add(upstream);
        }
    }

    /// The upstream of a target, after [`Self::add_url_targets`].
    pub fn resolve(&self, target: &Target) -> Option<Arc<Upstream>> {
        match target {
            Target::Named(upstream) => Some(upstream.clone()),
            Target::Url(endpoint) => self.by_url.get(endpoint).cloned(),
        }
    }

    pub fn into_upstreams(self) -> Vec<Arc<Upstream>> {
        self.upstreams
    }

    fn main(&mut self, raw: &raw::Upstream, at: &At<'_>, cx: &mut Context<'_, '_>) {
        let from_environment = cx.variable("MAIN_TARGET_SERVER");
        let endpoint = match &from_environment {
            Some(url) => endpoint(url, Some("MAIN_TARGET_SERVER"), at, cx),
            None => raw.base_url.as_deref().and_then(|url| endpoint(url, None, at, cx)),
        };
        let keys = pool::keys("main", Some("MAIN_UPSTREAM_KEY"), raw.key.as_ref(), &raw.keys, at, cx);
        let upstream = self.upstream("main", endpoint, keys.credentials, true, true, &common(raw), at, cx);
        self.add(Arc::new(upstream));
    }

    fn ohmygpt(&mut self, raw: &raw::Upstream, at: &At<'_>, cx: &mut Context<'_, '_>) {
        if cx.is_written(&at.key("base_url")) {
            cx.fault(&at.key("base_url"), "the endpoint of ohmygpt is fixed; name an upstream of your own, or use `connect_to`");
        }
        let keys = pool::keys("ohmygpt", Some("OHMYGPT_API_KEY"), raw.key.as_ref(), &raw.keys, at, cx);
        let endpoint = Endpoint::from_url(OHMYGPT).ok();
        let upstream = self.upstream("ohmygpt", endpoint, keys.credentials, true, false, &common(raw), at, cx);
        self.add(Arc::new(upstream));
    }

    fn troll(&mut self, raw: &raw::Troll, at: &At<'_>, cx: &mut Context<'_, '_>) {
        let common = Common {
            base_url: raw.base_url.as_deref(),
            connect_to: raw.connect_to.as_deref(),
            auth_header: raw.auth_header,
            ca_file: raw.ca_file.as_deref(),
            http2: raw.http2,
            timeouts: raw.timeouts.as_ref(),
            pass_client_faults: raw.pass_client_faults,
            cooldown: raw.cooldown.as_ref(),
        };
        let endpoint = common.base_url.and_then(|url| endpoint(url, None, at, cx));
        let keys = pool::keys("troll", Some("TROLL_API_KEY"), None, &raw.keys, at, cx);
        let connect_to = common.connect_to.and_then(|text| text.parse().ok());
        let pool = pool::pool(raw, &keys, endpoint.as_ref(), connect_to, at, cx);
        let mut upstream = self.upstream("troll", endpoint, keys.credentials, true, false, &common, at, cx);
        upstream.pool = pool;
        upstream.hides_limits = true;
        self.add(Arc::new(upstream));
    }

    fn named(&mut self, name: &str, raw: &raw::Upstream, at: &At<'_>, cx: &mut Context<'_, '_>) {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if !is_name {
            self.broken.push(name.to_owned());
            return cx
                .fault(at, "an upstream's name is made of letters, digits, `_`, `-` and `.`; its URL goes under `base_url`");
        }
        // Written with an unset variable, it is meant to be not configured; not written at all, it is forgotten.
        if !cx.is_written(&at.key("base_url")) {
            cx.fault(at, format!("the upstream \"{name}\" has no `base_url`"));
        }
        let endpoint = raw.base_url.as_deref().and_then(|url| endpoint(url, None, at, cx));
        let keys = pool::keys(name, None, raw.key.as_ref(), &raw.keys, at, cx);
        let upstream = self.upstream(name, endpoint, keys.credentials, false, true, &common(raw), at, cx);
        self.add(Arc::new(upstream));
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different fact about one upstream, and all callers stand above")]
    fn upstream(
        &self,
        name: &str,
        endpoint: Option<Endpoint>,
        credentials: Vec<Credential>,
        requires_key: bool,
        shows_client_faults: bool,
        common: &Common<'_>,
        at: &At<'_>,
        cx: &mut Context<'_, '_>,
    ) -> Upstream {
        let connect_to = common.connect_to.and_then(|text| cx.address(&at.key("connect_to"), text));
        if connect_to.is_some_and(|address| address.port() == 0) {
            cx.fault(&at.key("connect_to"), "the port must be 1 to 65535");
        }
        let leaves_machine = |endpoint: &Endpoint| match connect_to {
            Some(address) => !address.ip().is_loopback(),
            None => endpoint.host() != "localhost" && !endpoint.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        };
        if !credentials.is_empty() && endpoint.as_ref().is_some_and(|endpoint| !endpoint.is_https() && leaves_machine(endpoint)) {
            cx.warn(at, format!("the key of \"{name}\" travels unencrypted: its URL is http"));
        }
        if credentials.iter().any(|credential| credential.key.expose().len() < MIN_KEY_BYTES) {
            cx.warn(
                at,
                format!("a key of \"{name}\" is shorter than {MIN_KEY_BYTES} characters, too short to be looked for in answers"),
            );
        }
        let over = |own: Option<Duration>, all| own.unwrap_or(all);
        let (connect, first_byte, idle) = common.timeouts.map_or((None, None, None), |own| {
            let seconds = |value: Option<u64>| value.map(Duration::from_secs);
            (own.connect_ms.map(Duration::from_millis), seconds(own.first_byte_s), seconds(own.idle_s))
        });
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
            timeouts: Timeouts {
                connect: over(connect, self.timeouts.connect),
                first_byte: over(first_byte, self.timeouts.first_byte),
                idle: over(idle, self.timeouts.idle),
            },
            pass_client_faults: common.pass_client_faults.unwrap_or(shows_client_faults),
        }
    }

    /// A URL's upstream, named by its host, and by more of the URL where the host alone names several.
    fn url_target(&self, endpoint: &Endpoint, owner: Option<&Arc<Upstream>>, shares_authority: bool) -> Upstream {
        let with_path = format!("{}{}", endpoint.authority(), endpoint.base_path());
        let short = if shares_authority { with_path } else { endpoint.authority().to_owned() };
        let name = if self.by_name.contains_key(short.as_str()) { endpoint.to_string() } else { short };
        Upstream {
            name: name.into(),
            endpoint: Some(Arc::new(endpoint.clone())),
            credentials: owner.map_or_else(Vec::new, |owner| owner.credentials.clone()),
            guard: owner.map_or_else(|| KeyGuard::new(std::iter::empty()), |owner| owner.guard.clone()),
            pool: None,
            cooldowns: owner.map_or_else(Cooldowns::default, |owner| owner.cooldowns),
            retry_budget: RetryBudget::default(),
            hides_limits: false,
            requires_key: false,
            auth_header: owner.map_or(AuthHeader::Authorization, |owner| owner.auth_header),
            connect_to: owner.and_then(|owner| owner.connect_to),
            ca_file: owner.and_then(|owner| owner.ca_file.clone()),
            http2: owner.is_none_or(|owner| owner.http2),
            timeouts: owner.map_or(self.timeouts, |owner| owner.timeouts),
            pass_client_faults: true,
        }
    }

    fn add(&mut self, upstream: Arc<Upstream>) {
        self.by_name.insert(upstream.name.clone(), upstream.clone());
        self.upstreams.push(upstream);
    }
}

fn common(raw: &raw::Upstream) -> Common<'_> {
    Common {
        base_url: raw.base_url.as_deref(),
        connect_to: raw.connect_to.as_deref(),
        auth_header: raw.auth_header,
        ca_file: raw.ca_file.as_deref(),
        http2: raw.http2,
        timeouts: raw.timeouts.as_ref(),
        pass_client_faults: raw.pass_client_faults,
        cooldown: raw.cooldown.as_ref(),
    }
}

fn endpoint(url: &str, variable: Option<&str>, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<Endpoint> {
    // An empty base URL counts as unset, as an empty variable does (K8).
    if url.is_empty() {
        return None;
    }
    match Endpoint::from_url(url) {
        Ok(endpoint) => Some(endpoint),
        Err(message) => {
            let whose = variable.map_or_else(String::new, |name| format!("the variable {name}: "));
            cx.fault(&at.key("base_url"), format!("{whose}{message}"));
            None
        }
    }
}
