//! The catalog of upstreams: main, troll and ohmygpt, the operator's own, and one for each URL that is used as a target.
//!
//! An upstream's endpoint, address and key come from here and from nowhere else (M16). ohmygpt's endpoint is a constant; nothing
//! in the file or the environment changes it (K11).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::fault::nearest;
use crate::config::parse::entry::Entry;
use crate::config::parse::{Context, pool};
use crate::config::raw::{self, Config};
use crate::config::source::At;
use crate::domain::guard::KeyGuard;
use crate::domain::upstream::advice::Cooldowns;
use crate::domain::upstream::retry_budget::RetryBudget;
use crate::domain::upstream::{AuthHeader, Endpoint, Timeouts, Upstream};

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
pub enum RouteTarget {
    Named(Arc<Upstream>),
    Url(Endpoint),
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
    pub fn target(&self, text: &str, whose: &str, at: &At<'_>, cx: &mut Context<'_, '_>) -> Option<RouteTarget> {
        if !text.contains("://") {
            return self.by_name(text, whose, at, cx).map(RouteTarget::Named);
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
                Some(RouteTarget::Url(endpoint))
            }
            Err(message) => {
                cx.fault(at, format!("{whose}: {message}"));
                None
            }
        }
    }

    /// Makes one upstream of each distinct URL. A URL that is some upstream's base URL inherits that one's key and connection.
    pub fn add_url_targets<'t>(&mut self, targets: impl Iterator<Item = &'t RouteTarget>) {
        let mut endpoints: Vec<&Endpoint> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut of_authority: HashMap<&str, usize> = HashMap::new();
        for target in targets {
            let RouteTarget::Url(endpoint) = target else { continue };
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
            let upstream = self.add(self.url_target(endpoint, owners.get(endpoint), shares_authority));
            self.by_url.insert(endpoint.clone(), upstream);
        }
    }

    /// The upstream of a target, after [`Self::add_url_targets`].
    pub fn resolve(&self, target: &RouteTarget) -> Option<Arc<Upstream>> {
        match target {
            RouteTarget::Named(upstream) => Some(upstream.clone()),
            RouteTarget::Url(endpoint) => self.by_url.get(endpoint).cloned(),
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
        let credentials = keys.credentials;
        let entry =
            Entry { name: "main", at, endpoint, credentials, requires_key: true, shows_client_faults: true, common: raw.into() };
        let upstream = entry.upstream(self.timeouts, cx);
        self.add(upstream);
    }

    fn ohmygpt(&mut self, raw: &raw::Upstream, at: &At<'_>, cx: &mut Context<'_, '_>) {
        if cx.is_written(&at.key("base_url")) {
            cx.fault(&at.key("base_url"), "the endpoint of ohmygpt is fixed; name an upstream of your own, or use `connect_to`");
        }
        let keys = pool::keys("ohmygpt", Some("OHMYGPT_API_KEY"), raw.key.as_ref(), &raw.keys, at, cx);
        let endpoint = Endpoint::from_url(OHMYGPT).ok();
        let credentials = keys.credentials;
        let entry = Entry {
            name: "ohmygpt",
            at,
            endpoint,
            credentials,
            requires_key: true,
            shows_client_faults: false,
            common: raw.into(),
        };
        let upstream = entry.upstream(self.timeouts, cx);
        self.add(upstream);
    }

    fn troll(&mut self, raw: &raw::Troll, at: &At<'_>, cx: &mut Context<'_, '_>) {
        let endpoint = raw.base_url.as_deref().and_then(|url| endpoint(url, None, at, cx));
        let keys = pool::keys("troll", Some("TROLL_API_KEY"), None, &raw.keys, at, cx);
        let connect_to = raw.connect_to.as_deref().and_then(|text| text.parse().ok());
        let pool = pool::pool(raw, &keys, endpoint.as_ref(), connect_to, at, cx);
        let credentials = keys.credentials;
        let entry = Entry {
            name: "troll",
            at,
            endpoint,
            credentials,
            requires_key: true,
            shows_client_faults: false,
            common: raw.into(),
        };
        let upstream = entry.upstream(self.timeouts, cx);
        self.add(Upstream { pool, hides_limits: true, ..upstream });
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
        let credentials = keys.credentials;
        let entry = Entry { name, at, endpoint, credentials, requires_key: false, shows_client_faults: true, common: raw.into() };
        let upstream = entry.upstream(self.timeouts, cx);
        self.add(upstream);
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

    fn add(&mut self, upstream: Upstream) -> Arc<Upstream> {
        let upstream = Arc::new(upstream);
        self.by_name.insert(upstream.name.clone(), upstream.clone());
        self.upstreams.push(upstream.clone());
        upstream
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
