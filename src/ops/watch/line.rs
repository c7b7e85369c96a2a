//! Appends numbers, times and texts to a log line, without an allocation and without ever starting a second line.

use std::cell::RefCell;

use crate::domain::digits::padded;
use crate::domain::ledger::time;

pub use crate::domain::digits::number;

/// Appends microseconds as milliseconds with three decimals: `12.345`.
pub fn milliseconds(out: &mut Vec<u8>, micros: u64) {
    number(out, micros / 1_000);
    out.push(b'.');
    padded(out, micros % 1_000, 3);
}

/// Appends an RFC 3339 time in UTC with milliseconds: `2026-01-31T23:59:59.999Z`.
pub fn timestamp(out: &mut Vec<u8>, unix_ms: u64) {
    let unix_s = unix_ms / 1_000;
    // A thread writes thousands of lines in a second: its text is made once.
    let known = SECOND.try_with(|last| {
        let mut last = last.borrow_mut();
        if last.0 != unix_s || last.1.is_empty() {
            last.0 = unix_s;
            last.1.clear();
            time::write_second(&mut last.1, unix_s);
        }
        out.extend_from_slice(&last.1);
    });
    if known.is_err() {
        time::write_second(out, unix_s);
    }
    time::write_millisecond(out, unix_ms);
}

thread_local! {
    static SECOND: RefCell<(u64, Vec<u8>)> = const { RefCell::new((0, Vec::new())) };
}

/// Appends a text between quotes, cut to `most` bytes; valid as a JSON string and as a logfmt value.
///
/// Control characters, line separators and characters that turn the direction of writing are escaped, so that a line shows what it
/// holds in a terminal too.
pub fn quoted(out: &mut Vec<u8>, text: &str, most: usize) {
    let (shown, is_cut) = cut(text, most);
    out.push(b'"');
    escaped(out, shown);
    if is_cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// Appends a text without quotes where no reader could mistake it, else as [`quoted`].
pub fn bare_or_quoted(out: &mut Vec<u8>, text: &str, most: usize) {
    let is_bare = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    if !text.is_empty() && text.len() <= most && text.bytes().all(is_bare) {
        out.extend_from_slice(text.as_bytes());
    } else {
        quoted(out, text, most);
    }
}

/// Appends a message: what could move a terminal's cursor or start another line is escaped, quotes stay as they are.
pub fn message(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return out.extend_from_slice(text.as_bytes());
    }
    text.chars().for_each(|character| visible(out, character));
}

/// Appends a text as it stands between quotes.
fn escaped(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(is_plain) {
        return out.extend_from_slice(text.as_bytes());
    }
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push(b'\\');
        }
        visible(out, character);
    }
}

fn visible(out: &mut Vec<u8>, character: char) {
    match character {
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        hidden if hidden.is_control() || is_invisible(hidden) => unicode_escape(out, hidden),
        shown => out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Line separators, marks of zero width and marks of direction; all in the basic plane, so that `\uXXXX` holds them.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{061c}' | '\u{feff}')
}

fn unicode_escape(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let digit = char::from_digit(u32::from(character) >> shift & 0xf, 16).unwrap_or('0');
        out.extend_from_slice(digit.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// The longest beginning of at most `most` bytes that ends between two characters.
fn cut(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let shown = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    (shown, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(written(|out| number(out, value)), value.to_string());
        }
    }

    #[test]
    fn milliseconds_keep_their_leading_zeros() {
        for (micros, text) in [(0, "0.000"), (7, "0.007"), (999, "0.999"), (1_000, "1.000"), (12_045, "12.045")] {
            assert_eq!(written(|out| milliseconds(out, micros)), text);
        }
    }

    #[test]
    fn timestamps_know_the_calendar() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_767_225_599_001, "2025-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(written(|out| timestamp(out, unix_ms)), text);
        }
    }

    #[test]
    fn any_text_is_a_json_string_on_one_line() {
        let hostile = "a\"b\\c\nd\re\tf\u{0}g\u{1b}[31mh\u{7f}i\u{85}j\u{2028}k\u{202e}l\u{feff}mé中🦀";
        let line = written(|out| quoted(out, hostile, 1_000));
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), hostile);
        assert!(!line.chars().any(|c| c.is_control() || is_invisible(c)), "{line:?}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(written(|out| quoted(out, "aé", 2)), "\"a…\"");
        assert_eq!(written(|out| quoted(out, "aé", 3)), "\"aé\"");
        assert_eq!(written(|out| bare_or_quoted(out, &"x".repeat(10_000), 8)), "\"xxxxxxxx…\"");
    }

    #[test]
    fn quotes_stand_only_where_they_are_needed() {
        for (text, shown) in [
            ("gpt-4", "gpt-4"),
            ("/v1/messages", "/v1/messages"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("é", "\"é\""),
            ("a\"", "\"a\\\"\""),
        ] {
            assert_eq!(written(|out| bare_or_quoted(out, text, 100)), shown);
        }
    }
}
