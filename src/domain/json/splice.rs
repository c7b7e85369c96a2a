//! Replaces bytes of a body that is held in pieces, without copying the pieces.
//!
//! ```text
//! body   [ aaaaaaa ][ bbbbbb ]        edit 3..5 → "xy"
//! after  [ aaa ][ xy ][ aa ][ bbbbbb ]
//! ```

use std::mem;
use std::ops::Range;

use bytes::Bytes;

/// A replacement; an empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Bytes from the body's start.
    pub at: Range<usize>,
    pub with: Bytes,
}

/// Applies edits whose places count in the body as it is before any of them; their order does not matter. The pieces around them
/// share the memory of the old ones, and the new length is the sum of the pieces' lengths.
///
/// An edit that overlaps one that begins earlier, or that reaches beyond the body, is a caller's mistake and is left out.
///
/// ```
/// use bytes::Bytes;
/// use trollbridge::domain::json::splice::{Edit, splice};
///
/// let mut body = vec![Bytes::from("{\"model\":\"al"), Bytes::from("ias\"}")];
/// splice(&mut body, vec![Edit { at: 9..16, with: Bytes::from("\"real\"") }]);
/// assert_eq!(body.concat(), b"{\"model\":\"real\"}");
/// ```
pub fn splice(body: &mut Vec<Bytes>, edits: Vec<Edit>) {
    let mut edits = edits;
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let len: usize = body.iter().map(Bytes::len).sum();
    let pieces = body.len() + 2 * edits.len();
    let mut old = Pieces::new(mem::replace(body, Vec::with_capacity(pieces)));
    for Edit { at, with } in edits {
        if at.start < old.at || at.end < at.start || at.end > len {
            debug_assert!(false, "an edit at {at:?} of a body of {len} bytes, {} of them done", old.at);
            continue;
        }
        old.take_until(at.start, |piece| body.push(piece));
        old.take_until(at.end, drop);
        if !with.is_empty() {
            body.push(with);
        }
    }
    old.take_until(len, |piece| body.push(piece));
}

/// Pieces that are taken from the front, by places in the whole.
struct Pieces {
    rest: std::vec::IntoIter<Bytes>,
    first: Bytes,
    at: usize,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Self {
        Self { rest: pieces.into_iter(), first: Bytes::new(), at: 0 }
    }

    fn take_until(&mut self, end: usize, mut sink: impl FnMut(Bytes)) {
        while self.at < end {
            if self.first.is_empty() {
                match self.rest.next() {
                    Some(piece) => self.first = piece,
                    None => return,
                }
            }
            let piece = self.first.split_to(self.first.len().min(end - self.at));
            self.at += piece.len();
            if !piece.is_empty() {
                sink(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_around_an_edit_share_the_old_memory() {
        let first = Bytes::from("0123456789");
        let second = Bytes::from("abcdef");
        let mut body = vec![first.clone(), second.clone()];
        let edit = |at: Range<usize>, with: &'static str| Edit { at, with: Bytes::from(with) };
        splice(&mut body, vec![edit(8..12, "XY"), edit(1..1, "+")]);
        assert_eq!(body, ["0", "+", "1234567", "XY", "cdef"]);
        assert_eq!(body.iter().map(Bytes::len).sum::<usize>(), 15);
        let kept = [(0, first.as_ptr()), (2, first.as_ptr().wrapping_add(1)), (4, second.as_ptr().wrapping_add(2))];
        assert!(kept.iter().all(|(n, place)| body[*n].as_ptr() == *place));
    }

    #[test]
    fn a_body_without_edits_keeps_its_pieces() {
        let mut body = vec![Bytes::from("ab"), Bytes::from("c")];
        splice(&mut body, Vec::new());
        assert_eq!(body, ["ab", "c"]);
    }
}
