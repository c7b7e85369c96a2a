//! Lets a stream's complete events through at once and keeps back the beginning of one until its blank line came.
//!
//! An upstream that dies within an event leaves half of it behind. A client that got this half would read our error event as its
//! rest, or choke on it; what was never sent can be left out.

use bytes::{Bytes, BytesMut};

/// An event longer than this passes as it comes.
const MAX_HELD: usize = 64 * 1024;

/// The beginning of an event, waiting for its end.
#[derive(Debug, Default)]
pub struct WholeEvents {
    held: BytesMut,
}

impl WholeEvents {
    /// Whether a chunk can pass without a look at what is kept back: nearly all can.
    pub fn passes(&self, chunk: &[u8]) -> bool {
        self.held.is_empty() && ends_event(chunk)
    }

    /// Takes the next chunk and appends to `out` what may pass now, in order.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        if self.passes(&chunk) {
            out.push(chunk);
            return;
        }
        // What was kept back holds no event's end; one may lie across the seam.
        let seen = self.held.len().saturating_sub(3);
        self.held.extend_from_slice(&chunk);
        let end = last_end(self.held.get(seen..).unwrap_or_default()).map(|end| seen + end);
        let free = if self.held.len() - end.unwrap_or(0) > MAX_HELD { self.held.len() } else { end.unwrap_or(0) };
        if free > 0 {
            out.push(self.held.split_to(free).freeze());
        }
    }

    /// Gives up what is kept back, at the end of a stream that ended by itself.
    pub fn finish(self, out: &mut Vec<Bytes>) {
        if !self.held.is_empty() {
            out.push(self.held.freeze());
        }
    }
}

fn ends_event(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n\n") || bytes.ends_with(b"\n\r\n") || bytes.ends_with(b"\r\r")
}

/// Where the last complete event ends.
fn last_end(bytes: &[u8]) -> Option<usize> {
    (1..=bytes.len()).rev().find(|&end| bytes.get(..end).is_some_and(ends_event))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut whole, mut out) = (WholeEvents::default(), Vec::new());
        for chunk in chunks {
            whole.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        out.iter().map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn o1_complete_events_pass_at_once() {
        assert_eq!(passed(&[b"data: 1\n\n", b"data: 2\r\n\r\ndata: 3\r\n\r\n"]).len(), 2);
    }

    #[test]
    fn o6_half_an_event_is_kept_back() {
        assert_eq!(passed(&[b"data: 1\n\ndata: {\"hal"]), [b"data: 1\n\n"]);
        assert_eq!(passed(&[b"data: {\"hal", b"f\":1}\n", b"\ndata: n"]), [b"data: {\"half\":1}\n\n"]);
    }

    #[test]
    fn an_endless_event_passes_in_bounded_memory() {
        let line = vec![b'x'; MAX_HELD / 2 + 1];
        assert_eq!(passed(&[&line, &line]).concat().len(), 2 * line.len());
    }

    proptest! {
        #[test]
        fn o1_every_byte_passes_in_order(text in "[a\r\n]{0,60}", cuts in prop::collection::vec(0usize..60, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            let (mut whole, mut out, mut from) = (WholeEvents::default(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                whole.push(Bytes::copy_from_slice(&text.as_bytes()[from..cut]), &mut out);
                from = cut;
            }
            whole.finish(&mut out);
            prop_assert_eq!(out.concat(), text.as_bytes());
        }
    }
}
