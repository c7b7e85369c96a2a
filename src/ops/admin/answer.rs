//! What the admin listener answers (L5): health and metrics to whoever reaches it, anything else with the token only.
//!
//! Paths: `/health` (the document of L3), `/livez`, `/readyz`, `/metrics`; with the token `/status.json`, and what `ops::admin::pages` sends on:
//! `/clients` (`ops::admin::clients`) and `/reload`.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::domain::headers::presented_key;
use crate::domain::secret::Secret;
use crate::ops::watch::health::{self, Health};
use crate::ops::watch::metrics;
use crate::ops::watch::status::StatusDocument;
use crate::ops::watch::vitals::Vitals;

const JSON: &str = "application/json";

/// An answer to write as it stands; for `HEAD` without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// One more header: `allow` or `www-authenticate`.
    pub header: Option<(&'static str, &'static str)>,
}

/// What is said to a request that may not see its page; `token` is the configured one. Whether a page exists is told to the token's
/// owner only.
pub fn refusal(path: &str, headers: &HeaderMap, token: Option<&Secret>) -> Option<AdminAnswer> {
    if Page::of(path).is_some() { None } else { permit(headers, token).err() }
}

/// Whether a page says how the process fares and nothing else: it must not wait for a disk.
pub fn is_health(path: &str) -> bool {
    matches!(Page::of(path), Some(Page::Health | Page::Live | Page::Ready))
}

/// Answers one request that may see its page.
pub fn answer(method: &str, path: &str, vitals: &Vitals<'_>) -> AdminAnswer {
    let Some(page) = Page::of(path) else { return answer_with_token(method, path, vitals) };
    if !matches!(method, "GET" | "HEAD") {
        return AdminAnswer::other_method("GET, HEAD");
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

fn answer_with_token(method: &str, path: &str, vitals: &Vitals<'_>) -> AdminAnswer {
    match (path, method) {
        ("/status.json", "GET" | "HEAD") => status(vitals),
        ("/status.json", _) => AdminAnswer::other_method("GET, HEAD"),
        _ => AdminAnswer::error(404, "there is no such page"),
    }
}

/// Whether the request carries the token.
///
/// # Errors
///
/// The answer to give where it does not, or where there is no token to carry.
fn permit(headers: &HeaderMap, token: Option<&Secret>) -> Result<(), AdminAnswer> {
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

impl AdminAnswer {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: JSON, body, header: None }
    }

    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": { "message": message } }).to_string())
    }

    /// 405, with the methods that the page takes.
    pub fn other_method(allow: &'static str) -> Self {
        Self { header: Some(("allow", allow)), ..Self::error(405, &format!("this page takes {allow} only")) }
    }

    /// The answer on the wire; to `HEAD` without its body.
    pub fn into_response(self, method: &Method) -> Response<Vec<u8>> {
        let length = self.body.len();
        let mut response = Response::new(if method == Method::HEAD { Vec::new() } else { self.body.into_bytes() });
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CONTENT_LENGTH, length.into());
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::watch::counters::Counters;
    use crate::ops::watch::readiness::Ready;

    fn ask(method: &str, path: &str, presented: Option<&'static str>, token: Option<&str>, ready: Ready) -> AdminAnswer {
        let mut headers = HeaderMap::new();
        if let Some(presented) = presented {
            headers.insert("authorization", HeaderValue::from_static(presented));
        }
        let token = token.and_then(Secret::new);
        refusal(path, &headers, token.as_ref()).unwrap_or_else(|| {
            Vitals::example(&Counters::default(), |vitals| {
                answer(method, path, &Vitals { ready, models_configured: 2, ..*vitals })
            })
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
