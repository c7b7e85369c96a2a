//! An endpoint: scheme, host, port and base path of an upstream, parsed once from a URL of the configuration.
//!
//! What exists is connectable: the scheme is http or https, the host is there, and nothing secret can hide in it (no user
//! information, no query, no fragment), so an endpoint may be printed anywhere. It never resolves a name and never connects.

use std::fmt;
use std::sync::Arc;

use url::{Host, Url};

/// Where an upstream is, without its credentials. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    base_path: Arc<str>,
    authority: Arc<str>,
    sni: Arc<str>,
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Endpoint {
    /// Parses a base URL of the configuration; a trailing `/` of its path is dropped (K10).
    ///
    /// # Errors
    ///
    /// Says what is wrong and how a right one looks. The text never repeats the URL, which may hold a password by mistake (K6).
    pub fn from_url(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("this is no URL; write one such as https://api.example.com/v1".to_owned());
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err("the URL's scheme must be http or https".to_owned()),
        };
        // The URL standard repairs what browsers meet (`\`, tabs, `https:///host`); a repaired target is a guess.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("the URL holds a space, a control character or a backslash".to_owned());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err("the URL has no host".to_owned());
        }
        if authority.contains('@') {
            return Err("the URL holds user information (`user:password@`); write secrets under `key`".to_owned());
        }
        if rest.contains('#') {
            return Err("the URL has a fragment (`#…`), which is never sent".to_owned());
        }
        if rest.contains('?') {
            return Err("the URL has a query (`?…`); a base URL takes none".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("the URL can't be read: {error}"))?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("the URL's port must be 1 to 65535")?;
        let (host, bracketed) = match url.host() {
            Some(Host::Domain(name)) => (name.to_owned(), name.to_owned()),
            Some(Host::Ipv4(ip)) => (ip.to_string(), ip.to_string()),
            Some(Host::Ipv6(ip)) => (ip.to_string(), format!("[{ip}]")),
            None => return Err("the URL has no host".to_owned()),
        };
        let authority = if port == scheme.default_port() { bracketed } else { format!("{bracketed}:{port}") };
        Ok(Self {
            scheme,
            // A name written with its root dot is the same name; certificates are issued without the dot.
            sni: host.strip_suffix('.').unwrap_or(&host).into(),
            host: host.into(),
            port,
            base_path: url.path().trim_end_matches('/').into(),
            authority: authority.into(),
        })
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The host's name or IP text, an IPv6 address without brackets: what is resolved.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL's path without a trailing `/`: empty, or it begins with `/`.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// The value of `Host` and `:authority`: the port only where it is not the scheme's own, IPv6 in brackets.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The name for the TLS handshake and the certificate's check; never empty, an IP host gives its text.
    ///
    /// An empty one would switch the verification off (pingora-core 0.9.1, rustls connector).
    pub fn sni(&self) -> &str {
        &self.sni
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority, self.base_path)
    }
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M5, M11, K10: what the stub of an upstream checks.
    #[test]
    fn splits_a_url_into_what_is_dialled_and_what_is_said() {
        for (url, scheme, host, port, base_path, authority, sni) in [
            ("https://api.openai.com/v1", Scheme::Https, "api.openai.com", 443, "/v1", "api.openai.com", "api.openai.com"),
            ("https://api.openai.com/v1/", Scheme::Https, "api.openai.com", 443, "/v1", "api.openai.com", "api.openai.com"),
            ("https://h//", Scheme::Https, "h", 443, "", "h", "h"),
            ("https://h", Scheme::Https, "h", 443, "", "h", "h"),
            ("HTTP://Example.COM:80", Scheme::Http, "example.com", 80, "", "example.com", "example.com"),
            ("http://h:8080/a/b", Scheme::Http, "h", 8080, "/a/b", "h:8080", "h"),
            ("https://h:80", Scheme::Https, "h", 80, "", "h:80", "h"),
            ("https://[::1]:8443/v1", Scheme::Https, "::1", 8443, "/v1", "[::1]:8443", "::1"),
            ("https://[2001:DB8::1]", Scheme::Https, "2001:db8::1", 443, "", "[2001:db8::1]", "2001:db8::1"),
            ("https://127.0.0.1:9/x", Scheme::Https, "127.0.0.1", 9, "/x", "127.0.0.1:9", "127.0.0.1"),
            ("https://h.example.", Scheme::Https, "h.example.", 443, "", "h.example.", "h.example"),
        ] {
            let endpoint = Endpoint::from_url(url).unwrap();
            assert_eq!(
                (endpoint.scheme(), endpoint.host(), endpoint.port(), endpoint.base_path(), endpoint.authority(), endpoint.sni()),
                (scheme, host, port, base_path, authority, sni),
                "{url}"
            );
        }
    }

    /// K6: none of these may become a target.
    #[test]
    fn refuses_what_is_no_plain_base_url_and_never_repeats_it() {
        for url in [
            "",
            "api.openai.com/v1",
            "ftp://canary.example",
            "file:///canary",
            "https://",
            "https:///canary.example",
            "https:canary.example",
            "https://user:canary@h",
            "https://@canary.example",
            "https://canary.example/#",
            "https://canary.example/v1#x",
            "https://canary.example/v1?",
            "https://canary.example/v1?key=canary",
            "https://canary.example:0/",
            "https://canary.example:65536/",
            "https://canary .example/",
            " https://canary.example/",
            "https://canary.example\\@h/",
            "https://can\tary.example/",
            "https://[::1/canary",
            "https://%/canary",
        ] {
            let message = Endpoint::from_url(url).expect_err(url);
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn two_spellings_of_one_url_are_equal_and_print_the_same() {
        let written = Endpoint::from_url("https://API.openai.com:443/v1/").unwrap();
        assert_eq!(written, Endpoint::from_url("https://api.openai.com/v1").unwrap());
        assert_eq!(written.to_string(), "https://api.openai.com/v1");
        assert_ne!(written, Endpoint::from_url("http://api.openai.com:443/v1").unwrap());
    }
}
