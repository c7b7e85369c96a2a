//! Helpers of this folder: the event that ends a cut stream, which APIs have a terminator, decoders, joined pieces.

use bytes::{Bytes, BytesMut};
use http::header::HeaderValue;

use crate::domain::answer::{Refusal, body::error_event};
use crate::domain::dialect::Api;
use crate::domain::usage::decode::Decoder;
use crate::relay::stage::Arrived;

/// The event that ends a stream which its upstream cut.
pub fn cut_event(arrived: &Arrived) -> Bytes {
    let cut = Refusal::Cut { detail: String::new() };
    Bytes::from(error_event(arrived.asked, &cut.answer(), &arrived.id))
}

/// Whether a stream of the API that the upstream speaks has an end of its own, so that one without it was cut.
pub fn ends_with_a_terminator(spoken: Api) -> bool {
    matches!(spoken, Api::ChatCompletions | Api::Completions | Api::Messages | Api::Responses)
}

/// What reads a compressed body; `None`: it is not compressed, or in a way that nobody here can read.
pub fn decoder_of(encoding: Option<&HeaderValue>) -> Option<Decoder> {
    Decoder::for_encoding(encoding?.to_str().ok()?)
}

pub fn joined(mut pieces: Vec<Bytes>) -> Option<Bytes> {
    if pieces.len() <= 1 {
        return pieces.pop();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    Some(whole.freeze())
}
