//! The upstream's half of the explanation: who could carry the request, and the headers that it would get.

use std::time::Duration;

use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use crate::domain::guard::mask::mask_identifiers;
use crate::domain::headers::own::{masked, own_headers};
use crate::domain::headers::request::{KeptBack, kept_back, names_to_remove};
use crate::domain::settings::Settings;
use crate::domain::upstream::proxy::ProxyKind;
use crate::domain::upstream::{Pick, Upstream};
use crate::ops::host::clock;
use crate::relay::rotation::{Because, Rotation, Turn};

/// Says which state the candidates are told in.
const STANDS: &str = "as configured, with every key ready, every proxy up and the first one's turn; not as it stands now";

/// Who would carry each attempt, were every one before it answered with 429: the relay's own order and limits, on an upstream of which
/// nobody was asked yet.
pub fn attempts(settings: &Settings, upstream: &Upstream) -> Vec<Pick> {
    let (now, mut rotation) = (clock::now(), Rotation::default());
    let mut picks: Vec<Pick> = rotation.begin(upstream, None, &settings.retry, now).into_iter().collect();
    while let Some(before) = picks.last().copied() {
        let attempts = u32::try_from(picks.len()).unwrap_or(u32::MAX);
        let (retry, age) = (&settings.retry, Duration::ZERO);
        let turn = Turn { upstream, model: None, retry, before, attempts, age, can_send_again: true, now };
        match rotation.turn(Because::Key, &turn) {
            Ok(pick) => picks.push(pick),
            Err(_) => break,
        }
    }
    picks
}

/// The candidates; the registry is a fresh one, so all of them stand well.
pub fn candidates(settings: &Settings, upstream: &Upstream, attempts: &[Pick]) -> Value {
    let proxies = || upstream.pool.iter().flat_map(|pool| &pool.proxies);
    let key_id = |place: &usize| upstream.credentials.get(*place).map(|credential| &*credential.id);
    let shown = proxies().map(|proxy| {
        let (server_name, has_login) = match &proxy.kind {
            ProxyKind::Reverse { tls } => (tls.as_ref().map(|tls| &*tls.server_name), false),
            ProxyKind::Forward { login, .. } => (None, login.is_some()),
        };
        json!({
            "id": &*proxy.id,
            "kind": proxy.kind.label(),
            "addr": address(&proxy.host, proxy.port),
            "tls_server_name": server_name,
            "has_login": has_login,
            "keys": proxy.keys.iter().filter_map(key_id).collect::<Vec<_>>(),
        })
    });
    let keys = upstream.credentials.iter().enumerate().map(|(place, credential)| {
        let carriers = proxies().filter(|proxy| proxy.keys.contains(&place)).map(|proxy| &*proxy.id);
        json!({ "id": &*credential.id, "proxies": carriers.collect::<Vec<_>>() })
    });
    let told = attempts.iter().zip(1..).map(|(pick, number)| {
        json!({
            "attempt": number,
            "proxy": upstream.proxy(*pick).map(|proxy| &*proxy.id),
            "key": upstream.credential(*pick).map(|credential| &*credential.id),
        })
    });
    json!({
        "stand": STANDS,
        "attempts": told.collect::<Vec<_>>(),
        "proxies": shown.collect::<Vec<_>>(),
        "keys": keys.collect::<Vec<_>>(),
        "skipped": skipped(settings, upstream, attempts),
        "direct_when_down": upstream.pool.as_ref().is_some_and(|pool| pool.allow_direct_when_down),
    })
}

/// The keys and proxies that no attempt would use, and why.
fn skipped(settings: &Settings, upstream: &Upstream, attempts: &[Pick]) -> Vec<Value> {
    let most = settings.retry.max_attempts;
    let is_cut = u32::try_from(attempts.len()).is_ok_and(|count| count >= most);
    let by_limit = format!("retry.max_attempts is {most}, and others come before it");
    let proxies = upstream.pool.as_ref().map_or(&[][..], |pool| &pool.proxies);
    let keys =
        upstream.credentials.iter().enumerate().filter(|(place, _)| attempts.iter().all(|pick| pick.credential != Some(*place)));
    let keys = keys.map(|(place, credential)| {
        let is_bound = proxies.is_empty() || proxies.iter().any(|proxy| proxy.keys.contains(&place));
        let why = match (is_bound, upstream.pool.as_ref().is_some_and(|pool| pool.allow_direct_when_down)) {
            (false, true) => "no proxy carries it: it goes out only without a proxy, once all of them are down",
            (false, false) => "no proxy carries it",
            (true, _) if is_cut => &by_limit,
            (true, _) => "it is not asked for this request",
        };
        json!({ "key": &*credential.id, "why": why })
    });
    let others = proxies.iter().enumerate().filter(|(place, _)| attempts.iter().all(|pick| pick.proxy != Some(*place)));
    let others = others.map(|(_, proxy)| {
        let why = if is_cut { &by_limit } else { "all its keys are tried through the proxies before it" };
        json!({ "proxy": &*proxy.id, "why": why })
    });
    keys.chain(others).collect()
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The headers as the upstream gets them: what passes of the client's own, and what the gateway writes. Keys are masked, and so is what
/// looks like one in what passes.
pub fn headers(upstream: &Upstream, asked: &HeaderMap, pick: Pick, length: Option<usize>) -> Value {
    let mut headers = asked.clone();
    crate::domain::headers::request::strip(&mut headers);
    let own =
        upstream.endpoint.as_ref().map(|endpoint| own_headers(endpoint, upstream.auth_header, upstream.credential(pick), length));
    let own: Vec<_> = own.and_then(Result::ok).into_iter().flatten().collect();
    own.iter().for_each(|(name, _)| drop(headers.remove(name)));
    let mut told = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers.get_all(name).iter().map(|value| mask_identifiers(&masked(value))).collect();
        told.insert(name.to_string(), values.join(", ").into());
    }
    told.extend(own.iter().map(|(name, value)| (name.to_string(), masked(value).into())));
    Value::Object(told)
}

/// The client's headers that stay here, by name alone, and why.
pub fn dropped(asked: &HeaderMap) -> Vec<Value> {
    let removed = names_to_remove(asked);
    let ours = [header::HOST, header::ACCEPT_ENCODING, header::CONTENT_LENGTH];
    let rewritten = ours.iter().filter(|name| asked.contains_key(*name)).map(|name| (name, "the gateway writes its own"));
    let removed =
        removed.iter().map(|name| (name, kept_back(name).map_or("the client's Connection header names it", KeptBack::label)));
    removed.chain(rewritten).map(|(name, why)| json!({ "name": name.as_str(), "why": why })).collect()
}
