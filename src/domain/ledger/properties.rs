//! What holds for every record: it reads back as it was written, and no change of its line goes unseen.

use proptest::prelude::*;

use super::*;
use crate::domain::billing::line::Class;
use crate::domain::usage::{CLASSES, Calls, Tool};

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![
        "[a-z0-9.:/-]{0,40}".prop_map(Cow::Owned),
        proptest::collection::vec(any::<char>(), 0..60).prop_map(|chars| Cow::Owned(chars.into_iter().collect())),
        Just(Cow::Borrowed("\"\\\u{0}\u{1b}[31m\u{7f}\u{85}\u{2028}\u{202e}{\"v\":1,é中🦀")),
    ]
}

fn sent() -> impl Strategy<Value = Sent<'static>> {
    let texts = (text(), proptest::array::uniform7(proptest::option::of(text())), text(), 0..=time::LAST_UNIX_MS);
    texts.prop_map(|(id, [client, client_key, model, listed_as, endpoint, proxy, key], upstream, opened_at_unix_ms)| Sent {
        id,
        opened_at_unix_ms,
        client,
        client_key,
        model,
        listed_as,
        upstream,
        endpoint,
        proxy,
        key,
    })
}

/// One line for each class at most: what few answers have is summed up of the lines.
fn lines() -> impl Strategy<Value = Vec<BillLine>> {
    let classes: Vec<Class> = (0..CLASSES.len()).map(Class::Tokens).chain(Tool::ALL.map(Class::Calls)).collect();
    let line =
        (proptest::option::of("[a-z\"\\\\/-]{1,20}"), any::<u64>(), 0..=1_000_000_000_000_000u64, 0..=1_000_000_000_000u64);
    (proptest::sample::subsequence(classes, 0..8), proptest::collection::vec(line, 8)).prop_map(|(classes, lines)| {
        let line = |(class, (model, count, rate, times)): (Class, (Option<String>, u64, u64, u64))| BillLine {
            model: model.map(Into::into),
            class,
            count,
            rate: Decimal::from_nanos(rate),
            times: Decimal::from_nanos(times),
        };
        classes.into_iter().zip(lines).map(line).collect()
    })
}

/// The usage of which the lines hold what few answers have.
fn with_apart(tokens: [u64; 5], lines: &[BillLine]) -> Usage {
    let count = |class: Class| lines.iter().find(|line| line.class == class).map_or(0, |line| line.count);
    let [input, write, write_1h, read, output] = tokens;
    let mut calls = Calls::default();
    Tool::ALL.into_iter().for_each(|tool| calls.set(tool, count(Class::Calls(tool))));
    let [audio_in, audio_out, image_in, image_out] = [5, 6, 7, 8].map(|place| count(Class::Tokens(place)));
    Usage::from_tokens([input, write, write_1h, read, output, audio_in, audio_out, image_in, image_out], calls)
}

fn close() -> impl Strategy<Value = Close<'static>> {
    let ends = (
        proptest::sample::select(&End::ALL[..]),
        proptest::sample::select(&[Source::Final, Source::Partial, Source::Estimated, Source::None][..]),
        any::<bool>(),
    );
    let counts = (proptest::array::uniform5(any::<u64>()), any::<u64>(), 0..=1_000_000_000_000_000u64);
    let times = (0..=time::LAST_UNIX_MS, proptest::option::of(any::<u64>()), any::<u64>());
    let bill = (lines(), proptest::collection::vec("[a-z \"]{1,30}".prop_map(Cow::Owned), 0..3));
    (sent(), ends, counts, times, bill, any::<u32>(), any::<u16>()).prop_map(
        |(
            sent,
            ends,
            (tokens, cost, multiplier),
            (closed_at_unix_ms, first_byte, total),
            (lines, conditions),
            attempts,
            status,
        )| {
            let (end, source, stream) = ends;
            Close {
                sent,
                closed_at_unix_ms,
                attempts,
                status,
                end,
                stream,
                source,
                usage: with_apart(tokens, &lines),
                lines: Cow::Owned(lines),
                conditions,
                cost: NanoUsd::from_nanos(cost),
                multiplier: Decimal::from_nanos(multiplier),
                first_byte: first_byte.map(Duration::from_micros),
                total: Duration::from_micros(total),
            }
        },
    )
}

fn record() -> impl Strategy<Value = Record<'static>> {
    prop_oneof![
        (sent(), any::<u64>()).prop_map(|(sent, nanos)| Record::Open(Open { sent, reservation: NanoUsd::from_nanos(nanos) })),
        close().prop_map(Record::Close),
        (text(), any::<u32>(), 0..=time::LAST_UNIX_MS, any::<u32>()).prop_map(
            |(writer, number, started_at_unix_ms, oldest_open)| {
                Record::Segment(Header { writer, number, started_at_unix_ms, oldest_open })
            }
        ),
    ]
}

fn line_of(record: &Record<'_>, seq: u64) -> Vec<u8> {
    let mut out = Vec::new();
    match record {
        Record::Segment(header) => write_segment(&mut out, header),
        Record::Open(open) => write_open(&mut out, open),
        Record::Close(close) => write_close(&mut out, close),
    }
    seal(&mut out, seq);
    out
}

fn sample() -> Close<'static> {
    Close {
        sent: Sent {
            id: "0199f3c2-0000-7000-8000-000000000001".into(),
            opened_at_unix_ms: 1_767_225_599_001,
            client: Some("team-a".into()),
            client_key: Some("ck_1".into()),
            model: Some("claude-opus-4-5".into()),
            listed_as: Some("claude-opus-4-5-20251101".into()),
            upstream: "troll".into(),
            endpoint: Some("llm.example.com:8443".into()),
            proxy: None,
            key: Some("k2".into()),
        },
        closed_at_unix_ms: 1_767_225_600_001,
        attempts: 2,
        status: 200,
        end: End::Ok,
        stream: true,
        source: Source::Final,
        usage: Usage {
            input_tokens: 500,
            cache_write_tokens: 200,
            cache_write_1h_tokens: 10,
            cache_read_tokens: 300,
            output_tokens: 501,
            ..Usage::default()
        },
        lines: Cow::Owned(vec![BillLine {
            model: None,
            class: Class::Tokens(0),
            count: 500,
            rate: Decimal::parse("3").unwrap(),
            times: Decimal::parse("1.2").unwrap(),
        }]),
        conditions: vec!["service tier flex".into()],
        cost: NanoUsd::from_nanos(11_808_000),
        multiplier: Decimal::parse("1.2").unwrap(),
        first_byte: Some(Duration::from_micros(12_345)),
        total: Duration::from_micros(1_000_007),
    }
}

#[test]
fn a_line_of_the_version_before_is_read() {
    let mut line = br#"{"v":1,"record":"close","id":"a","opened_at":"2025-12-31T23:59:59.001Z","client":null,"client_key":null,"model":"m","upstream":"u","endpoint":null,"proxy":null,"key":null,"closed_at":"2026-01-01T00:00:00.001Z","attempts":1,"status":200,"end":"ok","stream":false,"source":"final","input_tokens":5,"cache_write_tokens":0,"cache_write_1h_tokens":0,"cache_read_tokens":0,"output_tokens":7,"cost_nano_usd":9,"multiplier":1,"first_byte_ms":null,"total_ms":1.000"#.to_vec();
    seal(&mut line, 3);
    let Line { record: Record::Close(close), seq: 3 } = read(line.trim_ascii_end()).unwrap() else { panic!("a close") };
    assert_eq!((close.usage.output_tokens, close.lines.len(), close.cost.nanos()), (7, 0, 9));
}

#[test]
fn an_entry_has_the_fields_of_the_contract() {
    let mut out = Vec::new();
    write_entry(&mut out, &sample());
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"id":"0199f3c2-0000-7000-8000-000000000001","opened_at":"2025-12-31T23:59:59.001Z","client":"team-a","client_key":"ck_1","model":"claude-opus-4-5","listed_as":"claude-opus-4-5-20251101","upstream":"troll","endpoint":"llm.example.com:8443","proxy":null,"key":"k2","closed_at":"2026-01-01T00:00:00.001Z","attempts":2,"status":200,"end":"ok","stream":true,"source":"final","input_tokens":500,"cache_write_tokens":200,"cache_write_1h_tokens":10,"cache_read_tokens":300,"output_tokens":501,"lines":[{"class":"input","count":500,"usd_per_mtok":3,"times":1.2}],"conditions":["service tier flex"],"cost_nano_usd":11808000,"multiplier":1.2,"first_byte_ms":12.345,"total_ms":1000.007}"#);
}

#[test]
fn u7_every_end_has_a_word_of_its_own() {
    for end in End::ALL {
        assert_eq!(End::from_label(end.label()), Some(end));
    }
}

#[test]
fn a_long_text_is_cut_and_the_line_stays_right() {
    let mut close = sample();
    close.sent.model = Some("é".repeat(10_000).into());
    let line = line_of(&Record::Close(close), 1);
    assert!(line.len() < 2_000);
    let Record::Close(read) = read(&line[..line.len() - 1]).unwrap().record else { panic!("not a close") };
    assert!(read.sent.model.unwrap().ends_with("é…"));
}

/// Another version is told apart from damage, whatever its fields are.
#[test]
fn a_line_of_another_version_says_so() {
    let mut line = br#"{"v":3,"what":"ever""#.to_vec();
    seal(&mut line, 0);
    assert_eq!(read(&line[..line.len() - 1]), Err(LineFault::Version(3)));
}

#[test]
fn a_known_line_with_unknown_fields_is_refused() {
    let mut line = Vec::new();
    write_open(&mut line, &Open { sent: sample().sent, reservation: NanoUsd::ZERO });
    line.extend_from_slice(br#","extra":1"#);
    seal(&mut line, 0);
    assert!(matches!(read(&line[..line.len() - 1]), Err(LineFault::Meaning(_))));
}

#[test]
fn lines_without_a_feed_between_them_are_found_again() {
    let (one, two) = (line_of(&Record::Close(sample()), 1), line_of(&Record::Close(sample()), 2));
    let mut glued = one.clone();
    *glued.last_mut().unwrap() = b'\x0b';
    glued.extend_from_slice(&two[..two.len() - 1]);
    assert_eq!(split_glued(&glued).len(), 2);
    let mut torn = one[..one.len() / 2].to_vec();
    torn.extend_from_slice(&two[..two.len() - 1]);
    let found = split_glued(&torn);
    assert_eq!((found.len(), found.first()), (1, Some(&(one.len() / 2..torn.len()))));
}

proptest! {
    #[test]
    fn a_written_record_reads_back(record in record(), seq in any::<u64>()) {
        let line = line_of(&record, seq);
        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        prop_assert_eq!(read(&line[..line.len() - 1]), Ok(Line { seq, record }));
    }

    #[test]
    fn every_flipped_bit_is_seen(record in record(), at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let mut line = line_of(&record, 7);
        line.pop();
        let at = at.index(line.len());
        line[at] ^= 1 << bit;
        prop_assert!(read(&line).is_err());
    }

    #[test]
    fn every_cut_is_seen(record in record(), at in any::<proptest::sample::Index>()) {
        let line = line_of(&record, 7);
        prop_assert!(read(&line[..at.index(line.len() - 1)]).is_err());
    }

    #[test]
    fn noise_is_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&noise).is_err());
        prop_assert!(split_glued(&noise).is_empty());
    }
}
