//! The headers of a client's request that never reach an upstream (H1, H2, H3).
//!
//! Out: credentials of every spelling, `Cookie`, what chooses an account (A3), hop-by-hop headers and what `Connection` names, what proxies and content networks
//! in front of us add, and what makes a framework read another method or path than the one that was routed and billed. All else
//! passes unseen. `Host` and `Content-Length` are the edge's own: never in the list, not even when a client's `Connection` names them.
//! `Accept-Encoding` stays for the edge to overwrite with `identity` (H4).

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName};

/// Lists the headers of this request that must be removed before it goes to an upstream; each present name once.
pub fn names_to_remove(headers: &HeaderMap) -> Vec<HeaderName> {
    let nominated = nominated_by_connection(headers);
    headers.keys().filter(|name| !is_forwarded(name) || nominated.contains(name)).cloned().collect()
}

/// Removes from the map what [`names_to_remove`] lists.
pub fn strip(headers: &mut HeaderMap) {
    for name in names_to_remove(headers) {
        headers.remove(name);
    }
}

/// Whether a header by this name goes on to an upstream, `Connection`'s nominations apart.
pub fn is_forwarded(name: &HeaderName) -> bool {
    kept_back(name).is_none()
}

/// Why a header by this name stays here; `None`: it goes on.
pub fn kept_back(name: &HeaderName) -> Option<KeptBack> {
    let name = name.as_str();
    if is_credential(name) {
        Some(KeptBack::Credential)
    } else if chooses_an_account(name) {
        Some(KeptBack::Account)
    } else if is_hop_by_hop(name) {
        Some(KeptBack::HopByHop)
    } else if is_infrastructure(name) {
        Some(KeptBack::Infrastructure)
    } else if overrides_the_request(name) {
        Some(KeptBack::Override)
    } else {
        None
    }
}

/// Why a header never reaches an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBack {
    Credential,
    Account,
    HopByHop,
    Infrastructure,
    Override,
}

impl KeptBack {
    pub const ALL: [Self; 5] = [Self::Credential, Self::Account, Self::HopByHop, Self::Infrastructure, Self::Override];

    /// Says what such a header is.
    pub fn label(self) -> &'static str {
        match self {
            Self::Credential => "a credential or a cookie",
            Self::Account => "it chooses an account at the provider, and the account is the gateway's",
            Self::HopByHop => "it belongs to the client's connection alone",
            Self::Infrastructure => "it tells of the machines in front of the gateway",
            Self::Override => "it names another method or path than the one that was routed",
        }
    }

    /// Names the ones that are met most.
    pub fn examples(self) -> &'static str {
        match self {
            Self::Credential => "authorization, x-api-key, cookie, *-token, *-secret",
            Self::Account => "openai-organization, openai-project, anthropic-workspace-id, *-account-id",
            Self::HopByHop => "connection, te, transfer-encoding, expect, upgrade, proxy-*",
            Self::Infrastructure => "forwarded, x-forwarded-*, x-real-ip, via, cf-*, x-request-id",
            Self::Override => "x-http-method-override, x-rewrite-url",
        }
    }
}

/// The headers that `Connection` names (RFC 9110 §7.6.1). Empty, and without an allocation, for nearly every request.
fn nominated_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

/// What authenticates somebody, by its name or by the words that such names end in (`x-goog-api-key`, `cf-aig-authorization`, …).
fn is_credential(name: &str) -> bool {
    const ENDINGS: [&str; 8] = ["authorization", "api-key", "apikey", "access-key", "-token", "-auth", "-secret", "-password"];
    matches!(name, "cookie" | "cookie2" | "set-cookie" | "x-api-key-id") || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// What tells a provider whose account a request is for (A3). With a key of ours that is ours to say: another account's name makes a good
/// key answer 401.
fn chooses_an_account(name: &str) -> bool {
    const ENDINGS: [&str; 7] = ["-organization", "-org", "-project", "-workspace", "-account", "-tenant", "-subscription"];
    let name = name.strip_suffix("-id").unwrap_or(name);
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// What belongs to the connection between client and gateway (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
///
/// `Expect` is among them: the body was read, so the client already has its `100 Continue`.
fn is_hop_by_hop(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'c') => name == "connection",
        Some(b'e') => name == "expect" || name == "early-data",
        Some(b'h') => name == "http2-settings",
        Some(b'k') => name == "keep-alive",
        Some(b'm') => name == "max-forwards",
        Some(b'p') => name.starts_with("proxy-"),
        Some(b't') => matches!(name, "te" | "trailer" | "transfer-encoding"),
        Some(b'u') => name == "upgrade",
        _ => false,
    }
}

/// What load balancers, content networks and meshes in front of the gateway add: addresses of clients, names of machines of ours.
fn is_infrastructure(name: &str) -> bool {
    const X_PREFIXES: [&str; 13] = [
        "x-forwarded",
        "x-original-",
        "x-amzn-",
        "x-amz-cf-",
        "x-envoy-",
        "x-azure-",
        "x-appengine-",
        "x-appgw-",
        "x-google-",
        "x-goog-iap-",
        "x-vercel-",
        "x-akamai-",
        "x-b3-",
    ];
    match name.as_bytes().first() {
        Some(b'a') => name == "alt-used" || name.starts_with("akamai-"),
        Some(b'b') => name == "baggage",
        Some(b'c') => name.starts_with("cf-") || matches!(name, "cdn-loop" | "client-ip"),
        Some(b'f') => name == "forwarded" || name.starts_with("fastly-") || name.starts_with("fly-"),
        Some(b't') => name == "true-client-ip",
        Some(b'v') => name == "via",
        Some(b'x') => {
            matches!(
                name,
                "x-real-ip"
                    | "x-client-ip"
                    | "x-remote-ip"
                    | "x-remote-addr"
                    | "x-remote-user"
                    | "x-cluster-client-ip"
                    | "x-request-id"
                    | "x-request-start"
                    | "x-correlation-id"
                    | "x-cloud-trace-context"
                    | "x-varnish"
                    | "x-arr-log-id"
                    | "x-arr-ssl"
                    | "x-host"
                    | "x-server-name"
                    | "x-scheme"
                    | "x-ssl-client-cert"
            ) || X_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        }
        _ => false,
    }
}

/// What some frameworks take for the request's method or path: the upstream must read the request that was routed (M16).
fn overrides_the_request(name: &str) -> bool {
    name.starts_with("x-")
        && matches!(name, "x-http-method" | "x-http-method-override" | "x-method-override" | "x-rewrite-url" | "x-override-url")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn left_of(headers: &[(&str, &str)]) -> Vec<String> {
        let mut headers = map(headers);
        strip(&mut headers);
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn h1_credentials_and_traces_of_our_machines_stay_here() {
        for name in [
            "Authorization",
            "X-Api-Key",
            "api-key",
            "x-goog-api-key",
            "openai-api-key",
            "anthropic-api-key",
            "x-auth-token",
            "x-amz-security-token",
            "cf-aig-authorization",
            "helicone-auth",
            "Cookie",
            "cookie2",
            "proxy-authorization",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-anything",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-client-cert",
            "x-forwarded",
            "x-real-ip",
            "via",
            "true-client-ip",
            "x-client-ip",
            "cf-connecting-ip",
            "cf-ray",
            "cdn-loop",
            "x-amzn-trace-id",
            "x-original-forwarded-for",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-request-id",
            "x-envoy-external-address",
            "fastly-client-ip",
        ] {
            assert!(left_of(&[(name, "v")]).is_empty(), "{name} reaches the upstream");
        }
    }

    #[test]
    fn a3_what_chooses_an_account_stays_here() {
        for name in [
            "openai-organization",
            "openai-project",
            "anthropic-workspace",
            "anthropic-workspace-id",
            "anthropic-organization-id",
            "x-goog-user-project",
            "chatgpt-account-id",
            "x-org-id",
            "x-tenant-id",
        ] {
            assert!(left_of(&[(name, "v")]).is_empty(), "{name} reaches the upstream");
            assert_eq!(kept_back(&HeaderName::from_static(name)), Some(KeptBack::Account));
        }
    }

    #[test]
    fn h2_what_providers_and_sdks_use_passes() {
        for name in [
            "anthropic-version",
            "anthropic-beta",
            "anthropic-dangerous-direct-browser-access",
            "openai-beta",
            "openai-something-new",
            "user-agent",
            "x-stainless-lang",
            "x-stainless-retry-count",
            "x-stainless-timeout",
            "accept",
            "accept-language",
            "accept-encoding",
            "content-type",
            "content-length",
            "host",
            "idempotency-key",
            "x-app",
            "x-client-request-id",
            "session_id",
            "originator",
            "http-referer",
            "x-title",
            "traceparent",
            "priority",
            "x-claude-code-session-id",
            "content-encoding",
            "origin",
            "sec-fetch-mode",
            "x-initiator",
        ] {
            assert_eq!(left_of(&[(name, "v")]), [name], "{name} does not reach the upstream");
        }
    }

    #[test]
    fn h3_hop_by_hop_headers_are_stripped() {
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "proxy-connection",
            "expect",
        ] {
            assert!(left_of(&[(name, "v")]).is_empty(), "{name} reaches the upstream");
        }
    }

    #[test]
    fn h3_headers_that_connection_names_are_stripped_in_every_spelling() {
        let left = left_of(&[
            ("connection", "keep-alive, X-Hop ,,\t x-second"),
            ("connection", "CLOSE,x-third"),
            ("x-hop", "1"),
            ("x-second", "2"),
            ("x-third", "3"),
            ("x-stays", "4"),
            ("anthropic-version", "2023-06-01"),
        ]);
        assert_eq!(left, ["anthropic-version", "x-stays"]);
    }

    #[test]
    fn connection_cannot_take_the_framing_away() {
        let left = left_of(&[("connection", "content-length, host, not a name"), ("content-length", "3"), ("host", "h")]);
        assert_eq!(left, ["content-length", "host"]);
    }

    #[test]
    fn a_repeated_header_is_listed_once_and_removed_wholly() {
        let headers = map(&[("cookie", "a"), ("cookie", "b"), ("accept", "c")]);
        assert_eq!(names_to_remove(&headers), ["cookie"]);
        assert_eq!(left_of(&[("cookie", "a"), ("cookie", "b"), ("accept", "c")]), ["accept"]);
    }
}
