//! The clear form of a compressed answer, read beside the bytes that pass: for its usage, and for keys of ours.
//!
//! ```text
//!   compressed bytes ─► waiting ─► decoder ─┬─► meter   until the bound of the whole answer
//!          ▲               │                └─► guard   to the end, a slice at a time
//!          └── pause ──────┴─► client           bytes leave when their clear form was looked at
//! ```
//! What is decoded with one chunk is bounded (A7). What there is more of waits for the next chunk, and the upstream with it; should more wait
//! than an honest answer ever has, or at its end, then nobody can say what is in it, and it must not pass (A8). An answer in which there is
//! nothing to be found does not wait: beyond the bound it is not read any more.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::guard::GuardScan;
use crate::domain::settings::DecodeBounds;
use crate::domain::usage::decode::{DecodeError, Decoder};
use crate::relay::answer::ending::joined;

/// Compressed bytes that may wait: some of the largest chunks that come. An answer that decodes within the bounds has none.
const MOST_WAITING: usize = 256 * 1024;

/// How many times as much as with another chunk is decoded with the last one, which nothing follows that its rest could wait for.
const ROOMS_AT_THE_END: u32 = 8;

/// A worker is left to others for that long for each MiB that was decoded.
const PAUSE_PER_MIB: Duration = Duration::from_millis(1);

/// A compressed answer, under way.
pub struct Clear {
    decoder: Decoder,
    /// `None`: there is nothing to be found.
    scan: Option<GuardScan>,
    bounds: DecodeBounds,
    waiting: VecDeque<Bytes>,
    /// So many bytes of the first piece were read.
    read: usize,
    came: u64,
    decoded: u64,
    /// Of what came, as far as it is decoded.
    consumed: u64,
}

/// What one chunk brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The compressed bytes that were looked at.
    pub ready: Option<Bytes>,
    /// The meter did not get all: its bound is reached.
    pub is_unmetered: bool,
    /// How long the next chunk should be kept from coming.
    pub pause: Duration,
}

/// Why the clear form is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error("a key of ours")]
    Leak,
    #[error(transparent)]
    Invalid(#[from] DecodeError),
    #[error("so little decodes to so much that it can't be read on its way")]
    TooMuch,
}

impl Clear {
    pub fn new(decoder: Decoder, scan: Option<GuardScan>, bounds: DecodeBounds) -> Self {
        Self { decoder, scan, bounds, waiting: VecDeque::new(), read: 0, came: 0, decoded: 0, consumed: 0 }
    }

    /// Whether bytes wait until they were looked at.
    pub fn is_guarded(&self) -> bool {
        self.scan.is_some()
    }

    /// Takes the next chunk, and reads as much as the bounds allow.
    ///
    /// # Errors
    ///
    /// What makes the rest unreadable; nothing more is to be read then.
    pub fn push(&mut self, chunk: Option<Bytes>, end: bool, meter: &mut dyn FnMut(&[u8])) -> Result<Slice, Unread> {
        self.came += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.waiting.extend(chunk);
        let Self { decoder, scan, bounds, waiting, read, came, decoded, consumed } = self;
        let most_metered = bounds.chunk_bytes as u64 + came.saturating_mul(bounds.ratio);
        let (mut room, mut leaked, mut ready) = (bounds.chunk_bytes, false, None);
        let before = *decoded;
        let mut rooms = if end { ROOMS_AT_THE_END } else { 1 };
        while let Some(first) = waiting.front() {
            let taken = decoder.push(first.get(*read..).unwrap_or_default(), &mut room, &mut |plain| {
                *decoded += plain.len() as u64;
                if *decoded <= most_metered {
                    meter(plain);
                }
                leaked |= scan.as_mut().is_some_and(|scan| scan.push(plain).is_err());
            })?;
            *read += taken;
            *consumed += taken as u64;
            if leaked {
                return Err(Unread::Leak);
            }
            if room == 0 {
                // No more comes to wait for; a bomb shows by how little of it gave so much.
                rooms -= 1;
                if rooms == 0 || *decoded > consumed.saturating_mul(bounds.ratio) {
                    break;
                }
                room = bounds.chunk_bytes;
                continue;
            }
            *read = 0;
            ready = match (ready, waiting.pop_front()) {
                (Some(before), Some(piece)) => joined(vec![before, piece]),
                (before, piece) => before.or(piece),
            };
        }
        let still: usize = waiting.iter().map(Bytes::len).sum();
        if still > 0 && (end || still > MOST_WAITING || scan.is_none()) {
            return Err(Unread::TooMuch);
        }
        let mib = u32::try_from((*decoded - before) >> 20).unwrap_or(u32::MAX);
        Ok(Slice { ready, is_unmetered: *decoded > most_metered, pause: PAUSE_PER_MIB.saturating_mul(mib) })
    }
}

#[cfg(test)]
#[path = "clear_tests.rs"]
mod tests;
