//! What a running provider tells of itself as it happens. It keeps nothing: who wants a record makes one.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;

use super::ask::Usage;

/// Hears what happens, on the thread where it happens and before the provider goes on.
pub type Witness = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// One thing that happened.
pub enum Event<'a> {
    /// A connection came, before its first byte is read.
    Connected,
    /// A request was read, and is answered next.
    Arrived(Arrival<'a>),
    /// An answer was handed out to its end, scripted ends included.
    Finished,
    /// The other side gave an exchange up.
    Cancelled,
}

/// A request as it arrived.
pub struct Arrival<'a> {
    /// 0 for the first request of this provider.
    pub serial: u64,
    pub connection: &'a Connection,
    pub head: &'a Parts,
    pub body: &'a Bytes,
    /// Whether the body arrived to its end; an early reply does not read it.
    pub complete: bool,
    /// What the usual answer says about tokens.
    pub usage: Option<Usage>,
}

/// What is known about a connection before its first request.
pub struct Connection {
    /// 0 for the first connection of this provider.
    pub number: u64,
    /// The server name of the TLS handshake.
    pub sni: Option<String>,
    /// The protocol that the TLS handshake agreed on.
    pub alpn: Option<String>,
    pub tls: bool,
}
