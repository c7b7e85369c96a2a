//! Usage: the token counts of an answer, read while its bytes pass.
//!
//! A [`Meter`] sees the answer's bytes after they were forwarded, in whatever pieces the network delivered, and gives the same
//! [`Report`] for every way of cutting them. It never delays, changes or rejects a byte, and it holds no part of the answer but, where text
//! is counted, what stands around the text of one event (at most a kilobyte): constant memory for a stream or a body of any length. What
//! it cannot read makes the usage `none`: a wrong bill is worse than a missing one.
//!
//! ```text
//! bytes ─► [decode] ─┬─ SSE:  sse (data lines) ─► json (key path) ─► counts ─► Usage
//!                    │             └─► text (a delta like the last one)
//!                    └─ JSON: ───────────────────► json
//! ```
//!
//! [`rewrite`] edits a stream for the client and shares nothing with the meter but the readers.

mod counts;
pub mod decode;
mod json;
pub mod rewrite;
pub mod sample;
pub(in crate::domain) mod sse;
mod text;
pub mod whole;

#[cfg(test)]
mod fixtures;

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::domain::dialect::Api;

use counts::Counts;
pub use counts::MAX_COUNT;
use json::{Event, EventKind, Scanner};
use sse::{Lines, Piece};
use text::TextCounter;

/// Token counts of one answer, in the classes that have prices. The classes never overlap: their sum is what the provider saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that came from no cache and went into none.
    pub input_tokens: u64,
    /// Input written to a 5-minute cache.
    pub cache_write_tokens: u64,
    /// Input written to a 1-hour cache.
    pub cache_write_1h_tokens: u64,
    pub cache_read_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: u64,
}

impl Usage {
    /// Whether a count stands at its bound.
    pub fn is_absurd(&self) -> bool {
        let classes =
            [self.input_tokens, self.cache_write_tokens, self.cache_write_1h_tokens, self.cache_read_tokens, self.output_tokens];
        classes.into_iter().any(|count| count >= MAX_COUNT)
    }
}

/// Where a request's usage is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The provider's last word: the whole JSON body, or the event that carries a stream's totals.
    Final,
    /// A running count of a stream whose totals never came.
    Partial,
    /// Put together from the text that was seen. The meter never says this; billing may.
    Estimated,
    /// The provider reported nothing.
    None,
}

/// Which fields usage stands in, and how a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Chat and text completions, embeddings and what else speaks OpenAI: top-level `usage`; streams end with `data: [DONE]`.
    OpenAiChat,
    /// Messages: `message.usage` and top-level `usage`; streams end with `message_stop`.
    Anthropic,
    /// Responses: `response.usage` and top-level `usage`; streams end with `response.completed`, `.incomplete` or `.failed`.
    Responses,
    /// Nothing is observed: count_tokens answers and what is not billed.
    None,
}

/// How the answer is framed, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Sse,
    Json,
}

/// What a meter has seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// `None` exactly when `source` is [`Source::None`].
    pub usage: Option<Usage>,
    pub source: Source,
    /// The answer came to an end that its dialect knows: the terminator or an error event of a stream, the closed value of a JSON
    /// body. Always true for [`Shape::None`], of which no end is expected.
    pub terminated: bool,
    /// The provider itself reported an error in the answer (`response.failed` included).
    pub error_event: bool,
    /// Counts that were clamped, bent or unreadable; worth a metric.
    pub clamped: u32,
    /// Bytes of text, reasoning and tool arguments in the stream's deltas, as written in JSON (an escape is one byte, `\uXXXX`
    /// four). 0 unless [`Meter::counting_text`] asked for it; always 0 for JSON bodies.
    pub text_bytes: u64,
}

/// Reads usage out of one answer.
///
/// ```
/// use trollbridge::domain::usage::{Framing, Meter, Shape, Source};
///
/// let mut meter = Meter::new(Shape::OpenAiChat, Framing::Sse);
/// meter.push(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"comple");
/// meter.push(b"tion_tokens\":3}}\n\ndata: [DONE]\n\n");
/// let report = meter.report();
/// assert_eq!(report.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((9, 3)));
/// assert!(report.source == Source::Final && report.terminated);
/// ```
#[derive(Clone, Debug)]
pub struct Meter {
    lines: Lines,
    scanner: Scanner,
    /// The event in progress; of a JSON body, all of it.
    event: Event,
    stream: Stream,
    text: TextCounter,
}

/// What the events before the one in progress said.
#[derive(Clone, Copy, Debug)]
struct Stream {
    shape: Shape,
    framing: Framing,
    counts_text: bool,
    counts: Counts,
    /// The event that carries the totals was seen.
    has_totals: bool,
    /// The terminator of a stream that went well was seen.
    ended: bool,
    failed: bool,
    clamped: u32,
    text_bytes: u64,
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""usage""#));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""error""#));
static RESPONSE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""response""#));
static MESSAGE_STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""message_stop""#));

impl Shape {
    pub fn of(api: Api) -> Self {
        match api {
            Api::ChatCompletions | Api::Completions | Api::Embeddings | Api::Other => Self::OpenAiChat,
            Api::Messages => Self::Anthropic,
            Api::Responses => Self::Responses,
            Api::CountTokens | Api::Models | Api::Root | Api::Unknown => Self::None,
        }
    }
}

impl Source {
    /// The word in access lines, ledger entries and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Partial => "partial",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

impl Meter {
    pub fn new(shape: Shape, framing: Framing) -> Self {
        Self::with(shape, framing, false)
    }

    /// Counts the text of a stream's deltas too. An event unlike the one before it is then scanned, where otherwise a search skips most.
    pub fn counting_text(self) -> Self {
        Self::with(self.stream.shape, self.stream.framing, true)
    }

    fn with(shape: Shape, framing: Framing, counts_text: bool) -> Self {
        Self {
            lines: Lines::new(),
            scanner: Scanner::new(shape, framing == Framing::Sse, counts_text),
            event: Event::default(),
            stream: Stream {
                shape,
                framing,
                counts_text,
                counts: Counts::default(),
                has_totals: false,
                ended: false,
                failed: false,
                clamped: 0,
                text_bytes: 0,
            },
            text: TextCounter::default(),
        }
    }

    /// Reads the next bytes of the answer.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { lines, scanner, event, stream, text } = self;
        match (stream.shape, stream.framing) {
            (Shape::None, _) => {}
            (_, Framing::Json) => scanner.push(chunk, event),
            (_, Framing::Sse) => lines.push(chunk, |piece| match piece {
                Piece::Whole(data) if stream.counts_text => match text.count(data) {
                    Some(text_bytes) => stream.text_bytes = stream.text_bytes.saturating_add(text_bytes),
                    None => {
                        scanner.push(data, event);
                        scanner.reset();
                        text.missed(data, event, stream.shape);
                        stream.absorb(std::mem::take(event));
                    }
                },
                Piece::Whole(data) if !stream.may_matter(data) => {}
                Piece::Whole(data) => {
                    scanner.push(data, event);
                    scanner.reset();
                    stream.absorb(std::mem::take(event));
                }
                Piece::Part(data) => scanner.push(data, event),
                Piece::End => {
                    scanner.reset();
                    stream.absorb(std::mem::take(event));
                }
            }),
        }
    }

    /// Whether the answer's own last word went by: after it nothing changes the usage. Never true of [`Shape::None`].
    pub fn has_ended(&self) -> bool {
        match (self.stream.shape, self.stream.framing) {
            (Shape::None, _) => false,
            (_, Framing::Json) => self.scanner.is_closed(),
            // A chunk of chat completions that holds an error need not be the last one.
            (Shape::OpenAiChat, Framing::Sse) => self.stream.ended,
            (_, Framing::Sse) => self.stream.ended || self.stream.failed,
        }
    }

    /// Sums up what was seen, as if the answer ended here. An event without its blank line counts: a stream's last one often
    /// comes so.
    pub fn report(&self) -> Report {
        let mut stream = self.stream;
        stream.absorb(self.event);
        stream.report(self.scanner.is_closed())
    }
}

impl Stream {
    /// Whether an event can hold anything that the scanner would report: exactly its keys, found without reading JSON.
    fn may_matter(&self, data: &[u8]) -> bool {
        if data.first() != Some(&b'{') || has_value(&USAGE, data) || has_value(&ERROR, data) {
            return true;
        }
        match self.shape {
            Shape::OpenAiChat | Shape::None => false,
            Shape::Anthropic => MESSAGE_STOP.find(data).is_some(),
            Shape::Responses => RESPONSE.find(data).is_some(),
        }
    }

    /// Adds what a complete event said.
    fn absorb(&mut self, event: Event) {
        self.counts.merge(&event.counts);
        self.clamped = self.clamped.saturating_add(event.clamped);
        self.text_bytes = self.text_bytes.saturating_add(event.text_bytes);
        self.failed |= event.has_error || event.kind == EventKind::Error;
        let counted = !event.counts.is_empty();
        match self.shape {
            Shape::None => {}
            Shape::OpenAiChat => {
                self.has_totals |= counted && event.has_usage && event.empty_choices;
                self.ended |= event.done;
            }
            Shape::Anthropic => {
                self.has_totals |= counted && event.has_usage && event.has_output;
                self.ended |= event.kind == EventKind::MessageStop;
            }
            Shape::Responses => {
                let ended = matches!(event.kind, EventKind::ResponseEnded | EventKind::ResponseFailed) && event.has_response;
                self.has_totals |= counted && ended;
                self.ended |= ended;
                self.failed |= event.kind == EventKind::ResponseFailed && event.has_response;
            }
        }
    }

    fn report(&self, json_is_closed: bool) -> Report {
        let (usage, contradicts) = self.counts.usage(self.shape);
        let (is_final, terminated) = match (self.shape, self.framing) {
            (Shape::None, _) => (false, true),
            (_, Framing::Json) => (json_is_closed, json_is_closed),
            // A server that repeats a running count in every chunk has no chunk of totals; its terminator makes the last one
            // final.
            (Shape::OpenAiChat, Framing::Sse) => (self.has_totals || (self.ended && !self.failed), self.ended || self.failed),
            (Shape::Anthropic | Shape::Responses, Framing::Sse) => (self.has_totals, self.ended || self.failed),
        };
        Report {
            usage: (!self.counts.is_empty()).then_some(usage),
            source: match (self.counts.is_empty(), is_final) {
                (true, _) => Source::None,
                (false, true) => Source::Final,
                (false, false) => Source::Partial,
            },
            terminated,
            error_event: self.failed,
            clamped: self.clamped.saturating_add(u32::from(contradicts)),
            text_bytes: self.text_bytes,
        }
    }
}

/// Whether a quoted key stands anywhere in the JSON with a value other than null. OpenAI writes `"usage":null` into every chunk.
fn has_value(quoted_key: &Finder<'_>, mut json: &[u8]) -> bool {
    while let Some(rest) = quoted_key.find(json).and_then(|at| json.get(at + quoted_key.needle().len()..)) {
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if !value.is_some_and(|value| value.starts_with(b"null")) {
            return true;
        }
        json = rest;
    }
    false
}
