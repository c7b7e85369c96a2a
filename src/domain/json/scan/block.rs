//! Judges 8 or 64 bytes at a time, without a branch per byte.
//!
//! No `unsafe` and no intrinsics: loops over fixed arrays that the compiler turns into vector instructions, and plain integers of eight
//! bytes where a place is wanted. In a mask of 64 bits, bit `n` speaks of byte `n`.

/// The bytes of a block that end or bend a run of plain string text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Special {
    pub quote: u64,
    pub backslash: u64,
    /// Below 0x20: never allowed raw in a string.
    pub control: u64,
}

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;
/// Two vector registers of SSE2, one of AVX2.
const LANES: usize = 32;

/// Whether 64 bytes have a quote, a backslash or a control character.
pub(super) fn has_special(block: &[u8; 64]) -> bool {
    block.iter().fold(false, |any, byte| any | (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20))
}

/// Finds the first quote, backslash or control character of 8 bytes.
///
/// Subtracting lets a borrow run into the bytes after a found one, so marks above the lowest mean nothing.
#[inline]
pub(super) fn first_special(block: &[u8; 8]) -> Option<u32> {
    let word = u64::from_le_bytes(*block);
    // With this bit flipped, the quote is 0x20 and joins the control characters below it.
    let flipped = word ^ (ONES * 0x02);
    let quote_or_control = flipped.wrapping_sub(ONES * 0x21) & !flipped;
    let zero_at_backslash = word ^ (ONES * 0x5c);
    let backslash = zero_at_backslash.wrapping_sub(ONES) & !zero_at_backslash;
    match (quote_or_control | backslash) & HIGH {
        0 => None,
        high_bits => Some(high_bits.trailing_zeros() / 8),
    }
}

/// Finds the first quote or backslash of 8 bytes.
#[inline]
pub(super) fn first_quote_or_backslash(block: &[u8; 8]) -> Option<u32> {
    let word = u64::from_le_bytes(*block);
    let [quote, backslash] = [word ^ (ONES * 0x22), word ^ (ONES * 0x5c)];
    match (quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGH {
        0 => None,
        high_bits => Some(high_bits.trailing_zeros() / 8),
    }
}

pub(super) fn has_quote(block: &[u8; 64]) -> bool {
    block.iter().fold(false, |any, byte| any | (*byte == b'"'))
}

/// Whether each quote among the `followers` is escaped by a backslash that is not escaped itself; a pair of backslashes gives `false`,
/// because it cannot be told from the byte before alone.
pub(super) fn has_only_escaped_quotes(block: &[u8; 64], followers: &[u8; 64]) -> bool {
    let mut wrong = [0; LANES];
    for (befores, bytes) in block.as_chunks::<LANES>().0.iter().zip(followers.as_chunks::<LANES>().0) {
        for ((wrong, before), byte) in wrong.iter_mut().zip(befores).zip(bytes) {
            let is_escaped = ones(*before == b'\\');
            *wrong |= (ones(*byte == b'"') & !is_escaped) | (ones(*byte == b'\\') & is_escaped);
        }
    }
    is_zero(wrong)
}

/// Says whether 64 bytes have any backslash, if the only special bytes are the common escapes `\n`, `\t`, `\r` and `\"`; `None` if not.
///
/// `followers` are the bytes that follow each byte of the block; they are what is judged. A backslash that is escaped itself cannot be
/// told from the byte before it alone, so a pair of them gives `None`.
pub(super) fn common_escapes(block: &[u8; 64], followers: &[u8; 64]) -> Option<bool> {
    let mut wrong = [0; LANES];
    let mut backslashes = [0; LANES];
    for (befores, bytes) in block.as_chunks::<LANES>().0.iter().zip(followers.as_chunks::<LANES>().0) {
        let lanes = wrong.iter_mut().zip(&mut backslashes).zip(befores).zip(bytes);
        for (((wrong, backslashes), before), byte) in lanes {
            let is_escaped = ones(*before == b'\\');
            let quote = ones(*byte == b'"');
            let letter = ones(*byte == b'n') | ones(*byte == b't') | ones(*byte == b'r');
            *backslashes |= is_escaped;
            *wrong |= ones(*byte < 0x20) | (quote & !is_escaped) | (is_escaped & !(letter | quote));
        }
    }
    is_zero(wrong).then(|| !is_zero(backslashes))
}

/// Marks quotes, backslashes and control characters of 64 bytes.
pub(super) fn special(block: &[u8; 64]) -> Special {
    Special {
        quote: mask(block, |byte| ones(byte == b'"')),
        backslash: mask(block, |byte| ones(byte == b'\\')),
        control: mask(block, |byte| ones(byte < 0x20)),
    }
}

/// Marks the bytes that may follow a backslash and complete the escape: `" \ / b f n r t`, not `u`.
pub(super) fn escapable(block: &[u8; 64], special: Special) -> u64 {
    let letters = mask(block, |byte| {
        // `b` and `f` differ in one bit.
        ones(byte & !0x04 == b'b') | ones(byte == b'n') | ones(byte == b'r') | ones(byte == b't') | ones(byte == b'/')
    });
    letters | special.quote | special.backslash
}

/// A byte of ones or zeros: what a vector comparison gives, so that the compiler makes one of it.
fn ones(is: bool) -> u8 {
    if is { u8::MAX } else { 0 }
}

fn is_zero(lanes: [u8; LANES]) -> bool {
    lanes.iter().fold(0, |any, lane| any | lane) == 0
}

/// Compares in vectors, then collects eight results at a time by a multiplication that moves each to its place in the top byte.
fn mask(block: &[u8; 64], ones_where: impl Fn(u8) -> u8) -> u64 {
    let results = block.map(|byte| ones_where(byte) & 1);
    let mut mask = [0; 8];
    for (bits, word) in mask.iter_mut().zip(results.as_chunks::<8>().0) {
        let [top, ..] = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080).to_be_bytes();
        *bits = top;
    }
    u64::from_le_bytes(mask)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask_of(block: &[u8], wanted: impl Fn(u8) -> bool) -> u64 {
        block.iter().enumerate().filter(|(_, byte)| wanted(**byte)).map(|(n, _)| 1 << n).sum()
    }

    const TELLING: &[u8] = b"\"\\/bfnrtu\x1f\x20\0\x7f\x80\x9f\xa2";

    proptest! {
        #[test]
        fn agrees_with_a_loop_over_bytes(raw in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(TELLING)], 64)) {
            let block: &[u8; 64] = raw.as_slice().try_into().unwrap();
            let is_special = |b: u8| b < 0x20 || b == b'"' || b == b'\\';
            let found = special(block);
            prop_assert_eq!(found.quote, mask_of(block, |b| b == b'"'));
            prop_assert_eq!(found.backslash, mask_of(block, |b| b == b'\\'));
            prop_assert_eq!(found.control, mask_of(block, |b| b < 0x20));
            prop_assert_eq!(escapable(block, found), mask_of(block, |b| b"\"\\/bfnrt".contains(&b)));
            prop_assert_eq!(has_special(block), mask_of(block, is_special) != 0);
            for part in block.as_chunks::<8>().0 {
                let first = part.iter().position(|b| is_special(*b)).map(|at| u32::try_from(at).unwrap());
                prop_assert_eq!(first_special(part), first);
            }
        }

        #[test]
        fn knows_common_escapes_at_every_place(start in 0_usize..64, text in "([a-z]{0,3}\\\\[ntr\"]){70}", odd in 0_usize..66, byte in prop::sample::select(TELLING)) {
            let mut bytes = text.into_bytes();
            bytes.drain(..start);
            if let Some(odd) = bytes.get_mut(odd) {
                *odd = byte;
            }
            let block: &[u8; 64] = bytes[..64].try_into().unwrap();
            let followers: &[u8; 64] = bytes[1..65].try_into().unwrap();
            let is_common = block.iter().zip(followers).all(|(before, byte)| match (before, byte) {
                (b'\\', byte) => b"ntr\"".contains(byte),
                (_, byte) => *byte >= 0x20 && *byte != b'"',
            });
            prop_assert_eq!(common_escapes(block, followers), is_common.then(|| block.contains(&b'\\')));
        }
    }
}
