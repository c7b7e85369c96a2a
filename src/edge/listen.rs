//! The listeners: what the settings say, as endpoints of Pingora.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::Result;
use pingora_core::listeners::TcpSocketOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;

use crate::domain::settings::{Listener, Settings};
use crate::edge::admin::Admin;
use crate::edge::front::Front;
use crate::edge::gateway::Gateway;
use crate::ops::drain::Drain;

/// A plain connection reads heads and bodies in few large pieces as it is; a smaller buffer costs nothing and saves memory for
/// every open stream. TLS keeps Pingora's size: its records are read through it.
const PLAIN_READ_BUFFER_BYTES: usize = 4096;

/// The service that clients talk to, on every listener of the settings.
pub fn clients(
    conf: &Arc<ServerConf>,
    gateway: Gateway,
    settings: Arc<ArcSwap<Settings>>,
    drain: Arc<Drain>,
) -> Result<Service<Front>> {
    let (listeners, patient_for) = (settings.load().listeners.clone(), settings.load().limits.keepalive);
    let records = gateway.records();
    let mut service = Service::new("clients".to_owned(), Front::new(http_proxy(conf, gateway), settings, records, drain));
    for listener in &listeners {
        service.add_listener(endpoint(listener, patient_for)?);
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

fn endpoint(listener: &Listener, patient_for: Duration) -> Result<ListenerConfig> {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(patience(patient_for));
    let plain = ListenerConfig::tcp(listener.addr.to_string()).tcp_socket_options(options);
    let Some(files) = &listener.tls else {
        return Ok(plain.l4_buffer(L4BufferSettings::default().read(PLAIN_READ_BUFFER_BYTES)));
    };
    let (cert, key) = (files.cert.to_string_lossy(), files.key.to_string_lossy());
    let mut tls = TlsSettings::intermediate(&cert, &key)?;
    tls.enable_h2();
    Ok(plain.tls(tls))
}
