//! How a message says where its body ends, as far as two readers in a row could differ on it.

use http::HeaderMap;
use http::header::{self, HeaderValue};

/// Whether the body comes in no transfer coding, or in `chunked` alone, said once: a list is read differently by different servers.
pub fn is_plain_or_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(is_chunked) && codings.next().is_none()
}

/// What the head says of the body's length; `None`: nothing, or nothing that is a length.
pub fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q5_o9_only_chunked_alone_is_a_coding_that_nobody_reads_differently() {
        let says = |values: &[&'static str]| {
            let codings = values.iter().map(|value| (header::TRANSFER_ENCODING, HeaderValue::from_static(value)));
            is_plain_or_chunked(&codings.collect())
        };
        for values in [&[][..], &["chunked"], &[" Chunked\t"]] {
            assert!(says(values), "{values:?}");
        }
        for values in [&["gzip"][..], &["gzip, chunked"], &["chunked, chunked"], &["chunked", "chunked"], &["identity"], &[""]] {
            assert!(!says(values), "{values:?}");
        }
    }
}
