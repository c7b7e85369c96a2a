//! Forward proxies as values: what they speak, what they ask for, where a tunnel through them ends.
//!
//! Whoever holds one of these knows that its texts fit the protocol: nothing in a name can end a header line early, and no length
//! is cut to the one byte that SOCKS5 has for it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::secret::Secret;

/// The longest username and password that SOCKS5 has room for (RFC 1929).
const SOCKS5_MAX_BYTES: usize = 255;
/// Far above any real one; keeps the CONNECT head small.
const BASIC_MAX_BYTES: usize = 1024;
/// The longest name of a host (RFC 1035, without the root's dot).
const NAME_MAX_BYTES: usize = 253;

/// How a forward proxy is asked for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardKind {
    /// HTTP CONNECT (RFC 9110, 9.3.6), credentials by `Proxy-Authorization: Basic`.
    Connect,
    /// SOCKS5 (RFC 1928), credentials by username and password (RFC 1929).
    Socks5,
}

impl ForwardKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Socks5 => "socks5",
        }
    }
}

/// What a proxy knows us by. Prints as `*****`: the username of a rented proxy names the account.
#[derive(Clone)]
pub struct Login {
    username: Arc<str>,
    password: Option<Secret>,
}

/// Why a username or password can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLogin {
    #[error("the username is empty; leave it out to log in without one")]
    NoUsername,
    #[error("a SOCKS5 proxy needs a password beside the username")]
    NoPassword,
    #[error("the username has a colon, which Basic credentials can't carry")]
    Colon,
    #[error("the username or the password has a control character")]
    Control,
    #[error("the username or the password is longer than {0} bytes, the most that this kind of proxy takes")]
    TooLong(usize),
}

impl Login {
    /// Fails on what the protocol of `kind` can't carry.
    pub fn new(kind: ForwardKind, username: &str, password: Option<Secret>) -> Result<Self, BadLogin> {
        let secret = password.as_ref().map(Secret::expose).unwrap_or_default();
        let most = match kind {
            ForwardKind::Connect => BASIC_MAX_BYTES,
            ForwardKind::Socks5 => SOCKS5_MAX_BYTES,
        };
        if username.is_empty() {
            return Err(BadLogin::NoUsername);
        }
        if kind == ForwardKind::Socks5 && secret.is_empty() {
            return Err(BadLogin::NoPassword);
        }
        if kind == ForwardKind::Connect && username.contains(':') {
            return Err(BadLogin::Colon);
        }
        if username.chars().chain(secret.chars()).any(char::is_control) {
            return Err(BadLogin::Control);
        }
        if username.len() > most || secret.len() > most {
            return Err(BadLogin::TooLong(most));
        }
        Ok(Self { username: username.into(), password })
    }

    /// For the one place that sends it, and for keeping connections apart.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password's text, empty without one: for the one place that sends it, and for keeping connections apart.
    pub fn expose_password(&self) -> &str {
        self.password.as_ref().map(Secret::expose).unwrap_or_default()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

/// Where a tunnel ends. A name stays a name: the proxy resolves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: TargetHost,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetHost {
    Name(Arc<str>),
    Ip(IpAddr),
}

/// A host that is neither a name nor an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tunnel's target is a host name or an IP address, and its port is not 0")]
pub struct BadTarget;

impl Target {
    /// Takes a name, an IPv4 address, or an IPv6 address with or without brackets.
    pub fn new(host: &str, port: u16) -> Result<Self, BadTarget> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = match bare.parse::<IpAddr>() {
            Ok(ip) => TargetHost::Ip(ip),
            Err(_) if is_name(host) => TargetHost::Name(host.into()),
            Err(_) => return Err(BadTarget),
        };
        if port == 0 {
            return Err(BadTarget);
        }
        Ok(Self { host, port })
    }
}

fn is_name(host: &str) -> bool {
    let fits = !host.is_empty() && host.len() <= NAME_MAX_BYTES;
    fits && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// Prints `host:port` as CONNECT and Host want it, IPv6 in brackets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TargetHost::Name(name) => write!(f, "{name}:{}", self.port),
            TargetHost::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            TargetHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(kind: ForwardKind, username: &str, password: &str) -> Result<Login, BadLogin> {
        Login::new(kind, username, Secret::new(password))
    }

    #[test]
    fn t7_a_target_is_a_name_or_an_address_and_ipv6_stands_in_brackets() {
        let shown = |host: &str| Target::new(host, 443).unwrap().to_string();
        assert_eq!(shown("api.openai.com"), "api.openai.com:443");
        assert_eq!(shown("192.0.2.7"), "192.0.2.7:443");
        assert_eq!(shown("2001:db8::7"), "[2001:db8::7]:443");
        assert_eq!(shown("[2001:db8::7]"), "[2001:db8::7]:443");
        assert_eq!(Target::new("::1", 1).unwrap().host, TargetHost::Ip("::1".parse().unwrap()));
    }

    #[test]
    fn t7_a_target_can_not_end_its_line_early() {
        for host in ["", "a b", "a\r\nX: y", "a:1", "a/b", "user@a", "[a]", "[::1", "ä.example", &"a".repeat(254)] {
            assert_eq!(Target::new(host, 443), Err(BadTarget), "{host:?}");
        }
        assert_eq!(Target::new("a", 0), Err(BadTarget));
    }

    #[test]
    fn t7_a_login_is_held_to_what_its_protocol_can_carry() {
        use ForwardKind::{Connect, Socks5};
        let refused = |kind, username: &str, password: &str| login(kind, username, password).err();
        let long = "x".repeat(256);
        assert_eq!(refused(Connect, "", "p"), Some(BadLogin::NoUsername));
        assert_eq!(refused(Connect, "u", ""), None);
        assert_eq!(refused(Socks5, "u", ""), Some(BadLogin::NoPassword));
        assert_eq!(refused(Connect, "a:b", "p"), Some(BadLogin::Colon));
        assert_eq!(refused(Socks5, "a:b", "p"), None);
        assert_eq!(refused(Connect, "u", "p\n"), Some(BadLogin::Control));
        assert_eq!(refused(Socks5, &long, "p"), Some(BadLogin::TooLong(255)));
        assert_eq!(refused(Socks5, "u", &long), Some(BadLogin::TooLong(255)));
        assert_eq!(refused(Socks5, "u", &long[1..]), None);
        assert_eq!(refused(Connect, &long, &long), None);
        assert_eq!(refused(Connect, "u", &"x".repeat(1025)), Some(BadLogin::TooLong(1024)));
    }

    #[test]
    fn a_login_never_prints() {
        let login = login(ForwardKind::Connect, "canary-u", "canary-p").unwrap();
        assert_eq!(format!("{login:?} {:#?}", Some(&login)).matches("canary").count(), 0);
    }
}
