//! Step 8: the answer's bytes on their way to the client.
//!
//! ```text
//!   upstream's chunk ─┬─► meter (through a decoder, should it be compressed)
//!                     └─► guard (no key of ours leaves) ─► rewrite (only where asked for) ─► client
//! ```
//!
//! Without a rewrite every byte passes as it came, at once. A stream that ends without its dialect's terminator gets an error event
//! in place of a clean end.

use std::mem;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use crate::domain::answer::{Answer, Refusal, body::error_body, body::error_event};
use crate::domain::dialect::Api;
use crate::domain::guard::{GuardScan, GuardStream, MASK};
use crate::domain::json::rename::{ModelRename, RenamePath};
use crate::domain::usage::decode::Decoder;
use crate::domain::usage::rewrite::SseRewrite;
use crate::domain::usage::{Framing, Meter, Report, Shape};
use crate::edge::context::{Arrival, Context, Routed};

/// An answer ended before it was complete, in a way that Pingora can't see.
pub const UPSTREAM_CUT: ErrorType = ErrorType::Custom("UpstreamCut");
/// How much of a provider's error is kept for the log.
const LOGGED_BYTES: usize = 2 * 1024;
/// How much of it is read for its message; what is longer has none worth showing.
const MESSAGE_BYTES: usize = 64 * 1024;

/// What happens to the body of the answer under way.
#[derive(Default)]
pub enum Delivery {
    #[default]
    None,
    Passing(Box<Passing>),
    Replacing(Box<Replacing>),
}

/// A good answer.
pub struct Passing {
    api: Api,
    sse: bool,
    /// The end of the connection is the only end the body has.
    close_delimited: bool,
    /// `None` once the body is at its end.
    guard: Option<GuardStream>,
    rewrite: Rewrite,
    meter: Meter,
    /// For an answer that is compressed: what reads it, and what looks for keys in its clear form.
    clear: Option<(Decoder, GuardScan)>,
    bytes: u64,
}

enum Rewrite {
    None,
    Sse(SseRewrite),
    Json(ModelRename),
}

/// A provider's error, on its way to become one of ours.
pub struct Replacing {
    refusal: Refusal,
    status: u16,
    shows_message: bool,
    decoder: Option<Decoder>,
    seen: Vec<u8>,
    /// Of the body as it came.
    bytes: usize,
    upstream: std::sync::Arc<crate::domain::upstream::Upstream>,
}

impl Delivery {
    pub fn passing(head: &ResponseHeader, arrival: &Arrival, routed: &Routed) -> Result<Self> {
        let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let sse =
            content_type.len() >= 17 && content_type.get(..17).is_some_and(|t| t.eq_ignore_ascii_case(b"text/event-stream"));
        let decoder = decoder_of(head.headers.get(header::CONTENT_ENCODING));
        let upstream = &routed.route.upstream;
        let rewrite = match &routed.asked_model {
            // What is compressed passes as it is: a rewrite would have to compress it again.
            _ if decoder.is_some() => Rewrite::None,
            Some(name) if !sse => Rewrite::Json(ModelRename::new(RenamePath::TopLevel, name)),
            name if sse && (name.is_some() || routed.usage_asked_by_us) => {
                let rename = name.clone().map(|name| (event_path(arrival.api), name));
                Rewrite::Sse(SseRewrite::new(routed.usage_asked_by_us, rename))
            }
            _ => Rewrite::None,
        };
        let framing = if sse { Framing::Sse } else { Framing::Json };
        Ok(Self::Passing(Box::new(Passing {
            api: arrival.api,
            sse,
            close_delimited: head.version < http::Version::HTTP_2
                && !head.headers.contains_key(header::CONTENT_LENGTH)
                && !head.headers.contains_key(header::TRANSFER_ENCODING),
            guard: Some(upstream.guard.stream()),
            rewrite,
            meter: Meter::new(Shape::of(arrival.api), framing),
            clear: decoder.map(|decoder| (decoder, upstream.guard.scan())),
            bytes: 0,
        })))
    }

    pub fn replacing(
        refusal: Refusal,
        status: u16,
        shows_message: bool,
        encoding: Option<&HeaderValue>,
        routed: &Routed,
    ) -> Self {
        Self::Replacing(Box::new(Replacing {
            refusal,
            status,
            shows_message,
            decoder: decoder_of(encoding),
            seen: Vec::new(),
            bytes: 0,
            upstream: routed.route.upstream.clone(),
        }))
    }

    /// Whether the client's body may be longer or shorter than the upstream's.
    pub fn changes_length(&self) -> bool {
        match self {
            Self::Passing(passing) => passing.sse || !matches!(passing.rewrite, Rewrite::None),
            Self::None | Self::Replacing(_) => true,
        }
    }

    pub fn is_sse(&self) -> bool {
        matches!(self, Self::Passing(passing) if passing.sse)
    }

    /// What the meter has read so far.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::Passing(passing) => Some(passing.meter.report()),
            Self::None | Self::Replacing(_) => None,
        }
    }

    /// Bytes of the answer's body that reached the client's side.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Passing(passing) => passing.bytes,
            Self::None | Self::Replacing(_) => 0,
        }
    }
}

/// Passes one chunk on.
pub fn deliver(chunk: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
    match &mut ctx.delivery {
        Delivery::None => Ok(()),
        Delivery::Passing(passing) => {
            let Some(arrival) = &ctx.arrival else { return Ok(()) };
            match passing.pass(chunk, end, arrival) {
                Ok(refusal) => {
                    if let Some(refusal) = refusal {
                        ctx.outcome.refusal = Some(refusal);
                    }
                    Ok(())
                }
                Err(refusal) => {
                    if refusal == Refusal::LeakStopped {
                        log::error!("request {}: ALARM: an upstream sent our own key back, the answer was stopped", arrival.id);
                    }
                    ctx.outcome.refusal = Some(refusal);
                    Err(Error::explain(UPSTREAM_CUT, "the answer can't go on").into_up())
                }
            }
        }
        Delivery::Replacing(replacing) => {
            let Some(arrival) = &ctx.arrival else { return Ok(()) };
            *chunk = replacing.take(chunk.take(), end, arrival)?;
            Ok(())
        }
    }
}

impl Passing {
    /// `Ok(Some(_))`: the stream ended short and says so itself; `Err`: it must not go on.
    fn pass(&mut self, chunk: &mut Option<Bytes>, end: bool, arrival: &Arrival) -> Result<Option<Refusal>, Refusal> {
        let mut out = Vec::new();
        if let Some(bytes) = chunk.take() {
            self.observe(&bytes)?;
            let Some(guard) = &mut self.guard else { return Ok(None) };
            for piece in guard.push(bytes).map_err(|_| Refusal::LeakStopped)?.into_pieces() {
                self.rewrite.push(piece, &mut out);
            }
        }
        let mut ended_short = None;
        if end {
            if let Some(rest) = self.guard.take().map(GuardStream::finish).filter(|rest| !rest.is_empty()) {
                self.rewrite.push(rest, &mut out);
            }
            mem::replace(&mut self.rewrite, Rewrite::None).finish(&mut out);
            let report = self.meter.report();
            if self.sse && !report.terminated && ends_with_a_terminator(self.api) {
                let refusal = Refusal::Cut { detail: "the stream ended without its terminator".to_owned() };
                out.push(Bytes::from(error_event(self.api, &refusal.answer(), &arrival.id)));
                ended_short = Some(refusal);
            } else if !self.sse && self.close_delimited && !report.terminated && self.bytes > 0 {
                return Err(Refusal::Cut { detail: "the connection ended within the JSON body".to_owned() });
            }
        }
        *chunk = joined(out);
        self.bytes += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(ended_short)
    }

    fn observe(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let Some((decoder, scan)) = &mut self.clear else {
            self.meter.push(bytes);
            return Ok(());
        };
        let meter = &mut self.meter;
        let mut leaked = false;
        let decoded = decoder.push(bytes, &mut |plain| {
            meter.push(plain);
            leaked |= scan.push(plain).is_err();
        });
        if leaked {
            return Err(Refusal::LeakStopped);
        }
        if let Err(error) = decoded {
            // The bytes still pass: what can't be read is not billed, and not invented either.
            log::warn!("a compressed answer can't be read for its usage: {error}");
            self.clear = None;
            self.meter = Meter::new(Shape::None, Framing::Json);
        }
        Ok(())
    }
}

impl Rewrite {
    fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        match self {
            Self::None => out.push(bytes),
            Self::Sse(rewrite) => rewrite.push(bytes, out),
            Self::Json(rename) => rename.push(bytes, out),
        }
    }

    fn finish(self, out: &mut Vec<Bytes>) {
        match self {
            Self::None => {}
            Self::Sse(rewrite) => rewrite.finish(out),
            Self::Json(rename) => rename.finish(out),
        }
    }
}

impl Replacing {
    /// Swallows the provider's body; at its end gives ours.
    ///
    /// # Errors
    /// When the body is longer than any message: nobody waits for its end.
    fn take(&mut self, chunk: Option<Bytes>, end: bool, arrival: &Arrival) -> Result<Option<Bytes>> {
        if let Some(bytes) = chunk {
            self.read(&bytes);
        }
        if end {
            return Ok(Some(Bytes::from(error_body(arrival.dialect, &self.answer(arrival), &arrival.id))));
        }
        if self.bytes > MESSAGE_BYTES {
            return Err(Error::explain(UPSTREAM_CUT, "the provider's error is too long to be read").into_up());
        }
        Ok(None)
    }

    fn read(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        let seen = &mut self.seen;
        let mut keep = |plain: &[u8]| {
            let room = MESSAGE_BYTES.saturating_sub(seen.len());
            seen.extend_from_slice(plain.get(..room.min(plain.len())).unwrap_or_default());
        };
        match &mut self.decoder {
            Some(decoder) => {
                if decoder.push(bytes, &mut keep).is_err() {
                    self.decoder = None;
                }
            }
            None => keep(bytes),
        }
    }

    /// What the client is told, from as much of the provider's error as has come; logs the original, masked.
    pub fn answer(&mut self, arrival: &Arrival) -> Answer {
        let seen = mem::take(&mut self.seen);
        self.log(&seen, arrival);
        let mut answer = self.refusal.answer();
        if self.shows_message
            && let Some(message) = provider_message(&seen)
        {
            answer.message = self.masked(&message);
        }
        answer
    }

    fn log(&self, seen: &[u8], arrival: &Arrival) {
        let head = seen.get(..LOGGED_BYTES.min(seen.len())).unwrap_or_default();
        let text = self.masked(&String::from_utf8_lossy(head));
        log::warn!("request {}: upstream {} answered {}: {}", arrival.id, self.upstream.name, self.status, text.escape_debug());
    }

    /// Without keys of ours, without the upstream's host, without what looks like an account.
    fn masked(&self, text: &str) -> String {
        let text = self.upstream.guard.mask_provider_text(text);
        match &self.upstream.endpoint {
            Some(endpoint) => text.replace(endpoint.host(), MASK),
            None => text,
        }
    }
}

/// The text of a provider's error: `error.message` in both dialects, `message` or `error` where it is simpler.
fn provider_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = value.get("error");
    let found = error.and_then(|error| error.get("message")).or(error).or_else(|| value.get("message"))?.as_str()?;
    let text: String = found.chars().filter(|c| !c.is_control() || *c == '\n').take(LOGGED_BYTES).collect();
    (!text.trim().is_empty()).then_some(text)
}

fn decoder_of(encoding: Option<&HeaderValue>) -> Option<Decoder> {
    Decoder::for_encoding(encoding?.to_str().ok()?)
}

/// Where an event of this API names the model.
fn event_path(api: Api) -> RenamePath {
    match api {
        Api::Messages => RenamePath::Nested("message"),
        Api::Responses => RenamePath::Nested("response"),
        _ => RenamePath::TopLevel,
    }
}

/// Whether a stream of this API has an end of its own, so that one without it was cut.
fn ends_with_a_terminator(api: Api) -> bool {
    matches!(api, Api::ChatCompletions | Api::Completions | Api::Messages | Api::Responses)
}

fn joined(mut pieces: Vec<Bytes>) -> Option<Bytes> {
    if pieces.len() <= 1 {
        return pieces.pop();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    Some(whole.freeze())
}
