//! Bytes in, bytes out: what passes, what is kept back, what an answer without an end becomes.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::domain::answer::Refusal;
use crate::domain::end::End;
use crate::relay::dispatch::{Broken, Dispatch};
use crate::relay::judge::{HeadSeen, Heard, Next};
use crate::relay::testing::{House, ONE_KEY, START, headers, later};

const SSE: (&str, &str) = ("content-type", "text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");
const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// A request whose head has come.
struct Under {
    house: House,
    dispatch: Dispatch,
}

impl Under {
    fn head(path: &str, status: u16, pairs: &[(&str, &str)]) -> Self {
        Self::version(path, status, pairs, http::Version::HTTP_11)
    }

    fn version(path: &str, status: u16, pairs: &[(&str, &str)], version: http::Version) -> Self {
        Self::of(ONE_KEY, path, status, pairs, version)
    }

    fn of(config: &str, path: &str, status: u16, pairs: &[(&str, &str)], version: http::Version) -> Self {
        let house = House::new(config);
        let mut dispatch = house.dispatch(path).unwrap_or_else(|_| panic!("it can be carried"));
        dispatch.begin(START.moment);
        let headers: HeaderMap = headers(pairs);
        let next = dispatch.head(HeadSeen { status, version, headers: &headers }, START);
        assert!(matches!(next, Next::Pass(_) | Next::Hear { .. }), "{next:?}");
        Self { house, dispatch }
    }

    /// Sends the pieces, the last one as the end; what the client gets, and how the answer ended.
    fn pass(&mut self, pieces: &[&str]) -> (String, Result<Option<End>, Broken>) {
        let (mut out, mut ended) = (String::new(), Ok(None));
        for (nth, piece) in pieces.iter().enumerate() {
            let mut chunk = (!piece.is_empty()).then(|| Bytes::copy_from_slice(piece.as_bytes()));
            let passed = self.dispatch.walk_mut().bytes(&mut chunk, nth + 1 == pieces.len(), false);
            out.push_str(&chunk.map(|chunk| String::from_utf8(chunk.to_vec()).unwrap()).unwrap_or_default());
            match passed {
                Ok(now) => ended = ended.map(|before| before.or(now)),
                Err(broken) => return (out, Err(broken)),
            }
        }
        (out, ended)
    }

    fn refusal(&self) -> Option<&'static str> {
        self.dispatch.walk().refusal.as_ref().map(Refusal::label)
    }
}

/// The beginning of an answer of whatever API.
const BEGUN: &str = "data: {\"type\":\"x\",\"choices\":[]}\n\n";
const DONE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";

#[test]
fn o1_a_stream_passes_byte_for_byte_however_it_is_cut() {
    let mut all = Under::head(MESSAGES, 200, &[SSE]);
    let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5}}}\n\n: ping\n\n\
                  event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    assert_eq!(all.pass(&[stream, ""]), (stream.to_owned(), Ok(Some(End::Ok))));
    for at in 1..stream.len() {
        let mut cut = Under::head(MESSAGES, 200, &[SSE]);
        let (head, tail) = stream.split_at(at);
        assert_eq!(cut.pass(&[head, tail, ""]), (stream.to_owned(), Ok(Some(End::Ok))), "cut at {at}");
        let report = cut.dispatch.walk().delivery.report().unwrap();
        assert_eq!(report.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((5, 7)), "cut at {at}");
    }
}

#[test]
fn u6_the_chunk_that_we_asked_for_is_taken_out_again() {
    let mut under = Under::head(CHAT, 200, &[SSE]);
    let (client, ended) = under.pass(&[DONE, ""]);
    assert!(!client.contains("usage") && client.ends_with("data: [DONE]\n\n"), "{client}");
    assert_eq!(ended, Ok(Some(End::Ok)));
    let report = under.dispatch.walk().delivery.report().unwrap();
    assert_eq!(report.usage.map(|usage| usage.output_tokens), Some(3));
}

#[test]
fn g1_the_books_close_with_the_last_word_and_not_with_the_connection() {
    let mut under = Under::head(MESSAGES, 200, &[SSE]);
    let mut chunk = Some(Bytes::from_static(b"data: {\"type\":\"message_stop\"}\n\n"));
    assert_eq!(under.dispatch.walk_mut().bytes(&mut chunk, false, false), Ok(Some(End::Ok)));
    assert!(chunk.is_some(), "the word itself leaves after the books are closed");
}

#[test]
fn o6_a_stream_without_its_terminator_ends_in_an_error_event() {
    for (path, event) in [(MESSAGES, "event: error\n"), (CHAT, "data: {\"error\""), ("/v1/responses", "response.failed")] {
        let mut under = Under::head(path, 200, &[SSE]);
        let (client, ended) = under.pass(&[BEGUN, ""]);
        assert!(client.starts_with(BEGUN) && client.contains(event), "{path}: {client}");
        assert!(!client.contains("[DONE]"), "{path}: never a clean end");
        assert_eq!((ended, under.refusal()), (Ok(Some(End::UpstreamCut)), Some("upstream_cut")), "{path}");
    }
}

#[test]
fn o6_a_held_stream_without_its_terminator_is_an_error_and_not_an_event() {
    let mut under = Under::head(MESSAGES, 200, &[SSE]);
    let mut chunk = Some(Bytes::from_static(BEGUN.as_bytes()));
    assert_eq!(under.dispatch.walk_mut().bytes(&mut chunk, true, true), Err(Broken::Unfit));
    assert_eq!(under.refusal(), Some("upstream_cut"));
}

#[test]
fn o6_the_half_of_an_event_is_left_out_whatever_the_connection_says() {
    let whole = BEGUN;
    for path in [MESSAGES, CHAT] {
        for half in ["d", "data: {\"ha", "data: {\"half\":1}", "data: {\"half\":1}\n", "event: x\ndata: {}"] {
            let mut under = Under::head(path, 200, &[SSE]);
            let (client, ended) = under.pass(&[&format!("{whole}{half}"), ""]);
            let event = client.strip_prefix(whole).unwrap_or_else(|| panic!("{path}, {half:?}: {client}")).trim_start();
            assert!(event.starts_with(if path == MESSAGES { "event: error\n" } else { "data: {\"error\"" }), "{half:?}: {event}");
            assert_eq!(ended, Ok(Some(End::UpstreamCut)), "{path}, {half:?}");
        }
    }
}

#[test]
fn u7_an_error_event_of_the_provider_is_its_error() {
    let mut under = Under::head(MESSAGES, 200, &[SSE]);
    let stream = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
    assert_eq!(under.pass(&[stream, ""]), (stream.to_owned(), Ok(Some(End::UpstreamError))));
}

#[test]
fn o2_json_passes_as_it_is_whatever_it_says() {
    for (body, end) in [
        (r#"{"usage":{"input_tokens":1,"output_tokens":2}}"#, End::Ok),
        ("no json at all", End::UpstreamError),
        ("{\"content\":[],\"half\":", End::UpstreamError),
    ] {
        let mut under = Under::head(MESSAGES, 200, &[JSON, ("content-length", "9")]);
        assert_eq!(under.pass(&[body, ""]), (body.to_owned(), Ok(Some(end))), "{body}");
        let mut other = Under::head("/v1/rerank", 200, &[JSON, ("content-length", "9")]);
        assert_eq!(
            other.pass(&[body, ""]),
            (body.to_owned(), Ok(Some(End::Ok))),
            "of others nobody knows what they answer: {body}"
        );
    }
}

#[test]
fn o6_json_that_ends_with_the_connection_alone_must_be_whole() {
    let mut cut = Under::head(MESSAGES, 200, &[JSON]);
    assert_eq!(cut.pass(&["{\"content\":[],\"half\":", ""]).1, Err(Broken::Unfit));
    assert_eq!(cut.refusal(), Some("upstream_cut"));
    let mut whole = Under::head(MESSAGES, 200, &[JSON]);
    assert_eq!(whole.pass(&["{\"content\":[],\"half\":1}", ""]).1, Ok(Some(End::Ok)));
    let mut framed = Under::version(MESSAGES, 200, &[JSON], http::Version::HTTP_2);
    let passed = framed.pass(&["{\"content\":[],\"half\":", ""]);
    assert_eq!(passed.1, Ok(Some(End::UpstreamError)), "HTTP/2 says itself where a body ends: every byte passes");
}

#[test]
fn o8_a_key_of_ours_stops_the_answer_wherever_it_is_cut() {
    let body = "data: {\"text\":\"canary-main-key\"}\n\n";
    for at in 1..body.len() {
        let mut under = Under::head(MESSAGES, 200, &[SSE]);
        let (head, tail) = body.split_at(at);
        let (client, ended) = under.pass(&[head, tail, ""]);
        assert!(!client.contains("canary-main-key"), "cut at {at}: {client}");
        assert_eq!((ended, under.refusal()), (Err(Broken::Unfit), Some("leak_stopped")), "cut at {at}");
        let notes = under.dispatch.walk_mut().take_notes();
        assert!(notes.iter().any(|note| note.text.contains("ALARM")) && notes.iter().all(|n| !n.text.contains("canary")));
    }
}

#[test]
fn o3_a_providers_error_becomes_ours_when_its_body_is_whole() {
    let mut under = Under::head(MESSAGES, 400, &[JSON]);
    let theirs = r#"{"error":{"message":"max_tokens is too large at main.example.com"}}"#;
    let (first, rest) = theirs.split_at(21);
    assert_eq!(under.dispatch.hear(Some(&Bytes::from_static(first.as_bytes())), false, START), Heard::More);
    assert!(under.dispatch.walk().is_hearing());
    let Heard::Replace(ours) = under.dispatch.hear(Some(&Bytes::from_static(rest.as_bytes())), true, START) else {
        panic!("it has ended")
    };
    let client = String::from_utf8(ours.body.to_vec()).unwrap();
    assert!(client.contains("max_tokens is too large") && !client.contains("main.example.com"), "{client}");
    assert!(!under.dispatch.walk().is_hearing());
    assert_eq!(under.dispatch.walk_mut().take_notes().len(), 1, "the original goes into the log, once");
}

#[test]
fn o3_nobody_waits_for_an_error_without_end() {
    let mut under = Under::head(MESSAGES, 400, &[JSON]);
    let piece = Bytes::from("x".repeat(40_000));
    assert_eq!(under.dispatch.hear(Some(&piece), false, START), Heard::More);
    assert_eq!(under.dispatch.hear(Some(&piece), false, START), Heard::TooLong);
}

#[test]
fn h4_what_is_compressed_passes_and_is_read_all_the_same() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(br#"{"usage":{"input_tokens":11,"output_tokens":22}}"#).unwrap();
    let body = Bytes::from(gzip.finish().unwrap());
    let mut under = Under::head(MESSAGES, 200, &[JSON, ("content-encoding", "gzip"), ("content-length", "60")]);
    let mut chunk = Some(body.clone());
    assert_eq!(under.dispatch.walk_mut().bytes(&mut chunk, true, false), Ok(Some(End::Ok)));
    assert_eq!(chunk, Some(body));
    let usage = under.dispatch.walk().delivery.report().unwrap().usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (11, 22));
}

#[test]
fn a_body_without_a_head_is_out_of_turn() {
    let house = House::new(ONE_KEY);
    let mut dispatch = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
    dispatch.begin(START.moment);
    let mut chunk = Some(Bytes::from_static(b"bytes"));
    assert_eq!(dispatch.walk_mut().bytes(&mut chunk, true, false), Err(Broken::NoHead));
}

#[test]
fn l1_streams_are_counted_while_they_are_open() {
    let under = Under::head(MESSAGES, 200, &[SSE]);
    let counters = under.house.records.counters.clone();
    assert_eq!((counters.snapshot().open_streams, counters.in_flight()), (1, 1));
    let (ended, _) = under.dispatch.end(End::Ok, later(START, Duration::from_millis(5)));
    ended.record(later(START, Duration::from_millis(5)).moment);
    assert_eq!((counters.snapshot().open_streams, counters.in_flight()), (0, 0));
}

/// An upstream that gets no key of ours, so that none can come back.
const NO_KEY: &str = r#"{"auth":{"mode":"none"},"models":[{"id":"m","upstream":"x","input_price_per_mtok":1,"output_price_per_mtok":2}],
  "upstreams":{"x":{"base_url":"https://x.example.com"}}}"#;

fn gzipped(text: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn a7_beyond_the_bound_an_answer_without_a_key_passes_and_its_bill_is_an_estimate() {
    let usage = br#"{"usage":{"input_tokens":11,"output_tokens":22},"padding":""#;
    let body = gzipped(&[&usage[..], &vec![b' '; 40 << 20], b"\"}"].concat());
    let pairs = [JSON, ("content-encoding", "gzip"), ("content-length", "60")];
    let mut under = Under::of(NO_KEY, MESSAGES, 200, &pairs, http::Version::HTTP_11);
    let mut passed = Vec::new();
    let pieces: Vec<&[u8]> = body.chunks(4_000).chain([&[][..]]).collect();
    for (nth, piece) in pieces.iter().enumerate() {
        let mut chunk = Some(Bytes::copy_from_slice(piece));
        under.dispatch.walk_mut().bytes(&mut chunk, nth + 1 == pieces.len(), false).unwrap();
        passed.extend_from_slice(&chunk.unwrap_or_default());
    }
    assert_eq!(passed, body);
    let (ended, _) = under.dispatch.end(End::Ok, later(START, Duration::from_millis(5)));
    ended.record(later(START, Duration::from_millis(5)).moment);
    assert_eq!(under.house.closes()[0]["source"], "estimated");
}

#[test]
fn a8_what_cannot_be_read_is_refused_where_a_key_could_be_in_it() {
    for pair in
        [("content-encoding", "compress"), ("content-encoding", "gzip, br"), ("content-type", "text/plain; charset=ibm037")]
    {
        let house = House::new(ONE_KEY);
        let mut dispatch = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
        dispatch.begin(START.moment);
        let headers = headers(&[pair]);
        let next = dispatch.head(HeadSeen { status: 200, version: http::Version::HTTP_11, headers: &headers }, START);
        assert!(matches!(next, Next::Unusable { .. }), "{pair:?}: {next:?}");
        let refusal = dispatch.walk().refusal.clone().unwrap();
        let said = pair.1.rsplit('=').next().unwrap();
        assert!(refusal.label() == "unreadable" && refusal.to_string().contains(said), "{refusal}");
        assert_eq!(refusal.answer().status, 502);
        // Where no key was sent none can come back.
        let mut under = Under::of(NO_KEY, MESSAGES, 200, &[pair], http::Version::HTTP_2);
        assert_eq!(under.pass(&["any", " bytes", ""]), ("any bytes".to_owned(), Ok(Some(End::Ok))));
    }
}

#[test]
fn a8_a_broken_encoding_is_cut_and_no_byte_of_it_passes() {
    let gzip = |bytes: Vec<u8>| {
        let mut under = Under::head(MESSAGES, 200, &[JSON, ("content-encoding", "gzip"), ("content-length", "60")]);
        let mut chunk = Some(Bytes::from(bytes));
        let passed = under.dispatch.walk_mut().bytes(&mut chunk, true, false);
        (passed, chunk, under.refusal())
    };
    let whole = gzipped(br#"{"content":[1]}"#);
    assert_eq!(gzip(whole.clone()), (Ok(Some(End::Ok)), Some(Bytes::from(whole.clone())), None));
    for broken in [
        b"{\"not\":\"gzip\"}".to_vec(),
        [&whole[..], b"canary-main-ke"].concat(),
        [&whole[..], &whole[..9], b"junk junk"].concat(),
    ] {
        assert_eq!(gzip(broken), (Err(Broken::Unfit), None, Some("unreadable")));
    }
    let base64 = gzipped(br#"{"a":"Y2FuYXJ5LW1haW4ta2V5"}"#);
    assert_eq!(gzip(base64), (Err(Broken::Unfit), None, Some("leak_stopped")));
}

#[test]
fn a8_a_key_in_another_spelling_or_form_stops_the_answer_wherever_it_is_cut() {
    for form in [
        r"\u0063anary-main-key",
        r"canary\u002Dmain\u002dkey",
        "Y2FuYXJ5LW1haW4ta2V5",
        "canary%2Dmain%2dkey",
        "63616e6172792d6d61696e2d6b6579",
    ] {
        let body = format!("data: {{\"text\":\"{form}\"}}\n\n");
        for at in 1..body.len() {
            let mut under = Under::head(MESSAGES, 200, &[SSE]);
            let (head, tail) = body.split_at(at);
            let (_, ended) = under.pass(&[head, tail, ""]);
            assert_eq!((ended, under.refusal()), (Err(Broken::Unfit), Some("leak_stopped")), "{form} cut at {at}");
        }
    }
}

#[test]
fn a7_of_a_compressed_error_no_more_is_decoded_than_a_message_has() {
    let mut under = Under::head(MESSAGES, 400, &[JSON, ("content-encoding", "gzip")]);
    let body = gzipped(&[&br#"{"error":{"message":""#[..], &vec![b'x'; 64 << 20], b"\"}}"].concat());
    assert_eq!(under.dispatch.hear(Some(&Bytes::from(body[..60_000].to_vec())), false, START), Heard::More);
    let Heard::Replace(ours) = under.dispatch.hear(None, true, START) else { panic!("it has ended") };
    let client = String::from_utf8(ours.body.to_vec()).unwrap();
    assert!(client.contains("error") && client.len() < 1_000, "{client}");
}

#[test]
fn a7_an_answer_in_crumbs_pauses_and_one_in_events_does_not() {
    for (piece, pauses) in [("x", true), ("data: {\"choices\":[]}\n\n", false)] {
        let mut under = Under::head(CHAT, 200, &[JSON]);
        let mut paused = Duration::ZERO;
        for _ in 0..1_000 {
            let mut chunk = Some(Bytes::from_static(piece.as_bytes()));
            under.dispatch.walk_mut().bytes(&mut chunk, false, false).unwrap_or_else(|_| panic!("it passes"));
            assert_eq!(chunk.as_deref(), Some(piece.as_bytes()));
            paused += under.dispatch.walk_mut().take_pause().unwrap_or_default();
        }
        assert_eq!(paused > Duration::ZERO, pauses, "{piece}: {paused:?}");
        assert!(paused < Duration::from_millis(100));
    }
}
