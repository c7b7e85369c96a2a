//! The patterns that routes are written with: a model's name or prefix, a host or everything below a suffix.

use std::fmt;
use std::sync::Arc;

/// A key of `model_routing.models`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    Exact(Arc<str>),
    /// Without its `*`; empty matches every name.
    Prefix(Arc<str>),
}

/// The `host` of a `host_routes` entry, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// `*.suffix` without its `*.`: any name below the suffix, not the suffix itself.
    Below(Arc<str>),
}

impl NamePattern {
    /// Reads a key of the URL map.
    ///
    /// # Errors
    ///
    /// An empty key, and a `*` anywhere but at the end.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a model's name must not be empty");
        }
        match text.split_once('*') {
            None => Ok(Self::Exact(text.into())),
            Some((prefix, "")) => Ok(Self::Prefix(prefix.into())),
            Some(_) => Err("`*` may stand once, at the end of a name (`gemini-*`)"),
        }
    }
}

/// Prints the pattern as it was written.
impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl HostPattern {
    /// Reads the `host` of a host route.
    ///
    /// # Errors
    ///
    /// Whatever is no bare host name: a scheme, a port, a path, a `*` that is not the first label.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (name, pattern): (&str, fn(Arc<str>) -> Self) = match lower.strip_prefix("*.") {
            Some(suffix) => (suffix, Self::Below),
            None => (lower, Self::Exact),
        };
        let is_ip = name.parse::<std::net::IpAddr>().is_ok();
        let is_name = name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
        if is_ip || is_name {
            Ok(pattern(name.into()))
        } else {
            Err("must be a host name without scheme, port or path, or `*.` and a suffix (`*.internal.example.com`)")
        }
    }
}

impl HostPattern {
    /// Whether a host by this name is meant; `host` has no port.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => host.eq_ignore_ascii_case(own),
            Self::Below(suffix) => {
                let below = host.len().checked_sub(suffix.len()).and_then(|at| host.split_at_checked(at));
                below.is_some_and(|(below, end)| end.eq_ignore_ascii_case(suffix) && below.len() > 1 && below.ends_with('.'))
            }
        }
    }
}

/// Prints the pattern as it is matched: in lower case, without the root's dot.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}
