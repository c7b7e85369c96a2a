//! Short forms for the replies that tests ask for most.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::script::{After, BelowHttp, Body, EchoKey, Encoding, Ending, Framing, Gate, How, Reply, Split};

impl Reply {
    /// The provider's usual answer.
    pub fn usual() -> Self {
        Self::default()
    }

    /// An answer with this status; from 400 on its body is the dialect's error.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// An error that tells private facts and the request's key.
    pub fn leaking_error(status: u16) -> Self {
        Self { body: Body::Leaking, ..Self::status(status) }
    }

    /// A JSON body as it stands.
    pub fn json(body: Value) -> Self {
        Self { body: Body::Json(body), ..Self::default() }
    }

    /// Server-sent events as they stand.
    pub fn events<T: Into<String>>(events: impl IntoIterator<Item = T>) -> Self {
        Self { body: Body::Events(events.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// Bytes as they stand; say the content type with [`Reply::header`].
    pub fn raw_body(body: impl Into<Bytes>) -> Self {
        Self { body: Body::Raw(body.into()), ..Self::default() }
    }

    /// The usual JSON answer with a filler, `bytes` long in all.
    pub fn filler(bytes: usize) -> Self {
        Self { body: Body::FillerBytes(bytes), ..Self::default() }
    }

    /// A body of one line that never ends.
    pub fn endless() -> Self {
        Self { body: Body::Endless, ..Self::default() }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::below(BelowHttp::Hang)
    }

    /// Reads the request and closes the connection.
    pub fn close() -> Self {
        Self::below(BelowHttp::Close)
    }

    /// Reads the request and resets the connection.
    pub fn reset() -> Self {
        Self::below(BelowHttp::Reset)
    }

    /// Bytes that are no HTTP.
    pub fn garbage() -> Self {
        Self::raw_bytes("\u{1}\u{2}this is no HTTP at all\r\n\r\n")
    }

    /// `101 Switching Protocols`, which nobody asked for.
    pub fn switching_protocols() -> Self {
        Self::raw_bytes("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    }

    /// A transfer coding that nobody knows.
    pub fn unknown_transfer_encoding() -> Self {
        Self::raw_bytes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: zebra\r\n\r\n{}")
    }

    /// Header lines for ever.
    pub fn endless_head() -> Self {
        Self::below(BelowHttp::EndlessHead)
    }

    /// Raw bytes in place of a response, then an orderly close.
    pub fn raw_bytes(text: impl Into<String>) -> Self {
        Self::below(BelowHttp::Raw { pieces: vec![text.into()], pause: Duration::ZERO, then: How::Close })
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self { body: Body::Text(String::new()), ..Self::status(status) }.header("location", location)
    }

    fn below(below: BelowHttp) -> Self {
        Self { below_http: Some(below), ..Self::default() }
    }

    /// Adds a response header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets what the model says.
    pub fn saying(self, text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..self }
    }

    /// Sets the number of deltas.
    pub fn deltas(self, count: usize) -> Self {
        Self { deltas: Some(count), ..self }
    }

    /// Thinks first.
    pub fn thinking(self) -> Self {
        Self { thinking: true, ..self }
    }

    /// Replaces the number of a JSON field by raw text.
    pub fn lie(mut self, field: &str, raw: &str) -> Self {
        self.lies.insert(field.to_owned(), raw.to_owned());
        self
    }

    /// Sends the request's key back.
    pub fn echoing_key(self, place: EchoKey) -> Self {
        Self { echo_key: Some(place), ..self }
    }

    /// Answers before the request's body is read.
    pub fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// Waits before the head.
    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Waits between two pieces of the body.
    pub fn paced(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Lets no piece of the body out before `gate` does.
    pub fn gated(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    /// Sends the head byte by byte.
    pub fn dribbled(self, pause: Duration) -> Self {
        Self { dribble: Some(pause), ..self }
    }

    /// Compresses the body.
    pub fn compressed(self, encoding: Encoding) -> Self {
        Self { encoding: Some(encoding), ..self }
    }

    /// Cuts the body into pieces.
    pub fn split(self, split: Split) -> Self {
        Self { split, ..self }
    }

    /// Chooses the framing.
    pub fn framed(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// Ends cleanly without the dialect's last word.
    pub fn without_terminator(self) -> Self {
        Self { ending: Ending::NoTerminator, ..self }
    }

    /// Ends the body early.
    pub fn cut(self, after: After, how: How) -> Self {
        Self { ending: Ending::Cut { after, how }, ..self }
    }
}
