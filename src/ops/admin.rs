//! What the admin listener answers (L5): health and metrics to whoever reaches it, anything else with the token only.
//!
//! Paths: `/health` (the document of L3), `/livez`, `/readyz`, `/metrics`; with the token `/status.json` and `/clients`
//! (`ops::clients::admin`). The edge binds the listener and writes the answer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::domain::headers::presented_key;
use crate::domain::moment::Moment;
use crate::domain::secret::Secret;
use crate::domain::upstream::Upstream;
use crate::ops::body_budget::BodyBudget;
use crate::ops::counters::Counters;
use crate::ops::health::{self, Health, Ready};
use crate::ops::ledger::Condition;
use crate::ops::metrics;
use crate::ops::status::{Place, StatusDocument};

const JSON: &str = "application/json";

/// What the admin pages show, gathered by the caller for one answer.
#[derive(Clone, Copy, Debug)]
pub struct Vitals<'a> {
    pub counters: &'a Counters,
    pub ready: Ready,
    pub routing_enabled: bool,
    pub models_configured: usize,
    pub default_target: Option<&'a str>,
    pub body_budget: &'a BodyBudget,
    pub access_lines_dropped: u64,
    pub version: &'static str,
    pub uptime: Duration,
    pub upstreams: &'a [Arc<Upstream>],
    pub now: Moment,
    pub ledger: &'a Condition,
    pub clients: usize,
    pub place: &'a Place,
}

/// An answer to write as it stands; for `HEAD` without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// One more header: `allow` or `www-authenticate`.
    pub header: Option<(&'static str, &'static str)>,
}

/// Answers one request of the admin listener; `token` is the configured one.
pub fn answer(method: &str, path: &str, headers: &HeaderMap, token: Option<&Secret>, vitals: &Vitals<'_>) -> AdminAnswer {
    let Some(page) = Page::of(path) else { return answer_with_token(method, path, headers, token, vitals) };
    if !matches!(method, "GET" | "HEAD") {
        return AdminAnswer {
            header: Some(("allow", "GET, HEAD")),
            ..AdminAnswer::error(405, "this page takes GET and HEAD only")
        };
    }
    match page {
        Page::Health => match serde_json::to_string(&Health::of(vitals)) {
            Ok(body) => AdminAnswer::json(200, body),
            Err(_) => AdminAnswer::error(500, "the health document could not be written"),
        },
        Page::Live => AdminAnswer::json(200, health::ALIVE.to_owned()),
        Page::Ready => {
            let (status, body) = vitals.ready.answer();
            AdminAnswer::json(status, body.to_owned())
        }
        Page::Metrics => {
            AdminAnswer { status: 200, content_type: metrics::CONTENT_TYPE, body: metrics::page(vitals), header: None }
        }
    }
}

/// The pages that need no token.
enum Page {
    Health,
    Live,
    Ready,
    Metrics,
}

impl Page {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/health" => Some(Self::Health),
            "/livez" | "/health/live" => Some(Self::Live),
            "/readyz" | "/health/ready" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// Everything else: whether a page exists is told to the token's owner only.
fn answer_with_token(method: &str, path: &str, headers: &HeaderMap, token: Option<&Secret>, vitals: &Vitals<'_>) -> AdminAnswer {
    if let Err(refused) = permit(headers, token) {
        return refused;
    }
    match (path, method) {
        ("/status.json", "GET" | "HEAD") => status(vitals),
        ("/status.json", _) => {
            AdminAnswer { header: Some(("allow", "GET, HEAD")), ..AdminAnswer::error(405, "this page takes GET and HEAD only") }
        }
        _ => AdminAnswer::error(404, "there is no such page"),
    }
}

/// Whether the request carries the token.
///
/// # Errors
///
/// The answer to give where it does not, or where there is no token to carry.
pub fn permit(headers: &HeaderMap, token: Option<&Secret>) -> Result<(), AdminAnswer> {
    let Some(token) = token else {
        return Err(AdminAnswer::error(
            403,
            "without admin.token in the configuration this listener answers health and metrics only",
        ));
    };
    match presented_key(headers) {
        Ok(Some(presented)) if token.matches(presented) => Ok(()),
        _ => Err(AdminAnswer {
            header: Some(("www-authenticate", "Bearer")),
            ..AdminAnswer::error(401, "send the admin token as `Authorization: Bearer TOKEN`")
        }),
    }
}

/// The whole state in one document.
fn status(vitals: &Vitals<'_>) -> AdminAnswer {
    match serde_json::to_string_pretty(&StatusDocument::of(vitals)) {
        Ok(document) => AdminAnswer::json(200, document + "\n"),
        Err(_) => AdminAnswer::error(500, "the status document could not be written"),
    }
}

#[cfg(test)]
impl Vitals<'_> {
    /// Lends a gateway at rest: ready, with one model and no upstream.
    pub fn example<T>(counters: &Counters, look: impl FnOnce(&Vitals<'_>) -> T) -> T {
        look(&Vitals {
            counters,
            ready: Ready::Yes,
            routing_enabled: true,
            models_configured: 1,
            default_target: None,
            body_budget: &BodyBudget::new(1_000),
            access_lines_dropped: 0,
            version: "1.2.3",
            uptime: Duration::from_secs(9),
            upstreams: &[],
            now: Moment::default(),
            ledger: &Condition::default(),
            clients: 0,
            place: &Place::default(),
        })
    }
}

impl AdminAnswer {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: JSON, body, header: None }
    }

    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": { "message": message } }).to_string())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ask(method: &str, path: &str, presented: Option<&'static str>, token: Option<&str>, ready: Ready) -> AdminAnswer {
        let mut headers = HeaderMap::new();
        if let Some(presented) = presented {
            headers.insert("authorization", HeaderValue::from_static(presented));
        }
        let token = token.and_then(Secret::new);
        Vitals::example(&Counters::default(), |vitals| {
            answer(method, path, &headers, token.as_ref(), &Vitals { ready, models_configured: 2, ..*vitals })
        })
    }

    #[test]
    fn l5_health_and_metrics_need_no_token() {
        for token in [None, Some("t-1")] {
            for path in ["/health", "/livez", "/health/live", "/readyz", "/health/ready", "/metrics"] {
                for method in ["GET", "HEAD"] {
                    assert_eq!(ask(method, path, None, token, Ready::Yes).status, 200, "{method} {path}");
                }
            }
        }
        assert!(ask("GET", "/health", None, None, Ready::Yes).body.contains("\"models_configured\":2"));
        assert!(ask("GET", "/metrics", None, None, Ready::Yes).body.contains("trollbridge_requests_total"));
        assert_eq!(ask("GET", "/metrics", None, None, Ready::Yes).content_type, metrics::CONTENT_TYPE);
    }

    #[test]
    fn l5_anything_else_is_refused_without_the_right_token() {
        for (presented, token, status) in [
            (None, None, 403),
            (Some("Bearer t-1"), None, 403),
            (None, Some("t-1"), 401),
            (Some("Bearer t-2"), Some("t-1"), 401),
            (Some("Bearer t-11"), Some("t-1"), 401),
            (Some("Basic t-1"), Some("t-1"), 401),
            (Some("Bearer t-1"), Some("t-1"), 404),
        ] {
            let of_status = if status == 404 { 200 } else { status };
            assert_eq!(ask("GET", "/status.json", presented, token, Ready::Yes).status, of_status, "{presented:?} {token:?}");
            for path in ["/", "/clients", "/metrics/", "/health/../clients"] {
                assert_eq!(ask("GET", path, presented, token, Ready::Yes).status, status, "{path} {presented:?} {token:?}");
            }
        }
    }

    #[test]
    fn l5_the_token_is_never_in_an_answer() {
        for path in ["/health", "/metrics", "/clients", "/readyz"] {
            for presented in [None, Some("Bearer canary-7"), Some("Bearer canary-8")] {
                let answer = ask("GET", path, presented, Some("canary-7"), Ready::Yes);
                assert!(!format!("{answer:?}").contains("canary"), "{path}");
            }
        }
    }

    #[test]
    fn l3_a_draining_process_is_alive_but_not_ready() {
        assert_eq!(ask("GET", "/readyz", None, None, Ready::Draining).status, 503);
        assert_eq!(ask("GET", "/readyz", None, None, Ready::Starting).status, 503);
        assert_eq!(ask("GET", "/livez", None, None, Ready::Draining).status, 200);
    }

    #[test]
    fn other_methods_are_told_which_ones_work() {
        let answer = ask("POST", "/metrics", None, None, Ready::Yes);
        assert_eq!((answer.status, answer.header), (405, Some(("allow", "GET, HEAD"))));
    }
}
