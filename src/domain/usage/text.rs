//! Counts the text of a stream's deltas without reading every event: one event of a stream is like the one before it but for its text.
//!
//! A [`Pattern`] is an event that the scanner read, with gaps where it stood in a delta's text, in a string that it skipped or in a number
//! that it skipped. An event that is the same outside of the gaps takes the scanner through the same states to the same end, whatever fills
//! the gaps; so its text is counted by a comparison, and nothing else can be in it. Every other event is the scanner's.
//!
//! ```text
//! {"type":"response.output_text.delta","sequence_number":17,"delta":" word","obfuscation":"x9"}
//!                                                        ~~          ~~~~~~                ~~~
//! ```
//!
//! Memory: at most [`MAX_PATTERN_BYTES`] and [`MAX_GAPS`] gaps for a stream. What fills a text's gap is not kept.

use super::json::{Choices, Event, Inside, KeyScanner};
use super::shape::Shape;
use crate::domain::json::scan::closing::{after_string, text_run};

/// An event with more than this around its text is left to the scanner.
const MAX_PATTERN_BYTES: usize = 1024;

/// An event with more places than this where another could differ is left to the scanner.
const MAX_GAPS: usize = 40;

/// So many patterns in a row that no event matched are made at once; after that, fewer and fewer: a stream may have no two events alike.
const EAGER_PATTERNS: u32 = 8;

/// Counts events by a pattern as long as they match it.
#[derive(Clone, Debug, Default)]
pub(super) struct TextCounter {
    pattern: Option<Pattern>,
    /// Whose text the pattern's events hold: a choice's number is no gap.
    choices: Choices,
    /// Events with text, since one matched.
    missed: u32,
}

/// The text of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) bytes: u64,
    pub(super) choices: Choices,
}

impl TextCounter {
    /// Counts the text of a whole event that holds text and nothing else that a scanner reports. `None`: only a scanner can tell.
    #[inline]
    pub(super) fn count(&mut self, data: &[u8]) -> Option<Counted> {
        let bytes = self.pattern.as_mut()?.count(data)?;
        self.missed = 0;
        Some(Counted { bytes, choices: self.choices })
    }

    /// Takes a whole event that [`Self::count`] could not count, and what the scanner found in it.
    pub(super) fn missed(&mut self, data: &[u8], found: &Event, shape: Shape) {
        if found.text_bytes == 0 || !found.is_text_only() {
            return;
        }
        if self.missed < EAGER_PATTERNS || self.missed.is_power_of_two() {
            self.pattern = Pattern::of(data, shape);
            self.choices = found.choices;
        }
        self.missed = self.missed.saturating_add(1);
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    /// The event without its text.
    bytes: Vec<u8>,
    gaps: Vec<Gap>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    kind: GapKind,
    /// Where in the pattern its filling stands, a string's closing quote included.
    start: usize,
    end: usize,
    /// An event differed here. Before that, the filling is compared with the rest, which takes less time than to step over it.
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GapKind {
    Text,
    String,
    Digits,
}

/// Why an event does not match.
enum Mismatch {
    /// It differs at this place of the pattern.
    At(usize),
    /// A gap is not closed.
    Gap,
}

impl Pattern {
    /// Finds the gaps of an event in which a scanner finds text and nothing else.
    fn of(data: &[u8], shape: Shape) -> Option<Self> {
        let mut scanner = KeyScanner::new(shape, true, true);
        let event = &mut Event::default();
        let (mut bytes, mut gaps) = (Vec::with_capacity(data.len().min(MAX_PATTERN_BYTES)), Vec::with_capacity(MAX_GAPS));
        let mut rest = data;
        while let Some(mark) = rest.iter().position(|byte| *byte == b'"' || byte.is_ascii_digit()) {
            let (head, tail) = rest.split_at_checked(mark + 1)?;
            scanner.push(head, event);
            let (kind, before) = match (scanner.inside(), head.split_last()?) {
                (Inside::Text, _) => (GapKind::Text, head),
                (Inside::SkippedString, _) => (GapKind::String, head),
                // The digit itself belongs to the gap.
                (Inside::Skipped, (digit, before)) if digit.is_ascii_digit() => (GapKind::Digits, before),
                _ => {
                    bytes.extend_from_slice(head);
                    rest = tail;
                    continue;
                }
            };
            bytes.extend_from_slice(before);
            let from = rest.get(before.len()..)?;
            let (_, after) = kind.skip(from)?;
            let filling = from.get(..from.len() - after.len())?;
            scanner.push(from.get(head.len() - before.len()..filling.len())?, event);
            let start = bytes.len();
            if kind != GapKind::Text {
                bytes.extend_from_slice(filling);
            }
            gaps.push(Gap { kind, start, end: bytes.len(), is_open: kind == GapKind::Text });
            if gaps.len() > MAX_GAPS || bytes.len() > MAX_PATTERN_BYTES {
                return None;
            }
            rest = after;
        }
        bytes.extend_from_slice(rest);
        (bytes.len() <= MAX_PATTERN_BYTES).then_some(Self { bytes, gaps })
    }

    #[inline]
    fn count(&mut self, data: &[u8]) -> Option<u64> {
        loop {
            match self.compare(data) {
                Ok(text_bytes) => return Some(text_bytes),
                Err(Mismatch::At(place)) => self.open_gap(place)?,
                Err(Mismatch::Gap) => return None,
            }
        }
    }

    fn compare(&self, data: &[u8]) -> Result<u64, Mismatch> {
        let (mut rest, mut place, mut text_bytes) = (data, 0, 0);
        for gap in self.gaps.iter().filter(|gap| gap.is_open) {
            let between = self.bytes.get(place..gap.start).unwrap_or_default();
            rest = rest.strip_prefix(between).ok_or_else(|| Mismatch::At(place + common_bytes(between, rest)))?;
            let (count, after) = gap.kind.skip(rest).ok_or(Mismatch::Gap)?;
            text_bytes += count;
            (rest, place) = (after, gap.end);
        }
        let last = self.bytes.get(place..).unwrap_or_default();
        if rest == last { Ok(text_bytes) } else { Err(Mismatch::At(place + common_bytes(last, rest))) }
    }

    #[cold]
    fn open_gap(&mut self, place: usize) -> Option<()> {
        let gap = self.gaps.iter_mut().find(|gap| !gap.is_open && (gap.start..=gap.end).contains(&place))?;
        gap.is_open = true;
        Some(())
    }
}

impl GapKind {
    /// The bytes of text that the filling counts for, and what follows it. `None`: it does not end.
    #[inline]
    fn skip(self, bytes: &[u8]) -> Option<(u64, &[u8])> {
        match self {
            Self::Text => text(bytes),
            Self::String => after_string(bytes).ok().map(|rest| (0, rest)),
            Self::Digits => {
                let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.get(digits..).filter(|_| digits > 0).map(|rest| (0, rest))
            }
        }
    }
}

/// Counts as the scanner does: an escape is one byte, the `u` of `\uXXXX` none and its digits four.
#[inline]
fn text(mut bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut count = 0;
    loop {
        let (run, end, rest) = text_run(bytes);
        count += run.len() as u64;
        match (end?, rest) {
            (b'"', rest) => return Some((count, rest)),
            (_, [escaped, rest @ ..]) => {
                count += u64::from(*escaped != b'u');
                bytes = rest;
            }
            (_, []) => return None,
        }
    }
}

fn common_bytes(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Shape::{Anthropic, OpenAiChat, Responses};
    use super::super::fixtures::cut;
    use super::super::{Framing, Meter, Report};
    use super::*;

    /// What the events' scanner says: it sees no event whole.
    fn scanned(shape: Shape, stream: &[u8]) -> Report {
        read(shape, stream.chunks(1))
    }

    fn read<'a>(shape: Shape, chunks: impl IntoIterator<Item = &'a [u8]>) -> Report {
        let mut meter = Meter::new(shape, Framing::Sse).counting_text();
        chunks.into_iter().for_each(|chunk| meter.push(chunk));
        meter.report()
    }

    fn after(first: &str, shape: Shape) -> TextCounter {
        let mut event = Event::default();
        KeyScanner::new(shape, true, true).push(first.as_bytes(), &mut event);
        let mut counter = TextCounter::default();
        counter.missed(first.as_bytes(), &event, shape);
        counter
    }

    const CHAT: &str = r#"{"id":"c1","created":9,"choices":[{"index":0,"delta":{"content":"a"},"logprobs":null}],"usage":null}"#;

    #[test]
    fn u7_an_event_like_the_last_is_counted_without_the_scanner() {
        for (shape, first, next, count) in [
            (OpenAiChat, CHAT, CHAT, 1),
            (OpenAiChat, CHAT, &CHAT.replace("\"a\"", r#"" wo\"rd\n""#), 7),
            (OpenAiChat, CHAT, &CHAT.replace("\"a\"", r#""\u00e9\\""#), 5),
            (OpenAiChat, CHAT, &CHAT.replace("\"a\"", r#""""#), 0),
            (OpenAiChat, CHAT, &CHAT.replace("\"a\"", r#""{\"usage\":{\"prompt_tokens\":1}}""#), 29),
            (OpenAiChat, CHAT, &CHAT.replace("c1", "another \\\" one").replace(":9", ":1234567"), 1),
            (OpenAiChat, CHAT, &CHAT.replace("c1", "").replace(":9", ":12"), 1),
            (
                OpenAiChat,
                r#"{"choices": [{"delta": {"content": "ab", "tool_calls": [{"function": {"arguments": "c"}}]}}]}"#,
                r#"{"choices": [{"delta": {"content": "", "tool_calls": [{"function": {"arguments": "{}\n"}}]}}]}"#,
                3,
            ),
            (
                OpenAiChat,
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]},{"type":"text","text":"b"}]}}]}"#,
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"cd"}]},{"type":"text","text":"efg"}]}}]}"#,
                5,
            ),
            (OpenAiChat, r#"{"choices":[{"text":"a"}],"x":"a"}"#, r#"{"choices":[{"text":"bcd"}],"x":"efgh"}"#, 3),
            (
                Anthropic,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
                r#"{"type":"content_block_delta","index":10,"delta":{"type":"text_delta","text":"bc"}}"#,
                2,
            ),
            (
                Responses,
                r#"{"type":"response.output_text.delta","sequence_number":9,"item_id":"m","delta":"a","logprobs":[],"obfuscation":"x"}"#,
                r#"{"type":"response.output_text.delta","sequence_number":10,"item_id":"n","delta":"bcd","logprobs":[],"obfuscation":""}"#,
                3,
            ),
        ] {
            assert_eq!(after(first, shape).count(next.as_bytes()).map(|counted| counted.bytes), Some(count), "{next}");
            assert_eq!(scanned(shape, format!("data: {next}\n\n").as_bytes()).text_bytes, count, "{next}");
        }
    }

    #[test]
    fn u7_an_event_that_could_say_more_is_the_scanners() {
        for other in [
            CHAT.replace("null}],\"usage\":null", "null}],\"usage\":{\"prompt_tokens\":1}"),
            CHAT.replace("\"created\":9", "\"error\":{}"),
            CHAT.replace("\"created\":9", "\"created\":\"9\""),
            CHAT.replace("\"created\":9", "\"created\":-9"),
            CHAT.replace("content", "refusal"),
            CHAT.replace("\"index\":0", "\"index\":1"),
            CHAT.replace("\"a\"", "null"),
            CHAT.replace("null}],", "null},{\"delta\":{\"content\":\"b\"}}],"),
            CHAT.replace(":\"a\"", ": \"a\""),
            format!("{CHAT} "),
            CHAT[..CHAT.len() - 1].to_owned(),
            CHAT[..CHAT.find("\"a\"").unwrap() + 2].to_owned(),
            CHAT.replace("\"a\"}", "\"a\\"),
            "[DONE]".to_owned(),
            String::new(),
        ] {
            assert_eq!(after(CHAT, OpenAiChat).count(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn u7_an_event_of_another_type_is_the_scanners() {
        for (shape, event, end) in [
            (Anthropic, r#"{"type":"content_block_delta","delta":{"text":"a"}}"#, "message_stop"),
            (Responses, r#"{"type":"response.output_text.delta","delta":"a"}"#, "error"),
        ] {
            let other = event.replace(if shape == Anthropic { "content_block_delta" } else { "response.output_text.delta" }, end);
            assert_eq!(after(event, shape).count(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn u7_only_an_event_that_says_nothing_else_becomes_a_pattern() {
        for first in [
            CHAT.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":1}"),
            CHAT.replace("\"created\":9", "\"error\":\"x\""),
            CHAT.replace("\"a\"", "null"),
            CHAT.replace("c1", &"x".repeat(MAX_PATTERN_BYTES)),
            CHAT.replace(":9", &format!(":[{}]", "1,".repeat(MAX_GAPS))),
        ] {
            assert!(after(&first, OpenAiChat).pattern.is_none(), "{first}");
        }
        assert!(
            after(&CHAT.replace("\"a\"", &format!("\"{}\"", "x".repeat(9 * MAX_PATTERN_BYTES))), OpenAiChat).pattern.is_some()
        );
    }

    #[test]
    fn u7_a_stream_without_two_events_alike_makes_few_patterns() {
        let mut counter = TextCounter::default();
        let mut patterns = 0;
        for index in 0..1024 {
            let (event, found) = (format!("{}{}", CHAT, " ".repeat(index)), Event { text_bytes: 1, ..Event::default() });
            assert_eq!(counter.count(event.as_bytes()), None);
            counter.pattern = None;
            counter.missed(event.as_bytes(), &found, OpenAiChat);
            patterns += u32::from(counter.pattern.is_some());
        }
        assert_eq!(patterns, EAGER_PATTERNS + 7);
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z {}:,\\[\\]]{0,12}",
            4 => prop::sample::select(&["\\n", "\\\"", "\\\\", "\\u00e9", "\\/", "\\u005c", "é", "\\\"content\\\":\\\"", "7"][..])
                .prop_map(str::to_owned),
            1 => "[a-z]{40,90}",
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    /// Frames of events: `$` stands for a text, `#` for a number, `_` for whitespace.
    const FRAMES: &[&str] = &[
        r#"{"id":"$","created":#,"choices":[{"index":#,"delta":{"content":_"$"},"logprobs":null}],_"usage":null,"obfuscation":"$"}"#,
        r#"{"choices":_[{"delta":{"content":"$","reasoning_content":"$"}},{"delta":{"tool_calls":[{"index":#,"function":{"arguments":"$"}}]}}]}"#,
        r#"{"choices":[{"delta":{"content":[{"type":"$","thinking":[{"text":"$"},"$"]},{"text":_"$"}],"refusal":"$"}}],"x":#}"#,
        r#"{"content":"$","x":{"content":"$","delta":"$"},"choices":[{"text":_"$","delta":{"x":{"content":"$"},"refusal":"$"}}]}"#,
        r#"{"type":"content_block_delta","index":#,"delta":{"type":"$","text":_"$","thinking":"$"}}"#,
        r#"{"delta":{"partial_json":"$"},"type":_"content_block_delta","message":{"x":#}}"#,
        r#"{"type":"response.output_text.delta","sequence_number":#,"delta":_"$","logprobs":[#,#e#,-#.#],"obfuscation":"$"}"#,
        r#"{"type":"$","delta":"$","response":{"usage":{"input_tokens":#}}}"#,
        r#"{"x":tr"ue,"delta":"$","usage":{"output_tokens":#},"delta":{"text":"$"}}"#,
        r#"{"key#":#,"\u#":"$","delta":_"$" "$"}"#,
        r#"["$",#]"#,
    ];

    fn events() -> impl Strategy<Value = Vec<String>> {
        let event =
            (prop::sample::select(FRAMES), prop::collection::vec(text(), 8), prop::collection::vec("[0-9]{1,12}", 6), "[ \t]?");
        prop::collection::vec((event, 1..5usize, prop::collection::vec(text(), 8)), 1..5).prop_map(|runs| {
            let fill = |frame: &str, texts: &[String], numbers: &[String], space: &str| {
                let (mut texts, mut numbers) = (texts.iter().cycle(), numbers.iter().cycle());
                let fill = |part| match part {
                    '$' => texts.next().unwrap().clone(),
                    '#' => numbers.next().unwrap().clone(),
                    '_' => space.to_owned(),
                    other => other.to_string(),
                };
                frame.chars().map(fill).collect::<String>()
            };
            let mut events = Vec::new();
            for ((frame, texts, numbers, space), times, others) in runs {
                for time in 0..times {
                    let texts = if time % 2 == 0 { &texts } else { &others };
                    events.push(fill(frame, &texts[time..], &numbers[time..], &space));
                }
            }
            events
        })
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        prop::sample::select(&[OpenAiChat, Anthropic, Responses][..])
    }

    fn stream(events: &[String]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn u7_events_alike_and_unlike_count_as_the_scanner_counts(
            events in events(),
            shape in shapes(),
            sizes in prop::collection::vec(0..400usize, 1..12),
        ) {
            let stream = stream(&events);
            let expected = scanned(shape, stream.as_bytes());
            prop_assert_eq!(read(shape, [stream.as_bytes()]), expected.clone());
            prop_assert_eq!(read(shape, cut(stream.as_bytes(), &sizes)), expected.clone());
        }

        /// What is no JSON, or another JSON, in a stream whose pattern is known.
        #[test]
        fn u7_a_changed_byte_counts_as_the_scanner_counts(
            events in events(),
            shape in shapes(),
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(&br#""\{}[]:,0u a"#[..]), 0..3u8), 1..4),
        ) {
            let mut changed: Vec<u8> = stream(&events).into_bytes();
            for event in &events {
                let mut event = event.clone().into_bytes();
                for (at, byte, how) in &changes {
                    let at = at.index(event.len());
                    match how {
                        0 => event[at] = *byte,
                        1 => event.insert(at, *byte),
                        _ => drop(event.remove(at)),
                    }
                }
                changed.extend_from_slice(&[b"data: ", &event[..], b"\n\n"].concat());
            }
            prop_assert_eq!(read(shape, [&changed[..]]), scanned(shape, &changed));
        }
    }
}
