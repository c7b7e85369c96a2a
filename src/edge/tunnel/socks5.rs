//! The handshake with a SOCKS5 proxy, over a connection that stands.
//!
//! tokio-socks speaks the protocol: it reads exactly its messages, so nothing of the target's is swallowed, and tells its errors apart,
//! which hyper-util's `SocksV5` does not. Its messages have an upper length, so a proxy can't send without end.

use std::net::SocketAddr;

use tokio_socks::tcp::socks5::Socks5Stream;
use tokio_socks::{Error, TargetAddr};

use crate::domain::upstream::forward::{Login, Target, TargetHost};
use crate::edge::tunnel::failure::TunnelFailure;

/// Asks for a tunnel. A target's name is sent as it is: the proxy resolves it.
pub(super) async fn handshake<S>(proxy: &mut S, target: &Target, login: Option<&Login>) -> Result<(), TunnelFailure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let address = match &target.host {
        TargetHost::Name(name) => TargetAddr::Domain(name.as_ref().into(), target.port),
        TargetHost::Ip(ip) => TargetAddr::Ip(SocketAddr::new(*ip, target.port)),
    };
    let asked = match login {
        None => Socks5Stream::connect_with_socket(proxy, address).await,
        Some(login) => {
            let (username, password) = (login.username(), login.expose_password());
            Socks5Stream::connect_with_password_and_socket(proxy, address, username, password).await
        }
    };
    asked.map(drop).map_err(|error| failure(error, login.is_some()))
}

fn failure(error: Error, logs_in: bool) -> TunnelFailure {
    match error {
        Error::Io(error) => error.into(),
        Error::ProxyServerUnreachable => TunnelFailure::Unreachable(std::io::ErrorKind::NotConnected),
        Error::PasswordAuthFailure(_) => TunnelFailure::AuthRefused("it does not take this username and password"),
        Error::AuthorizationRequired => TunnelFailure::AuthRefused("it wants a username and password"),
        Error::NoAcceptableAuthMethods if logs_in => {
            TunnelFailure::AuthRefused("it takes neither a username and password nor none")
        }
        Error::NoAcceptableAuthMethods => TunnelFailure::AuthRefused("it wants a username and password"),
        Error::IdentdAuthFailure | Error::InvalidUserIdAuthFailure => {
            TunnelFailure::AuthRefused("it asks identd, which we have not")
        }
        Error::InvalidAuthValues(_) => TunnelFailure::AuthRefused("the username or password does not fit into SOCKS5"),
        // The library's own words of a fixed set; nothing of the proxy's is in them.
        Error::GeneralSocksServerFailure
        | Error::ConnectionNotAllowedByRuleset
        | Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::CommandNotSupported
        | Error::AddressTypeNotSupported
        | Error::InvalidTargetAddress(_)
        | Error::ParseError(_) => TunnelFailure::TargetRefused(error.to_string()),
        Error::InvalidResponseVersion => TunnelFailure::Garbage("its answer is no SOCKS5"),
        Error::UnknownAuthMethod | Error::UnknownError | Error::InvalidReservedByte | Error::UnknownAddressType => {
            TunnelFailure::Garbage("its answer has a strange code")
        }
    }
}
