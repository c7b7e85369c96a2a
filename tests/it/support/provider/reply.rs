//! Short forms for the replies that tests ask for most.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use trollbridge::provider_mock::{After, BelowHttp, Body, EchoKey, Encoding, Ending, Framing, How, Reply, Split};

use super::Gate;

/// Makes replies and changes them, each by one deviation.
pub trait Shorthand: Into<Reply> {
    /// The provider's usual answer.
    fn usual() -> Reply {
        Reply::default()
    }

    /// An answer with this status; from 400 on its body is the dialect's error.
    fn status(status: u16) -> Reply {
        Reply { status: Some(status), ..Reply::default() }
    }

    /// An error that tells private facts and the request's key.
    fn leaking_error(status: u16) -> Reply {
        Reply { body: Body::Leaking, ..Reply::status(status) }
    }

    /// A JSON body as it stands.
    fn json(body: Value) -> Reply {
        Reply { body: Body::Json(body), ..Reply::default() }
    }

    /// Server-sent events as they stand.
    fn events<T: Into<String>>(events: impl IntoIterator<Item = T>) -> Reply {
        Reply { body: Body::Events(events.into_iter().map(Into::into).collect()), ..Reply::default() }
    }

    /// Bytes as they stand; say the content type with [`Shorthand::header`].
    fn raw_body(body: impl Into<Bytes>) -> Reply {
        Reply { body: Body::Raw(body.into()), ..Reply::default() }
    }

    /// The usual JSON answer with a filler, `bytes` long in all.
    fn filler(bytes: usize) -> Reply {
        Reply { body: Body::FillerBytes(bytes), ..Reply::default() }
    }

    /// A body of one line that never ends.
    fn endless() -> Reply {
        Reply { body: Body::Endless, ..Reply::default() }
    }

    /// Never answers.
    fn hang() -> Reply {
        below(BelowHttp::Hang)
    }

    /// Reads the request and closes the connection.
    fn close() -> Reply {
        below(BelowHttp::Close)
    }

    /// Reads the request and resets the connection.
    fn reset() -> Reply {
        below(BelowHttp::Reset)
    }

    /// Bytes that are no HTTP.
    fn garbage() -> Reply {
        Reply::raw_bytes("\u{1}\u{2}this is no HTTP at all\r\n\r\n")
    }

    /// `101 Switching Protocols`, which nobody asked for.
    fn switching_protocols() -> Reply {
        Reply::raw_bytes("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    }

    /// A transfer coding that nobody knows.
    fn unknown_transfer_encoding() -> Reply {
        Reply::raw_bytes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: zebra\r\n\r\n{}")
    }

    /// Header lines for ever.
    fn endless_head() -> Reply {
        below(BelowHttp::EndlessHead)
    }

    /// Raw bytes in place of a response, then an orderly close.
    fn raw_bytes(text: impl Into<String>) -> Reply {
        below(BelowHttp::Raw { pieces: vec![text.into()], pause: Duration::ZERO, then: How::Close })
    }

    /// A redirect.
    fn redirect(status: u16, location: &str) -> Reply {
        Reply { body: Body::Text(String::new()), ..Reply::status(status) }.header("location", location)
    }

    /// Adds a response header.
    fn header(self, name: &str, value: &str) -> Reply {
        let mut reply: Reply = self.into();
        reply.headers.push((name.to_owned(), value.to_owned()));
        reply
    }

    /// Sets what the model says.
    fn saying(self, text: &str) -> Reply {
        Reply { text: Some(text.to_owned()), ..self.into() }
    }

    /// Sets the number of deltas.
    fn deltas(self, count: usize) -> Reply {
        Reply { deltas: Some(count), ..self.into() }
    }

    /// Thinks first.
    fn thinking(self) -> Reply {
        Reply { thinking: true, ..self.into() }
    }

    /// Replaces the number of a JSON field by raw text.
    fn lie(self, field: &str, raw: &str) -> Reply {
        let mut reply: Reply = self.into();
        reply.lies.insert(field.to_owned(), raw.to_owned());
        reply
    }

    /// Sends the request's key back.
    fn echoing_key(self, place: EchoKey) -> Reply {
        Reply { echo_key: Some(place), ..self.into() }
    }

    /// Answers before the request's body is read.
    fn early(self) -> Reply {
        Reply { early: true, ..self.into() }
    }

    /// Waits before the head.
    fn delayed(self, delay: Duration) -> Reply {
        Reply { delay, ..self.into() }
    }

    /// Waits between two pieces of the body.
    fn paced(self, pause: Duration) -> Reply {
        Reply { pause, ..self.into() }
    }

    /// Lets no piece of the body out before `gate` does.
    fn gated(self, gate: &Gate) -> Reply {
        Reply { gate: Some(Arc::clone(&gate.0)), ..self.into() }
    }

    /// Sends the head byte by byte.
    fn dribbled(self, pause: Duration) -> Reply {
        Reply { dribble: Some(pause), ..self.into() }
    }

    /// Compresses the body.
    fn compressed(self, encoding: Encoding) -> Reply {
        Reply { encoding: Some(encoding), ..self.into() }
    }

    /// Cuts the body into pieces.
    fn split(self, split: Split) -> Reply {
        Reply { split, ..self.into() }
    }

    /// Chooses the framing.
    fn framed(self, framing: Framing) -> Reply {
        Reply { framing, ..self.into() }
    }

    /// Ends cleanly without the dialect's last word.
    fn without_terminator(self) -> Reply {
        Reply { ending: Ending::NoTerminator, ..self.into() }
    }

    /// Ends the body early.
    fn cut(self, after: After, how: How) -> Reply {
        Reply { ending: Ending::Cut { after, how }, ..self.into() }
    }
}

impl Shorthand for Reply {}

fn below(below: BelowHttp) -> Reply {
    Reply { below_http: Some(below), ..Reply::default() }
}
