//! Writes records as lines: one JSON object each, every field always there and always in the same order, the checksum last.
//!
//! A line is made in two steps, because its number is known only when its turn in the file has come: the fields, which several threads
//! can write at the same time, then [`seal`].

use std::time::Duration;

use super::text::{decimal, quoted};
use super::{Close, Header, Open, Sent, time};
use crate::domain::digits::{number, padded};

/// The version of the lines that are written and read here.
pub const VERSION: u32 = 2;
/// The most bytes of a text; what is longer is cut and ends in `…`.
pub const MAX_TEXT: usize = 256;

/// Appends the fields of an open; [`seal`] makes a line of them.
pub fn write_open(out: &mut Vec<u8>, open: &Open<'_>) {
    out.extend_from_slice(br#"{"v":2,"record":"open","#);
    sent(out, &open.sent);
    out.extend_from_slice(br#","reservation_nano_usd":"#);
    number(out, open.reservation.nanos());
}

/// Appends the fields of a close; [`seal`] makes a line of them.
pub fn write_close(out: &mut Vec<u8>, close: &Close<'_>) {
    out.extend_from_slice(br#"{"v":2,"record":"close","#);
    entry(out, close);
}

/// Appends the fields of a segment's first line; [`seal`] makes a line of them.
pub fn write_segment(out: &mut Vec<u8>, header: &Header<'_>) {
    out.extend_from_slice(br#"{"v":2,"record":"segment""#);
    text(out, br#","writer":"#, Some(&header.writer));
    count(out, br#","number":"#, header.number.into());
    out.extend_from_slice(br#","started_at":""#);
    time::write(out, header.started_at_unix_ms);
    count(out, br#"","oldest_open":"#, header.oldest_open.into());
}

/// Appends an entry as it is exported: one JSON object, its line feed included.
pub fn write_entry(out: &mut Vec<u8>, close: &Close<'_>) {
    out.push(b'{');
    entry(out, close);
    out.extend_from_slice(b"}\n");
}

/// Ends the line that `out` holds from its first byte on: its number in the segment, the checksum of all before, the line feed.
pub fn seal(out: &mut Vec<u8>, seq: u64) {
    count(out, br#","seq":"#, seq);
    let crc = crc32fast::hash(out);
    out.extend_from_slice(br#","crc":""#);
    out.extend_from_slice(&hex(crc));
    out.extend_from_slice(b"\"}\n");
}

/// Eight small hexadecimal digits.
pub(super) fn hex(value: u32) -> [u8; 8] {
    let mut digits = [0; 8];
    for (digit, shift) in digits.iter_mut().zip([28, 24, 20, 16, 12, 8, 4, 0]) {
        let nibble = (value >> shift & 0xf) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

fn sent(out: &mut Vec<u8>, sent: &Sent<'_>) {
    text(out, br#""id":"#, Some(&sent.id));
    out.extend_from_slice(br#","opened_at":""#);
    time::write(out, sent.opened_at_unix_ms);
    text(out, br#"","client":"#, sent.client.as_deref());
    text(out, br#","client_key":"#, sent.client_key.as_deref());
    text(out, br#","model":"#, sent.model.as_deref());
    text(out, br#","listed_as":"#, sent.listed_as.as_deref());
    text(out, br#","upstream":"#, Some(&sent.upstream));
    text(out, br#","endpoint":"#, sent.endpoint.as_deref());
    text(out, br#","proxy":"#, sent.proxy.as_deref());
    text(out, br#","key":"#, sent.key.as_deref());
}

fn entry(out: &mut Vec<u8>, close: &Close<'_>) {
    sent(out, &close.sent);
    out.extend_from_slice(br#","closed_at":""#);
    time::write(out, close.closed_at_unix_ms);
    count(out, br#"","attempts":"#, close.attempts.into());
    count(out, br#","status":"#, close.status.into());
    out.extend_from_slice(br#","end":""#);
    out.extend_from_slice(close.end.label().as_bytes());
    out.extend_from_slice(if close.stream { br#"","stream":true,"source":""# } else { br#"","stream":false,"source":""# });
    out.extend_from_slice(close.source.label().as_bytes());
    count(out, br#"","input_tokens":"#, close.usage.input_tokens);
    count(out, br#","cache_write_tokens":"#, close.usage.cache_write_tokens);
    count(out, br#","cache_write_1h_tokens":"#, close.usage.cache_write_1h_tokens);
    count(out, br#","cache_read_tokens":"#, close.usage.cache_read_tokens);
    count(out, br#","output_tokens":"#, close.usage.output_tokens);
    bill_lines(out, close);
    count(out, br#","cost_nano_usd":"#, close.cost.nanos());
    out.extend_from_slice(br#","multiplier":"#);
    decimal(out, close.multiplier);
    out.extend_from_slice(br#","first_byte_ms":"#);
    milliseconds(out, close.first_byte);
    out.extend_from_slice(br#","total_ms":"#);
    milliseconds(out, Some(close.total));
}

/// `"lines":[{"class":"input","count":500,"usd_per_mtok":3,"times":1.2},{"class":"web_search","count":2,"usd_per_call":0.01,"times":1.2}]`
fn bill_lines(out: &mut Vec<u8>, close: &Close<'_>) {
    out.extend_from_slice(br#","lines":["#);
    for (nth, line) in close.lines.iter().enumerate() {
        out.extend_from_slice(if nth > 0 { br#",{"class":""# } else { br#"{"class":""# });
        out.extend_from_slice(line.class.label().as_bytes());
        if let Some(model) = &line.model {
            text(out, br#"","model":"#, Some(model));
            count(out, br#","count":"#, line.count);
        } else {
            count(out, br#"","count":"#, line.count);
        }
        out.extend_from_slice(if line.class.is_call() { br#","usd_per_call":"# } else { br#","usd_per_mtok":"# });
        decimal(out, line.rate);
        out.extend_from_slice(br#","times":"#);
        decimal(out, line.times);
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"conditions":["#);
    for (nth, condition) in close.conditions.iter().enumerate() {
        text(out, if nth > 0 { b"," } else { b"" }, Some(condition));
    }
    out.push(b']');
}

fn count(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    number(out, value);
}

fn text(out: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    out.extend_from_slice(name);
    match value {
        Some(value) => quoted(out, value, MAX_TEXT),
        None => out.extend_from_slice(b"null"),
    }
}

fn milliseconds(out: &mut Vec<u8>, value: Option<Duration>) {
    let Some(value) = value else { return out.extend_from_slice(b"null") };
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1_000);
    out.push(b'.');
    padded(out, micros % 1_000, 3);
}
