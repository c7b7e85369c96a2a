//! The listeners: what the settings say, as endpoints of Pingora.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::Result;
use pingora_core::listeners::TcpSocketOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;

use crate::domain::settings::{Limits, Listener, TlsFiles};
use crate::edge::admin::Admin;
use crate::edge::front::{Front, Place, Speaks};
use crate::edge::shared::Gateway;
use crate::ops::host::tls::Served;
use crate::ops::parts::Parts;

/// A plain connection reads heads and bodies in few large pieces as it is; a smaller buffer costs nothing and saves memory for
/// every open stream. TLS keeps Pingora's size: its records are read through it.
const PLAIN_READ_BUFFER_BYTES: usize = 4096;

/// The service that clients talk to, on every listener of the settings.
pub fn clients(conf: &Arc<ServerConf>, parts: &Arc<Parts>) -> Result<Service<Front>> {
    let settings = parts.settings.load_full();
    let mut certificates = parts.certificates.in_order();
    let (mut places, mut endpoints) = (Vec::new(), Vec::new());
    for listener in &settings.listeners {
        let endpoint = endpoint(listener, &settings.limits);
        let (endpoint, speaks) = match &listener.tls {
            Some(files) => secured(endpoint, tls(files, certificates.next())?),
            None if listener.h2c => (endpoint, Speaks::PlainOrH2c),
            None => (endpoint, Speaks::Plain),
        };
        places.push(Place { addr: listener.addr, speaks });
        endpoints.push(endpoint);
    }
    let gateway = Gateway::new(parts.clone());
    let records = gateway.records();
    let front = Front::new(http_proxy(conf, gateway), places, parts.settings.clone(), records, parts.drain.clone());
    let mut service = Service::new("clients".to_owned(), front);
    endpoints.into_iter().for_each(|endpoint| service.add_listener(endpoint));
    Ok(service)
}

/// The service that operators talk to; one thread is plenty.
pub fn admin(addr: std::net::SocketAddr, admin: Admin) -> Service<Admin> {
    let mut service = Service::new("admin".to_owned(), admin);
    service.threads = Some(1);
    service.add_tcp(&addr.to_string());
    service
}

/// Lets the kernel end what nobody waits for: a connection whose client is gone without a word, and what is left to send of a closed
/// one. It must come long after the front's own patience: Linux counts from a connection's first closed window and looks at no
/// progress where the window stays small (`tcp_timer.c`, `icsk_probes_tstamp`), so that a slow reader would be cut.
fn patience(limits: &Limits) -> TcpKeepalive {
    const OF_THE_KERNEL: u32 = 8;
    let user_timeout = limits.write_stall.saturating_mul(OF_THE_KERNEL);
    TcpKeepalive { idle: limits.keepalive, interval: Duration::from_secs(10), count: 3, user_timeout }
}

/// The handshake is the front's, for its deadline.
#[cfg(feature = "rustls")]
fn secured(endpoint: ListenerConfig, tls: TlsSettings) -> (ListenerConfig, Speaks) {
    (endpoint, Speaks::Tls(tls.build()))
}

/// The handshake is Pingora's, with a deadline of a minute: OpenSSL's acceptor is not to be had.
#[cfg(not(feature = "rustls"))]
fn secured(endpoint: ListenerConfig, tls: TlsSettings) -> (ListenerConfig, Speaks) {
    (endpoint.tls(tls), Speaks::AfterTls)
}

/// A listener as a socket.
fn endpoint(listener: &Listener, limits: &Limits) -> ListenerConfig {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(patience(limits));
    let endpoint = ListenerConfig::tcp(listener.addr.to_string()).tcp_socket_options(options);
    match listener.tls {
        Some(_) => endpoint,
        None => endpoint.l4_buffer(L4BufferSettings::default().read(PLAIN_READ_BUFFER_BYTES)),
    }
}

/// Asks `served` at each handshake: a reload swaps what is in there.
#[cfg(feature = "rustls")]
fn tls(files: &TlsFiles, served: Option<&Arc<Served>>) -> Result<TlsSettings> {
    let mut tls = TlsSettings::intermediate(&files.cert.to_string_lossy(), &files.key.to_string_lossy())?;
    if let Some(served) = served {
        tls.set_cert_resolver(served.clone());
    }
    tls.enable_h2();
    Ok(tls)
}

/// OpenSSL reads the files once: a new certificate needs an upgrade.
#[cfg(not(feature = "rustls"))]
fn tls(files: &TlsFiles, _served: Option<&Arc<Served>>) -> Result<TlsSettings> {
    let mut tls = TlsSettings::intermediate(&files.cert.to_string_lossy(), &files.key.to_string_lossy())?;
    tls.enable_h2();
    Ok(tls)
}
