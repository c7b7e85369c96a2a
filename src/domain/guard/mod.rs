//! Watches answers for keys of ours: none may reach a client, even when an upstream echoes it (O8).
//!
//! A [`KeyGuard`] is built once per configuration and shared. [`GuardStream`] lets a body through that holds no key and stops it
//! before the first byte of one that does; it keeps back only bytes that begin a key, so an event, which ends with a line feed,
//! is never delayed. [`GuardScan`] looks at decoded bytes that go nowhere. [`mask`] blots keys and what looks like one out of
//! texts.
//!
//! Keys are looked for as they are written, in base64 and in hexadecimal (`forms`), each of them escaped or encoded in any of the ways that
//! JSON, URLs and the wide Unicode encodings know (`spelling`). A key that an upstream takes apart is not recognised: over two events of
//! a stream, or with line breaks in its base64. What is compressed is read by whoever asks (`relay::answer`); what can't be read must not pass.

mod forms;
mod host;
mod keys;
pub mod mask;
mod spelling;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use crate::domain::guard::forms::MIN_KEY_BYTES;
use crate::domain::guard::keys::Keys;
use crate::domain::guard::mask::{MASK, mask_identifiers};
use crate::domain::secret::Secret;

/// One of our keys is in the answer; nothing more of it may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upstream sent one of our own keys back")]
pub struct Leak;

/// Our keys, prepared for searching. Cheap to clone.
#[derive(Clone)]
pub struct KeyGuard(Arc<Keys>);

/// What may pass: the bytes that were kept back before, then the chunk's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    pub before: Bytes,
    pub chunk: Bytes,
}

impl Released {
    /// The pieces that are not empty, in order.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        [self.before, self.chunk].into_iter().filter(|piece| !piece.is_empty())
    }
}

impl fmt::Debug for KeyGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyGuard(*****)")
    }
}

impl KeyGuard {
    /// Prepares the search. Keys below [`MIN_KEY_BYTES`] are left out.
    pub fn new<'a>(keys: impl Iterator<Item = &'a Secret>) -> Self {
        Self(Arc::new(Keys::new(keys.map(Secret::expose).filter(|key| key.len() >= MIN_KEY_BYTES))))
    }

    /// Whether there is nothing to be found: an answer that can't be read may pass.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins to watch a body on its way to a client.
    pub fn stream(&self) -> GuardStream {
        GuardStream { keys: self.0.clone(), held: Bytes::new(), has_leaked: false }
    }

    /// Begins to watch bytes that go nowhere: the decoded form of a compressed body.
    pub fn scan(&self) -> GuardScan {
        GuardScan { keys: self.0.clone(), held: Vec::new() }
    }

    /// Whether a key is anywhere in a header's value or another whole text.
    pub fn contains(&self, text: &[u8]) -> bool {
        self.0.occurs_in(text)
    }

    /// Replaces every key by [`MASK`]; all of a text that spells one in another way.
    pub fn mask(&self, text: &str) -> String {
        let forms = self.0.longest_first().into_iter().filter_map(|form| std::str::from_utf8(form).ok());
        let masked = forms.fold(text.to_owned(), |text, form| if text.contains(form) { text.replace(form, MASK) } else { text });
        if self.contains(masked.as_bytes()) { MASK.to_owned() } else { masked }
    }

    /// Replaces keys, and what looks like a key, an account or a place, in a provider's error text; see
    /// [`mask::mask_identifiers`].
    pub fn mask_provider_text(&self, text: &str) -> String {
        mask_identifiers(&self.mask(text))
    }
}

/// Watches one body on its way to a client.
pub struct GuardStream {
    keys: Arc<Keys>,
    /// Bytes that begin a key.
    held: Bytes,
    has_leaked: bool,
}

impl GuardStream {
    /// Takes the next chunk and gives back what may pass, without copying it.
    ///
    /// # Errors
    /// When a key is in the body. Nothing of the chunk passes then, and nothing ever after.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<Released, Leak> {
        if self.has_leaked {
            return Err(Leak);
        }
        let joined = self.keys.join(&self.held, &chunk);
        if self.keys.occurs_in(&joined) || self.keys.occurs_in(&chunk) {
            self.has_leaked = true;
            self.held = Bytes::new();
            return Err(Leak);
        }
        let held_len = self.keys.begun_at_end(if self.keys.reaches_end(&joined, &chunk) { &joined } else { &chunk });
        if held_len <= chunk.len() {
            let tail = chunk.split_off(chunk.len() - held_len);
            let before = std::mem::replace(&mut self.held, tail);
            return Ok(Released { before, chunk });
        }
        // The chunk is so short that a key may have begun before it.
        let mut before = Bytes::from(joined);
        self.held = before.split_off(before.len() - held_len);
        Ok(Released { before, chunk: Bytes::new() })
    }

    /// Gives back what was kept back at the body's end: the beginning of a key that never came.
    pub fn finish(self) -> Bytes {
        self.held
    }
}

/// Watches bytes that are only looked at.
pub struct GuardScan {
    keys: Arc<Keys>,
    held: Vec<u8>,
}

impl GuardScan {
    /// Looks at the next bytes.
    ///
    /// # Errors
    /// When a key is in the bytes so far.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Leak> {
        let joined = self.keys.join(&self.held, piece);
        if self.keys.occurs_in(&joined) || self.keys.occurs_in(piece) {
            return Err(Leak);
        }
        let seen = if self.keys.reaches_end(&joined, piece) { &joined } else { piece };
        let begun = self.keys.begun_at_end(seen);
        self.held.clear();
        self.held.extend_from_slice(seen.get(seen.len() - begun..).unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys with shared prefixes, one inside another, and one that overlaps itself.
    const KEYS: [&str; 7] =
        ["sk-main-abcabc", "sk-main-abcabd/x", "sk-troll", "sk-troll-long-key-0123456789", "aabaab", "planted\"key", "tiny"];

    fn guard() -> KeyGuard {
        let keys: Vec<Secret> = KEYS.into_iter().filter_map(Secret::new).collect();
        KeyGuard::new(keys.iter())
    }

    /// What passed, and whether the body was stopped.
    fn pass(chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut stream, mut passed) = (guard().stream(), Vec::new());
        for chunk in chunks {
            match stream.push(Bytes::copy_from_slice(chunk)) {
                Ok(released) => released.into_pieces().for_each(|piece| passed.extend_from_slice(&piece)),
                Err(Leak) => return (passed, true),
            }
        }
        passed.extend_from_slice(&stream.finish());
        (passed, false)
    }

    #[test]
    fn o8_a_key_is_stopped_for_every_cut_in_three() {
        for key in ["sk-main-abcabc", "sk-main-abcabd\\/x", "sk-troll", "aabaab", "planted\\\"key"] {
            let text = format!("data: {{\"a\":\"sk-ma sk-{key}\"}}\n\n");
            for first in 0..text.len() {
                for second in first..text.len() {
                    let chunks = [&text.as_bytes()[..first], &text.as_bytes()[first..second], &text.as_bytes()[second..]];
                    let (passed, stopped) = pass(&chunks);
                    assert!(stopped, "{key} at {first}, {second}");
                    assert!(!guard().contains(&passed) && text.as_bytes().starts_with(&passed));
                }
            }
        }
    }

    #[test]
    fn o1_an_event_is_released_at_once_and_without_a_copy() {
        let mut stream = guard().stream();
        let chunk = Bytes::from_static(b"data: {\"text\":\"a task: sk-\"}\n\n");
        let released = stream.push(chunk.clone()).unwrap();
        assert_eq!(released.chunk.as_ptr(), chunk.as_ptr());
        assert_eq!((released.chunk, released.before), (chunk, Bytes::new()));
    }

    #[test]
    fn keeps_back_only_what_begins_a_key() {
        let mut stream = guard().stream();
        assert_eq!(stream.push(Bytes::from_static(b"text sk-trol")).unwrap().chunk, "text ");
        let released = stream.push(Bytes::from_static(b"k and s")).unwrap();
        assert_eq!((&released.before[..], &released.chunk[..]), (&b"sk-trol"[..], &b"k and "[..]));
        assert_eq!(stream.finish(), "s");
    }

    #[test]
    fn o8_nothing_passes_after_a_leak() {
        let mut stream = guard().stream();
        assert_eq!(stream.push(Bytes::from_static(b"x sk-troll y")), Err(Leak));
        assert_eq!(stream.push(Bytes::from_static(b"harmless")), Err(Leak));
    }

    #[test]
    fn without_keys_everything_passes() {
        let guard = KeyGuard::new(std::iter::empty());
        assert_eq!(guard.stream().push(Bytes::from_static(b"abc")).unwrap().chunk, "abc");
        assert!(!guard.contains(b"abc"));
        let tiny = Secret::new("tiny").unwrap();
        assert!(!KeyGuard::new([&tiny].into_iter()).contains(b"a tiny thing"));
    }

    #[test]
    fn o3_masks_the_longest_key_first() {
        assert_eq!(guard().mask("a sk-troll-long-key-0123456789 b sk-troll c"), "a ***** b ***** c");
        assert_eq!(guard().mask_provider_text("key aabaab of org-A1b2c3d4"), "key ***** of *****");
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => proptest::sample::select(&KEYS[..]).prop_flat_map(|key| (0..key.len()).prop_map(|len| key[..len].to_owned())),
            1 => proptest::sample::select(&KEYS[..]).prop_map(str::to_owned),
            3 => "[a-c \\-sk\n]{0,6}",
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn o8_no_key_is_released_and_all_else_passes_unchanged(
            text in text(),
            sizes in proptest::collection::vec(0..9usize, 1..60),
        ) {
            let (mut chunks, mut rest) = (Vec::new(), &text[..]);
            for size in sizes {
                let (chunk, tail) = rest.split_at(size.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            let (passed, stopped) = pass(&chunks);
            let mut keys = KEYS.iter().filter(|key| key.len() >= MIN_KEY_BYTES);
            let has_key = keys.any(|key| memchr::memmem::find(&text, key.as_bytes()).is_some());
            prop_assert_eq!(stopped, has_key);
            prop_assert!(!guard().contains(&passed));
            if has_key {
                prop_assert!(text.starts_with(&passed));
            } else {
                prop_assert_eq!(&passed, &text);
            }
            let mut scan = guard().scan();
            prop_assert_eq!(chunks.iter().any(|chunk| scan.push(chunk).is_err()), has_key);
        }
    }
}
