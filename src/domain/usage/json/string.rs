//! Where a JSON string's inside ends, in pieces of it.

use memchr::{memchr, memchr2};

/// Up to this length a loop beats the call into vector code.
const SHORT: usize = 16;

/// Cuts a string's inside at its next quote or backslash: what stands before it, which of the two it is, what follows.
pub(super) fn string_run(bytes: &[u8]) -> (&[u8], Option<u8>, &[u8]) {
    let short = bytes.iter().take(SHORT).position(|&byte| byte == b'"' || byte == b'\\');
    let end = short.or_else(|| {
        let rest = bytes.get(SHORT..)?;
        memchr2(b'"', b'\\', rest).map(|at| at + SHORT)
    });
    match end.and_then(|end| bytes.split_at_checked(end)) {
        Some((run, [end, rest @ ..])) => (run, Some(*end), rest),
        _ => (bytes, None, &[]),
    }
}

/// A string goes on beyond the piece, perhaps in the middle of an escape.
pub(super) struct Open {
    pub(super) in_escape: bool,
}

/// Finds what follows a string's closing quote. Looks at quotes only: one is escaped when an odd number of backslashes stands
/// before it, and escaped code has far fewer of them than of backslashes.
pub(super) fn string_end(bytes: &[u8]) -> Result<&[u8], Open> {
    let mut begin = 0;
    while let Some(rest) = bytes.get(begin..) {
        // Most strings of an event are short; for them a loop beats the call into vector code.
        let Some(at) = rest.iter().take(SHORT).position(|&byte| byte == b'"').or_else(|| memchr(b'"', rest)) else { break };
        match rest.split_at_checked(at) {
            Some((_, [_, after @ ..])) if !ends_in_escape(bytes.get(..begin + at).unwrap_or_default()) => return Ok(after),
            _ => begin += at + 1,
        }
    }
    Err(Open { in_escape: ends_in_escape(bytes) })
}

/// Whether an odd number of backslashes ends the piece, which begins outside of an escape.
fn ends_in_escape(piece: &[u8]) -> bool {
    piece.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}
