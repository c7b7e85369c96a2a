//! Appends numbers, decimals and texts to a line as JSON.

use crate::domain::billing::Decimal;
use crate::domain::digits::{number, padded};

pub(super) fn decimal(out: &mut Vec<u8>, value: Decimal) {
    let one = Decimal::ONE.nanos();
    number(out, value.nanos() / one);
    let mut fraction = value.nanos() % one;
    if fraction == 0 {
        return;
    }
    let mut width = 9;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    out.push(b'.');
    padded(out, fraction, width);
}

/// Appends a text between quotes, cut to `most` bytes. A line shows what it holds in a terminal too: control characters and marks that
/// turn the direction of writing are escaped.
pub(super) fn quoted(out: &mut Vec<u8>, text: &str, most: usize) {
    out.push(b'"');
    // Without an early exit the compiler looks at many bytes at a time.
    if text.len() <= most && text.bytes().fold(true, |so_far, byte| so_far & is_plain(byte)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escaped(out, text.get(..text.floor_char_boundary(most)).unwrap_or_default());
        if text.len() > most {
            out.extend_from_slice("…".as_bytes());
        }
    }
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            hidden if hidden.is_control() || is_invisible(hidden) => {
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = char::from_digit(u32::from(hidden) >> shift & 0xf, 16).unwrap_or('0');
                    out.extend_from_slice(digit.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            shown => out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Line separators, marks of zero width and of direction; all of them fit `\uXXXX`.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{061c}' | '\u{feff}')
}
