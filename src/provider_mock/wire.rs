//! The connection's bytes, below HTTP: counted, and taken away from hyper when a script wants something that HTTP forbids.
//!
//! hyper reads and writes through [`Wire`]; a [`Tap`] on the same socket lets a reply write raw bytes in hyper's place or end the
//! connection with a TCP reset. Once taken over, what hyper still writes is swallowed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How long the socket must have been silent before a cut counts as "after what was sent".
const QUIET: Duration = Duration::from_millis(10);

/// The socket, with TLS or without.
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The socket as both sides hold it.
struct Line {
    socket: Mutex<Socket>,
    taken_over: AtomicBool,
    ended: AtomicBool,
    written_bytes: AtomicU64,
}

/// hyper's side of the socket.
pub struct Wire(Arc<Line>);

/// The script's side of the same socket.
#[derive(Clone)]
pub struct Tap(Arc<Line>);

/// Splits a socket into hyper's side and the script's.
pub fn wire(socket: Socket) -> (Wire, Tap) {
    let line = Arc::new(Line {
        socket: Mutex::new(socket),
        taken_over: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        written_bytes: AtomicU64::new(0),
    });
    (Wire(Arc::clone(&line)), Tap(line))
}

impl Line {
    fn socket(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl Tap {
    /// Takes the socket away from hyper: from here on only [`Tap::write`] reaches the peer.
    pub fn take_over(&self) {
        self.0.taken_over.store(true, Ordering::Release);
    }

    /// Writes all of `bytes` to the peer and flushes them.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.0.socket().poll_write(cx, bytes)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.split_at_checked(written).map_or(&[], |(_, rest)| rest);
        }
        poll_fn(|cx| self.0.socket().poll_flush(cx)).await
    }

    /// Waits until hyper has stopped writing: what was handed to it has left, or the peer takes nothing more.
    pub async fn quiet(&self) {
        loop {
            let before = self.0.written_bytes.load(Ordering::Acquire);
            tokio::time::sleep(QUIET).await;
            if self.0.written_bytes.load(Ordering::Acquire) == before {
                return;
            }
        }
    }

    /// Lets hyper's next read or write fail, so that it drops the whole connection, all HTTP/2 streams included.
    pub fn end(&self) {
        self.take_over();
        self.0.ended.store(true, Ordering::Release);
    }

    /// Ends the connection with a TCP reset instead of an orderly close.
    pub fn reset(&self) {
        // Without the option the connection ends in an orderly way: a milder fault than scripted, seen by the test that asked for it.
        let _ = self.0.socket().tcp().set_zero_linger();
        self.end();
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.ended.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut *self.0.socket() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.ended.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.0.taken_over.load(Ordering::Acquire) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = self.0.socket().poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.0.written_bytes.fetch_add(u64::try_from(*written).unwrap_or(u64::MAX), Ordering::AcqRel);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.taken_over.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        match &mut *self.0.socket() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
