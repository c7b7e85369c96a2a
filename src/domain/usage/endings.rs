//! Tables: what ends a stream, what is an answer at all, when nothing but the usage is missing, and which fields carry output.

use proptest::prelude::*;

use super::Framing::{Json, Sse};
use super::Shape::{Anthropic, OpenAiChat, Responses};
use super::fixtures::cut;
use super::{Framing, Meter, Report, Shape, Source};

fn meter(shape: Shape, framing: Framing) -> Meter {
    Meter::new(shape, framing).counting_text()
}

fn read(mut meter: Meter, stream: &str, pieces: usize) -> Meter {
    stream.as_bytes().chunks(pieces).for_each(|chunk| meter.push(chunk));
    meter
}

fn events<'a>(data: impl IntoIterator<Item = &'a str>) -> String {
    data.into_iter().map(|data| format!("data: {data}\n\n")).collect()
}

const TEXT: &str = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const SECOND: &str = r#"{"choices":[{"index":1,"delta":{"content":"ho"},"finish_reason":null}]}"#;
const SECOND_STOPS: &str = r#"{"choices":[{"finish_reason":"length","index":1,"delta":{}}]}"#;
const TOTALS: &str = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;
const DONE: &str = "[DONE]";

#[test]
fn p5_a_reason_to_end_on_every_choice_ends_a_chat_stream() {
    // The choices asked for, the events; whether it is whole, and whether nothing but the usage is missing.
    for (asked, data, whole, awaits) in [
        (1, vec![TEXT], false, false),
        (1, vec![TEXT, STOP], true, true),
        (1, vec![STOP], true, true),
        (1, vec![TEXT, STOP, TOTALS], true, true),
        (1, vec![TEXT, STOP, TOTALS, DONE], true, false),
        (1, vec![TEXT, STOP, r#"{"choices":[]}"#], true, true),
        // The answer goes on behind it.
        (1, vec![TEXT, STOP, TEXT], false, false),
        (1, vec![TEXT, TEXT, TEXT, STOP, TEXT], false, false),
        (1, vec![TEXT, TEXT, TEXT, STOP, TEXT, STOP], true, true),
        (2, vec![TEXT, STOP], false, false),
        (2, vec![TEXT, SECOND, STOP], false, false),
        (2, vec![TEXT, SECOND, STOP, SECOND, SECOND_STOPS], true, true),
        (2, vec![TEXT, TEXT, STOP, SECOND, SECOND, SECOND, SECOND_STOPS], true, true),
        // One that nobody asked for has begun.
        (1, vec![TEXT, SECOND, STOP], false, false),
        (1, vec![TEXT, SECOND, STOP, SECOND_STOPS], true, true),
        (1, vec![r#"{"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":null}]}"#], false, false),
        (1, vec![r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#], true, true),
        (1, vec![r#"{"choices":[{"text":"x","index":0,"finish_reason":"stop"}]}"#], true, true),
        (1, vec![r#"{"choices":[{"index":0,"finish_reason":""}]}"#], false, false),
        (1, vec![r#"{"choices":[{"index":0,"finish_reason":false}]}"#], false, false),
        (1, vec![r#"{"choices":[{"index":0,"delta":{"finish_reason":"stop"}}],"finish_reason":"stop"}"#], false, false),
        // More choices than are told apart, or with no such number.
        (1, vec![r#"{"choices":[{"index":64,"finish_reason":"stop"}]}"#], false, false),
        (1, vec![r#"{"choices":[{"index":-1,"finish_reason":"stop"}]}"#], false, false),
    ] {
        let stream = events(data.iter().copied());
        for pieces in [1, 7, stream.len()] {
            let meter = read(meter(OpenAiChat, Sse).expecting(asked), &stream, pieces);
            assert_eq!((meter.report().terminated, meter.awaits_usage()), (whole, awaits), "{asked} {data:?}");
        }
    }
    let usage_within = r#"{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;
    let report = read(meter(OpenAiChat, Sse), &events([TEXT, usage_within]), 9).report();
    assert_eq!((report.source, report.usage.unwrap().output_tokens), (Source::Final, 5));
}

#[test]
fn p5_a_stop_reason_in_a_message_delta_ends_a_stream_of_messages() {
    let stop = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}"#;
    for (data, whole, awaits) in [
        (vec![stop], true, true),
        (vec![stop, r#"{"type":"message_stop"}"#], true, false),
        (vec![stop, r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"more"}}"#], false, false),
        (vec![r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":5}}"#], false, false),
        (vec![r#"{"delta":{"stop_reason":"end_turn"},"type":"message_delta"}"#], true, true),
        (vec![r#"{"type":"message_start","message":{"stop_reason":"end_turn"}}"#], false, false),
        (vec![r#"{"type":"content_block_delta","delta":{"stop_reason":"end_turn"}}"#], false, false),
    ] {
        let stream = events(data.iter().copied());
        for pieces in [1, stream.len()] {
            let meter = read(meter(Anthropic, Sse), &stream, pieces);
            assert_eq!((meter.report().terminated, meter.awaits_usage()), (whole, awaits), "{data:?}");
        }
    }
}

const COUNTED: &str = r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":500,"output_tokens":700}}}"#;

#[test]
fn p5_every_terminal_event_of_responses_ends_a_stream_and_only_one_with_usage_closes_the_books() {
    let usage = r#""usage":{"input_tokens":5,"output_tokens":7}"#;
    for kind in ["completed", "incomplete", "failed", "cancelled"] {
        let with = |inner: &str| {
            read(meter(Responses, Sse), &events([&*format!(r#"{{"type":"response.{kind}","response":{{{inner}}}}}"#)]), 5)
        };
        let (counted, silent) = (with(usage), with(r#""usage":null"#));
        assert_eq!(
            (counted.report().terminated, counted.has_ended(), counted.report().source),
            (true, true, Source::Final),
            "{kind}"
        );
        assert_eq!((silent.report().terminated, silent.has_ended()), (true, false), "{kind}");
    }
    let error = read(meter(Responses, Sse), &events([r#"{"type":"error","code":"server_error","message":"x"}"#]), 5);
    assert_eq!((error.report().terminated, error.report().error_event, error.has_ended()), (true, true, false));
    let unknown = read(meter(Responses, Sse), &events([&*format!(r#"{{"type":"response.thought","response":{{{usage}}}}}"#)]), 5);
    assert!(!unknown.report().terminated);
}

#[test]
fn p5_a_damaged_last_word_ends_nothing_however_the_stream_is_cut() {
    for damaged in [
        r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":5,"output"}"#,
        r#"{"type":"response.completed","response":{"id":"r","usage":null}}"#,
        r#"{"type":"response.completed","response":{"id":"r"}"#,
        r#"{"type":"response.completed","response":"#,
        r#"{"type":"response.completed","response":{},}"#,
        r#"{"type":"error","message":"x"#,
        r#"{"type":"error","message":"x"}"#,
    ] {
        let stream = events([damaged, COUNTED]);
        for at in 0..stream.len() {
            let (head, tail) = stream.split_at(at);
            let mut meter = meter(Responses, Sse);
            meter.push(head.as_bytes());
            assert!(!meter.has_ended() || at == stream.len(), "{damaged} at {at}");
            meter.push(tail.as_bytes());
            let usage = meter.report().usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens, meter.has_ended()), (500, 700, true), "{damaged} at {at}");
        }
    }
    let report = read(meter(Anthropic, Sse), &events([r#"{"type":"message_stop"#]), 9).report();
    assert!(!report.terminated && !report.error_event);
}

#[test]
fn p8_a_stream_of_responses_awaits_its_usage_behind_an_output_that_is_whole() {
    let (delta, text_done) =
        (r#"{"type":"response.output_text.delta","delta":"x"}"#, r#"{"type":"response.output_text.done","text":"x"}"#);
    let item_done = r#"{"type":"response.output_item.done","item":{"type":"message"}}"#;
    let next = r#"{"type":"response.output_item.added","item":{"type":"message"}}"#;
    for (data, awaits) in [
        (vec![delta], false),
        (vec![delta, text_done], true),
        (vec![delta, text_done, item_done], true),
        (vec![delta, text_done, item_done, next], false),
        (vec![delta, text_done, delta], false),
        (vec![delta, r#"{"type":"response.reasoning_summary_text.done","text":"x"}"#], false),
        (vec![delta, r#"{"type":"response.function_call_arguments.done","arguments":"{}"}"#], true),
        (vec![delta, r#"{"type":"response.custom_tool_call_input.done","input":"x"}"#], true),
        (vec![delta, r#"{"type":"response.completed","response":{"usage":null}}"#], true),
        (vec![delta, item_done, COUNTED], false),
    ] {
        let meter = read(meter(Responses, Sse), &events(data.iter().copied()), 11);
        assert_eq!(meter.awaits_usage(), awaits, "{data:?}");
    }
    let mut body = meter(OpenAiChat, Json);
    body.push(br#"{"id":"c","choi"#);
    assert!(!body.awaits_usage(), "nothing of it has come");
    body.push(br#"ces":[{"message":{"content":"all of it"}}],"#);
    assert!(body.awaits_usage(), "it was made whole before its first byte left");
    body.push(br#""usage":{"prompt_tokens":1}}"#);
    assert!(!body.awaits_usage());
}

#[test]
fn p6_what_is_an_answer_and_what_is_none() {
    for (shape, framing, body, begun, is_none) in [
        (OpenAiChat, Json, "", false, false),
        (OpenAiChat, Json, "  \n", false, false),
        (OpenAiChat, Json, "<html>login</html>", false, true),
        (OpenAiChat, Json, "(upstream request failed)", false, true),
        (OpenAiChat, Json, "null", false, true),
        (OpenAiChat, Json, "[{\"choices\":[]}]", false, true),
        (OpenAiChat, Json, "\"choices\"", false, true),
        (OpenAiChat, Json, "{}", false, false),
        (OpenAiChat, Json, r#"{"code":500,"data":null,"message":"x"}"#, false, false),
        (OpenAiChat, Json, r#"{"x":{"choices":[],"usage":{}}}"#, false, false),
        (OpenAiChat, Json, r#"{"id":"c","choices":["#, true, false),
        (OpenAiChat, Json, r#"{"usage":{"#, true, false),
        (OpenAiChat, Json, r#"{"data":[{"embedding":"#, true, false),
        (OpenAiChat, Json, r#"{"error":{"message":"x"}}"#, true, false),
        (Anthropic, Json, r#"{"type":"message","content":["#, true, false),
        (Anthropic, Json, r#"{"type":"about:blank","title":"x"}"#, false, false),
        (Responses, Json, r#"{"object":"response","output":[]}"#, true, false),
        (Responses, Json, r#"{"object":"response","error":null}"#, false, false),
        (OpenAiChat, Sse, "data: [DONE]\n\n", false, false),
        (OpenAiChat, Sse, ": beat\n\ndata: {}\n\ndata: oops\n\n", false, false),
        (OpenAiChat, Sse, "<html>login</html>\n\n", false, false),
        (OpenAiChat, Sse, "data: {\"choices\":[]}\n\n", true, false),
        (Anthropic, Sse, "event: ping\ndata: {\"type\":\"ping\"}\n\n", false, false),
        (Anthropic, Sse, "data: {\"type\":\"message_start\"", true, false),
        (Responses, Sse, "data: {\"type\":\"response.created\"}\n\n", true, false),
        (Shape::None, Json, "<html>", true, false),
    ] {
        for pieces in [1, 1000] {
            let meter = read(meter(shape, framing), body, pieces);
            assert_eq!((meter.has_begun(), meter.is_no_answer()), (begun, is_none), "{shape:?} {body}");
        }
    }
}

#[test]
fn p5_an_event_stream_is_one_whatever_its_head_says() {
    for lead in ["", "\n", ": beat\n\n", "event: x\n", "id: 7\n", "retry: 5\n\n"] {
        let stream = format!("{lead}{}", events([TEXT, STOP, TOTALS, DONE]));
        for pieces in [1, stream.len()] {
            let meter = read(meter(OpenAiChat, Json), &stream, pieces);
            assert!(meter.is_stream() && meter.has_ended(), "{lead:?}");
            assert_eq!(meter.report(), read(self::meter(OpenAiChat, Sse), &stream, pieces).report(), "{lead:?}");
        }
    }
}

/// Fifty bytes of output, wherever they stand.
const FIFTY: &str = "fifty bytes of output, of whatever kind they may be";

#[test]
fn p8_text_counts_in_every_field_that_carries_output() {
    let fifty = FIFTY.len() as u64;
    let chat = |delta: &str| format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
    let block = |delta: &str| format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#);
    let rows: Vec<(Shape, String, u64)> = [
        (r#"{"content":"$"}"#, 1),
        (r#"{"role":"assistant","refusal":"$"}"#, 1),
        (r#"{"reasoning_content":"$"}"#, 1),
        (r#"{"reasoning":"$","reasoning_details":[{"type":"reasoning.text","text":"$","index":0}]}"#, 1),
        (r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"$","id":"r"}]}"#, 1),
        (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"$"}]},{"type":"text","text":"$"}]}"#, 2),
        (r#"{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"arguments":"$"}}]}"#, 1),
        (r#"{"tool_calls":[{"index":0,"type":"custom","custom":{"input":"$"}}]}"#, 1),
        (r#"{"function_call":{"arguments":"$"}}"#, 1),
        (r#"{"audio":{"id":"a","transcript":"$","expires_at":1}}"#, 1),
        (r#"{"audio":{"id":"a","data":"$"}}"#, 1),
        (r#"{"images":[{"type":"image_url","image_url":{"url":"$"}}]}"#, 1),
        (r#"{"annotations":[{"type":"url_citation","url_citation":{"title":"$","url":"$"}}]}"#, 2),
        (r#"{"something_new":"$","another":{"deep":[["$"],{"x":"$"}]}}"#, 3),
    ]
    .map(|(delta, times)| (OpenAiChat, chat(delta), times))
    .into_iter()
    .chain(
        [
            (r#"{"type":"text_delta","text":"$"}"#, 1),
            (r#"{"type":"thinking_delta","thinking":"$"}"#, 1),
            (r#"{"type":"input_json_delta","partial_json":"$"}"#, 1),
            (r#"{"type":"signature_delta","signature":"$"}"#, 1),
            (r#"{"type":"citations_delta","citation":{"type":"char_location","cited_text":"$","document_index":0}}"#, 1),
            (r#"{"type":"compaction_delta","content":"$"}"#, 1),
            (r#"{"type":"new_delta","payload":{"pieces":["$","$"]}}"#, 2),
        ]
        .map(|(delta, times)| (Anthropic, block(delta), times)),
    )
    .chain(
        [
            (r#"{"type":"redacted_thinking","data":"$"}"#, 1),
            (r#"{"type":"tool_use","id":"t","name":"","input":{"a":"$"}}"#, 1),
            (r#"{"type":"compaction","content":"$"}"#, 1),
            (r#"{"type":"web_search_tool_result","tool_use_id":"t","content":[{"title":"$"}]}"#, 0),
        ]
        .map(|(block, times)| {
            (Anthropic, format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#), times)
        }),
    )
    .chain(
        [
            (r#"{"type":"response.output_text.delta","item_id":"m","delta":"$","obfuscation":"xyz"}"#, 1),
            (r#"{"type":"response.function_call_arguments.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.custom_tool_call_input.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.mcp_call_arguments.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.mcp_call_arguments.delta","delta":{"arguments":"$"}}"#, 1),
            (r#"{"type":"response.audio.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.audio.transcript.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.refusal.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.reasoning_summary_text.delta","delta":"$"}"#, 1),
            (r#"{"type":"response.image_generation_call.partial_image","partial_image_index":0,"partial_image_b64":"$"}"#, 1),
            (r#"{"type":"response.output_item.done","item":{"id":"i","type":"image_generation_call","result":"$"}}"#, 1),
            (r#"{"type":"response.output_item.done","item":{"type":"reasoning","summary":[],"encrypted_content":"$"}}"#, 1),
            (r#"{"type":"response.output_item.done","item":{"type":"mcp_call","arguments":"$","output":"of the tool"}}"#, 1),
            (r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"$","logprobs":[{"token":"x"}]}]}]}}"#, 1),
            (r#"{"type":"response.output_text.done","text":"repeated"}"#, 0),
        ]
        .map(|(event, times)| (Responses, event.to_owned(), times)),
    )
    .collect();
    for (shape, event, times) in rows {
        let stream = events([&*event.replace('$', FIFTY)]);
        for pieces in [1, stream.len()] {
            let report = read(meter(shape, Sse), &stream, pieces).report();
            assert_eq!(report.text_bytes, times * fifty, "{event}");
        }
    }
}

#[test]
fn p8_what_deltas_and_whole_items_say_twice_counts_once() {
    let deltas = [r#"{"type":"response.output_text.delta","delta":"twelve bytes"}"#; 3];
    let item = r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"text":"thirty-six bytes, the very same ones"}]}}"#;
    let report = read(meter(Responses, Sse), &events(deltas.into_iter().chain([item])), 9).report();
    assert_eq!(report.text_bytes, 36);
    let alone = read(meter(Responses, Sse), &events([item, item]), 9).report();
    assert_eq!(alone.text_bytes, 72, "of a server that sends no deltas");
}

/// Events of all kinds, whole and damaged.
const PIECES: &[&str] = &[
    TEXT,
    STOP,
    SECOND,
    SECOND_STOPS,
    TOTALS,
    DONE,
    COUNTED,
    r#"{"error":{"message":"x"}}"#,
    r#"{"error":{"message":"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_stop"}"#,
    r#"{"type":"message_stop"#,
    r#"{"type":"response.completed","response":{"usage":{"input_tokens":5,"#,
    r#"{"type":"response.failed","response":{"usage":null}}"#,
    r#"{"type":"response.output_item.done","item":{"type":"x","result":["abc",{"y":"def"}]}}"#,
    r#"{"type":"content_block_delta","delta":{"signature":"abc"}}"#,
];

proptest! {
    #[test]
    fn p5_the_result_does_not_depend_on_how_the_network_cut_the_stream(
        data in prop::collection::vec(prop::sample::select(PIECES), 0..9),
        sizes in prop::collection::vec(0..60usize, 1..30),
        shape in prop::sample::select(&[OpenAiChat, Anthropic, Responses][..]),
        asked in 1..3u64,
    ) {
        let stream = events(data);
        let say = |meter: &Meter| -> (Report, bool, bool, bool) {
            (meter.report(), meter.has_ended(), meter.has_begun(), meter.awaits_usage())
        };
        let whole = read(meter(shape, Sse).expecting(asked), &stream, stream.len().max(1));
        let mut pieces = meter(shape, Sse).expecting(asked);
        // The books are closed at the last word: what comes in a later read can't count.
        for chunk in cut(stream.as_bytes(), &sizes) {
            if !pieces.has_ended() {
                pieces.push(chunk);
            }
        }
        prop_assert_eq!(say(&pieces), say(&whole));
    }
}
