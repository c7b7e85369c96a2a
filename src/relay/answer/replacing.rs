//! A provider's error on its way to become one of ours: its body is swallowed, read for its message, and told to the log, masked.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::domain::answer::{Answer, Refusal, body::error_body};
use crate::domain::guard::mask::MASK;
use crate::domain::upstream::Upstream;
use crate::domain::usage::decode::Decoder;
use crate::relay::note::{Note, Subject};
use crate::relay::stage::Arrived;

/// How much of a provider's error is kept for the log.
const LOGGED_BYTES: usize = 2 * 1024;
/// How much of it is read for its message; what is longer has none worth showing.
const MESSAGE_BYTES: usize = 64 * 1024;

/// A provider's error, under way.
pub struct Replacing {
    refusal: Refusal,
    status: u16,
    shows_message: bool,
    decoder: Option<Decoder>,
    seen: Vec<u8>,
    /// Of a compressed body: so much was read.
    decoded: usize,
    /// Of the body as it came.
    bytes: usize,
    upstream: Arc<Upstream>,
}

/// The body is longer than any message: nobody waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Replacing {
    pub fn new(refusal: Refusal, status: u16, shows_message: bool, decoder: Option<Decoder>, upstream: &Arc<Upstream>) -> Self {
        Self { refusal, status, shows_message, decoder, seen: Vec::new(), decoded: 0, bytes: 0, upstream: upstream.clone() }
    }

    /// Swallows the provider's body; at its end gives ours.
    ///
    /// # Errors
    ///
    /// [`TooLong`]
    pub fn take(
        &mut self,
        chunk: Option<Bytes>,
        end: bool,
        arrived: &Arrived,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Bytes>, TooLong> {
        if let Some(bytes) = chunk {
            self.read(&bytes);
        }
        if end {
            return Ok(Some(Bytes::from(error_body(arrived.dialect, &self.answer(arrived, notes), &arrived.id))));
        }
        if self.bytes > MESSAGE_BYTES {
            return Err(TooLong);
        }
        Ok(None)
    }

    fn read(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        let seen = &mut self.seen;
        let mut keep = |plain: &[u8]| {
            let room = MESSAGE_BYTES.saturating_sub(seen.len());
            seen.extend_from_slice(plain.get(..room.min(plain.len())).unwrap_or_default());
        };
        match &mut self.decoder {
            Some(decoder) => {
                // What is behind the first bytes of a message is not decoded either: however much it is (A7).
                let mut room = MESSAGE_BYTES.saturating_sub(self.decoded);
                if room > 0 {
                    let decoded = decoder.push(bytes, &mut room, &mut keep);
                    self.decoded = if decoded.is_err() { MESSAGE_BYTES } else { MESSAGE_BYTES - room };
                }
            }
            None => keep(bytes),
        }
    }

    /// What the client is told, from as much of the provider's error as has come; notes the original, masked.
    pub fn answer(&mut self, arrived: &Arrived, notes: &mut Vec<Note>) -> Answer {
        let seen = mem::take(&mut self.seen);
        notes.push(self.original(&seen, arrived));
        let mut answer = self.refusal.answer();
        if self.shows_message
            && let Some(message) = provider_message(&seen)
        {
            answer.message = self.masked(&message);
        }
        answer
    }

    fn original(&self, seen: &[u8], arrived: &Arrived) -> Note {
        let head = seen.get(..LOGGED_BYTES.min(seen.len())).unwrap_or_default();
        let text = self.masked(&String::from_utf8_lossy(head));
        let (id, name, status) = (&arrived.id, &self.upstream.name, self.status);
        Note::warning(Subject::Answer, format!("request {id}: upstream {name} answered {status}: {}", text.escape_debug()))
    }

    /// Without keys of ours, without the upstream's host, without what looks like an account.
    fn masked(&self, text: &str) -> String {
        let text = self.upstream.guard.mask_provider_text(text);
        match &self.upstream.endpoint {
            Some(endpoint) => text.replace(endpoint.host(), MASK),
            None => text,
        }
    }
}

/// The text of a provider's error: `error.message` in both dialects, `message` or `error` where it is simpler.
fn provider_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = value.get("error");
    let found = error.and_then(|error| error.get("message")).or(error).or_else(|| value.get("message"))?.as_str()?;
    let text: String = found.chars().filter(|c| !c.is_control() || *c == '\n').take(LOGGED_BYTES).collect();
    (!text.trim().is_empty()).then_some(text)
}
