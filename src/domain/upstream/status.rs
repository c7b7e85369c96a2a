//! How the pool stands, for `/status.json`: who is out, why, and until when. What an HTTP status means: `verdict`.

use serde::Serialize;

use crate::domain::moment::Moment;
use crate::domain::upstream::Upstream;
use crate::domain::upstream::standing::{KeyState, ModelRest};

/// One upstream, its keys and proxies as they stand at a moment. Holds ids, never a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    pub configured: bool,
    pub keys: Vec<KeyStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<ProxyStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    pub id: String,
    /// `ready`, `cooling` or `dead`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// When it is ready again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Seconds until then, whole and at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_in_s: Option<u64>,
    pub attempts: u64,
    pub rests: u64,
    /// Models that it rests for, while it carries the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelStatus {
    /// As the upstream calls it.
    pub model: Box<str>,
    pub cause: &'static str,
    pub until: String,
    pub ready_in_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyStatus {
    pub id: String,
    /// `connect`, `socks5` or `reverse`.
    pub kind: &'static str,
    /// `up` or `down`, by checks and connections.
    pub health: &'static str,
    /// When it last went down or came up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// `ready`, or `exhausted` while all its keys rest.
    pub quota: &'static str,
    /// When the first of its keys is ready again; not there where none ever is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub keys: Vec<String>,
    pub attempts: u64,
    pub connect_failures: u64,
}

impl ModelStatus {
    fn of(rest: ModelRest, now: Moment) -> Self {
        let ModelRest { model, until, cause } = rest;
        Self { model, cause: cause.label(), until: written(until), ready_in_s: whole_seconds(now, until) }
    }
}

impl UpstreamStatus {
    pub fn of(upstream: &Upstream, now: Moment) -> Self {
        let keys = upstream.credentials.iter().map(|credential| {
            let state = credential.standing.state(now);
            let (word, cause, until) = match state {
                KeyState::Ready => ("ready", None, None),
                KeyState::Cooling { until, cause } => ("cooling", Some(cause.label()), Some(until)),
                KeyState::Dead { cause } => ("dead", Some(cause.label()), None),
            };
            KeyStatus {
                id: credential.id.to_string(),
                state: word,
                cause,
                until: until.map(written),
                ready_in_s: until.map(|until| whole_seconds(now, until)),
                attempts: credential.standing.attempts(),
                rests: credential.standing.rests(),
                models: credential.standing.resting_models(now).into_iter().map(|rest| ModelStatus::of(rest, now)).collect(),
            }
        });
        let proxies = upstream.pool.iter().flat_map(|pool| &pool.proxies).map(|proxy| {
            let carried = || proxy.keys.iter().filter_map(|key| upstream.credentials.get(*key));
            let states = || carried().map(|credential| credential.standing.state(now));
            let is_ready = states().any(|state| state == KeyState::Ready);
            let until = states().filter_map(|state| match state {
                KeyState::Cooling { until, .. } => Some(until),
                KeyState::Ready | KeyState::Dead { .. } => None,
            });
            ProxyStatus {
                id: proxy.id.to_string(),
                kind: proxy.kind.label(),
                health: if proxy.health.is_up() { "up" } else { "down" },
                since: Some(proxy.health.since()).filter(|since| *since != Moment::default()).map(written),
                quota: if is_ready { "ready" } else { "exhausted" },
                until: until.min().filter(|_| !is_ready).map(written),
                keys: carried().map(|credential| credential.id.to_string()).collect(),
                attempts: proxy.health.attempts(),
                connect_failures: proxy.health.connect_failures(),
            }
        });
        Self {
            name: upstream.name.to_string(),
            configured: upstream.missing().is_none(),
            keys: keys.collect(),
            proxies: proxies.collect(),
        }
    }
}

/// The whole seconds of a `Retry-After`: never too few, and at least 1 (T4).
pub fn whole_seconds(now: Moment, until: Moment) -> u64 {
    u64::try_from(now.until(until).as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

/// As RFC 3339 has it.
fn written(moment: Moment) -> String {
    let millis = i64::try_from(moment.millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| at.to_string())
}
