//! A raw upstream whose connections can die unseen: they stay open until a request comes, and then reset, refuse it, or go away.
//!
//! HTTP/2 is by hand: a few frames, an answer of fixed bytes. A server that is well made can't do what these tests need.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use trollbridge::provider_mock::Tls;

const ANSWER: &str = r#"{"id":"c","object":"chat.completion","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":9}}"#;

/// What a dead connection does with the next request on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// A TCP reset, as a balancer does that has forgotten it.
    Reset,
    /// HTTP/2: `REFUSED_STREAM`, each time.
    Refuse,
    /// HTTP/2: shuts down gracefully; the request came too late to be read.
    GoAway,
}

/// A request as it arrived, with a name of the test's.
#[derive(Clone, Debug)]
pub struct Seen {
    pub connection: usize,
    pub user: String,
    pub was_dead: bool,
}

#[derive(Default)]
struct State {
    connections: usize,
    /// Connections below this number are dead.
    dead_below: usize,
    death: Option<Death>,
    together: Option<Arc<Barrier>>,
    seen: Vec<Seen>,
}

pub struct Upstream {
    pub addr: SocketAddr,
    state: Mutex<State>,
}

impl Upstream {
    pub async fn http1() -> Arc<Self> {
        Self::start(None).await
    }

    pub async fn http2(tls: &Tls) -> Arc<Self> {
        let chain = vec![CertificateDer::from_pem_slice(tls.cert_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config =
            builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::start(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(tls: Option<TlsAcceptor>) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = Arc::new(Self { addr: listener.local_addr().unwrap(), state: Mutex::default() });
        let this = Arc::downgrade(&upstream);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Some(upstream) = this.upgrade() else { return };
                let tls = tls.clone();
                tokio::spawn(async move {
                    // A connection that ends is what these tests are about.
                    let _ = match tls {
                        None => upstream.speak_http1(tcp).await,
                        Some(tls) => upstream.speak_http2(tcp, tls).await,
                    };
                });
            }
        });
        upstream
    }

    /// Holds answers back until so many requests are there, once: each has a connection of its own then.
    pub fn answer_together(&self, count: usize) {
        self.state.lock().unwrap().together = Some(Arc::new(Barrier::new(count)));
    }

    /// All connections that there are die unseen.
    pub fn kill_all(&self, death: Death) {
        self.kill_next(0, death);
    }

    /// And so many of those to come are dead from the beginning.
    pub fn kill_next(&self, more: usize, death: Death) {
        let mut state = self.state.lock().unwrap();
        state.together = None;
        (state.dead_below, state.death) = (state.connections + more, Some(death));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    fn connected(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.connections += 1;
        state.connections - 1
    }

    fn is_dead(&self, connection: usize) -> Option<Death> {
        let state = self.state.lock().unwrap();
        state.death.filter(|_| connection < state.dead_below)
    }

    /// Notes a request; `Some`: the connection is dead.
    fn enter(&self, connection: usize, body: &[u8]) -> (Option<Death>, Option<Arc<Barrier>>) {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let user = body["user"].as_str().unwrap_or_default().to_owned();
        let death = self.is_dead(connection);
        let mut state = self.state.lock().unwrap();
        state.seen.push(Seen { connection, user, was_dead: death.is_some() });
        (death, state.together.clone())
    }

    async fn speak_http1(&self, tcp: TcpStream) -> io::Result<()> {
        let connection = self.connected();
        let mut tcp = BufReader::new(tcp);
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tcp.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
            let length: usize = length.unwrap_or(0);
            if length > 100_000 && self.is_dead(connection).is_some() {
                // A large body is not read to its end before the reset.
                let mut some = vec![0; 1_000];
                tcp.read_exact(&mut some).await?;
                self.enter(connection, &[]);
                return tcp.into_inner().set_zero_linger();
            }
            let mut body = vec![0; length];
            tcp.read_exact(&mut body).await?;
            let (death, together) = self.enter(connection, &body);
            if death.is_some() {
                return tcp.into_inner().set_zero_linger();
            }
            if let Some(together) = together {
                together.wait().await;
            }
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len());
            tcp.write_all(answer.as_bytes()).await?;
        }
    }

    async fn speak_http2(&self, tcp: TcpStream, tls: TlsAcceptor) -> io::Result<()> {
        let connection = self.connected();
        let mut tls = tls.accept(tcp).await?;
        let mut preface = [0; 24];
        tls.read_exact(&mut preface).await?;
        // SETTINGS: streams of 16 MiB; WINDOW_UPDATE: the connection as well.
        write_frame(&mut tls, 4, 0, 0, &[0, 4, 1, 0, 0, 0]).await?;
        write_frame(&mut tls, 8, 0, 0, &[1, 0, 0, 0]).await?;
        let mut bodies = std::collections::HashMap::<u32, Vec<u8>>::new();
        loop {
            let Frame { kind, flags, stream, payload } = read_frame(&mut tls).await?;
            match kind {
                // HEADERS: a dead connection does not wait for the body.
                1 => match self.is_dead(connection) {
                    Some(death) => {
                        self.enter(connection, &[]);
                        match death {
                            Death::Refuse => write_frame(&mut tls, 3, 0, stream, &7_u32.to_be_bytes()).await?,
                            Death::GoAway => {
                                let last = stream.saturating_sub(2).to_be_bytes();
                                write_frame(&mut tls, 7, 0, 0, &[last, [0; 4]].concat()).await?;
                            }
                            Death::Reset => return tls.into_inner().0.set_zero_linger(),
                        }
                    }
                    None => drop(bodies.insert(stream, Vec::new())),
                },
                0 => {
                    let Some(body) = bodies.get_mut(&stream) else { continue };
                    body.extend_from_slice(&payload);
                    if flags & 1 == 1 {
                        self.enter(connection, &bodies.remove(&stream).unwrap_or_default());
                        // `:status: 200`, `content-type: application/json` (RFC 7541, literals without indexing).
                        let head = [&[0x88, 0x0f, 0x10, 16][..], b"application/json"].concat();
                        write_frame(&mut tls, 1, 4, stream, &head).await?;
                        write_frame(&mut tls, 0, 1, stream, ANSWER.as_bytes()).await?;
                    }
                }
                4 if flags & 1 == 0 => write_frame(&mut tls, 4, 1, 0, &[]).await?,
                6 if flags & 1 == 0 => write_frame(&mut tls, 6, 1, 0, &payload).await?,
                _ => {}
            }
        }
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
    from.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload })
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    to.write_all(&[&head, payload].concat()).await?;
    to.flush().await
}
