//! Whom a gateway answers that asks for no key (H6): programs of its own machine, and no page that a browser of this machine shows.
//!
//! The loopback address alone does not keep a page out. The browser sends its request for it (`Origin` and `Sec-Fetch-Site` tell), or
//! calls a name of the page's own that leads here (DNS rebinding; `Host` tells). A program that is no browser sends neither.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::domain::answer::Refusal;
use crate::domain::route::table::{HostPattern, without_port};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// What is local beside the loopback names and addresses.
#[derive(Clone, Debug, Default)]
pub struct LocalOnly {
    pub hosts: Vec<HostPattern>,
    pub origins: Vec<OriginPattern>,
}

/// An entry of `auth.allowed_origins`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    Exact(Arc<str>),
    /// `scheme://*`, without the `*`: whatever an application of that scheme calls itself.
    Scheme(Arc<str>),
}

impl LocalOnly {
    /// `host`: the target's; `is_routed`: whether a name is one of the configuration's own host routes.
    ///
    /// # Errors
    ///
    /// [`Refusal::ForeignHost`] and [`Refusal::ForeignOrigin`].
    pub fn admits(&self, host: Option<&str>, headers: &HeaderMap, is_routed: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        let is_local = |host: &str| is_loopback(host) || self.hosts.iter().any(|own| own.matches(bare(host))) || is_routed(host);
        let called = host.map(Some).into_iter().chain(headers.get_all(header::HOST).iter().map(text));
        for host in called {
            if !host.is_some_and(is_local) {
                return Err(Refusal::ForeignHost { host: host.unwrap_or_default().to_owned() });
            }
        }
        let mut origins = headers.get_all(header::ORIGIN).iter().map(text).peekable();
        if origins.peek().is_none() {
            // A browser says at least this much of a request that needs no leave.
            let says = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
            let is_own = says.is_none_or(|site| matches!(site, b"none" | b"same-origin"));
            return if is_own { Ok(()) } else { Err(Refusal::ForeignOrigin { origin: "another site".to_owned() }) };
        }
        for origin in origins {
            if !origin.is_some_and(|origin| is_loopback_page(origin) || self.origins.iter().any(|own| own.matches(origin))) {
                return Err(Refusal::ForeignOrigin { origin: origin.unwrap_or_default().to_owned() });
            }
        }
        Ok(())
    }
}

impl OriginPattern {
    /// # Errors
    ///
    /// What no browser sends as an origin, and what would let every page in.
    pub fn parse(written: &str) -> Result<Self, &'static str> {
        let lower = written.to_ascii_lowercase();
        let (scheme, host) = lower
            .split_once("://")
            .filter(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@']))
            .ok_or("must be an origin without a path (`https://chat.example.com`), or `scheme://*` of an application")?;
        match host {
            "*" if matches!(scheme, "http" | "https" | "file") => Err("would let every page in; name each origin"),
            "*" => Ok(Self::Scheme(format!("{scheme}://").into())),
            _ if host.contains('*') => Err("`*` may only stand for all behind the scheme (`vscode-webview://*`)"),
            _ => Ok(Self::Exact(lower.into())),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(own) => origin.eq_ignore_ascii_case(own),
            Self::Scheme(own) => origin.get(..own.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(own)),
        }
    }
}

fn is_loopback_page(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback)
}

/// `localhost`, what is below it, 127.0.0.0/8 and `[::1]`, with any port.
fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    const LOCALHOST: &str = "localhost";
    let Some(at) = name.len().checked_sub(LOCALHOST.len()) else { return false };
    let is_named = name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(LOCALHOST));
    is_named && (at == 0 || name.get(..at).is_some_and(|below| below.ends_with('.') && below.len() > 1))
}

/// Without the port and the root's dot.
fn bare(host: &str) -> &str {
    let name = without_port(host);
    name.strip_suffix('.').unwrap_or(name)
}

/// `None`: nothing that a browser or a name would send.
fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(hosts: &[&str], origins: &[&str]) -> LocalOnly {
        LocalOnly {
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            origins: origins.iter().map(|origin| OriginPattern::parse(origin).unwrap()).collect(),
        }
    }

    fn asks(local: &LocalOnly, host: &str, fields: &[(&'static str, &str)]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let asked = local.admits((!host.is_empty()).then_some(host), &headers, |host| host == "raw.test");
        asked.map_err(|refusal| refusal.label())
    }

    #[test]
    fn h6_only_a_loopback_name_or_one_of_the_configuration_is_called_without_a_key() {
        let local = local(&["host.docker.internal", "*.lan"], &[]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.9.9.9:1",
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "a.localhost:1",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:80",
            "",
            "raw.test",
            "host.docker.internal:8080",
            "Box.LAN",
        ] {
            assert_eq!(asks(&local, host, &[]), Ok(()), "{host}");
            assert_eq!(asks(&local, "", &[("host", host)][usize::from(host.is_empty())..]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            ".localhost",
            "127.0.0.1.evil.example",
            "10.0.0.1:8080",
            "0.0.0.0:8080",
            "[::]",
            "[fe80::1]",
            "lan",
            "docker.internal",
            "2130706433",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(asks(&local, host, &[]), Err("foreign_host"), "{host}");
            assert_eq!(asks(&local, "127.0.0.1", &[("host", host)]), Err("foreign_host"), "beside the target's: {host}");
        }
        assert_eq!(asks(&local, "", &[("host", "")]), Err("foreign_host"));
    }

    #[test]
    fn h6_a_page_of_another_site_is_refused_and_one_of_this_machine_is_not() {
        let local = local(&[], &["vscode-webview://*", "https://chat.example.com"]);
        for fields in [
            &[][..],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")],
            // To a browser, localhost and 127.0.0.1 are two sites.
            &[("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://127.0.0.1")],
            &[("origin", "http://[::1]:9")],
            &[("origin", "vscode-webview://0abc-def"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://chat.example.com")],
        ] {
            assert_eq!(asks(&local, "localhost:8080", fields), Ok(()), "{fields:?}");
        }
        for fields in [
            &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")][..],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "file://")],
            &[("origin", "")],
            &[("origin", "app://evil")],
            &[("origin", "chrome-extension://abcdef")],
            &[("origin", "http://chat.example.com")],
            &[("origin", "https://chat.example.com.evil.example")],
            &[("origin", "http://localhost.evil.example")],
            &[("origin", "http://localhost"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(asks(&local, "localhost:8080", fields), Err("foreign_origin"), "{fields:?}");
        }
    }

    #[test]
    fn h6_no_entry_lets_every_page_in() {
        for bad in
            ["null", "*", "https://*", "http://*", "file://*", "https://*.example.com", "example.com", "https://a/b", "://a"]
        {
            assert!(OriginPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
