//! How a request ended, and what its line and the counters say of it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::*;
use crate::domain::settings::LogFormat;
use crate::ops::watch::access_log::AccessLog;
use crate::relay::dispatch::Dispatch;
use crate::relay::failure::{Broke, Failure, LastWord, Offer, Reached};
use crate::relay::judge::{HeadSeen, Heard};
use crate::relay::testing::{House, ONE_KEY, START, headers, later, troll_direct};

const MESSAGES: &str = "/v1/messages";
const ANSWER: &str = "data: {\"type\":\"message_start\"}\n\n";

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A house whose access log can be read.
fn heard(config: &str) -> (House, Sink) {
    let (mut house, sink) = (House::new(config), Sink::default());
    house.records.access_log = Arc::new(AccessLog::with_bound(LogFormat::Json, sink.clone(), 1 << 20));
    (house, sink)
}

fn line(house: &House, sink: &Sink) -> Value {
    house.records.access_log.close();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one line a request: {text}");
    serde_json::from_str(&text).unwrap()
}

fn head(dispatch: &mut Dispatch, status: u16, pairs: &[(&str, &str)]) {
    let headers = headers(pairs);
    dispatch
        .head(HeadSeen { status, version: http::Version::HTTP_11, headers: &headers }, later(START, Duration::from_millis(40)));
}

fn broke() -> Failure {
    Failure::Broke(Broke { is_lost: true, was_kept: false, timed_out: false, offer: Offer::No, detail: "it broke".to_owned() })
}

#[test]
fn u7_how_a_request_ended_whose_books_nobody_has_closed() {
    let sse: &[(&str, &str)] = &[("content-type", "text/event-stream")];
    let error_event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    // What the client got of the answer; what then failed; whether the engine says so → how it ended.
    let rows: &[(Option<&str>, Option<Failure>, bool, End)] = &[
        (Some(ANSWER), None, false, End::Ok),
        (Some("data: {}\n\n"), None, false, End::UpstreamError),
        (Some(ANSWER), None, true, End::ClientGone),
        (Some("data: {}\n\n"), None, true, End::ClientGone),
        (Some("data: {}\n\n"), Some(Failure::ClientGone), true, End::ClientGone),
        (Some(error_event), Some(Failure::ClientGone), true, End::UpstreamError),
        (Some(error_event), None, false, End::UpstreamError),
        (Some("data: {}\n\n"), Some(broke()), true, End::UpstreamCut),
        (Some("data: {}\n\n"), Some(Failure::Stopping), true, End::Interrupted),
        (None, Some(Failure::ClientGone), true, End::ClientGone),
        (None, Some(broke()), true, End::UpstreamError),
        (None, Some(Failure::TooLate), true, End::UpstreamError),
        (None, Some(Failure::BodyTooSlow), true, End::Refused),
        (None, Some(Failure::Stopping), true, End::Interrupted),
        (None, Some(Failure::Internal { detail: String::new() }), true, End::Refused),
    ];
    for (body, failure, failed, expected) in rows {
        let house = House::new(ONE_KEY);
        let mut dispatch = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
        dispatch.begin(START.moment);
        if let Some(body) = body {
            head(&mut dispatch, 200, sse);
            let mut chunk = Some(Bytes::copy_from_slice(body.as_bytes()));
            let _ = dispatch.walk_mut().bytes(&mut chunk, false, false);
        }
        if let Some(failure) = failure {
            dispatch.walk_mut().last_word(failure, Reached { begun: body.is_some(), held: false });
        }
        assert_eq!(dispatch.walk().how_it_ended(*failed), *expected, "{body:?}, {failure:?}");
    }
}

#[test]
fn u7_a_client_that_can_not_be_told_is_gone_and_one_that_has_the_rest_is_not() {
    let house = House::new(ONE_KEY);
    let mut dispatch = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
    dispatch.begin(START.moment);
    let (word, _) = dispatch.walk_mut().last_word(&broke(), Reached::default());
    assert!(matches!(word, LastWord::Whole(_)));
    dispatch.walk_mut().said(&word, false);
    assert_eq!(dispatch.walk().how_it_ended(true), End::ClientGone);

    let mut whole = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
    whole.begin(START.moment);
    head(&mut whole, 200, &[("content-type", "text/event-stream")]);
    let mut chunk = Some(Bytes::from_static(b"data: {\"type\":\"message_stop\"}\n\n"));
    whole.walk_mut().bytes(&mut chunk, false, false).unwrap();
    let (word, end) = whole.walk_mut().last_word(&broke(), Reached { begun: true, held: false });
    assert_eq!((&word, end), (&LastWord::Rest(Bytes::new()), Some(End::Ok)), "the stream had said its last word");
    whole.walk_mut().said(&word, true);
    assert_eq!(whole.walk().how_it_ended(true), End::Ok);
}

#[test]
fn p6_a_stream_without_an_event_is_no_answer() {
    let house = House::new(ONE_KEY);
    let mut dispatch = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
    dispatch.begin(START.moment);
    head(&mut dispatch, 200, &[("content-type", "text/event-stream")]);
    assert!(dispatch.walk().must_have_events());
    dispatch.walk_mut().had_no_event();
    assert_eq!(dispatch.walk().how_it_ended(false), End::UpstreamError);
}

#[test]
fn l1_the_line_of_a_request_that_was_carried_by_the_second_key() {
    let (house, sink) = heard(&troll_direct(""));
    let mut dispatch = house.dispatch(MESSAGES).unwrap_or_else(|_| panic!("it can be carried"));
    dispatch.begin(START.moment);
    head(&mut dispatch, 429, &[]);
    assert_eq!(dispatch.hear(None, true, START), Heard::Again { status: 429 });
    dispatch.begin(START.moment);
    dispatch.connected(later(START, Duration::from_millis(10)).moment);
    head(&mut dispatch, 200, &[("content-type", "application/json"), ("request-id", "req_theirs")]);
    let mut chunk = Some(Bytes::from_static(br#"{"usage":{"input_tokens":3,"output_tokens":4}}"#));
    let end = dispatch.walk_mut().bytes(&mut chunk, true, false).unwrap().unwrap();
    let done = later(START, Duration::from_millis(100));
    dispatch.end(end, done).0.record(done.moment);
    let line = line(&house, &sink);
    let expected = json!({
        "client": "anonymous", "method": "POST", "path": MESSAGES, "model": "m", "upstream": "troll", "key": "k2",
        "skipped": "k1:rate_limited", "attempts": 2, "status": 200, "end": "ok", "source": "final", "input_tokens": 3,
        "output_tokens": 4, "upstream_request_id": "req_theirs", "connect_ms": 10.0, "first_byte_ms": 40.0, "total_ms": 100.0,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} of {line}");
    }
    assert!(!line.to_string().contains("canary"), "{line}");
    let seen = house.records.counters.snapshot();
    assert_eq!((seen.in_flight, seen.by_class), (0, [0, 0, 1, 0, 0, 0]));
}

#[test]
fn l1_the_line_of_what_the_gateway_said_itself() {
    let rows =
        [(r#"{"model":"m","model":"n"}"#, 400_u64, "bad_body", None), (r#"{"model":"m"}"#, 500, "not_configured", Some("main"))];
    for (body, status, refusal, upstream) in rows {
        let config = r#"{"auth":{"mode":"none"},"models":[{"id":"m","upstream":"main"}]}"#;
        let (house, sink) = heard(config);
        let local = house.admit(MESSAGES, &HeaderMap::new(), body).err().unwrap();
        let ended = local.end();
        local.record(ended, START.moment);
        let line = line(&house, &sink);
        let told = (line["status"].as_u64(), line["end"].as_str(), line["refusal"].as_str(), line["upstream"].as_str());
        assert_eq!(told, (Some(status), Some("refused"), Some(refusal), upstream), "{line}");
        assert_eq!((line["attempts"].as_u64(), line.get("key")), (Some(0), None), "{line}");
    }
}

#[test]
fn l1_a_request_that_is_dropped_on_the_way_has_its_line() {
    let (house, sink) = heard(ONE_KEY);
    house.arrived(Method::POST, MESSAGES).interrupted(later(START, Duration::from_millis(7)).moment);
    let line = line(&house, &sink);
    assert_eq!(
        (line["end"].as_str(), line["status"].as_u64(), line["total_ms"].as_f64()),
        (Some("interrupted"), Some(0), Some(7.0))
    );
}
