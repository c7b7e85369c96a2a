//! Keys and proxies: who carries the requests to an upstream.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::config::fault::nearest;
use crate::config::parse::Context;
use crate::config::raw;
use crate::config::source::At;
use crate::domain::secret::Secret;
use crate::domain::upstream::advice::Cooldowns;
use crate::domain::upstream::forward::{ForwardKind, Login, Target};
use crate::domain::upstream::health::{HealthCheck, HealthRequest};
use crate::domain::upstream::pool::Pool;
use crate::domain::upstream::proxy::{Proxy, ProxyKind, ProxyTls};
use crate::domain::upstream::{Credential, Endpoint};

/// The keys of an upstream, as far as they are set.
pub struct Keys {
    pub credentials: Vec<Credential>,
    /// Every id that is written, also of a key that is unset: a proxy may name it.
    places: HashMap<Box<str>, Option<usize>>,
}

/// Reads an upstream's keys in the file's order; those that are unset are left out. `variable` takes the first place (K8).
pub fn keys(
    upstream: &str,
    variable: Option<&str>,
    one: Option<&raw::Secret>,
    several: &[raw::Key],
    at: &At<'_>,
    cx: &mut Context<'_, '_>,
) -> Keys {
    let list = at.key("keys");
    if one.is_some() && !several.is_empty() {
        cx.fault(&list, format!("\"{upstream}\" has both `key` and `keys`; put the one key first in the list"));
    }
    let from_environment = variable.and_then(|name| cx.secret_variable(if several.is_empty() { at } else { &list }, name));
    let mut ids: HashMap<&str, usize> = HashMap::new();
    let mut keys: Vec<(&str, Option<Secret>)> = Vec::new();
    for (nth, written) in several.iter().enumerate() {
        let entry = list.item(nth);
        if is_unfit(&written.id) {
            cx.fault(&entry.key("id"), "a key's id must not be empty, nor hold control characters");
        }
        if let Some(first) = ids.insert(&written.id, nth) {
            let first = cx.path(&list.item(first).key("id"));
            cx.fault(&entry.key("id"), format!("\"{}\" is already taken by {first}", written.id));
        }
        let replaced = from_environment.clone().filter(|_| nth == 0);
        keys.push((&written.id, replaced.or_else(|| cx.secret(&entry.key("key"), written.key.as_ref()))));
    }
    if several.is_empty() {
        keys.push((upstream, from_environment.or_else(|| cx.secret(&at.key("key"), one))));
    }
    let mut found = Keys { credentials: Vec::new(), places: HashMap::new() };
    for (id, key) in keys {
        // The file may name the same variable further down: a key is tried once, under its first id.
        let same = |credential: &Credential| key.as_ref().is_some_and(|key| key.matches(credential.key.expose().as_bytes()));
        let place = found.credentials.iter().position(same).or_else(|| {
            let standing = cx.registry.key(upstream, id, key.as_ref()?);
            found.credentials.push(Credential::new(id, key.clone()?, standing)?);
            Some(found.credentials.len() - 1)
        });
        if !several.is_empty() {
            found.places.insert(id.into(), place);
        }
    }
    found
}

/// How long keys rest.
pub fn cooldowns(raw: Option<&raw::Cooldown>) -> Cooldowns {
    let Some(raw) = raw else { return Cooldowns::default() };
    Cooldowns {
        rate_limited: Duration::from_secs(raw.rate_limited_s),
        exhausted: Duration::from_secs(raw.exhausted_s),
        no_access: Duration::from_secs(raw.no_access_s),
        longest: Duration::from_secs(raw.longest_s),
    }
}

/// Reads troll's proxies; `None` where the file has none.
pub fn pool(
    raw: &raw::Troll,
    keys: &Keys,
    endpoint: Option<&Endpoint>,
    connect_to: Option<std::net::SocketAddr>,
    at: &At<'_>,
    cx: &mut Context<'_, '_>,
) -> Option<Pool> {
    let check = health_check(raw.health_check.as_ref(), &at.key("health_check"), cx);
    let list = at.key("proxies");
    if raw.proxies.is_empty() {
        for (key, is_written) in
            [("health_check", raw.health_check.is_some()), ("allow_direct_when_down", raw.allow_direct_when_down)]
        {
            if is_written {
                cx.warn(&at.key(key), "has no effect without `proxies`");
            }
        }
        return None;
    }
    let mut ids: HashMap<&str, usize> = HashMap::new();
    let mut proxies = Vec::new();
    for (nth, written) in raw.proxies.iter().enumerate() {
        let entry = list.item(nth);
        if is_unfit(&written.id) {
            cx.fault(&entry.key("id"), "a proxy's id must not be empty, nor hold control characters");
        }
        if let Some(first) = ids.insert(&written.id, nth) {
            let first = cx.path(&list.item(first).key("id"));
            cx.fault(&entry.key("id"), format!("\"{}\" is already taken by {first}", written.id));
        }
        proxies.extend(proxy(written, keys, endpoint, connect_to, &entry, cx));
    }
    (!proxies.is_empty()).then(|| Pool::new(proxies, check, raw.allow_direct_when_down, cx.registry.turn("troll")))
}

fn proxy(
    written: &raw::Proxy,
    keys: &Keys,
    endpoint: Option<&Endpoint>,
    connect_to: Option<std::net::SocketAddr>,
    at: &At<'_>,
    cx: &mut Context<'_, '_>,
) -> Option<Proxy> {
    let address = host_and_port(&written.addr);
    if address.is_none() {
        cx.fault(&at.key("addr"), "must be a host and a port: `10.0.0.11:3128`, `[::1]:1080` or `proxy.example.com:3128`");
    }
    let password = cx.secret(&at.key("password"), written.password.as_ref());
    let kind = match written.kind {
        raw::ProxyKind::Reverse => Some(reverse(written, address.as_ref(), at, cx)),
        raw::ProxyKind::Connect => forward(ForwardKind::Connect, written, password.as_ref(), endpoint, connect_to, at, cx),
        raw::ProxyKind::Socks5 => forward(ForwardKind::Socks5, written, password.as_ref(), endpoint, connect_to, at, cx),
    };
    let carried = carried(written, keys, at, cx);
    let (host, port) = address?;
    let server_name = written.tls.as_ref().map(|tls| &tls.server_name);
    let secret = password.as_ref().map(Secret::expose);
    let definition = (&written.id, written.kind as u8, &host, port, &written.username, secret, server_name);
    Some(Proxy {
        id: (*written.id).into(),
        kind: kind?,
        keys: carried,
        health: cx.registry.proxy("troll", &written.id, &definition),
        fingerprint: fingerprint(&definition),
        host: host.into(),
        port,
    })
}

fn reverse(written: &raw::Proxy, address: Option<&(String, u16)>, at: &At<'_>, cx: &mut Context<'_, '_>) -> ProxyKind {
    if written.username.is_some() || written.password.is_some() {
        cx.fault(&at.key("username"), "a reverse proxy takes no login of its own; `connect` and `socks5` do");
    }
    let is_near = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if written.tls.is_none() && address.is_some_and(|(host, _)| !is_near(host)) {
        cx.warn(at, format!("keys travel to the proxy \"{}\" unencrypted: it has no `tls`", written.id));
    }
    if written.tls.as_ref().is_some_and(|tls| Target::new(&tls.server_name, 443).is_err()) {
        cx.fault(&at.key("tls").key("server_name"), "must be the name in the proxy's certificate");
    }
    ProxyKind::Reverse { tls: written.tls.as_ref().map(|tls| ProxyTls { server_name: (*tls.server_name).into() }) }
}

fn forward(
    kind: ForwardKind,
    written: &raw::Proxy,
    password: Option<&Secret>,
    endpoint: Option<&Endpoint>,
    connect_to: Option<std::net::SocketAddr>,
    at: &At<'_>,
    cx: &mut Context<'_, '_>,
) -> Option<ProxyKind> {
    if written.tls.is_some() {
        cx.fault(&at.key("tls"), "belongs to a `reverse` proxy: TLS runs through this one to the upstream, not to it");
    }
    // An unset variable is an empty text, and an empty name is no login.
    let username = written.username.as_deref().filter(|name| !name.is_empty());
    if username.is_none() && password.is_some() {
        cx.fault(&at.key("password"), "needs a `username` beside it");
    }
    let login = match username.map(|name| Login::new(kind, name, password.cloned())) {
        None => None,
        Some(Ok(login)) => Some(login),
        Some(Err(error)) => {
            cx.fault(&at.key("username"), error.to_string());
            return None;
        }
    };
    if username.is_some() && password.is_none() && kind == ForwardKind::Connect {
        cx.warn(&at.key("username"), format!("the proxy \"{}\" has a username and no password", written.id));
    }
    // Without a base URL the upstream is not configured, and nothing is sent anywhere.
    let target = match (connect_to, endpoint) {
        (Some(address), _) => Target::new(&address.ip().to_string(), address.port()),
        (None, Some(endpoint)) => Target::new(endpoint.host(), endpoint.port()),
        (None, None) => return None,
    };
    match target {
        Ok(target) => Some(ProxyKind::Forward { kind, login, target }),
        Err(error) => {
            cx.fault(at, error.to_string());
            None
        }
    }
}

/// The keys that go through a proxy, as places in the upstream's list.
fn carried(written: &raw::Proxy, keys: &Keys, at: &At<'_>, cx: &mut Context<'_, '_>) -> Vec<usize> {
    if written.keys.is_empty() {
        return (0..keys.credentials.len()).collect();
    }
    let list = at.key("keys");
    let mut carried = Vec::new();
    for (nth, id) in written.keys.iter().enumerate() {
        match keys.places.get(&**id) {
            None => {
                let meant = match nearest(id, keys.places.keys().map(|known| &**known)) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "write it under `upstreams.troll.keys`".to_owned(),
                };
                cx.fault(&list.item(nth), format!("no key of troll is called \"{id}\"; {meant}"));
            }
            Some(_) if written.keys.iter().take(nth).any(|before| before == id) => {
                cx.fault(&list.item(nth), format!("\"{id}\" stands in this list already"));
            }
            // Two ids may stand for one key (a variable that both name): it is tried once.
            Some(place) => carried.extend(place.filter(|place| !carried.contains(place))),
        }
    }
    if carried.is_empty() && !keys.credentials.is_empty() && !cx.report.has_faults() {
        cx.warn(&list, format!("none of the keys of the proxy \"{}\" is set, so it is never used", written.id));
    }
    carried
}

fn health_check(raw: Option<&raw::HealthCheck>, at: &At<'_>, cx: &mut Context<'_, '_>) -> HealthCheck {
    let Some(raw) = raw else { return HealthCheck::default() };
    if raw.expected_status.is_some() && raw.path.is_none() {
        cx.fault(&at.key("expected_status"), "belongs to a `path`: without one no request is sent");
    }
    if raw.path.as_ref().is_some_and(|path| !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic())) {
        cx.fault(&at.key("path"), "must begin with `/` and hold no spaces");
    }
    let request =
        raw.path.as_ref().map(|path| HealthRequest { path: path.clone(), expected_status: raw.expected_status.unwrap_or(200) });
    HealthCheck {
        interval: Duration::from_secs(raw.interval_s),
        timeout: Duration::from_secs(raw.timeout_s),
        failures: raw.failures,
        successes: raw.successes,
        request,
    }
}

/// `host:port`, the host without brackets.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let is_bare_v6 = host.contains(':') && !host.starts_with('[');
    Target::new(host, port).ok().filter(|_| !is_bare_v6)?;
    Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

fn fingerprint(definition: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    definition.hash(&mut hasher);
    hasher.finish()
}

/// Ids stand in logs, labels and reports.
fn is_unfit(id: &str) -> bool {
    id.is_empty() || id.chars().any(char::is_control)
}
