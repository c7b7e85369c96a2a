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

use crate::domain::settings::{Listener, TlsFiles};
use crate::edge::admin::Admin;
use crate::edge::front::Front;
use crate::edge::shared::Gateway;
use crate::ops::host::tls::Served;
use crate::ops::parts::Parts;

/// A plain connection reads heads and bodies in few large pieces as it is; a smaller buffer costs nothing and saves memory for
/// every open stream. TLS keeps Pingora's size: its records are read through it.
const PLAIN_READ_BUFFER_BYTES: usize = 4096;

/// The service that clients talk to, on every listener of the settings.
pub fn clients(conf: &Arc<ServerConf>, parts: &Arc<Parts>) -> Result<Service<Front>> {
    let (listeners, patient_for) = (parts.settings.load().listeners.clone(), parts.settings.load().limits.keepalive);
    let gateway = Gateway::new(parts.clone());
    let records = gateway.records();
    let front = Front::new(http_proxy(conf, gateway), parts.settings.clone(), records, parts.drain.clone());
    let mut service = Service::new("clients".to_owned(), front);
    let mut certificates = parts.certificates.in_order();
    for listener in &listeners {
        let mut endpoint = endpoint(listener, patient_for);
        if let Some(files) = &listener.tls {
            endpoint = endpoint.tls(tls(files, certificates.next())?);
        }
        service.add_listener(endpoint);
    }
    Ok(service)
}

/// The service that operators talk to; one thread is plenty.
pub fn admin(addr: std::net::SocketAddr, admin: Admin) -> Service<Admin> {
    let mut service = Service::new("admin".to_owned(), admin);
    service.threads = Some(1);
    service.add_tcp(&addr.to_string());
    service
}

/// Lets the kernel end a connection whose client takes nothing of its answer, or is gone without a word. A timer for each write would
/// cost every event of every stream.
fn patience(limit: Duration) -> TcpKeepalive {
    TcpKeepalive { idle: limit, interval: Duration::from_secs(10), count: 3, user_timeout: limit }
}

fn endpoint(listener: &Listener, patient_for: Duration) -> ListenerConfig {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(patience(patient_for));
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
