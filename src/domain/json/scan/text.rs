//! Skips the plain text of a JSON string, 64 bytes a step, simple escapes included.
//!
//! Escaped prompts (code with `\n` and `\"` every few dozen bytes) are the common case, so no step takes a branch per escape: each byte
//! is judged with the one before it, and where backslashes are escaped themselves, the escaped bytes are computed from the mask of
//! backslashes, as simdjson does (<https://arxiv.org/abs/1902.08318>, section 3.1.1).

use super::block;

/// Returns what follows the longest prefix of plain text and complete simple escapes (`\n`, `\"`, …).
///
/// The rest is empty or begins with `"`, with a control character, or with a backslash that starts a `\u` escape, a wrong escape or
/// one that the slice cuts in two. `bytes` must begin outside of an escape. UTF-8 is not looked at.
#[inline]
pub(super) fn skip(bytes: &[u8]) -> &[u8] {
    match skip_short(bytes) {
        Reached::End(rest) => rest,
        Reached::Long(rest) => skip_long(rest),
    }
}

#[inline(never)]
fn skip_long(rest: &[u8]) -> &[u8] {
    skip_small(skip_blocks(rest))
}

/// Returns what follows the longest prefix without quote, backslash and control character: for texts that are short.
#[inline]
pub(super) fn skip_plain(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((block, after)) = rest.split_first_chunk::<8>() {
        match block::first_special(block) {
            None => rest = after,
            Some(at) => return drop_first(rest, at),
        }
    }
    drop_plain(rest)
}

enum Reached<'a> {
    End(&'a [u8]),
    Long(&'a [u8]),
}

/// Most strings are keys and short words, and some text has an escape every few bytes: the wide step is worth its start only where 24
/// bytes in a row are plain.
#[inline]
fn skip_short(bytes: &[u8]) -> Reached<'_> {
    let (mut rest, mut plain_blocks) = (bytes, 0);
    while plain_blocks < 3 {
        let Some((block, after)) = rest.split_first_chunk::<8>() else { return Reached::End(skip_small(rest)) };
        match block::first_special(block) {
            None => {
                rest = after;
                plain_blocks += 1;
            }
            Some(at) => {
                let stop = drop_first(rest, at);
                match after_simple_escape(stop) {
                    Some(after) => (rest, plain_blocks) = (after, 0),
                    None => return Reached::End(stop),
                }
            }
        }
    }
    Reached::Long(rest)
}

/// What the next block is likely like: texts stay as they are for a while, so the cheapest test that may succeed is tried first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Likely {
    Plain,
    CommonEscapes,
    /// Escaped backslashes, as in JSON inside JSON.
    AnyEscapes,
}

/// Steps over 64 bytes at a time, and stops where 65 are no longer left or where [`skip`] must stop.
///
/// A block never begins inside of an escape: one that ends with a backslash takes the byte after it along.
fn skip_blocks(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    let mut likely = Likely::Plain;
    while let Some(window) = rest.first_chunk::<65>() {
        let [block @ .., next] = window;
        let [first, followers @ ..] = window;
        let [.., last] = block;
        if likely == Likely::Plain {
            if !block::has_special(block) {
                rest = drop_first(rest, 64);
                continue;
            }
            // Plain text most often ends here; what follows its quote needs no mask.
            let stop = skip_plain(rest);
            if !matches!(stop, [b'\\', ..]) {
                return stop;
            }
        }
        if likely != Likely::AnyEscapes
            && !matches!(first, b'"' | 0..0x20)
            && let Some(has_escapes) = block::common_escapes(block, followers)
        {
            likely = if has_escapes { Likely::CommonEscapes } else { Likely::Plain };
            rest = drop_first(rest, 64 + u32::from(*last == b'\\'));
            continue;
        }
        let special = block::special(block);
        let (escaped, next_is_escaped) = escaped(special.backslash);
        let stop = (special.quote & !escaped) | special.control | (escaped & !block::escapable(block, special));
        if stop != 0 {
            let at = stop.trailing_zeros();
            let is_escaped = u32::from(escaped >> at & 1 == 1);
            return drop_first(rest, at - is_escaped);
        }
        if next_is_escaped && !is_escapable(*next) {
            return drop_first(rest, 63);
        }
        likely = if special.backslash & escaped != 0 { Likely::AnyEscapes } else { Likely::CommonEscapes };
        rest = drop_first(rest, 64 + u32::from(next_is_escaped));
    }
    rest
}

/// Marks the bytes that a backslash of the block escapes, and says whether it escapes the byte after the block.
///
/// A run of backslashes escapes every second byte from its start; adding the runs that start on odd bits to the mask lets the carry
/// run along each of them and so find where it ends, and on which side.
pub(super) fn escaped(backslash: u64) -> (u64, bool) {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let follows = backslash << 1;
    let odd_starts = backslash & !EVEN & !follows;
    let (even_runs, next_is_escaped) = odd_starts.overflowing_add(backslash);
    ((EVEN ^ (even_runs << 1)) & follows, next_is_escaped)
}

/// Walks the last bytes of a window.
fn skip_small(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    loop {
        let stop = match rest.split_first_chunk::<8>() {
            Some((block, after)) => match block::first_special(block) {
                None => {
                    rest = after;
                    continue;
                }
                Some(at) => drop_first(rest, at),
            },
            None => drop_plain(rest),
        };
        match after_simple_escape(stop) {
            Some(after) => rest = after,
            None => return stop,
        }
    }
}

fn drop_plain(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first()
        && !matches!(byte, b'"' | b'\\' | 0..0x20)
    {
        rest = after;
    }
    rest
}

fn after_simple_escape(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'\\', escaped, after @ ..] if is_escapable(*escaped) => Some(after),
        _ => None,
    }
}

fn is_escapable(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

fn drop_first(bytes: &[u8], count: u32) -> &[u8] {
    bytes.get(count as usize..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same rule, one byte at a time.
    fn skip_slowly(bytes: &[u8]) -> &[u8] {
        match bytes {
            [b'\\', ..] => after_simple_escape(bytes).map_or(bytes, skip_slowly),
            [b'"' | (0..0x20), ..] | [] => bytes,
            [_, after @ ..] => skip_slowly(after),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn stops_where_a_walk_over_bytes_stops(parts in prop::collection::vec(prop_oneof![
            12 => "[a-z ]{0,40}", 12 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\t", "\\/", "\\\\\\\\"]).prop_map(str::to_owned),
            1 => prop::sample::select(vec!["\"", "\\", "\\u0041", "\\x", "\n", "\\\n"]).prop_map(str::to_owned),
        ], 0..40)) {
            let text = parts.concat();
            prop_assert_eq!(skip(text.as_bytes()).len(), skip_slowly(text.as_bytes()).len());
        }
    }

    #[test]
    fn a_backslash_at_every_place_of_a_block_is_paired_with_its_byte() {
        for before in 0..200 {
            for run in 1..140 {
                let text = format!("{}{}n\"tail", "a".repeat(before), "\\".repeat(run));
                assert_eq!(skip(text.as_bytes()), b"\"tail", "{before} {run}");
                let text = format!("{}{}\"tail{}", "a".repeat(before), "\\".repeat(run), "b".repeat(before));
                let rest = skip(text.as_bytes());
                let end = if run % 2 == 0 { 5 + before } else { 0 };
                assert_eq!(rest.len(), end, "{before} {run}");
            }
        }
    }
}
