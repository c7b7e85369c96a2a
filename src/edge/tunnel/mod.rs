//! Tunnels through forward proxies: the connection on which Pingora then speaks TLS with the upstream, end to end.
//!
//! ```text
//!   Pingora ── custom_l4 ──► Tunnel ── TCP ──► proxy ──► target
//!                              └ connect | socks5: the handshake, within one deadline
//! ```
//!
//! A tunnel stands or fails within its deadline, with a [`TunnelFailure`]. What the target sends right behind the handshake is kept.
//! A proxy sees the target's name and encrypted bytes; with TLS it can't pose as the target. A kept connection serves the proxy,
//! login, target and authority that it was made for, and no other ([`Tunnel::group_key`]).

mod connect;
mod failure;
mod socks5;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use tokio::net::TcpStream;

use crate::domain::upstream::forward::{ForwardKind, Login, Target};

pub use failure::{PROXY_AUTH_REFUSED, PROXY_GARBAGE, PROXY_TARGET_REFUSED, PROXY_TIMED_OUT, PROXY_UNREACHABLE, TunnelFailure};

/// A way to one target through one forward proxy.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pub kind: ForwardKind,
    /// The proxy's resolved address.
    pub proxy: SocketAddr,
    pub login: Option<Login>,
    pub target: Target,
    /// For all of it: TCP and handshake. Pingora's `connection_timeout` does not cover it, its `total_connection_timeout` does and
    /// must be longer, or the failure comes without its type.
    pub deadline: Duration,
}

impl Tunnel {
    /// The peer whose connections go through this tunnel: `tls` and `sni` are the target's.
    ///
    /// Its address is the proxy's: with another one Pingora would never use a connection twice (`matches_fd`). It speaks HTTP/1.1,
    /// and its `group_key` is set.
    pub fn peer(self: Arc<Self>, tls: bool, sni: String, ca_file: Option<&Path>) -> HttpPeer {
        let mut peer = HttpPeer::new(self.proxy, tls, sni);
        peer.group_key = self.group_key(ca_file);
        peer.options.custom_l4 = Some(self);
        peer
    }

    /// Keeps connections apart that Pingora's own hash would share: it knows neither login nor target, nor the authority that the
    /// target was checked by.
    pub fn group_key(&self, ca_file: Option<&Path>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.kind.hash(&mut hasher);
        self.proxy.hash(&mut hasher);
        self.login.as_ref().map(|login| (login.username(), login.expose_password())).hash(&mut hasher);
        self.target.hash(&mut hasher);
        ca_file.hash(&mut hasher);
        hasher.finish()
    }

    /// Proves that the proxy gives a tunnel to the target, and closes it: a check of the proxy's health, with the failures of a
    /// request.
    pub async fn probe(&self) -> Result<(), TunnelFailure> {
        self.open().await.map(drop)
    }

    /// Opens the tunnel within its deadline.
    pub async fn open(&self) -> Result<Stream, TunnelFailure> {
        tokio::time::timeout(self.deadline, self.shake_hands()).await.unwrap_or(Err(TunnelFailure::TimedOut))
    }

    async fn shake_hands(&self) -> Result<Stream, TunnelFailure> {
        let mut tcp = TcpStream::connect(self.proxy).await?;
        tcp.set_nodelay(true)?;
        let (target, login) = (&self.target, self.login.as_ref());
        let early = match self.kind {
            ForwardKind::Connect => connect::handshake(&mut tcp, target, login).await?,
            ForwardKind::Socks5 => socks5::handshake(&mut tcp, target, login).await.map(|()| Vec::new())?,
        };
        let mut stream = Stream::from(tcp);
        stream.rewind(&early);
        Ok(stream)
    }
}

#[async_trait]
impl L4Connect for Tunnel {
    async fn connect(&self, peer: &PeerAddress) -> Result<Stream> {
        if peer.as_inet() != Some(&self.proxy) {
            return Err(Error::explain(ErrorType::InternalError, "a tunnel's peer has the proxy's address, see Tunnel::peer"));
        }
        Ok(self.open().await?)
    }
}

#[cfg(test)]
mod tests;
