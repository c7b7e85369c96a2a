//! Reads lines back: first the checksum, then every field; a line is right as a whole or it is damaged.

use std::borrow::Cow;
use std::time::Duration;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::{VERSION, hex};
use super::{Close, End, Header, Line, Open, Record, Sent, time};
use crate::domain::billing::line::{BillLine, Class};
use crate::domain::billing::{Decimal, NanoUsd};
use crate::domain::usage::{Source, Usage};

/// How an open begins in each version that is read.
const OPENS: [&[u8]; 2] = [br#"{"v":1,"record":"open","#, br#"{"v":2,"record":"open","#];
const START: &[u8] = br#"{"v":"#;
const CRC: &[u8] = br#","crc":""#;
/// `,"crc":"00000000"}`
const TAIL: usize = CRC.len() + 8 + 2;

/// Why a line does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    #[error("the checksum does not match")]
    Checksum,
    #[error("is not a line of a ledger")]
    Shape,
    #[error("was written by another version (v{0}; this program reads v{VERSION})")]
    Version(u32),
    #[error("says what no ledger says: {0}")]
    Meaning(String),
}

/// Reads one line, without its line feed.
///
/// # Errors
///
/// Says what is wrong with it. A line whose checksum fits is damaged only if its writer was.
pub fn read(line: &[u8]) -> Result<Line<'_>, LineFault> {
    check(line)?;
    record(line)
}

/// Whether the line is an intact open, found without reading its fields: who adds up bills needs none of them.
pub fn is_intact_open(line: &[u8]) -> bool {
    OPENS.iter().any(|open| line.starts_with(open)) && check(line).is_ok()
}

fn check(line: &[u8]) -> Result<(), LineFault> {
    let (checked, rest) = line.split_at_checked(line.len().saturating_sub(TAIL)).ok_or(LineFault::Shape)?;
    if !checked.starts_with(START) {
        return Err(LineFault::Shape);
    }
    let crc = rest.strip_prefix(CRC).and_then(|rest| rest.strip_suffix(b"\"}")).ok_or(LineFault::Shape)?;
    if crc != hex(crc32fast::hash(checked)) {
        return Err(LineFault::Checksum);
    }
    let version = version(checked)?;
    if !(1..=VERSION).contains(&version) {
        return Err(LineFault::Version(version));
    }
    Ok(())
}

/// Finds the whole lines in a damaged one: a line that lost its line feed, or was glued to the torn one before it, is intact itself.
///
/// Returns the ranges of lines that read well. What opens a line can't stand within one: quotes in texts are escaped.
pub fn split_glued(line: &[u8]) -> Vec<std::ops::Range<usize>> {
    let starts: Vec<usize> = memmem::find_iter(line, START).collect();
    let ends = starts.iter().skip(1).copied().chain([line.len()]);
    let whole = |(start, end): (usize, usize)| {
        // One byte more or less at the end: where the line feed was.
        let candidates = [end, end.saturating_sub(1)];
        let end = candidates.into_iter().find(|end| line.get(start..*end).is_some_and(|piece| read(piece).is_ok()))?;
        Some(start..end)
    };
    starts.iter().copied().zip(ends).filter_map(whole).collect()
}

fn version(line: &[u8]) -> Result<u32, LineFault> {
    let digits = line.get(START.len()..).unwrap_or_default().split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
    str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(LineFault::Shape)
}

fn record(line: &[u8]) -> Result<Line<'_>, LineFault> {
    let meaning = |error: serde_json::Error| LineFault::Meaning(error.to_string());
    let wrong = |what: &str| LineFault::Meaning(what.to_owned());
    // A version has one digit, and `check` has seen it.
    let kind = line.get(START.len() + 1..).and_then(|rest| rest.strip_prefix(br#","record":""#));
    let kind = kind.and_then(|rest| rest.split(|byte| *byte == b'"').next());
    match kind.unwrap_or_default() {
        b"open" => {
            let fields: OpenFields<'_> = serde_json::from_slice(line).map_err(meaning)?;
            let seq = fields.seq;
            Ok(Line { seq, record: Record::Open(fields.open().ok_or_else(|| wrong("a time that is none"))?) })
        }
        b"close" => {
            let fields: CloseFields<'_> = serde_json::from_slice(line).map_err(meaning)?;
            let seq = fields.seq;
            Ok(Line { seq, record: Record::Close(fields.close().ok_or_else(|| wrong("a time, word or number that is none"))?) })
        }
        b"segment" => {
            let fields: HeaderFields<'_> = serde_json::from_slice(line).map_err(meaning)?;
            let seq = fields.seq;
            Ok(Line { seq, record: Record::Segment(fields.header().ok_or_else(|| wrong("a time that is none"))?) })
        }
        _ => Err(wrong("an unknown record")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every field is named, so that an unknown one is refused")]
struct OpenFields<'a> {
    v: u32,
    record: &'a str,
    #[serde(borrow)]
    id: Cow<'a, str>,
    opened_at: &'a str,
    client: Option<Cow<'a, str>>,
    client_key: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    listed_as: Option<Cow<'a, str>>,
    upstream: Cow<'a, str>,
    endpoint: Option<Cow<'a, str>>,
    proxy: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    reservation_nano_usd: u64,
    seq: u64,
    crc: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every field is named, so that an unknown one is refused")]
struct CloseFields<'a> {
    v: u32,
    record: &'a str,
    #[serde(borrow)]
    id: Cow<'a, str>,
    opened_at: &'a str,
    client: Option<Cow<'a, str>>,
    client_key: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    listed_as: Option<Cow<'a, str>>,
    upstream: Cow<'a, str>,
    endpoint: Option<Cow<'a, str>>,
    proxy: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    closed_at: &'a str,
    attempts: u32,
    status: u16,
    end: &'a str,
    stream: bool,
    source: &'a str,
    input_tokens: u64,
    cache_write_tokens: u64,
    cache_write_1h_tokens: u64,
    cache_read_tokens: u64,
    output_tokens: u64,
    /// None in version 1.
    #[serde(borrow, default)]
    lines: Vec<LineFields<'a>>,
    #[serde(borrow, default)]
    conditions: Vec<Cow<'a, str>>,
    cost_nano_usd: u64,
    multiplier: &'a RawValue,
    first_byte_ms: Option<&'a RawValue>,
    total_ms: &'a RawValue,
    seq: u64,
    crc: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineFields<'a> {
    class: &'a str,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    count: u64,
    #[serde(borrow, default)]
    usd_per_mtok: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usd_per_call: Option<&'a RawValue>,
    #[serde(borrow)]
    times: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every field is named, so that an unknown one is refused")]
struct HeaderFields<'a> {
    v: u32,
    record: &'a str,
    #[serde(borrow)]
    writer: Cow<'a, str>,
    number: u32,
    started_at: &'a str,
    oldest_open: u32,
    seq: u64,
    crc: &'a str,
}

impl<'a> OpenFields<'a> {
    fn open(self) -> Option<Open<'a>> {
        let Self {
            id,
            opened_at,
            client,
            client_key,
            model,
            listed_as,
            upstream,
            endpoint,
            proxy,
            key,
            reservation_nano_usd,
            ..
        } = self;
        let opened_at_unix_ms = time::parse(opened_at)?;
        let sent = Sent { id, opened_at_unix_ms, client, client_key, model, listed_as, upstream, endpoint, proxy, key };
        Some(Open { sent, reservation: NanoUsd::from_nanos(reservation_nano_usd) })
    }
}

impl<'a> CloseFields<'a> {
    fn close(self) -> Option<Close<'a>> {
        let sent = Sent {
            id: self.id,
            opened_at_unix_ms: time::parse(self.opened_at)?,
            client: self.client,
            client_key: self.client_key,
            model: self.model,
            listed_as: self.listed_as,
            upstream: self.upstream,
            endpoint: self.endpoint,
            proxy: self.proxy,
            key: self.key,
        };
        let lines = self.lines.into_iter().map(LineFields::line).collect::<Option<Vec<_>>>()?;
        let mut usage = Usage {
            input_tokens: self.input_tokens,
            cache_write_tokens: self.cache_write_tokens,
            cache_write_1h_tokens: self.cache_write_1h_tokens,
            cache_read_tokens: self.cache_read_tokens,
            output_tokens: self.output_tokens,
            ..Usage::default()
        };
        count_apart(&mut usage, &lines);
        Some(Close {
            sent,
            closed_at_unix_ms: time::parse(self.closed_at)?,
            attempts: self.attempts,
            status: self.status,
            end: End::from_label(self.end)?,
            stream: self.stream,
            source: source(self.source)?,
            usage,
            lines: Cow::Owned(lines),
            conditions: self.conditions,
            cost: NanoUsd::from_nanos(self.cost_nano_usd),
            multiplier: Decimal::parse(self.multiplier.get()).ok()?,
            first_byte: match self.first_byte_ms {
                Some(text) => Some(milliseconds(text.get())?),
                None => None,
            },
            total: milliseconds(self.total_ms.get())?,
        })
    }
}

impl<'a> HeaderFields<'a> {
    fn header(self) -> Option<Header<'a>> {
        let Self { writer, number, started_at, oldest_open, .. } = self;
        Some(Header { writer, number, started_at_unix_ms: time::parse(started_at)?, oldest_open })
    }
}

impl LineFields<'_> {
    fn line(self) -> Option<BillLine> {
        let class = Class::of_label(self.class)?;
        let rate = if class.is_call() { self.usd_per_call } else { self.usd_per_mtok };
        Some(BillLine {
            model: self.model.map(|model| model.as_ref().into()),
            class,
            count: self.count,
            rate: Decimal::parse(rate?.get()).ok()?,
            times: Decimal::parse(self.times.get()).ok()?,
        })
    }
}

/// What few answers have stands in the lines alone.
fn count_apart(usage: &mut Usage, lines: &[BillLine]) {
    for line in lines {
        let slot = match (line.class, line.class.label()) {
            (Class::Calls(tool), _) => {
                usage.calls.set(tool, usage.calls.of(tool).saturating_add(line.count));
                continue;
            }
            (_, "audio_input") => &mut usage.audio_input_tokens,
            (_, "audio_output") => &mut usage.audio_output_tokens,
            (_, "image_input") => &mut usage.image_input_tokens,
            (_, "image_output") => &mut usage.image_output_tokens,
            _ => continue,
        };
        *slot = slot.saturating_add(line.count);
    }
}

fn source(label: &str) -> Option<Source> {
    [Source::Final, Source::Partial, Source::Estimated, Source::None].into_iter().find(|source| source.label() == label)
}

/// Reads `12.345`.
fn milliseconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.')?;
    if fraction.len() != 3 {
        return None;
    }
    let (whole, fraction): (u64, u64) = (whole.parse().ok()?, fraction.parse().ok()?);
    Some(Duration::from_micros(whole.checked_mul(1_000)?.checked_add(fraction)?))
}
