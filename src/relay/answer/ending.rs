//! Helpers of this folder: the event that ends a cut stream, which APIs have a terminator, joined pieces.

use bytes::{Bytes, BytesMut};

use crate::domain::answer::{Refusal, body::error_event};
use crate::domain::dialect::Api;
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
