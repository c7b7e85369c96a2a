//! The headers of an upstream's answer that a client may see (O7).
//!
//! In: what describes the body, what tells a client when to come back, and the providers' rate limits. Out: cookies, `Server`, `Via`,
//! `Alt-Svc`, `Location`, anything with an organisation, project or account in its name, and everything unknown.
//!
//! `x-request-id` is always the gateway's own and so never passes; the provider's is for the log ([`upstream_request_id`]).
//! `request-id`, the Anthropic form, passes on other paths than Anthropic's; on those the edge sets the gateway's own. Of an error that is
//! replaced only [`is_advice`] passes (`relay::judge`), of a refusal of ours nothing.

use http::HeaderMap;
use http::header::HeaderName;

/// Lists the headers of this answer that must be removed before it goes to the client; each present name once.
pub fn names_to_withhold(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| !passes_to_client(name)).cloned().collect()
}

/// Whether a header by this name may be shown to a client.
///
/// `transfer-encoding` counts as shown: the proxy engine frames the answer by it and writes its own to the client.
pub fn passes_to_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_named(name) || (is_of_a_passing_family(name) && !names_an_account(name))
}

/// Whether a header tells a client when and whether to come back: worth keeping on an error whose body is replaced.
pub fn is_advice(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_limit = name.starts_with("ratelimit") || (is_of_a_passing_family(name) && name.contains("ratelimit"));
    matches!(name, "retry-after-ms" | "x-should-retry") || (is_limit && !names_an_account(name))
}

/// The provider's own id of this request, in either spelling.
pub fn upstream_request_id(headers: &HeaderMap) -> Option<&str> {
    ["x-request-id", "request-id"].into_iter().find_map(|name| headers.get(name)?.to_str().ok())
}

fn is_named(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "content-length"
            | "content-encoding"
            | "content-language"
            | "content-disposition"
            | "content-range"
            | "accept-ranges"
            | "transfer-encoding"
            | "cache-control"
            | "etag"
            | "expires"
            | "last-modified"
            | "vary"
            | "date"
            | "retry-after"
            | "retry-after-ms"
            | "x-should-retry"
            | "request-id"
            | "openai-model"
            | "openai-processing-ms"
            | "openai-version"
            | "ratelimit"
            | "ratelimit-policy"
            // Tells a reverse proxy in front of us not to hold back the events of a stream.
            | "x-accel-buffering"
            | "x-content-type-options"
    )
}

fn is_of_a_passing_family(name: &str) -> bool {
    ["anthropic-", "x-ratelimit-", "ratelimit-"].iter().any(|prefix| name.starts_with(prefix))
}

fn names_an_account(name: &str) -> bool {
    ["organi", "-org", "project", "workspace", "account", "tenant", "-key", "-user", "customer"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn passes(name: &str) -> bool {
        passes_to_client(&HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    #[test]
    fn o7_what_clients_need_passes() {
        for name in [
            "Content-Type",
            "content-length",
            "content-encoding",
            "transfer-encoding",
            "Retry-After",
            "retry-after-ms",
            "x-should-retry",
            "request-id",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-unified-status",
            "anthropic-ratelimit-tokens-reset",
            "x-ratelimit-limit-requests",
            "x-ratelimit-reset-tokens",
            "openai-processing-ms",
            "openai-version",
            "openai-model",
            "cache-control",
            "vary",
            "date",
            "content-disposition",
            "x-content-type-options",
            "x-accel-buffering",
        ] {
            assert!(passes(name), "{name} does not pass");
        }
    }

    #[test]
    fn o7_what_tells_of_the_upstream_does_not_pass() {
        for name in [
            "Set-Cookie",
            "server",
            "via",
            "alt-svc",
            "location",
            "content-location",
            "openai-organization",
            "openai-project",
            "anthropic-organization-id",
            "anthropic-workspace-id",
            "anthropic-account",
            "x-ratelimit-organization",
            "cf-ray",
            "cf-cache-status",
            "x-envoy-upstream-service-time",
            "strict-transport-security",
            "nel",
            "report-to",
            "trailer",
            "connection",
            "keep-alive",
            "upgrade",
            "proxy-authenticate",
            "www-authenticate",
            "x-request-id",
            "x-api-key",
            "authorization",
            "x-powered-by",
            "x-new-thing",
            "refresh",
            "link",
            "access-control-allow-origin",
            "x-ms-region",
        ] {
            assert!(!passes(name), "{name} passes");
        }
    }

    #[test]
    fn lists_each_withheld_name_once() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a"));
        headers.append("set-cookie", HeaderValue::from_static("b"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("server", HeaderValue::from_static("s"));
        let mut names = names_to_withhold(&headers);
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(names, ["server", "set-cookie"]);
    }

    #[test]
    fn finds_the_providers_request_id_in_both_spellings() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("req_1"));
            upstream_request_id(&headers).map(str::to_owned)
        };
        assert_eq!(of("x-request-id").as_deref(), Some("req_1"));
        assert_eq!(of("request-id").as_deref(), Some("req_1"));
        assert_eq!(of("other"), None);
    }
}
