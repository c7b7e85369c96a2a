//! An HTTP client whose connection the test controls: HTTP/1.1 or HTTP/2, with TLS or without, and distrust of every answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::certs::client_config;
use super::distrust::Distrust;
use super::request::{Answer, Payload, Request};
use super::soon;

/// What a TLS client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    Http1,
    Http2,
}

enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

/// One connection.
pub struct Client {
    sender: Sender,
    scheme: &'static str,
    authority: String,
    distrust: Distrust,
    driver: JoinHandle<()>,
}

/// An answer whose body is still arriving.
pub struct Arriving {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    body: Incoming,
    chunks: Vec<Bytes>,
    distrust: Distrust,
}

impl Client {
    /// HTTP/1.1 without TLS.
    pub async fn http1(addr: SocketAddr, distrust: Distrust) -> Self {
        let tcp = connect(addr).await;
        Self::over(tcp, Alpn::Http1, "http", addr.to_string(), distrust).await
    }

    /// HTTP/1.1 without TLS, to a listener that may not be there at the moment.
    pub async fn try_http1(addr: SocketAddr, distrust: Distrust) -> Option<Self> {
        let tcp = soon("a connection or its refusal", TcpStream::connect(addr)).await.ok()?;
        tcp.set_nodelay(true).ok()?;
        Some(Self::over(tcp, Alpn::Http1, "http", addr.to_string(), distrust).await)
    }

    /// HTTP/2 without TLS, by prior knowledge.
    pub async fn h2c(addr: SocketAddr, distrust: Distrust) -> Self {
        let tcp = connect(addr).await;
        Self::over(tcp, Alpn::Http2, "http", addr.to_string(), distrust).await
    }

    /// TLS with one protocol offered; the server must present `name` by the authority `ca_pem`.
    pub async fn tls(addr: SocketAddr, name: &str, ca_pem: &str, alpn: Alpn, distrust: Distrust) -> Self {
        let offered = match alpn {
            Alpn::Http1 => "http/1.1",
            Alpn::Http2 => "h2",
        };
        let connector = TlsConnector::from(client_config(ca_pem, &[offered]));
        let server_name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = soon("the TLS handshake", connector.connect(server_name, connect(addr).await)).await.unwrap();
        let agreed = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert!(agreed.as_deref() == Some(offered.as_bytes()) || alpn == Alpn::Http1, "agreed on {agreed:?}");
        Self::over(tls, alpn, "https", format!("{name}:{}", addr.port()), distrust).await
    }

    async fn over<S>(stream: S, alpn: Alpn, scheme: &'static str, authority: String, distrust: Distrust) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        // The driver's error is seen by the request that it hits.
        let (sender, driver) = match alpn {
            Alpn::Http1 => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                (Sender::Http1(sender), tokio::spawn(async move { drop(connection.await) }))
            }
            Alpn::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }))
            }
        };
        Self { sender, scheme, authority, distrust, driver }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request) -> Answer {
        soon("the answer's head", self.open(request)).await.expect("an answer").finish().await
    }

    /// Sends a request and reads what comes of its answer; `None`: the stream or the connection broke before the head. A reset
    /// of an HTTP/2 stream may overtake the head that was written before it.
    pub async fn attempt(&mut self, request: Request) -> Option<Answer> {
        Some(soon("the answer's head", self.open(request)).await.ok()?.finish().await)
    }

    /// Sends a request and returns as soon as the answer's head is there, or the error that came instead.
    pub async fn open(&mut self, request: Request) -> Result<Arriving, hyper::Error> {
        let mut builder = http::Request::builder().method(request.method);
        builder = match &self.sender {
            Sender::Http1(_) if request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) => {
                builder.uri(&request.target)
            }
            Sender::Http1(_) => builder.uri(&request.target).header("host", &self.authority),
            Sender::Http2(_) => builder.uri(format!("{}://{}{}", self.scheme, self.authority, request.target)),
        };
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(request.payload).unwrap();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        self.distrust.check_headers(&parts.headers);
        Ok(Arriving {
            status: parts.status,
            version: parts.version,
            headers: parts.headers,
            body,
            chunks: Vec::new(),
            distrust: self.distrust.clone(),
        })
    }

    /// A second handle on the same HTTP/2 connection, for requests at the same time.
    pub fn fork(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1.1 has one request at a time") };
        Self {
            sender: Sender::Http2(sender.clone()),
            scheme: self.scheme,
            authority: self.authority.clone(),
            distrust: self.distrust.clone(),
            driver: tokio::spawn(async {}),
        }
    }

    /// Waits until the connection can take another request; `false`: it is closed.
    pub async fn is_reusable(&mut self) -> bool {
        let ready = async {
            match &mut self.sender {
                Sender::Http1(sender) => sender.ready().await.is_ok(),
                Sender::Http2(sender) => sender.ready().await.is_ok(),
            }
        };
        soon("the connection to become free or closed", ready).await
    }

    /// Waits until the connection has ended.
    pub async fn closed(&mut self) {
        drop((&mut self.driver).await);
    }

    /// Drops the connection at once, whatever is in flight.
    pub fn abort(self) {
        self.driver.abort();
    }
}

impl Arriving {
    /// The next piece of the body; `None` at its end, an error when it breaks off.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match soon("the next piece of the body", self.body.frame()).await? {
                Err(error) => return Some(Err(error)),
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.chunks.push(bytes.clone());
                        return Some(Ok(bytes));
                    }
                }
            }
        }
    }

    /// Reads until what has arrived so far contains `text`.
    pub async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.chunks.concat()).contains(text) {
            match self.chunk().await {
                Some(Ok(_)) => {}
                end => panic!("the body ended ({end:?}) before {text:?}"),
            }
        }
    }

    /// Reads until exactly these bytes have arrived, from the body's begin.
    pub async fn until_bytes(&mut self, bytes: &[u8]) {
        while self.chunks.concat() != bytes {
            match self.chunk().await {
                Some(Ok(_)) => assert!(bytes.starts_with(&self.chunks.concat()), "{:?}", self.chunks),
                end => panic!("the body ended ({end:?}) before {:?}", String::from_utf8_lossy(bytes)),
            }
        }
    }

    /// Reads until this many complete events have arrived.
    pub async fn until_events(&mut self, count: usize) {
        while self.chunks.concat().windows(2).filter(|window| window == b"\n\n").count() < count {
            match self.chunk().await {
                Some(Ok(_)) => {}
                end => panic!("the body ended ({end:?}) before event {count}"),
            }
        }
    }

    /// Reads the rest; the answer holds what [`Arriving::chunk`] already returned too.
    pub async fn finish(mut self) -> Answer {
        let mut broken = None;
        while let Some(chunk) = self.chunk().await {
            if let Err(error) = chunk {
                broken = Some(error.to_string());
                break;
            }
        }
        self.distrust.check_body(&self.chunks.concat());
        Answer { status: self.status, version: self.version, headers: self.headers, chunks: self.chunks, broken }
    }
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let tcp = soon("a connection", TcpStream::connect(addr)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}
