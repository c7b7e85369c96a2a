//! A proxy of the troll pool: how it is reached, and which keys go through it.

use std::sync::Arc;

use crate::domain::upstream::forward::{ForwardKind, Login, Target};
use crate::domain::upstream::health::Health;

/// A member of the pool. It stays a member while it is down; [`Health`] tells whether it is used.
#[derive(Debug)]
pub struct Proxy {
    /// What logs, metrics and the ledger call it.
    pub id: Arc<str>,
    pub kind: ProxyKind,
    /// A name or an address literal, without brackets.
    pub host: Box<str>,
    pub port: u16,
    /// Places in [`crate::domain::upstream::Upstream::credentials`], the primary key first.
    pub keys: Vec<usize>,
    pub health: Arc<Health>,
    /// Hash of all that decides where a connection through it leads; connections are never shared across it (T7).
    pub fingerprint: u64,
}

#[derive(Clone, Debug)]
pub enum ProxyKind {
    /// Speaks HTTP itself; `Some`: over TLS.
    Reverse { tls: Option<ProxyTls> },
    /// Gives a tunnel; TLS runs through it to the upstream.
    Forward { kind: ForwardKind, login: Option<Login>, target: Target },
}

/// TLS to a reverse proxy.
#[derive(Clone, Debug)]
pub struct ProxyTls {
    /// Never empty: without a name the certificate would not be checked.
    pub server_name: Box<str>,
}

impl Proxy {
    /// Whether an answer may be the proxy's own word.
    pub fn speaks_http(&self) -> bool {
        matches!(self.kind, ProxyKind::Reverse { .. })
    }

    /// Whether TLS ends at the proxy.
    pub fn speaks_tls(&self) -> bool {
        matches!(self.kind, ProxyKind::Reverse { tls: Some(_) })
    }
}

impl ProxyKind {
    pub fn label(&self) -> &'static str {
        match self {
            Self::Reverse { .. } => "reverse",
            Self::Forward { kind, .. } => kind.as_str(),
        }
    }
}
