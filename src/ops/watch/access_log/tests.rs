//! The access log on sinks that block, fail and tear: nothing waits, nothing is lost without a count.

use std::io;
use std::sync::mpsc;

use super::*;
use crate::domain::answer::Refusal;
use crate::domain::billing::NanoUsd;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::end::End;
use crate::domain::id::RequestId;
use crate::domain::usage::{Source, Usage};

static WRONG_KEY: Refusal = Refusal::WrongKey;

fn full(id: &RequestId) -> AccessEntry<'_> {
    AccessEntry {
        id,
        opened_at_unix_ms: 1_767_225_599_001,
        client: Some("c-1"),
        method: "POST",
        path: "/v1/messages",
        api: Api::Messages,
        dialect: Dialect::Anthropic,
        model: Some("claude-opus-4-5"),
        upstream_model: Some("claude-opus-4-5-20251101"),
        rule: Some("model"),
        upstream: Some("troll"),
        endpoint: Some("llm.example.com:8443"),
        proxy: Some("p1"),
        key: Some("k2"),
        skipped: Some("p3:down,k1:rate_limited"),
        upstream_request_id: Some("req_9"),
        attempts: 2,
        status: 200,
        end: End::Ok,
        refusal: None,
        stream: true,
        source: Source::Final,
        usage: Some(Usage {
            input_tokens: 500,
            cache_write_tokens: 200,
            cache_write_1h_tokens: 10,
            cache_read_tokens: 300,
            output_tokens: 501,
            ..Usage::default()
        }),
        cost: Some(NanoUsd::from_nanos(11_808_000)),
        request_bytes: 1_024,
        response_bytes: 65_537,
        peek: Some(Duration::from_nanos(1_999)),
        connect: Some(Duration::from_micros(750)),
        first_byte: Some(Duration::from_micros(12_045)),
        total: Duration::from_millis(61_000),
    }
}

fn refused(id: &RequestId) -> AccessEntry<'_> {
    AccessEntry {
        client: None,
        model: None,
        upstream_model: None,
        rule: None,
        upstream: None,
        endpoint: None,
        proxy: None,
        key: None,
        skipped: None,
        upstream_request_id: None,
        attempts: 0,
        status: 401,
        end: End::Refused,
        refusal: Some(&WRONG_KEY),
        stream: false,
        source: Source::None,
        usage: None,
        cost: None,
        peek: None,
        connect: None,
        first_byte: None,
        total: Duration::from_micros(42),
        ..full(id)
    }
}

fn line_of(format: LogFormat, entry: &AccessEntry<'_>) -> String {
    let mut out = Vec::new();
    entry::write_line(&mut out, format, entry);
    String::from_utf8(out).unwrap()
}

fn id() -> RequestId {
    RequestId::new(0, [0; 10])
}

/// A text line without its quoted values, as a reader of logfmt finds them.
fn outside_of_quotes(line: &str) -> String {
    let (mut out, mut is_quoted, mut is_escaped) = (String::new(), false, false);
    for character in line.chars() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            shown => out.push(shown),
        }
    }
    assert!(!is_quoted, "a quote is left open: {line}");
    out
}

/// A sink that takes a write only when told to, and shows what it took.
struct Gated {
    admit: mpsc::Receiver<io::Result<usize>>,
    taken: mpsc::Sender<Vec<u8>>,
}

struct Gate {
    admit: mpsc::Sender<io::Result<usize>>,
    taken: mpsc::Receiver<Vec<u8>>,
}

fn gated() -> (Gated, Gate) {
    let (admit, admitted) = mpsc::channel();
    let (taken, shown) = mpsc::channel();
    (Gated { admit: admitted, taken }, Gate { admit, taken: shown })
}

impl Write for Gated {
    /// Takes at most as many bytes as it was told; a gate that is gone admits everything.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.admit.recv().unwrap_or(Ok(usize::MAX))?;
        let taken = &bytes[..bytes.len().min(most)];
        let _ = self.taken.send(taken.to_vec());
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Gate {
    fn rest(self) -> String {
        drop(self.admit);
        String::from_utf8(self.taken.iter().flatten().collect()).unwrap()
    }
}

#[test]
fn l1_the_text_line_says_everything() {
    let id = id();
    assert_eq!(
        line_of(LogFormat::Text, &full(&id)),
        "2025-12-31T23:59:59.001Z id=00000000-0000-7000-8000-000000000000 client=c-1 method=POST path=/v1/messages api=messages \
         dialect=anthropic model=claude-opus-4-5 upstream_model=claude-opus-4-5-20251101 rule=model upstream=troll \
         endpoint=llm.example.com:8443 proxy=p1 key=k2 skipped=p3:down,k1:rate_limited upstream_request_id=req_9 attempts=2 status=200 end=ok stream=true \
         source=final input_tokens=500 cache_write_tokens=200 cache_write_1h_tokens=10 cache_read_tokens=300 output_tokens=501 \
         cost_nano_usd=11808000 request_bytes=1024 response_bytes=65537 peek_us=1 connect_ms=0.750 first_byte_ms=12.045 \
         total_ms=61000.000\n"
    );
}

#[test]
fn l1_the_json_line_says_everything_under_the_ledgers_names() {
    let id = id();
    assert_eq!(
        line_of(LogFormat::Json, &full(&id)),
        concat!(
            r#"{"opened_at":"2025-12-31T23:59:59.001Z","id":"00000000-0000-7000-8000-000000000000","client":"c-1","method":"POST","#,
            r#""path":"/v1/messages","api":"messages","dialect":"anthropic","model":"claude-opus-4-5","#,
            r#""upstream_model":"claude-opus-4-5-20251101","rule":"model","upstream":"troll","endpoint":"llm.example.com:8443","#,
            r#""proxy":"p1","key":"k2","skipped":"p3:down,k1:rate_limited","upstream_request_id":"req_9","attempts":2,"status":200,"end":"ok","stream":true,"#,
            r#""source":"final","input_tokens":500,"cache_write_tokens":200,"cache_write_1h_tokens":10,"cache_read_tokens":300,"#,
            r#""output_tokens":501,"cost_nano_usd":11808000,"request_bytes":1024,"response_bytes":65537,"peek_us":1,"#,
            r#""connect_ms":0.750,"first_byte_ms":12.045,"total_ms":61000.000}"#,
            "\n"
        )
    );
}

#[test]
fn l1_what_is_not_known_is_left_out() {
    let id = id();
    assert_eq!(
        line_of(LogFormat::Text, &refused(&id)),
        "2025-12-31T23:59:59.001Z id=00000000-0000-7000-8000-000000000000 method=POST path=/v1/messages api=messages \
         dialect=anthropic attempts=0 status=401 end=refused refusal=wrong_key stream=false source=none request_bytes=1024 \
         response_bytes=65537 total_ms=0.042\n"
    );
}

#[test]
fn l1_hostile_texts_stay_on_one_bounded_line() {
    let id = id();
    let long = "m\"\n".repeat(10_000);
    for hostile in ["a\nb", "\r\nid=fake status=200", "\u{1b}[2J\u{7}", "\" x=\"y", "a\\", "\u{2028}\u{85}\u{202e}", &long] {
        let entry = AccessEntry { model: Some(hostile), path: hostile, method: hostile, ..full(&id) };
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line_of(format, &entry);
            let (body, end) = line.split_at(line.len() - 1);
            assert_eq!(end, "\n");
            assert!(!body.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{line:?}");
            assert!(line.len() < 4_096, "{} bytes", line.len());
        }
        let json: serde_json::Value = serde_json::from_str(&line_of(LogFormat::Json, &entry)).unwrap();
        let shown = json["model"].as_str().unwrap();
        assert!(hostile.starts_with(shown.trim_end_matches('…')), "{shown:?}");
        let fields = outside_of_quotes(&line_of(LogFormat::Text, &entry));
        for name in [" id=", " status=", " model=", " end="] {
            assert_eq!(fields.matches(name).count(), 1, "{fields}");
        }
    }
}

#[test]
fn lines_of_many_threads_all_arrive_whole_and_in_each_threads_order() {
    let (sink, gate) = gated();
    let log = AccessLog::start(LogFormat::Json, sink);
    drop(gate.admit);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let log = &log;
            scope.spawn(move || {
                let id = id();
                for request in 0..500 {
                    log.write(&AccessEntry { request_bytes: request, response_bytes: thread, ..full(&id) });
                }
            });
        }
    });
    assert!(log.close());
    assert_eq!(log.dropped(), 0);
    let text = String::from_utf8(gate.taken.try_iter().flatten().collect()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2_000);
    for thread in 0..4 {
        let of_thread = lines.iter().filter(|line| line["response_bytes"] == thread).map(|line| line["request_bytes"].as_u64());
        assert!(of_thread.eq((0..500).map(Some)));
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_says_so_when_there_is_room() {
    let id = id();
    let line_bytes = line_of(LogFormat::Json, &full(&id)).len();
    let (sink, gate) = gated();
    let log = AccessLog::with_bound(LogFormat::Json, sink, line_bytes * 4);
    log.write(&full(&id));
    // Admits one byte: the writer holds the first batch and waits for the sink.
    gate.admit.send(Ok(1)).unwrap();
    assert_eq!(gate.taken.recv().unwrap(), b"{");
    for _ in 0..10 {
        log.write(&full(&id));
    }
    assert_eq!(log.dropped(), 6);
    drop(gate.admit);
    assert!(log.close());
    let text = String::from_utf8(gate.taken.try_iter().flatten().collect()).unwrap();
    let text = format!("{{{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line.get("status").is_some()).count(), 5);
    let reports: Vec<_> = lines.iter().filter(|line| line["event"] == "access_lines_dropped").collect();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["lines"], 6);
}

#[test]
fn a_sink_that_fails_loses_counted_lines_and_never_joins_two() {
    let id = id();
    let (sink, gate) = gated();
    let log = AccessLog::start(LogFormat::Text, sink);
    log.write(&full(&id));
    gate.admit.send(Ok(7)).unwrap();
    gate.admit.send(Err(io::ErrorKind::Interrupted.into())).unwrap();
    gate.admit.send(Err(io::ErrorKind::WouldBlock.into())).unwrap();
    gate.admit.send(Ok(1)).unwrap();
    gate.admit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    assert_eq!(gate.taken.recv().unwrap(), b"2025-12");
    assert_eq!(gate.taken.recv().unwrap(), b"-");
    // The second line waits until the first batch is over.
    while log.dropped() == 0 {
        std::thread::yield_now();
    }
    log.write(&full(&id));
    drop(gate.admit);
    assert!(log.close());
    let text = String::from_utf8(gate.taken.try_iter().flatten().collect()).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines[0], "", "the torn line is ended first");
    assert!(lines[1].starts_with("2025-12-31T23:59:59.001Z id="), "{text}");
    assert!(lines[2].ends_with(" event=access_lines_dropped lines=1"), "{text}");
    assert_eq!(log.dropped(), 1);
}

#[test]
fn closing_writes_what_waits_and_later_lines_are_dropped() {
    let id = id();
    let (sink, gate) = gated();
    let log = AccessLog::start(LogFormat::Text, sink);
    log.write(&full(&id));
    gate.admit.send(Ok(usize::MAX)).unwrap();
    assert!(log.close());
    log.write(&full(&id));
    assert_eq!(log.dropped(), 1);
    drop(log);
    assert_eq!(gate.rest().lines().count(), 1);
}

#[test]
fn a_log_without_a_line_needs_no_thread() {
    let log = AccessLog::start(LogFormat::Text, io::sink());
    assert!(log.close());
}
