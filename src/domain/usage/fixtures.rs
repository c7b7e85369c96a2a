//! Every usage shape as providers send it, with what the meter must read out of it, whole and cut at every byte.

use proptest::prelude::*;

use super::Framing::{Json, Sse};
use super::Shape::{Anthropic, OpenAiChat, Responses};
use super::*;

/// A recorded answer and what is in it.
struct Fixture {
    name: &'static str,
    bytes: &'static [u8],
    shape: Shape,
    framing: Framing,
    /// Input, cache write, 1-hour cache write, cache read, output.
    usage: Option<[u64; 5]>,
    source: Source,
    end: Ending,
    clamped: u32,
    text_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Good,
    Error,
    Cut,
    /// At its last word, without its terminator.
    Whole,
}

macro_rules! fixture {
    ($name:literal, $shape:expr, $framing:expr, $usage:expr, $source:expr, $end:expr, $text:expr) => {
        fixture!($name, $shape, $framing, $usage, $source, $end, $text, 0)
    };
    ($name:literal, $shape:expr, $framing:expr, $usage:expr, $source:expr, $end:expr, $text:expr, $clamped:expr) => {
        Fixture {
            name: $name,
            bytes: include_bytes!(concat!("../../../tests/fixtures/usage/", $name)),
            shape: $shape,
            framing: $framing,
            usage: $usage,
            source: $source,
            end: $end,
            clamped: $clamped,
            text_bytes: $text,
        }
    };
}

fn fixtures() -> Vec<Fixture> {
    use Ending::{Cut, Error, Good, Whole};
    let (fin, part, none) = (Source::Final, Source::Partial, Source::None);
    let anthropic = Some([25, 100, 200, 4000, 15]);
    let responses = Some([200, 0, 0, 128, 52]);
    let plain = Some([19, 0, 0, 0, 10]);
    vec![
        fixture!("chat_null_then_totals.sse", OpenAiChat, Sse, Some([176, 0, 0, 1024, 42]), fin, Good, 38),
        fixture!("chat_plain.sse", OpenAiChat, Sse, plain, fin, Good, 2),
        fixture!("chat_no_usage.sse", OpenAiChat, Sse, None, none, Good, 2),
        fixture!("chat_usage_with_choices.sse", OpenAiChat, Sse, plain, fin, Good, 2),
        fixture!("chat_running_counts_cut.sse", OpenAiChat, Sse, Some([19, 0, 0, 0, 2]), part, Cut, 9),
        fixture!("chat_tool_calls.sse", OpenAiChat, Sse, plain, fin, Good, 38),
        fixture!("chat_error_event.sse", OpenAiChat, Sse, None, none, Error, 2),
        fixture!("chat_azure_first_chunk.sse", OpenAiChat, Sse, plain, fin, Good, 2),
        fixture!("chat_odd_framing.sse", OpenAiChat, Sse, plain, fin, Good, 2),
        fixture!("chat_absurd_counts.sse", OpenAiChat, Sse, Some([9, 0, 0, 0, MAX_COUNT]), fin, Good, 0, 5),
        fixture!("completions.sse", OpenAiChat, Sse, Some([5, 0, 0, 0, 2]), fin, Good, 9),
        fixture!("chat.json", OpenAiChat, Json, Some([176, 0, 0, 1024, 42]), fin, Good, 0),
        fixture!("chat_no_usage.json", OpenAiChat, Json, None, none, Good, 0),
        fixture!("embeddings.json", OpenAiChat, Json, Some([8, 0, 0, 0, 0]), fin, Good, 0),
        fixture!("embeddings_total_only.json", OpenAiChat, Json, Some([8, 0, 0, 0, 0]), fin, Good, 0),
        fixture!("count_tokens.json", Shape::None, Json, None, none, Good, 0),
        fixture!("count_tokens.json", Anthropic, Json, None, none, Good, 0),
        fixture!("error.json", OpenAiChat, Json, None, none, Error, 0),
        fixture!("messages_split.sse", Anthropic, Sse, anthropic, fin, Good, 51),
        fixture!("messages_bare_sum.sse", Anthropic, Sse, Some([25, 300, 0, 0, 15]), fin, Good, 51),
        fixture!("messages_cache_in_delta_only.sse", Anthropic, Sse, Some([25, 0, 0, 4000, 15]), fin, Good, 51),
        fixture!("messages_later_zero.sse", Anthropic, Sse, Some([25, 300, 0, 4000, 15]), fin, Good, 51),
        fixture!("messages_start_only_cut.sse", Anthropic, Sse, Some([25, 100, 200, 4000, 1]), part, Cut, 3),
        fixture!("messages_delta_only.sse", Anthropic, Sse, Some([25, 0, 0, 0, 15]), fin, Good, 51),
        fixture!("messages_no_stop.sse", Anthropic, Sse, anthropic, fin, Whole, 51),
        fixture!("messages_thinking.sse", Anthropic, Sse, Some([40, 0, 0, 0, 120]), fin, Good, 45),
        fixture!("messages_tool_use.sse", Anthropic, Sse, Some([472, 0, 0, 0, 89]), fin, Good, 42),
        fixture!("messages_error_event.sse", Anthropic, Sse, Some([25, 100, 200, 4000, 1]), part, Error, 0),
        fixture!("messages.json", Anthropic, Json, anthropic, fin, Good, 0),
        fixture!("responses_completed.sse", Responses, Sse, responses, fin, Good, 320),
        fixture!("responses_incomplete.sse", Responses, Sse, responses, fin, Good, 24),
        fixture!("responses_failed.sse", Responses, Sse, None, none, Error, 24),
        fixture!("responses_failed_with_usage.sse", Responses, Sse, responses, fin, Error, 0),
        fixture!("responses_type_last.sse", Responses, Sse, responses, fin, Good, 0),
        fixture!("responses_error_event.sse", Responses, Sse, None, none, Error, 24),
        fixture!("responses_cut.sse", Responses, Sse, None, none, Cut, 24),
        fixture!("responses.json", Responses, Json, responses, fin, Good, 0),
    ]
}

impl Fixture {
    fn expected(&self, counts_text: bool) -> Report {
        Report {
            usage: self.usage.map(
                |[input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens]| Usage {
                    input_tokens,
                    cache_write_tokens,
                    cache_write_1h_tokens,
                    cache_read_tokens,
                    output_tokens,
                    ..Usage::default()
                },
            ),
            others: Vec::new(),
            facts: Facts::default(),
            source: self.source,
            // Without its terminator a stream shows its end to who reads all of it.
            terminated: self.end != Ending::Cut && (self.end != Ending::Whole || counts_text),
            error_event: self.end == Ending::Error,
            clamped: self.clamped,
            text_bytes: if counts_text { self.text_bytes } else { 0 },
        }
    }

    fn read<'a>(&self, counts_text: bool, chunks: impl IntoIterator<Item = &'a [u8]>) -> Report {
        let meter = Meter::new(self.shape, self.framing);
        let mut meter = if counts_text { meter.counting_text() } else { meter };
        chunks.into_iter().for_each(|chunk| meter.push(chunk));
        meter.report()
    }
}

#[test]
fn u3_u4_every_shape_is_read_whole_and_byte_by_byte() {
    for fixture in fixtures() {
        for counts_text in [false, true] {
            let expected = fixture.expected(counts_text);
            assert_eq!(fixture.read(counts_text, [fixture.bytes]), expected, "{}", fixture.name);
            assert_eq!(fixture.read(counts_text, fixture.bytes.chunks(1)), expected, "{} byte by byte", fixture.name);
        }
    }
}

#[test]
fn u5_every_cut_in_two_gives_the_same_report() {
    for fixture in fixtures() {
        for cut in 0..fixture.bytes.len() {
            let (head, tail) = fixture.bytes.split_at(cut);
            assert_eq!(fixture.read(cut % 2 == 0, [head, tail]), fixture.expected(cut % 2 == 0), "{} at {cut}", fixture.name);
        }
    }
}

#[test]
fn u5_line_ends_make_no_difference() {
    for fixture in fixtures().into_iter().filter(|fixture| fixture.framing == Sse && fixture.name != "chat_odd_framing.sse") {
        let text = std::str::from_utf8(fixture.bytes).unwrap();
        for line_end in ["\r", "\r\n"] {
            let text = text.replace('\n', line_end);
            assert_eq!(fixture.read(true, [text.as_bytes()]), fixture.expected(true), "{}", fixture.name);
            assert_eq!(fixture.read(false, text.as_bytes().chunks(3)), fixture.expected(false), "{}", fixture.name);
        }
    }
}

#[test]
fn u4_a_huge_final_event_is_read_without_being_held() {
    let begin = r#"data: {"type":"response.completed","response":{"output":[{"text":""#;
    let end = "\"}],\"usage\":{\"input_tokens\":328,\"output_tokens\":52}}}\n\n";
    let mut meter = Meter::new(Responses, Sse);
    meter.push(begin.as_bytes());
    for _ in 0..2000 {
        meter.push(br#"a line of code \n \"usage\":{\"input_tokens\":1} \\"#);
    }
    meter.push(end.as_bytes());
    let report = meter.report();
    assert_eq!(report.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((328, 52)));
    assert!(report.terminated && report.source == Source::Final);
}

#[test]
fn u5_an_endless_line_takes_no_memory_and_ends_nothing() {
    assert!(size_of::<Meter>() <= 640, "{}", size_of::<Meter>());
    let mut meter = Meter::new(OpenAiChat, Sse);
    meter.push(b"data: ");
    for _ in 0..1000 {
        meter.push(&[b'['; 4096]);
    }
    assert_eq!((meter.report().terminated, meter.report().usage), (false, None));
    meter.push(b"\n\ndata: [DONE]\n\n");
    assert!(meter.report().terminated);
}

#[test]
fn u8_usage_in_any_other_place_counts_for_nothing() {
    for (shape, body) in [
        (OpenAiChat, r#"{"choices":[{"usage":{"prompt_tokens":1}}],"x":{"usage":{"prompt_tokens":1}}}"#),
        (OpenAiChat, r#"{"message":{"usage":{"prompt_tokens":1}},"response":{"usage":{"prompt_tokens":1}}}"#),
        (OpenAiChat, r#"{"a":"\"usage\":{\"prompt_tokens\":1}","b":"\\","c":["usage",{"prompt_tokens":1}]}"#),
        (OpenAiChat, r#"[{"usage":{"prompt_tokens":1}}]"#),
        (OpenAiChat, r#"{"usage":{"x":{"prompt_tokens":1},"y":[{"prompt_tokens":1}]}}"#),
        (OpenAiChat, r#"{"usage":[{"prompt_tokens":1}]}"#),
        (OpenAiChat, r#"{"usage":"prompt_tokens","prompt_tokens":1}"#),
        (OpenAiChat, r#"{"usage" {"prompt_tokens":1}}"#),
        (OpenAiChat, r#"{"usage":{"prompt_tokens":1"#),
        (Anthropic, r#"{"content":[{"message":{"usage":{"input_tokens":1}}}],"usage":{"prompt_tokens":1},"input_tokens":1}"#),
        (Responses, r#"{"output":[{"response":{"usage":{"input_tokens":1}}}],"message":{"usage":{"input_tokens":1}}}"#),
        (Shape::None, r#"{"usage":{"prompt_tokens":1,"input_tokens":1}}"#),
    ] {
        let mut meter = Meter::new(shape, Json);
        meter.push(body.as_bytes());
        assert_eq!((meter.report().usage, meter.report().source), (None, Source::None), "{body}");
    }
}

#[test]
fn o6_only_the_whole_terminator_ends_a_stream() {
    for (shape, stream, terminated) in [
        (OpenAiChat, "data: [DONE]\n\n", true),
        (OpenAiChat, "data: [DONE]", true),
        (OpenAiChat, "data:  [DONE] \r\n\r\n", true),
        (OpenAiChat, "data: [DON", false),
        (OpenAiChat, "data: [DONE]x\n\n", false),
        (OpenAiChat, "data: \"[DONE]\"\n\n", false),
        (OpenAiChat, ": [DONE]\n\n", false),
        (OpenAiChat, "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", false),
        (OpenAiChat, "data: {\"error\":null}\n\n", false),
        (OpenAiChat, "data: {\"error\":{}}\n\n", true),
        (Anthropic, "data: {\"type\":\"message_stop\"}\n\n", true),
        (Anthropic, "data: {\"type\":\"ping\",\"x\":\"message_stop\"}\n\n", false),
        (Anthropic, "event: message_stop\n\n", false),
        (Anthropic, "data: [DONE]\n\n", false),
        (Responses, "data: {\"type\":\"response.completed\",\"response\":{}}\n\n", true),
        (Responses, "data: {\"type\":\"response.output_text.done\",\"response\":{}}\n\n", false),
        (Responses, "data: {\"type\":\"error\",\"message\":\"x\"}\n\n", true),
        (OpenAiChat, "", false),
    ] {
        for chunks in [vec![stream.as_bytes()], stream.as_bytes().chunks(1).collect()] {
            let mut meter = Meter::new(shape, Sse);
            chunks.into_iter().for_each(|chunk| meter.push(chunk));
            assert_eq!(meter.report().terminated, terminated, "{stream:?}");
        }
    }
}

#[test]
fn a_json_body_is_terminated_when_its_value_is_closed() {
    for (body, terminated) in [
        ("{}", true),
        (" {\"a\":[1,{\"b\":\"}\"}]} \n", true),
        ("[1]", true),
        ("\"a\"", true),
        ("12", true),
        ("{\"a\":1", false),
        ("{\"a\":\"}", false),
        ("", false),
        ("<html>", false),
    ] {
        let mut meter = Meter::new(OpenAiChat, Json);
        meter.push(body.as_bytes());
        assert_eq!(meter.report().terminated, terminated, "{body}");
    }
}

#[test]
fn u7_labels_are_the_ledgers_words() {
    assert_eq!(
        [Source::Final, Source::Partial, Source::Estimated, Source::None].map(Source::label),
        ["final", "partial", "estimated", "none"]
    );
}

/// Streams made of pieces that matter to the reader, in any order.
pub(super) fn noise() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(
        &[
            "data: ",
            "data:",
            "data",
            "\n",
            "\n\n",
            "\r",
            "\r\n",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "null",
            "12",
            "-1",
            "1e3",
            "\"usage\"",
            "\"error\"",
            "\"choices\":[]",
            "\"type\":\"message_stop\"",
            "\"message\":",
            "\"input_tokens\":5",
            "\"prompt_tokens\":7",
            "{\"usage\":{\"output_tokens\":3}}",
            "{\"response\":{},\"type\":\"response.failed\"}",
            "[DONE]",
            "\u{feff}",
            "é",
            ": c",
            "\"delta\":{\"text\":\"a\"}",
        ][..],
    );
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn u5_every_cut_of_every_fixture_gives_the_same_report(
        which in any::<proptest::sample::Index>(),
        sizes in proptest::collection::vec(0..200usize, 1..30),
        counts_text in any::<bool>(),
    ) {
        let fixtures = fixtures();
        let fixture = which.get(&fixtures);
        prop_assert_eq!(fixture.read(counts_text, cut(fixture.bytes, &sizes)), fixture.expected(counts_text));
    }

    #[test]
    fn u5_every_cut_of_noise_gives_the_same_report(
        stream in noise(),
        sizes in proptest::collection::vec(0..12usize, 1..30),
        shape in proptest::sample::select(&[OpenAiChat, Anthropic, Responses][..]),
        framing in proptest::sample::select(&[Sse, Json][..]),
        counts_text in any::<bool>(),
    ) {
        let read = |chunks: Vec<&[u8]>| {
            let meter = Meter::new(shape, framing);
            let mut meter = if counts_text { meter.counting_text() } else { meter };
            chunks.into_iter().for_each(|chunk| meter.push(chunk));
            meter.report()
        };
        let whole = read(vec![stream.as_bytes()]);
        prop_assert_eq!(read(cut(stream.as_bytes(), &sizes)), whole.clone());
        prop_assert_eq!(read(stream.as_bytes().chunks(1).collect()), whole);
    }

    #[test]
    fn u4_merging_never_lowers_a_count(reports in proptest::collection::vec((0..100u64, 0..100u64, 0..100u64), 1..5)) {
        let mut meter = Meter::new(Anthropic, Sse);
        for (input, read, output) in &reports {
            let counts = format!("\"input_tokens\":{input},\"cache_read_input_tokens\":{read},\"output_tokens\":{output}");
            meter.push(format!("data: {{\"usage\":{{{counts}}}}}\n\n").as_bytes());
        }
        let usage = meter.report().usage.unwrap();
        prop_assert_eq!(Some(usage.input_tokens), reports.iter().map(|report| report.0).max());
        prop_assert_eq!(Some(usage.cache_read_tokens), reports.iter().map(|report| report.1).max());
        prop_assert_eq!(Some(usage.output_tokens), reports.iter().map(|report| report.2).max());
    }
}

/// Cuts bytes into pieces of these sizes, the last one being the rest.
pub(super) fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for size in sizes {
        let (chunk, rest) = bytes.split_at((*size).min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}
