//! Edits a stream of events for the client: takes out the usage chunk that it did not ask for, and puts its own name for the
//! model in.
//!
//! Complete events leave at once. An event that is not complete is held back until its blank line, at most [`MAX_EVENT`] bytes; a
//! longer one passes unchanged, and the edits go on with the next. Every byte that is not the dropped event or the model's value
//! is the byte that came, for every way of cutting the stream; unchanged events are slices of the incoming chunks, not copies.

mod event;

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::json::{Event, KeyScanner};
use super::key::{USAGE, has_value};
use super::shape::Shape;
use crate::domain::json::rename::{RenamePath, model_span, model_value};
use event::{Boundary, DataLines, EventEnd};

/// The longest event that is edited, its blank line included. A `response.completed` repeats the whole output.
pub const MAX_EVENT: usize = 1024 * 1024;

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""model""#));

/// Edits the events of one stream.
#[derive(Debug)]
pub struct SseRewrite {
    edits: Edits,
    boundary: Boundary,
    /// The event in progress, when a chunk ended inside it.
    held: BytesMut,
    /// The event in progress is too long: it passes unchanged.
    is_passing: bool,
    /// The last event ended with a carriage return; a line feed that follows is part of it, and is dropped when the event was.
    late_line_feed: Option<EventFate>,
    is_first: bool,
}

#[derive(Debug)]
struct Edits {
    drop_usage_chunk: bool,
    rename: Option<(RenamePath, Bytes)>,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EventFate {
    Keep,
    Drop,
    /// The bytes of the model's value are replaced.
    Rename(Range<usize>, Bytes),
}

impl SseRewrite {
    /// `drop_usage_chunk` takes out the chunk with `"choices":[]` and a usage object; `rename` replaces the model's value at a
    /// place of every event that has one there, by a name that is given as plain text.
    pub fn new(drop_usage_chunk: bool, rename: Option<(RenamePath, String)>) -> Self {
        Self {
            edits: Edits { drop_usage_chunk, rename: rename.map(|(path, name)| (path, model_value(&name))) },
            boundary: Boundary::new(),
            held: BytesMut::new(),
            is_passing: false,
            late_line_feed: None,
            is_first: true,
        }
    }

    /// Takes the next chunk and appends to `out` what may pass now, in order.
    pub fn push(&mut self, mut chunk: Bytes, out: &mut Vec<Bytes>) {
        if chunk.is_empty() {
            return;
        }
        if let Some(fate) = self.late_line_feed.take()
            && chunk.first() == Some(&b'\n')
        {
            let line_feed = chunk.split_to(1);
            if fate != EventFate::Drop {
                out.push(line_feed);
            }
        }
        // Neighbours that stay as they are leave as one slice: `at` is where the event begins, the bytes before it wait in
        // `chunk`.
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(end) = self.boundary.find(rest) else {
                self.hold(chunk, at, out);
                return;
            };
            let fate = self.complete(rest, &end);
            at = self.settle(fate.clone(), &mut chunk, at, end.len, out);
            self.late_line_feed = end.is_torn.then_some(fate);
        }
        emit(chunk, out);
    }

    /// Appends what is held back of a stream that ended inside an event, edited as if the event were complete.
    pub fn finish(mut self, out: &mut Vec<Bytes>) {
        if !self.is_passing && !self.held.is_empty() {
            let held = self.held.split().freeze();
            let fate = self.edits.judge(&held, self.is_first);
            apply(fate, held, out);
        }
    }

    /// Keeps back the chunk's rest, which begins an event or goes on with one.
    fn hold(&mut self, mut chunk: Bytes, at: usize, out: &mut Vec<Bytes>) {
        if self.is_passing {
            emit(chunk, out);
            return;
        }
        let rest = chunk.split_off(at);
        emit(chunk, out);
        if self.held.len() + rest.len() > MAX_EVENT {
            self.is_passing = true;
            emit(self.held.split().freeze(), out);
            emit(rest, out);
            return;
        }
        self.held.extend_from_slice(&rest);
    }

    /// Decides on the event that `rest` completes.
    fn complete(&mut self, rest: &[u8], end: &EventEnd) -> EventFate {
        let is_first = std::mem::take(&mut self.is_first);
        let event = rest.get(..end.len).unwrap_or_default();
        if std::mem::take(&mut self.is_passing) || self.held.len() + end.judged_len > MAX_EVENT {
            return EventFate::Keep;
        }
        if self.held.is_empty() {
            return self.edits.judge(event, is_first);
        }
        let before = self.held.len();
        self.held.extend_from_slice(event);
        let fate = self.edits.judge(&self.held, is_first);
        if fate == EventFate::Keep {
            // The chunk's own bytes pass; only the earlier ones are a copy.
            self.held.truncate(before);
        }
        fate
    }

    /// Carries out the decision on the event of `len` bytes at `at`; returns where the next event begins in what is left of
    /// `chunk`.
    fn settle(&mut self, fate: EventFate, chunk: &mut Bytes, at: usize, len: usize, out: &mut Vec<Bytes>) -> usize {
        if !self.held.is_empty() {
            let held = self.held.split().freeze();
            if fate == EventFate::Keep {
                emit(held, out);
                return at + len;
            }
            drop(chunk.split_to(len));
            apply(fate, held, out);
            return 0;
        }
        if fate == EventFate::Keep {
            return at + len;
        }
        emit(chunk.split_to(at), out);
        apply(fate, chunk.split_to(len), out);
        0
    }
}

impl Edits {
    fn judge(&self, event: &[u8], is_first: bool) -> EventFate {
        let may_drop = self.drop_usage_chunk && has_value(&USAGE, event);
        let rename = self.rename.as_ref().filter(|_| MODEL.find(event).is_some());
        if !may_drop && rename.is_none() {
            return EventFate::Keep;
        }
        let mark = if is_first && event.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let lines = DataLines::of(event.get(mark..).unwrap_or_default(), mark);
        let data = lines.joined(event);
        if may_drop && is_usage_chunk(&data) {
            return EventFate::Drop;
        }
        rename
            .and_then(|(path, name)| Some((lines.in_event(model_span(&data, *path)?)?, name.clone())))
            .map_or(EventFate::Keep, |(span, name)| EventFate::Rename(span, name))
    }
}

/// The chunk that `include_usage` adds: no choices, but a usage object.
/// <https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options>
fn is_usage_chunk(data: &[u8]) -> bool {
    let (mut scanner, mut event) = (KeyScanner::new(Shape::OpenAiChat, true, false), Event::default());
    scanner.push(data, &mut event);
    scanner.is_closed() && event.has_usage && event.empty_choices && !event.has_error
}

fn apply(fate: EventFate, mut event: Bytes, out: &mut Vec<Bytes>) {
    match fate {
        EventFate::Keep => emit(event, out),
        EventFate::Drop => {}
        EventFate::Rename(span, name) => {
            let after = event.split_off(span.end.min(event.len()));
            event.truncate(span.start);
            emit(event, out);
            out.push(name);
            emit(after, out);
        }
    }
}

fn emit(bytes: Bytes, out: &mut Vec<Bytes>) {
    if !bytes.is_empty() {
        out.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::cut;
    use super::*;

    const CHAT: &[u8] = include_bytes!("../../../../tests/fixtures/usage/chat_null_then_totals.sse");
    const AZURE: &[u8] = include_bytes!("../../../../tests/fixtures/usage/chat_azure_first_chunk.sse");
    const ODD: &[u8] = include_bytes!("../../../../tests/fixtures/usage/chat_odd_framing.sse");
    const MESSAGES: &[u8] = include_bytes!("../../../../tests/fixtures/usage/messages_split.sse");
    const RESPONSES: &[u8] = include_bytes!("../../../../tests/fixtures/usage/responses_completed.sse");

    fn run<'a>(mut rewrite: SseRewrite, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            rewrite.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        rewrite.finish(&mut out);
        assert!(out.iter().all(|piece| !piece.is_empty()));
        out.concat()
    }

    fn drops() -> SseRewrite {
        SseRewrite::new(true, None)
    }

    fn renames(path: RenamePath) -> SseRewrite {
        SseRewrite::new(false, Some((path, "my \"alias\"".to_owned())))
    }

    /// The same edit, made on the whole text by plain means.
    fn without_line(text: &str, marker: &str) -> String {
        text.split_inclusive("\n\n").filter(|event| !event.contains(marker)).collect()
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn u6_the_usage_chunk_is_taken_out_and_every_other_byte_stays() {
        let expected = without_line(text(CHAT), "\"choices\":[],\"usage\":{");
        assert!(expected.len() < CHAT.len());
        assert_eq!(text(&run(drops(), [CHAT])), expected);
        assert_eq!(text(&run(drops(), CHAT.chunks(1))), expected);
        for at in 0..CHAT.len() {
            let (head, tail) = CHAT.split_at(at);
            assert_eq!(text(&run(drops(), [head, tail])), expected, "cut at {at}");
        }
    }

    #[test]
    fn u6_line_ends_make_no_difference_and_go_with_their_event() {
        for line_end in ["\r", "\r\n"] {
            let stream = text(CHAT).replace('\n', line_end);
            let expected = without_line(text(CHAT), "\"choices\":[],\"usage\":{").replace('\n', line_end);
            for at in 0..stream.len() {
                let (head, tail) = stream.as_bytes().split_at(at);
                assert_eq!(text(&run(drops(), [head, tail])), expected, "cut at {at}");
            }
            assert_eq!(text(&run(drops(), stream.as_bytes().chunks(1))), expected);
        }
    }

    #[test]
    fn u6_a_chunk_over_several_data_lines_is_taken_out() {
        let out = run(drops(), ODD.chunks(1));
        assert!(
            !text(&out).contains("\"usage\" :")
                && text(&out).contains(": keep-alive\r\r")
                && text(&out).ends_with("data:[DONE]\r\n\r\n")
        );
    }

    #[test]
    fn u6_chunks_that_only_resemble_it_stay() {
        for stream in [
            "data: {\"choices\":[],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"choices\":[],\"x\":{\"usage\":{\"prompt_tokens\":1}}}\n\n",
            "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"error\":{\"message\":\"x\"}}\n\n",
            ": {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
        ] {
            assert_eq!(text(&run(drops(), [stream.as_bytes()])), stream);
        }
        assert!(text(&run(drops(), [AZURE])).contains("prompt_filter_results"));
    }

    #[test]
    fn m13_only_the_models_value_changes_in_every_dialect() {
        for (stream, path, from) in [
            (CHAT, RenamePath::TopLevel, "\"model\":\"gpt-4o-2024-08-06\""),
            (MESSAGES, RenamePath::Nested("message"), "\"model\":\"claude-sonnet-4-5-20250929\""),
            (RESPONSES, RenamePath::Nested("response"), "\"model\":\"gpt-5-2025-08-07\""),
        ] {
            let expected = text(stream).replace(from, r#""model":"my \"alias\"""#);
            assert_ne!(expected.as_bytes(), stream);
            assert_eq!(text(&run(renames(path), [stream])), expected);
            assert_eq!(text(&run(renames(path), stream.chunks(1))), expected);
            for at in 0..stream.len() {
                let (head, tail) = stream.split_at(at);
                assert_eq!(text(&run(renames(path), [head, tail])), expected, "cut at {at}");
            }
        }
    }

    #[test]
    fn m13_a_model_in_the_second_data_line_is_found() {
        let stream = "\u{feff}data: {\"a\":1,\r\ndata:\"model\": \"x\"\rdata: }\n\n";
        assert_eq!(text(&run(renames(RenamePath::TopLevel), [stream.as_bytes()])), stream.replace("\"x\"", r#""my \"alias\"""#));
    }

    #[test]
    fn o1_unchanged_events_leave_at_once_as_slices_of_the_chunk() {
        let mut rewrite = drops();
        let mut out = Vec::new();
        let chunk = Bytes::from_static(b"data: {\"choices\":[1]}\n\ndata: {\"choices\":[2]}\n\ndata: {\"cho");
        rewrite.push(chunk.clone(), &mut out);
        assert_eq!(out, [chunk.slice(..chunk.len() - 11)]);
        assert_eq!(out[0].as_ptr(), chunk.as_ptr());
        rewrite.push(Bytes::from_static(b"ices\":[3]}\n\n"), &mut out);
        assert_eq!(out[1..].concat(), b"data: {\"choices\":[3]}\n\n");
    }

    #[test]
    fn an_event_beyond_the_limit_passes_and_the_edits_go_on_after_it() {
        let filler = "x".repeat(MAX_EVENT);
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
        let long = format!("data: {{\"a\":\"{filler}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":1}}}}\n\n");
        let stream = format!("{long}{usage}data: [DONE]\n\n");
        for size in [1 << 22, 50_000, 4099] {
            let mut rewrite = drops();
            let (mut out, mut most_held) = (Vec::new(), 0);
            for chunk in stream.as_bytes().chunks(size) {
                rewrite.push(Bytes::copy_from_slice(chunk), &mut out);
                most_held = most_held.max(rewrite.held.len());
            }
            rewrite.finish(&mut out);
            assert_eq!(out.concat(), format!("{long}data: [DONE]\n\n").as_bytes());
            assert!(most_held <= MAX_EVENT);
        }
    }

    #[test]
    fn the_limit_falls_at_the_same_byte_for_every_cut() {
        let (begin, end) = ("data: {\"a\":\"", "\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n");
        for over in [0, 1] {
            // The blank line's line feed is not counted: it may come in another chunk.
            let filler = "x".repeat(MAX_EVENT + 1 + over - begin.len() - end.len());
            let event = format!("{begin}{filler}{end}");
            for cut in [0, 5, event.len() - 4, event.len() - 1] {
                let (head, tail) = event.as_bytes().split_at(cut);
                let expected = if over == 0 { "" } else { &event };
                assert!(run(drops(), [head, tail]) == expected.as_bytes(), "{over} over, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_stream_that_ends_inside_an_event_loses_nothing() {
        for stream in [
            "data: {\"choices\":[{\"delta\":{\"con",
            "data: [DONE]\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1",
            "\r",
            "",
        ] {
            assert_eq!(text(&run(drops(), [stream.as_bytes()])), stream);
        }
    }

    proptest! {
        #[test]
        fn u6_m13_every_cut_gives_the_same_stream(
            which in 0..5usize,
            line_end in proptest::sample::select(&["\n", "\r", "\r\n"][..]),
            sizes in proptest::collection::vec(0..300usize, 1..30),
            drop_usage_chunk: bool,
        ) {
            let (stream, path) = [
                (CHAT, RenamePath::TopLevel), (AZURE, RenamePath::TopLevel), (ODD, RenamePath::TopLevel),
                (MESSAGES, RenamePath::Nested("message")), (RESPONSES, RenamePath::Nested("response")),
            ][which];
            let stream = if which == 2 { text(stream).to_owned() } else { text(stream).replace('\n', line_end) };
            let rewrite = || SseRewrite::new(drop_usage_chunk, Some((path, "alias".to_owned())));
            let whole = run(rewrite(), [stream.as_bytes()]);
            prop_assert_eq!(run(rewrite(), cut(stream.as_bytes(), &sizes)), whole);
        }

        #[test]
        fn every_cut_of_line_ends_gives_the_same_stream(
            pieces in proptest::collection::vec(
                proptest::sample::select(&[
                    "\n", "\r", "\r\n", "data: {\"choices\":[],\"usage\":{}}", "data:{\"model\":\"x\"}", "data: ",
                    ": c", "\u{feff}", "x",
                ][..]),
                0..30,
            ),
            sizes in proptest::collection::vec(0..20usize, 1..40),
        ) {
            let stream = pieces.concat();
            let rewrite = || SseRewrite::new(true, Some((RenamePath::TopLevel, "alias".to_owned())));
            let whole = run(rewrite(), [stream.as_bytes()]);
            prop_assert_eq!(run(rewrite(), cut(stream.as_bytes(), &sizes)), whole.clone());
            prop_assert_eq!(run(rewrite(), stream.as_bytes().chunks(1)), whole);
            prop_assert_eq!(run(SseRewrite::new(false, None), cut(stream.as_bytes(), &sizes)), stream.as_bytes());
        }
    }
}
