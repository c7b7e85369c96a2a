//! Step 8: the answer's bytes on their way to the client.
//!
//! ```text
//!   upstream's chunk ─┬─► meter (through a decoder, should it be compressed)
//!                     └─► guard (no key of ours leaves) ─► rewrite (only where asked for) ─► client
//! ```
//!
//! Without a rewrite every event passes as it came, at once. A stream that ends without its dialect's terminator gets an error event
//! in place of a clean end.

use std::mem;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use crate::domain::answer::{Answer, Refusal, body::error_body, body::error_event};
use crate::domain::dialect::Api;
use crate::domain::end::End;
use crate::domain::guard::mask::MASK;
use crate::domain::guard::{GuardScan, GuardStream};
use crate::domain::json::rename::{ModelRename, RenamePath};
use crate::domain::usage::decode::Decoder;
use crate::domain::usage::rewrite::SseRewrite;
use crate::domain::usage::whole::WholeEvents;
use crate::domain::usage::{Framing, Meter, Report, Shape};
use crate::edge::accounting;
use crate::edge::context::{Arrival, Context, Routed};
use crate::ops::watch::counters::OpenStream;

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
    /// JSON whose only end is that of the connection: whether it is whole shows in the JSON alone.
    unframed_json: bool,
    /// In an encoding that an event in clear text would break.
    encoded: bool,
    /// `None` once the body is at its end.
    guard: Option<GuardStream>,
    rewrite: Rewrite,
    meter: Meter,
    /// For an answer that is compressed: what reads it, and what looks for keys in its clear form.
    clear: Option<(Decoder, GuardScan)>,
    bytes: u64,
    /// Counts an event stream as open until it is dropped.
    _open: Option<OpenStream>,
}

enum Rewrite {
    None,
    /// Nothing changes, but half an event is kept back: it may be the last thing that comes.
    Whole(WholeEvents),
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
        let encoding = head.headers.get(header::CONTENT_ENCODING);
        let encoded = encoding.is_some_and(|encoding| !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
        let decoder = decoder_of(encoding);
        let upstream = &routed.route.upstream;
        let rewrite = match &routed.asked_model {
            // What is compressed passes as it is: a rewrite would have to compress it again.
            _ if encoded => Rewrite::None,
            Some(name) if !sse => Rewrite::Json(ModelRename::new(RenamePath::TopLevel, name)),
            name if sse && (name.is_some() || routed.usage_asked_by_us) => {
                let rename = name.clone().map(|name| (event_path(arrival.api), name));
                Rewrite::Sse(SseRewrite::new(routed.usage_asked_by_us, rename))
            }
            _ if sse && ends_with_a_terminator(arrival.api) => Rewrite::Whole(WholeEvents::default()),
            _ => Rewrite::None,
        };
        let framing = if sse { Framing::Sse } else { Framing::Json };
        // Encoded in a way that nobody here can read: its usage is estimated, and its end is not judged.
        let shape = if encoded && decoder.is_none() { Shape::None } else { Shape::of(arrival.api) };
        Ok(Self::Passing(Box::new(Passing {
            api: arrival.api,
            sse,
            unframed_json: is_json(content_type)
                && head.version < http::Version::HTTP_2
                && !head.headers.contains_key(header::CONTENT_LENGTH)
                && !head.headers.contains_key(header::TRANSFER_ENCODING),
            encoded,
            guard: Some(upstream.guard.stream()),
            rewrite,
            // The text that passed is what a client owes that leaves before the usage comes.
            meter: Meter::new(shape, framing).counting_text(),
            clear: decoder.map(|decoder| (decoder, upstream.guard.scan())),
            bytes: 0,
            _open: sse.then(|| arrival.in_flight.open_stream()),
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
            Self::Passing(passing) => passing.takes_events() || !matches!(passing.rewrite, Rewrite::None),
            Self::None | Self::Replacing(_) => true,
        }
    }

    pub fn is_sse(&self) -> bool {
        matches!(self, Self::Passing(passing) if passing.sse)
    }

    /// Whether an event of ours may follow what the client has got so far.
    pub fn takes_events(&self) -> bool {
        matches!(self, Self::Passing(passing) if passing.takes_events())
    }

    /// Whether the answer is a stream that is cut if it turns out to have no body at all.
    pub fn must_have_events(&self) -> bool {
        matches!(self, Self::Passing(passing) if passing.takes_events() && ends_with_a_terminator(passing.api))
    }

    /// Whether the answer's last word, as its dialect knows it, went by: whatever the connection did next, it is whole.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Passing(passing) if passing.sse && ends_with_a_terminator(passing.api) && passing.meter.report().terminated)
    }

    /// What was kept back of an answer that has ended: the connection broke before it said so.
    pub fn rest(&mut self) -> Bytes {
        let Self::Passing(passing) = self else { return Bytes::new() };
        let mut out = Vec::new();
        passing.release(&mut out);
        joined(out).unwrap_or_default()
    }

    /// What the meter has read so far.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::Passing(passing) => Some(passing.meter.report()),
            Self::None | Self::Replacing(_) => None,
        }
    }

    /// Whether the provider reported an error in place of an answer, or within one.
    pub fn reports_error(&self) -> bool {
        self.report().is_some_and(|report| report.error_event && (self.is_sse() || report.usage.is_none()))
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
                Ok(ended_short) => {
                    let ended = end || passing.meter.has_ended();
                    if let Some(refusal) = ended_short {
                        ctx.outcome.refusal = Some(refusal);
                    }
                    if ended && ctx.books.is_some() {
                        let word = end_of(ctx);
                        accounting::close(ctx, word);
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

/// How an answer ended that ended by its own word, or without one.
fn end_of(ctx: &Context) -> End {
    match &ctx.outcome.refusal {
        Some(_) => End::UpstreamCut,
        None if ctx.delivery.reports_error() => End::UpstreamError,
        None => End::Ok,
    }
}

impl Passing {
    /// `Ok(Some(_))`: the stream ended short and says so itself; `Err`: it must not go on.
    fn pass(&mut self, chunk: &mut Option<Bytes>, end: bool, arrival: &Arrival) -> Result<Option<Refusal>, Refusal> {
        let mut out = Vec::new();
        if let Some(bytes) = chunk.take() {
            self.observe(&bytes)?;
            let Some(guard) = &mut self.guard else { return Ok(None) };
            let safe = guard.push(bytes).map_err(|_| Refusal::LeakStopped)?;
            if !end && safe.before.is_empty() && self.rewrite.passes(&safe.chunk) {
                // Nearly every chunk of a stream: it passes as it came.
                self.bytes += safe.chunk.len() as u64;
                *chunk = Some(safe.chunk);
                return Ok(None);
            }
            for piece in safe.into_pieces() {
                self.rewrite.push(piece, &mut out);
            }
        }
        let mut ended_short = None;
        if end {
            self.release(&mut out);
            if let Some(detail) = self.short_of(&self.meter.report()) {
                let refusal = Refusal::Cut { detail: detail.to_owned() };
                if !self.takes_events() || arrival.exchange.held_until().is_some() {
                    return Err(refusal);
                }
                out.push(cut_event(arrival));
                ended_short = Some(refusal);
            }
        }
        *chunk = joined(out);
        self.bytes += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(ended_short)
    }

    /// Lets go, at the end, of what guard and rewrite kept back.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        if let Some(rest) = self.guard.take().map(GuardStream::finish).filter(|rest| !rest.is_empty()) {
            self.rewrite.push(rest, out);
        }
        mem::replace(&mut self.rewrite, Rewrite::None).finish(out);
    }

    /// What is missing of a body that ended without an error.
    fn short_of(&self, report: &Report) -> Option<&'static str> {
        match report.terminated {
            true => None,
            false if self.sse && ends_with_a_terminator(self.api) => Some("the stream ended without its terminator"),
            false if self.unframed_json => Some("the connection ended within the JSON body"),
            false => None,
        }
    }

    fn takes_events(&self) -> bool {
        self.sse && !self.encoded
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
            // The bytes still pass: what can't be read is no usage, and the bill becomes an estimate.
            log::warn!("a compressed answer can't be read for its usage: {error}");
            self.clear = None;
            self.meter = Meter::new(Shape::None, Framing::Json);
        }
        Ok(())
    }
}

impl Rewrite {
    /// Whether a chunk goes on as it is.
    fn passes(&self, chunk: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Whole(whole) => whole.passes(chunk),
            Self::Sse(_) | Self::Json(_) => false,
        }
    }

    fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        match self {
            Self::None => out.push(bytes),
            Self::Whole(whole) => whole.push(bytes, out),
            Self::Sse(rewrite) => rewrite.push(bytes, out),
            Self::Json(rename) => rename.push(bytes, out),
        }
    }

    fn finish(self, out: &mut Vec<Bytes>) {
        match self {
            Self::None => {}
            Self::Whole(whole) => whole.finish(out),
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

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence.is_empty() || essence.ends_with(b"/json") || essence.ends_with(b"+json")
}

/// The event that ends a stream which its upstream cut.
pub fn cut_event(arrival: &Arrival) -> Bytes {
    let cut = Refusal::Cut { detail: String::new() };
    Bytes::from(error_event(arrival.api, &cut.answer(), &arrival.id))
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
