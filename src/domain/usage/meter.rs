//! Reads an answer's usage while its bytes pass: lines, then keys, then counts, event by event.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::counts::Counts;
use super::facts::Facts;
use super::json::{Choices, Event, EventKind, KeyScanner};
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
    /// The first byte that is no space was looked at.
    is_told: bool,
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
    /// Of outputs that came whole, most of them a second time.
    whole_bytes: u64,
    /// Something of an answer was seen.
    answers: bool,
    choices: Choices,
    /// How many choices were asked for.
    expects: u64,
    /// The last word that its reader waits for was seen, and nothing behind it but its repetition.
    at_rest: bool,
    /// The same, of an API whose streams may end here.
    finished: bool,
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
                whole_bytes: 0,
                answers: false,
                choices: Choices::default(),
                expects: 1,
                at_rest: false,
                finished: false,
            },
            text: TextCounter::default(),
            is_told: false,
        }
    }

    /// Takes a stream for whole without its terminator only once so many choices are.
    pub fn expecting(mut self, choices: u64) -> Self {
        self.stream.expects = choices.max(1);
        self
    }

    /// An event stream says so by its first byte, whatever its head says: none of JSON begins like one of its fields.
    fn tell_framing(&mut self, chunk: &[u8]) {
        if self.is_told || self.stream.framing == Framing::Sse {
            return;
        }
        let Some(first) = chunk.iter().find(|byte| !byte.is_ascii_whitespace()) else { return };
        self.is_told = true;
        if matches!(first, b'd' | b'e' | b'i' | b'r' | b':') {
            self.stream.framing = Framing::Sse;
            self.scanner = KeyScanner::new(self.stream.shape, true, self.stream.counts_text);
        }
    }

    /// Reads the next bytes of the answer.
    pub fn push(&mut self, chunk: &[u8]) {
        self.tell_framing(chunk);
        let Self { lines, scanner, event, stream, text, .. } = self;
        match (stream.shape, stream.framing) {
            (Shape::None, _) => {}
            (_, Framing::Json) => scanner.push(chunk, event),
            (_, Framing::Sse) => lines.push(chunk, |piece| match piece {
                // Whether it came in the same read or in a later one.
                _ if stream.has_ended() => {}
                Piece::Whole(data) if stream.counts_text => match text.count(data) {
                    Some(counted) => stream.add_text(counted.bytes, counted.choices),
                    None => {
                        scanner.push(data, event);
                        let is_intact = scanner.is_closed();
                        scanner.reset();
                        if is_intact {
                            text.missed(data, event, stream.shape);
                        }
                        stream.absorb(std::mem::take(event), is_intact);
                    }
                },
                Piece::Whole(data) if !stream.may_matter(data) => {}
                Piece::Whole(data) => {
                    scanner.push(data, event);
                    let is_intact = scanner.is_closed();
                    scanner.reset();
                    stream.absorb(std::mem::take(event), is_intact);
                }
                Piece::Part(data) => scanner.push(data, event),
                Piece::End => {
                    let is_intact = scanner.is_closed();
                    scanner.reset();
                    stream.absorb(std::mem::take(event), is_intact);
                }
            }),
        }
    }

    /// Whether the answer's own last word went by: after it nothing changes the usage. Never true of [`Shape::None`].
    pub fn has_ended(&self) -> bool {
        match (self.stream.shape, self.stream.framing) {
            (Shape::None, _) => false,
            (_, Framing::Json) => self.scanner.is_closed(),
            (_, Framing::Sse) => self.stream.has_ended(),
        }
    }

    /// Whether something of an answer was seen, and not a sign of life or another object alone.
    pub fn has_begun(&self) -> bool {
        self.stream.answers || self.event.answers || self.stream.shape == Shape::None
    }

    /// Whether it is certain by now that this is no answer.
    pub fn is_no_answer(&self) -> bool {
        self.stream.framing == Framing::Json && self.stream.shape != Shape::None && self.scanner.is_no_object()
    }

    /// Whether it is an event stream, whatever its head said.
    pub fn is_stream(&self) -> bool {
        self.stream.framing == Framing::Sse
    }

    /// Whether all is said that a reader waits for, but what it costs: of a JSON body, that is known once it begins.
    pub fn awaits_usage(&self) -> bool {
        if self.has_ended() || self.stream.shape == Shape::None {
            return false;
        }
        match self.stream.framing {
            Framing::Json => self.event.answers,
            Framing::Sse => self.stream.finished || self.stream.at_rest,
        }
    }

    /// Sums up what was seen, as if the answer ended here. An event without its blank line counts: a stream's last one often
    /// comes so.
    pub fn report(&self) -> Report {
        let mut stream = self.stream;
        if stream.framing == Framing::Json || !stream.has_ended() {
            stream.absorb(self.event, self.scanner.is_closed());
        }
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

    /// Whether what follows is not the answer's. An error event, and an end without the usage that belongs to it, are no such last word: the
    /// one that has it may follow.
    fn has_ended(&self) -> bool {
        match self.shape {
            Shape::None => false,
            Shape::OpenAiChat | Shape::Anthropic => self.ended,
            Shape::Responses => self.ended && self.has_totals,
        }
    }

    /// Adds the text of an event that said nothing else. What was whole before it is not.
    fn add_text(&mut self, bytes: u64, of: Choices) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        if bytes > 0 {
            self.choices.finished &= !of.seen;
            (self.at_rest, self.finished) = (false, false);
        }
    }

    /// Adds what an event said. One that is damaged ends nothing; what it counts is taken for what it is worth.
    fn absorb(&mut self, event: Event, is_intact: bool) {
        let Event { choices, counts, .. } = event;
        self.counts.merge(&counts);
        self.clamped = self.clamped.saturating_add(event.clamped);
        self.add_text(event.text_bytes.max(event.echo_bytes), choices);
        self.answers |= event.answers;
        let kind = if is_intact { event.kind } else { EventKind::Other };
        self.failed |= is_intact && (event.has_error || kind == EventKind::Error);
        let counted = !counts.is_empty();
        match self.shape {
            Shape::None => {}
            Shape::OpenAiChat => {
                self.whole_bytes = self.whole_bytes.saturating_add(event.whole_bytes);
                self.add_choices(choices);
                self.has_totals |= counted && event.has_usage && (event.empty_choices || self.finished);
                self.ended |= event.done;
            }
            Shape::Anthropic => {
                self.has_totals |= counted && event.has_usage && event.has_output;
                self.finished |= kind == EventKind::MessageDelta && event.stops;
                self.ended |= kind == EventKind::MessageStop;
            }
            Shape::Responses => self.absorb_response(&event, kind),
        }
    }

    /// Every choice that was asked for, and every other that began, has its reason to end.
    fn add_choices(&mut self, of: Choices) {
        self.choices.seen |= of.seen;
        self.choices.finished |= of.finished;
        self.choices.beyond |= of.beyond;
        let Choices { seen, finished, beyond } = self.choices;
        self.finished = !beyond && seen == finished && u64::from(finished.count_ones()) >= self.expects;
    }

    fn absorb_response(&mut self, event: &Event, kind: EventKind) {
        let ended = matches!(kind, EventKind::ResponseEnded | EventKind::ResponseFailed) && event.has_response;
        match kind {
            EventKind::ItemDone => self.whole_bytes = self.whole_bytes.saturating_add(event.whole_bytes),
            EventKind::ResponseEnded | EventKind::ResponseFailed => self.whole_bytes = self.whole_bytes.max(event.whole_bytes),
            _ => {}
        }
        match kind {
            EventKind::OutputDone | EventKind::ItemDone => self.at_rest = true,
            EventKind::OutputBegins => self.at_rest = false,
            _ => self.at_rest |= ended,
        }
        self.has_totals |= ended && !event.counts.is_empty();
        self.ended |= ended;
        self.failed |= kind == EventKind::ResponseFailed && event.has_response;
    }

    fn report(&self, json_is_closed: bool) -> Report {
        let (usage, contradicts) = self.counts.usage(self.shape);
        let (is_final, terminated) = match (self.shape, self.framing) {
            (Shape::None, _) => (false, true),
            (_, Framing::Json) => (json_is_closed, json_is_closed),
            // A server that repeats a running count in every chunk has no chunk of totals; its terminator makes the last one
            // final.
            (Shape::OpenAiChat, Framing::Sse) => {
                (self.has_totals || (self.ended && !self.failed), self.ended || self.failed || self.finished)
            }
            (Shape::Anthropic | Shape::Responses, Framing::Sse) => (self.has_totals, self.ended || self.failed || self.finished),
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
            text_bytes: self.text_bytes.max(self.whole_bytes),
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
            read.absorb(event, true);
            if !stream.may_matter(data.as_bytes()) {
                prop_assert_eq!(read.report(false), stream.report(false));
            }
        }
    }
}
