//! A provider's error on its way to become one of ours: it is heard to its end before anything is said, because its words tell what it is about.
//! Nothing of it reaches the client but its message, masked, and only where that may be shown. The log has the original, masked.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::answer::{Answer, Refusal, body::error_body};
use crate::domain::guard::mask::MASK;
use crate::domain::headers::response::is_advice;
use crate::domain::upstream::Upstream;
use crate::domain::upstream::advice::has_room;
use crate::domain::upstream::verdict::{Meaning, Said, meaning};
use crate::domain::upstream::words::Words;
use crate::domain::usage::decode::Decoder;
use crate::relay::answer::form::decoder_of;
use crate::relay::note::{Note, Subject};
use crate::relay::stage::Arrived;

/// How much of a provider's error is kept for the log.
const LOGGED_BYTES: usize = 2 * 1024;
/// How much of it is read for its words; what is longer has none worth reading.
const MOST_BYTES: usize = 64 * 1024;

/// A provider's error, under way or heard.
pub struct Hearing {
    pub status: u16,
    from_proxy: bool,
    /// The head's, for its advice.
    pub headers: HeaderMap,
    decoder: Option<Decoder>,
    seen: Vec<u8>,
    /// Of a compressed body: so much was read.
    decoded: usize,
    /// Of the body as it came.
    bytes: usize,
    /// Whether its message may be shown.
    pub shows_message: bool,
    /// The body of ours, until it is handed out.
    body: Option<Bytes>,
}

impl Hearing {
    pub fn new(status: u16, from_proxy: bool, headers: &HeaderMap) -> Self {
        Self {
            status,
            from_proxy,
            headers: headers.clone(),
            decoder: decoder_of(headers),
            seen: Vec::new(),
            decoded: 0,
            bytes: 0,
            shows_message: false,
            body: None,
        }
    }

    /// Hears the next bytes; false where they are too many to wait for more.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        self.bytes += bytes.len();
        let seen = &mut self.seen;
        let mut keep = |plain: &[u8]| {
            let room = MOST_BYTES.saturating_sub(seen.len());
            seen.extend_from_slice(plain.get(..room.min(plain.len())).unwrap_or_default());
        };
        match &mut self.decoder {
            Some(decoder) => {
                // What is behind the first bytes of a message is not decoded either: however much it is (A7).
                let mut room = MOST_BYTES.saturating_sub(self.decoded);
                if room > 0 {
                    let decoded = decoder.push(bytes, &mut room, &mut keep);
                    self.decoded = if decoded.is_err() { MOST_BYTES } else { MOST_BYTES - room };
                }
            }
            None => keep(bytes),
        }
        self.bytes <= MOST_BYTES
    }

    /// What it means, by as much of it as has come.
    pub fn meaning(&self, model: Option<&str>) -> Meaning {
        let words = Words::of(&self.seen);
        let has_room = has_room(&self.headers);
        meaning(&Said { status: self.status, from_proxy: self.from_proxy, words: &words, model, has_room })
    }

    /// What the client is told in its place; notes the original, masked.
    pub fn answer(&mut self, refusal: &Refusal, arrived: &Arrived, upstream: &Upstream, notes: &mut Vec<Note>) -> Answer {
        notes.push(self.original(arrived, upstream));
        let mut answer = refusal.answer();
        if self.shows_message
            && let Some(message) = provider_message(&self.seen)
        {
            answer.message = masked(&message, upstream);
        }
        self.body = Some(Bytes::from(error_body(arrived.dialect, &answer, &arrived.id)));
        answer
    }

    /// The body that goes with the answer.
    pub fn body(&self) -> Bytes {
        self.body.clone().unwrap_or_default()
    }

    /// The body of ours, once.
    pub fn take_body(&mut self) -> Option<Bytes> {
        self.body.take()
    }

    /// What tells a client when to come back, where the refusal keeps it.
    pub fn advice(&self, refusal: &Refusal, upstream: &Upstream) -> HeaderMap {
        let keeps = |(name, value): &(&HeaderName, &HeaderValue)| is_advice(name) && !upstream.guard.contains(value.as_bytes());
        match refusal {
            Refusal::UpstreamStatus { .. } => {
                self.headers.iter().filter(keeps).map(|(name, value)| (name.clone(), value.clone())).collect()
            }
            _ => HeaderMap::new(),
        }
    }

    fn original(&self, arrived: &Arrived, upstream: &Upstream) -> Note {
        let head = self.seen.get(..LOGGED_BYTES.min(self.seen.len())).unwrap_or_default();
        let text = masked(&String::from_utf8_lossy(head), upstream);
        let (id, name, status) = (&arrived.id, &upstream.name, self.status);
        Note::warning(Subject::Answer, format!("request {id}: upstream {name} answered {status}: {}", text.escape_debug()))
    }
}

/// Without keys of ours, without the upstream's host, without what looks like an account.
fn masked(text: &str, upstream: &Upstream) -> String {
    let text = upstream.guard.mask_provider_text(text);
    match &upstream.endpoint {
        Some(endpoint) => text.replace(endpoint.host(), MASK),
        None => text,
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
