//! What a test sends and what it gets back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

use super::sse::{self, Event};

/// The client key of every test gateway.
pub const CLIENT_KEY: &str = "tb-test-key";

/// A request; headers go out in this order.
pub struct Request {
    pub method: Method,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub payload: Payload,
}

/// A request's body and how it is framed.
pub enum Payload {
    Empty,
    /// With a Content-Length.
    Sized(Bytes),
    /// Without one; each piece is a chunk.
    Chunked(VecDeque<Bytes>),
    /// Sent piece by piece while the test goes on; ends when the sender is dropped.
    Live(mpsc::Receiver<Bytes>),
}

impl Request {
    pub fn new(method: Method, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: Vec::new(), payload: Payload::Empty }
    }

    /// A GET with the test's client key.
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target).bearer(CLIENT_KEY)
    }

    /// A POST of JSON with the test's client key.
    pub fn post(target: &str, body: &Value) -> Self {
        Self::post_bytes(target, body.to_string())
    }

    /// A POST of bytes that are called JSON, with the test's client key.
    pub fn post_bytes(target: &str, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new(Method::POST, target).bearer(CLIENT_KEY).header("content-type", "application/json");
        request.payload = Payload::Sized(body.into());
        request
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.without("authorization").header("authorization", &format!("Bearer {key}"))
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self
    }

    /// Sends the same body in chunks of at most `bytes`, without a Content-Length.
    pub fn chunked(mut self, bytes: usize) -> Self {
        if let Payload::Sized(body) = self.payload {
            self.payload = Payload::Chunked(body.chunks(bytes.max(1)).map(Bytes::copy_from_slice).collect());
        }
        self
    }

    /// Sends a body that the test feeds piece by piece.
    pub fn live(mut self) -> (Self, mpsc::Sender<Bytes>) {
        let (sender, receiver) = mpsc::channel(1);
        self.payload = Payload::Live(receiver);
        (self, sender)
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Self::Empty => None,
            Self::Sized(bytes) => (!bytes.is_empty()).then(|| std::mem::take(bytes)),
            Self::Chunked(pieces) => pieces.pop_front(),
            Self::Live(pieces) => match pieces.poll_recv(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Sized(bytes) => bytes.is_empty(),
            Self::Chunked(_) | Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Sized(bytes) => SizeHint::with_exact(bytes.len().try_into().unwrap()),
            Self::Chunked(_) | Self::Live(_) => SizeHint::default(),
        }
    }
}

/// A whole answer, as it arrived.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    /// The body in the pieces in which it arrived.
    pub chunks: Vec<Bytes>,
    /// Why the body broke off, if it did.
    pub broken: Option<String>,
}

impl Answer {
    pub fn body(&self) -> Bytes {
        Bytes::from(self.chunks.concat())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body().to_vec()).expect("the body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    pub fn events(&self) -> Vec<Event> {
        sse::events(&self.body())
    }

    /// The first value of a header; an empty text when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }

    /// Fails unless the status is this one and the body is whole.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body()));
        assert_eq!(self.broken, None, "{}", String::from_utf8_lossy(&self.body()));
        self
    }
}
