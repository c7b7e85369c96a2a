//! Finds where a string or its plain text ends and judges nothing of it: for answers, which are read and never refused.
//!
//! Only quotes are looked for, in vectors; the backslashes before one say whether it ends the string. Text with an escaped quote every few
//! dozen bytes (code) is stepped over in blocks, as in [`super::text`].

use memchr::{memchr, memchr2};

use super::block;
use super::text::escaped;

/// The string goes on beyond the piece, perhaps in the middle of an escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct OpenString {
    pub in_escape: bool,
}

/// Blocks without a quote in a row after which the text is no code, and a search for the next quote is faster.
const CALM: u32 = 4;

/// Returns what follows the closing quote. `bytes` must begin outside of an escape; any byte may follow a backslash.
#[inline]
pub(in crate::domain) fn after_string(bytes: &[u8]) -> Result<&[u8], OpenString> {
    let mut rest = bytes;
    // Most strings are short words.
    for _ in 0..4 {
        let Some((word, after)) = rest.split_first_chunk::<8>() else { break };
        let Some(at) = block::first_quote_or_backslash(word) else {
            rest = after;
            continue;
        };
        match rest.get(at as usize..) {
            Some([b'"', after @ ..]) => return Ok(after),
            Some([_, _, after @ ..]) => rest = after,
            _ => return Err(OpenString { in_escape: true }),
        }
    }
    after_long(rest)
}

/// Cuts a string's inside at its next quote or backslash: what stands before it, which of the two it is, what follows.
#[inline]
pub(in crate::domain) fn text_run(bytes: &[u8]) -> (&[u8], Option<u8>, &[u8]) {
    match bytes.split_at_checked(bytes.len() - from_quote_or_backslash(bytes).len()) {
        Some((run, [end, rest @ ..])) => (run, Some(*end), rest),
        _ => (bytes, None, &[]),
    }
}

#[inline]
fn from_quote_or_backslash(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    for _ in 0..4 {
        let Some((word, after)) = rest.split_first_chunk::<8>() else { break };
        match block::first_quote_or_backslash(word) {
            None => rest = after,
            Some(at) => return rest.get(at as usize..).unwrap_or_default(),
        }
    }
    memchr2(b'"', b'\\', rest).and_then(|at| rest.get(at..)).unwrap_or_default()
}

#[inline(never)]
fn after_long(bytes: &[u8]) -> Result<&[u8], OpenString> {
    let mut rest = bytes;
    while let Some(at) = memchr(b'"', rest) {
        let (before, quote) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let after = quote.get(1..).unwrap_or_default();
        if !ends_in_escape(before) {
            return Ok(after);
        }
        match skip_blocks(after) {
            Ok(closed) => return Ok(closed),
            Err(open) => rest = open,
        }
    }
    Err(OpenString { in_escape: ends_in_escape(rest) })
}

/// Steps over 64 bytes at a time while they have quotes. `Err`: not closed yet, goes on there, outside of an escape.
fn skip_blocks(bytes: &[u8]) -> Result<&[u8], &[u8]> {
    let mut rest = bytes;
    let mut calm = 0;
    while calm < CALM
        && let Some(window) = rest.first_chunk::<65>()
    {
        let [block @ .., _] = window;
        let [first, followers @ ..] = window;
        let [.., last] = block;
        if *first != b'"' && block::has_only_escaped_quotes(block, followers) {
            calm = if block::has_quote(block) { 0 } else { calm + 1 };
            rest = rest.get(64 + usize::from(*last == b'\\')..).unwrap_or_default();
            continue;
        }
        calm = 0;
        let special = block::special(block);
        let (escaped, next_is_escaped) = escaped(special.backslash);
        match special.quote & !escaped {
            0 => rest = rest.get(64 + usize::from(next_is_escaped)..).unwrap_or_default(),
            closing => return rest.get(closing.trailing_zeros() as usize + 1..).ok_or(rest),
        }
    }
    Err(rest)
}

/// Whether an odd number of backslashes ends the piece, which begins outside of an escape.
fn ends_in_escape(piece: &[u8]) -> bool {
    piece.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same rule, one byte at a time.
    fn slowly(bytes: &[u8]) -> Result<&[u8], OpenString> {
        match bytes {
            [] => Err(OpenString { in_escape: false }),
            [b'"', after @ ..] => Ok(after),
            [b'\\'] => Err(OpenString { in_escape: true }),
            [b'\\', _, after @ ..] | [_, after @ ..] => slowly(after),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn ends_where_a_walk_over_bytes_ends(parts in prop::collection::vec(prop_oneof![
            8 => "[a-z ]{0,40}",
            12 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\t", "\\\\\\\\", "\\u0041", "\\\\\\\""]).prop_map(str::to_owned),
            1 => prop::sample::select(vec!["\"", "\\", "\n", "\0"]).prop_map(str::to_owned),
            1 => "[a-z]{100,400}",
        ], 0..40)) {
            let text = parts.concat();
            prop_assert_eq!(after_string(text.as_bytes()), slowly(text.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn plain_text_runs_to_the_next_quote_or_backslash(text in "[a-z \u{0}é]{0,60}[\"\\\\a]{0,3}[a-z\"]{0,20}") {
            let bytes = text.as_bytes();
            let (run, end, rest) = text_run(bytes);
            let at = bytes.iter().position(|byte| b"\"\\".contains(byte));
            prop_assert_eq!((run.len(), end), (at.unwrap_or(bytes.len()), at.map(|at| bytes[at])));
            prop_assert_eq!(rest, at.map_or(&[][..], |at| &bytes[at + 1..]));
        }
    }

    #[test]
    fn a_run_of_backslashes_at_every_place_is_counted() {
        for before in 0..150 {
            for run in 1..140 {
                let text = format!("\\\"{}{}\"tail{}\"", "a".repeat(before), "\\".repeat(run), "b".repeat(before));
                assert_eq!(after_string(text.as_bytes()), slowly(text.as_bytes()), "{before} {run}");
                assert_eq!(after_string(&text.as_bytes()[..before + run + 2]), slowly(&text.as_bytes()[..before + run + 2]));
            }
        }
    }
}
