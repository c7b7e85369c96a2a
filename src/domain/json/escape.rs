//! Decodes and encodes the text of JSON strings: names and keys, never prompts.

use std::borrow::Cow;

/// Half of a surrogate pair: no character, so no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoneSurrogate;

/// Decodes what stands between the quotes of a string that the scanner has found valid.
pub(super) fn decode(raw: &[u8]) -> Result<Cow<'_, str>, LoneSurrogate> {
    let raw = String::from_utf8_lossy(raw);
    if !raw.contains('\\') {
        return Ok(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = &*raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        let (decoded, after) = match chars.next() {
            Some('u') => unicode(chars.as_str())?,
            Some('b') => ('\u{8}', chars.as_str()),
            Some('f') => ('\u{c}', chars.as_str()),
            Some('n') => ('\n', chars.as_str()),
            Some('r') => ('\r', chars.as_str()),
            Some('t') => ('\t', chars.as_str()),
            Some(same) => (same, chars.as_str()),
            None => break,
        };
        text.push(decoded);
        rest = after;
    }
    text.push_str(rest);
    Ok(Cow::Owned(text))
}

/// Encodes a text as a JSON string with its quotes.
pub(super) fn encode(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Decodes one character from the digits of a `\u` escape, and of the second half where there must be one.
fn unicode(digits: &str) -> Result<(char, &str), LoneSurrogate> {
    let (first, rest) = code_unit(digits)?;
    match char::from_u32(first) {
        Some(char) => Ok((char, rest)),
        None => {
            let (second, rest) = rest.strip_prefix("\\u").ok_or(LoneSurrogate).and_then(code_unit)?;
            let units = [first, second].map(|unit| u16::try_from(unit).unwrap_or_default());
            match char::decode_utf16(units).next() {
                Some(Ok(char)) => Ok((char, rest)),
                _ => Err(LoneSurrogate),
            }
        }
    }
}

fn code_unit(digits: &str) -> Result<(u32, &str), LoneSurrogate> {
    let (digits, rest) = digits.split_at_checked(4).ok_or(LoneSurrogate)?;
    Ok((u32::from_str_radix(digits, 16).map_err(|_| LoneSurrogate)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_every_kind_of_escape() {
        assert_eq!(decode(br#"gpt\u002d4 \"\\\/\b\f\n\r\t \u00e9 \ud83d\uDE00"#).unwrap(), "gpt-4 \"\\/\u{8}\u{c}\n\r\t é 😀");
    }

    #[test]
    fn half_of_a_pair_is_no_text() {
        for raw in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\n", r"\ud83d\u0041", r"\ud83d\ud83d", r"\ude00\ud83d"] {
            assert_eq!(decode(raw.as_bytes()), Err(LoneSurrogate), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn decodes_what_it_encodes(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded.as_bytes()[1..encoded.len() - 1]).unwrap(), text);
        }
    }
}
