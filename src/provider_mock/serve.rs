//! Accepts connections, with TLS or without, and lets hyper speak HTTP/1.1 or HTTP/2 on them.

use std::future::pending;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::exchange::{self, Provider};
use super::script::AtAccept;
use super::steps::Steps;
use super::wire::{Socket, wire};
use super::witness::Connection;

/// Enough for whatever a gateway may send: more header fields and a larger head than providers take.
const MAX_HEADERS: usize = 512;
const MAX_HEAD_BYTES: usize = 2 * 1024 * 1024;
const H2_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves until it is aborted; its connections end with it.
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, provider: Arc<Provider>) {
    let mut connections = JoinSet::new();
    loop {
        // An error concerns one connection that is gone already (or a lack of file descriptors): the next one may be fine.
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(tcp, tls.clone(), Arc::clone(&provider)));
    }
}

async fn connection(mut tcp: TcpStream, tls: Option<TlsAcceptor>, provider: Arc<Provider>) {
    let number = provider.next_connection();
    // Without it, small pieces would wait for each other; nothing is wrong if it can't be had.
    let _ = tcp.set_nodelay(true);
    let scripted = provider.with_script(|script| script.accepts.pop_front());
    match scripted {
        None => {}
        Some(AtAccept::Close) => return,
        Some(AtAccept::Reset) => return drop(tcp.set_zero_linger()),
        Some(AtAccept::Hang) => return pending().await,
        Some(AtAccept::Raw(bytes)) => return drop(tcp.write_all(&bytes).await),
    }

    let is_tls = tls.is_some();
    let (mut sni, mut alpn) = (None, None);
    let socket = match tls {
        None => Socket::Plain(tcp),
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let (_, session) = stream.get_ref();
            sni = session.server_name().map(str::to_owned);
            alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            Socket::Tls(Box::new(stream))
        }
    };
    let (wire, tap) = wire(socket);
    let connection = Arc::new(Connection { number, sni, alpn, tls: is_tls });
    let service =
        service_fn(move |request| exchange::answer(Arc::clone(&provider), Arc::clone(&connection), tap.clone(), request));

    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES).auto_date_header(true);
    server
        .http2()
        .initial_stream_window_size(H2_WINDOW_BYTES)
        .initial_connection_window_size(H2_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(1024);
    // An error is the script's own doing or the other side's; either way this connection is over.
    let _ = Box::pin(server.serve_connection::<_, _, Steps>(TokioIo::new(wire), service)).await;
}
