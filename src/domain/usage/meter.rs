//! Reads an answer's usage while its bytes pass: lines, then keys, then counts, event by event.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::counts::Counts;
use super::facts::Facts;
use super::json::{Event, EventKind, KeyScanner};
use super::key::{USAGE, has_value};
use super::report::{Report, Source};
use super::shape::{Framing, Shape};
use super::sse::{Lines, Piece};
use super::text::TextCounter;

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
    scanner: KeyScanner,
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

static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""error""#));
static RESPONSE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""response""#));
static MESSAGE_STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""message_stop""#));

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
            scanner: KeyScanner::new(shape, framing == Framing::Sse, counts_text),
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
            others: Vec::new(),
            facts: Facts::default(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::noise;
    use super::Shape::{Anthropic, OpenAiChat, Responses};
    use super::*;

    proptest! {
        /// The search that skips events must never skip one that the scanner would have read.
        #[test]
        fn a_skipped_event_holds_nothing(
            data in noise(),
            shape in proptest::sample::select(&[OpenAiChat, Anthropic, Responses][..]),
        ) {
            let mut event = Event::default();
            KeyScanner::new(shape, true, false).push(data.as_bytes(), &mut event);
            let stream = Meter::new(shape, Framing::Sse).stream;
            let mut read = stream;
            read.absorb(event);
            if !stream.may_matter(data.as_bytes()) {
                prop_assert_eq!(read.report(false), stream.report(false));
            }
        }
    }
}
