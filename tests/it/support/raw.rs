//! A TCP client that sends exactly the bytes of the test: malformed heads, chunks by hand, half requests.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

pub struct RawClient {
    tcp: TcpStream,
    /// Read from the socket and not yet taken.
    pending: Vec<u8>,
}

/// A response read by hand.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// The head as it stood, the blank line included.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }
}

impl RawClient {
    pub async fn connect(addr: SocketAddr) -> Self {
        let tcp = soon("a connection", TcpStream::connect(addr)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp, pending: Vec::new() }
    }

    /// Writes and flushes; a peer that has closed already is no failure here.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // What the peer has to say about it is in what it answers.
        drop(soon("the peer to read", self.tcp.write_all(bytes.as_ref())).await);
    }

    /// Writes and flushes; fails when the peer takes no more.
    pub async fn send_all(&mut self, bytes: impl AsRef<[u8]>) {
        soon("the peer to read", self.tcp.write_all(bytes.as_ref())).await.expect("the peer goes on reading");
    }

    /// Ends the sending side only.
    pub async fn finish_sending(&mut self) {
        self.tcp.shutdown().await.unwrap();
    }

    /// Ends the connection with a TCP reset.
    pub fn reset(self) {
        self.tcp.set_zero_linger().unwrap();
    }

    /// Reads until `mark` has arrived; returns everything up to its end. Fails when the connection ends before.
    pub async fn read_until(&mut self, mark: &str) -> Vec<u8> {
        loop {
            if let Some(at) = self.pending.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                let rest = self.pending.split_off(at + mark.len());
                return std::mem::replace(&mut self.pending, rest);
            }
            let more = self.fill().await;
            assert!(more, "the connection ended before {mark:?}: {:?}", String::from_utf8_lossy(&self.pending));
        }
    }

    /// Reads exactly this many bytes.
    pub async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            assert!(self.fill().await, "the connection ended after {} of {count} bytes", self.pending.len());
        }
        let rest = self.pending.split_off(count);
        std::mem::replace(&mut self.pending, rest)
    }

    /// Reads one response by its framing; without one, to the end of the connection. Interim (1xx) responses come one by one too.
    pub async fn read_answer(&mut self) -> RawAnswer {
        let head = String::from_utf8(self.read_until("\r\n\r\n").await).expect("the head is text");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {head:?}"));
        let mut answer = RawAnswer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map(|text| text.parse().expect("a number"));
        let chunked = answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        answer.body = match length {
            _ if (100..200).contains(&status) || status == 204 => Vec::new(),
            _ if chunked => self.read_chunks().await,
            Some(length) => self.read_exactly(length).await,
            None => self.read_to_end().await,
        };
        answer
    }

    async fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.read_until("\r\n").await).expect("a chunk's size is text");
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
            let chunk = self.read_exactly(size + 2).await;
            if size == 0 {
                return body;
            }
            body.extend_from_slice(chunk.strip_suffix(b"\r\n").expect("a chunk ends with CRLF"));
        }
    }

    /// Reads what comes until the peer closes or resets.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.pending)
    }

    /// Waits until the peer has closed; fails when it sends anything before.
    pub async fn expect_close(&mut self) {
        let rest = self.read_to_end().await;
        assert!(rest.is_empty(), "unexpected bytes before the close: {:?}", String::from_utf8_lossy(&rest));
    }

    /// `false`: the connection has ended.
    async fn fill(&mut self) -> bool {
        matches!(soon("bytes from the peer", self.tcp.read_buf(&mut self.pending)).await, Ok(count) if count > 0)
    }
}
