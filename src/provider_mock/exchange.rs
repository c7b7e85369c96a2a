//! One request and its answer: read, record, pick the reply, perform it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, Response, Version};
use serde_json::Value;

use super::answer::content::Content;
use super::answer::output::Wish;
use super::answer::{self, error};
use super::ask::{Api, Ask, Dialect};
use super::script::{BelowHttp, Body, EchoKey, Facts, Framing, How, Reply, Script};
use super::shape::{Shaped, shape};
use super::steps::{BrokenOff, Exchange, Steps};
use super::wire::Tap;
use super::witness::{Arrival, Connection, Event, Witness};

/// The provider behind all connections.
pub struct Provider {
    pub script: Arc<Mutex<Script>>,
    pub witness: Witness,
    connections: AtomicU64,
    requests: AtomicU64,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Provider {
    pub fn new(script: Arc<Mutex<Script>>, witness: Witness) -> Self {
        Self { script, witness, connections: AtomicU64::new(0), requests: AtomicU64::new(0) }
    }

    /// Counts a connection; gives its number.
    pub fn next_connection(&self) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::AcqRel);
        (self.witness)(Event::Connected);
        number
    }

    pub fn with_script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers one request. An error ends the connection without an answer.
pub async fn answer(
    provider: Arc<Provider>,
    connection: Arc<Connection>,
    tap: Tap,
    request: Request<Incoming>,
) -> Result<Response<Steps>, Failure> {
    let exchange = Exchange::begin(Arc::clone(&provider.witness));
    let (head, incoming) = request.into_parts();
    let path = head.uri.path().to_owned();
    let api = Api::of(&path);
    let dialect = api.dialect(head.headers.contains_key("anthropic-version"));
    let key = received_key(&head.headers);
    let unread = Facts { path: &path, key: key.as_deref(), model: None };

    let early = provider.with_script(|script| script.take_early(unread));
    let (body, complete) = match early {
        Some(_) => (Bytes::new(), false),
        None => read_to_end(incoming).await,
    };
    let json: Option<Value> = serde_json::from_slice(&body).ok();
    let ask = Ask::read(api, dialect, json.as_ref().unwrap_or(&Value::Null));
    let key_fits =
        provider.with_script(|script| script.expects.as_deref().is_none_or(|expected| key.as_deref() == Some(expected)));
    let reply = match early {
        _ if !key_fits => Reply { status: Some(401), ..Reply::default() },
        Some(reply) => reply,
        None => provider.with_script(|script| script.take(Facts { model: Some(&ask.model), ..unread })),
    };

    let key = key.unwrap_or_default();
    let serial = provider.requests.fetch_add(1, Ordering::AcqRel);
    let content = match refusal(&head.method, api, dialect, json.is_some()) {
        Some(refusal) if reply.status.is_none() && matches!(reply.body, Body::Usual) => refusal,
        _ => contents(&reply, &ask, &path, &key, serial),
    };
    let arrival = Arrival { serial, connection: &connection, head: &head, body: &body, complete, usage: content.usage };
    (provider.witness)(Event::Arrived(arrival));

    tokio::time::sleep(reply.delay).await;
    if let Some(below) = reply.below_http {
        return Err(leave_http(&tap, below, exchange).await);
    }
    let shaped = shape(&reply, content, dialect, &key, serial)?;
    let by_hand = reply.dribble.is_some() || reply.framing == Framing::UntilClose;
    if by_hand && head.version < Version::HTTP_2 {
        return Err(Box::pin(write_by_hand(&tap, &reply, shaped, exchange)).await);
    }
    respond(shaped, &head.method, tap, exchange)
}

async fn read_to_end(mut incoming: Incoming) -> (Bytes, bool) {
    let mut body = Vec::new();
    loop {
        match incoming.frame().await {
            None => return (Bytes::from(body), true),
            Some(Err(_)) => return (Bytes::from(body), false),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    body.extend_from_slice(&data);
                }
            }
        }
    }
}

fn received_key(headers: &HeaderMap) -> Option<String> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok())).map(str::to_owned)
}

/// What a provider refuses before it looks at the prompt, unless its script says otherwise.
fn refusal(method: &Method, api: Api, dialect: Dialect, is_json: bool) -> Option<Content> {
    match (api, method) {
        (Api::Unknown, _) | (Api::Models, &Method::GET | &Method::HEAD) => None,
        (Api::Models, _) => Some(error::error(dialect, 405, "Only GET requests are accepted.")),
        (_, &Method::POST) if is_json => None,
        (_, &Method::POST) => Some(error::error(dialect, 400, "We could not parse the JSON body of your request.")),
        _ => Some(error::error(dialect, 405, "Only POST requests are accepted.")),
    }
}

fn contents(reply: &Reply, ask: &Ask, path: &str, key: &str, serial: u64) -> Content {
    let status = reply.status.unwrap_or(200);
    let text = match reply.echo_key {
        Some(EchoKey::Body) => Some(format!("You sent the key {key} to me.")),
        _ => reply.text.clone(),
    };
    let wish = Wish { text, deltas: reply.deltas, thinking: reply.thinking };
    let given = |content_type, pieces: Vec<Bytes>| Content { status, content_type, pieces, terminator: 0, usage: None };
    match &reply.body {
        Body::Usual if status >= 400 => error::error(ask.dialect, status, error::message(status)),
        Body::Usual => answer::answer(ask, path, &wish, serial),
        Body::FillerBytes(_) => answer::answer(&Ask { stream: false, ..ask.clone() }, path, &wish, serial),
        Body::Leaking => error::leaking(ask.dialect, status, key),
        Body::Text(text) => given("application/json", vec![Bytes::from(text.clone())]),
        Body::Raw(bytes) => given("application/json", vec![bytes.clone()]),
        Body::Json(value) => given("application/json", vec![Bytes::from(value.to_string())]),
        Body::Events(events) => {
            let pieces: Vec<Bytes> = events.iter().map(|event| Bytes::from(event.clone())).collect();
            Content { terminator: usize::from(!pieces.is_empty()), ..given("text/event-stream; charset=utf-8", pieces) }
        }
        Body::Endless if ask.stream => given("text/event-stream; charset=utf-8", vec![Bytes::from_static(b"data: ")]),
        Body::Endless => given("application/json", vec![Bytes::from_static(b"{\"filler\":\"")]),
    }
}

fn respond(shaped: Shaped, method: &Method, tap: Tap, mut exchange: Exchange) -> Result<Response<Steps>, Failure> {
    if method == Method::HEAD {
        exchange.finish();
    }
    let mut response = Response::builder().status(shaped.status);
    for (name, value) in &shaped.headers {
        response = response.header(name.as_str(), value.as_str());
    }
    Ok(response.body(Steps::new(shaped.steps, shaped.length_bytes, tap, exchange))?)
}

/// Writes the response below hyper: head byte by byte, or a body that ends with the connection.
async fn write_by_hand(tap: &Tap, reply: &Reply, shaped: Shaped, exchange: Exchange) -> Failure {
    tap.take_over();
    let chunked = shaped.length_bytes.is_none() && reply.framing != Framing::UntilClose;
    let mut head = format!("HTTP/1.1 {} Mock\r\n", shaped.status);
    for (name, value) in &shaped.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let framing = match shaped.length_bytes {
        Some(length) => format!("content-length: {length}\r\n"),
        None if chunked => "transfer-encoding: chunked\r\n".to_owned(),
        None => String::new(),
    };
    head.push_str(&framing);
    head.push_str("connection: close\r\n\r\n");
    let written = async {
        match reply.dribble {
            Some(pause) => {
                for byte in head.bytes() {
                    tap.write(&[byte]).await?;
                    tokio::time::sleep(pause).await;
                }
            }
            None => tap.write(head.as_bytes()).await?,
        }
        let mut body = pin!(Steps::new(shaped.steps, shaped.length_bytes, tap.clone(), exchange));
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            let framed: Cow<'_, [u8]> = if chunked {
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(&piece);
                chunk.extend_from_slice(b"\r\n");
                Cow::Owned(chunk)
            } else {
                Cow::Borrowed(&piece)
            };
            tap.write(&framed).await?;
        }
        if chunked {
            tap.write(b"0\r\n\r\n").await?;
        }
        Ok::<(), Failure>(())
    };
    written.await.err().unwrap_or_else(|| Box::new(BrokenOff))
}

async fn leave_http(tap: &Tap, below: BelowHttp, mut exchange: Exchange) -> Failure {
    match below {
        BelowHttp::Hang => match pending::<Infallible>().await {},
        BelowHttp::Close => {}
        BelowHttp::Reset => tap.reset(),
        BelowHttp::EndlessHead => {
            tap.take_over();
            let mut written = tap.write(b"HTTP/1.1 200 OK\r\n").await;
            while written.is_ok() {
                written = tap.write(b"x-endless: 0123456789012345678901234567890123456789\r\n").await;
                // Gives the other tasks of this thread their turn: the socket may never be full.
                tokio::task::yield_now().await;
            }
            tap.end();
        }
        BelowHttp::Raw { pieces, pause, then } => {
            tap.take_over();
            for piece in pieces {
                if tap.write(piece.as_bytes()).await.is_err() {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
            match then {
                How::Clean | How::Close => tap.end(),
                How::Reset => tap.reset(),
                How::Stall => match pending::<Infallible>().await {},
            }
        }
    }
    exchange.finish();
    Box::new(BrokenOff)
}
