//! Reads what a text spells: the escapes of JSON and of URLs undone, the NULs of UTF-16 and UTF-32 left out.
//!
//! | spelling | read as |
//! |---|---|
//! | `\u0073`, `\u006B` | the character; after any escaping of the backslash itself (`\\u0073`), as JSON within JSON has it |
//! | `\/`, `\"`, `\\x` | what stands behind the backslashes |
//! | `%2d`, `%252D` | the character, encoded once or several times |
//! | `s` NUL `k` NUL, NUL NUL NUL `s` | `sk` |
//!
//! Only a search reads the result: what no key can hold becomes [`NO_KEY`], and nothing is an error. An escape that the text ends in is
//! told by its place, so that whoever holds the text knows where the next bytes go on.

use memchr::memchr;

/// Stands for what no key can hold: no text in UTF-8 has this byte.
const NO_KEY: u8 = 0xff;

/// Backslashes before one escape: JSON within JSON, three deep, has seven.
const MAX_BACKSLASHES: usize = 8;
/// How often a percent sign may have been encoded again.
const MAX_AGAIN: usize = 4;
/// UTF-32 has three NULs between two characters of ASCII; more are no text.
const MAX_NULS: usize = 3;

/// Bytes that one character takes at most where there are escapes, and where there are NULs as well.
pub(super) const ESCAPED: usize = MAX_BACKSLASHES + 5;
pub(super) const WIDE: usize = ESCAPED * (1 + MAX_NULS);

enum Read {
    /// One byte, spelled with so many.
    Byte(u8, usize),
    /// So many backslashes before a character that stands for itself.
    Skip(usize),
    /// The text ends within the escape.
    Open,
}

/// Whether a byte may begin or be part of another spelling than the plain one.
pub(super) fn is_of_spelling(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'u' | 0) || byte.is_ascii_hexdigit()
}

/// Hands each byte that the text spells to `sink`, with the place where its spelling begins; gives the place of an escape that the text ends
/// in.
pub(super) fn read(text: &[u8], mut sink: impl FnMut(u8, usize)) -> Option<usize> {
    if memchr(0, text).is_none() {
        return read_escapes(text, &mut sink);
    }
    let (narrow, places) = without_nuls(text);
    let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
    read_escapes(&narrow, &mut |byte, at| sink(byte, place(at))).map(place)
}

fn without_nuls(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut narrow, mut places, mut nuls) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()), 0);
    for (at, &byte) in text.iter().enumerate() {
        nuls = if byte == 0 { nuls + 1 } else { 0 };
        if byte != 0 || nuls == MAX_NULS + 1 {
            narrow.push(if byte == 0 { NO_KEY } else { byte });
            places.push(at);
        }
    }
    (narrow, places)
}

fn read_escapes(text: &[u8], sink: &mut dyn FnMut(u8, usize)) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let read = match rest {
            [b'\\', ..] => backslashes(rest),
            [b'%', ..] => percent(rest),
            [plain, ..] => Read::Byte(*plain, 1),
            [] => Read::Open,
        };
        match read {
            Read::Byte(byte, len) => {
                sink(byte, at);
                at += len;
            }
            Read::Skip(len) => at += len,
            Read::Open => return Some(at),
        }
    }
    None
}

fn backslashes(rest: &[u8]) -> Read {
    let run = rest.iter().take_while(|byte| **byte == b'\\').count();
    if run > MAX_BACKSLASHES {
        return Read::Byte(NO_KEY, run - MAX_BACKSLASHES);
    }
    match rest.get(run..).unwrap_or_default() {
        [] => Read::Open,
        [b'u', hex @ ..] => match hex {
            [b'0', b'0', high, low, ..] => match hex_byte(*high, *low) {
                Some(byte) => Read::Byte(byte, run + 5),
                None => Read::Byte(b'u', run + 1),
            },
            [] | [b'0'] | [b'0', b'0'] => Read::Open,
            [b'0', b'0', high] if high.is_ascii_hexdigit() => Read::Open,
            _ => Read::Byte(b'u', run + 1),
        },
        _ => Read::Skip(run),
    }
}

fn percent(rest: &[u8]) -> Read {
    let is_again = |at: usize| {
        let next = rest.get(at + 2);
        rest.get(at..at + 2) == Some(b"25") && next.is_none_or(u8::is_ascii_hexdigit)
    };
    let again = (0..MAX_AGAIN).take_while(|nth| is_again(1 + 2 * nth)).count();
    let at = 1 + 2 * again;
    match rest.get(at..).unwrap_or_default() {
        [] => Read::Open,
        [high] if high.is_ascii_hexdigit() => Read::Open,
        [high, low, ..] => hex_byte(*high, *low).map_or(Read::Byte(b'%', 1), |byte| Read::Byte(byte, at + 2)),
        _ => Read::Byte(b'%', 1),
    }
}

/// The byte of two hexadecimal digits; one beyond ASCII is no key's.
pub(super) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = digit(high)? << 4 | digit(low)?;
    Some(if byte.is_ascii() { byte } else { NO_KEY })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &[u8]) -> (String, Option<usize>) {
        let mut out = Vec::new();
        let open = read(text, |byte, _| out.push(byte));
        (out.into_iter().map(char::from).collect::<String>().replace('\u{ff}', "·"), open)
    }

    #[test]
    fn a8_every_spelling_is_read() {
        for (text, expected) in [
            (r"sk", "sk"),
            (r"\u0073\u006B", "sk"),
            (r"\\u0073\\\\\\\u006bx", "skx"),
            (r"a\/b\\/\n\", "a/b/n"),
            (r"\u4f60\u00e9\u00zz\U0073", "u4f60·u00zzU0073"),
            (r"\\%73\%6b\n", "skn"),
            ("%73%6B %2573 %25252573 %zz %", "sk s s %zz "),
            (r"100%", "100"),
        ] {
            assert_eq!(spelled(text.as_bytes()).0, expected, "{text}");
        }
        assert_eq!(spelled(b"s\0k\0").0, "sk");
        assert_eq!(spelled(b"\0\0\0s\0\0\0\\\0\0\0u\0\0\x000\0\0\x000\0\0\x006\0\0\0b").0, "sk");
        assert_eq!(spelled(b"s\0\0\0\0k").0, "s·k", "more than any text has");
        assert_eq!(spelled(&[b"\\".as_slice(); 20].concat()), ("·".to_owned(), Some(12)));
    }

    #[test]
    fn a8_an_escape_in_the_making_is_told_by_its_place() {
        for (text, open) in [
            (r"ab\", Some(2)),
            (r"ab\\u", Some(2)),
            (r"ab\u00", Some(2)),
            (r"ab\u006", Some(2)),
            (r"ab\u01", None),
            ("ab%", Some(2)),
            ("ab%25", Some(2)),
            ("ab%7", Some(2)),
            ("ab%x", None),
        ] {
            assert_eq!(spelled(text.as_bytes()).1, open, "{text}");
        }
        assert_eq!(spelled(b"a\0\\\0u\0").1, Some(2), "the place is the text's own");
    }
}
