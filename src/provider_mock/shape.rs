//! Turns an answer and a reply's deviations into status, headers and the steps of a body.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::{Bytes, BytesMut};

use super::answer::content::Content;
use super::ask::Dialect;
use super::encode::compress;
use super::script::{After, Body, EchoKey, Ending, Framing, How, Reply, Split};
use super::steps::Step;

/// How long a piece of an endless body is.
const ENDLESS_PIECE_BYTES: usize = 16 * 1024;

/// A response, ready to be sent by hyper or by hand.
pub struct Shaped {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub steps: VecDeque<Step>,
    /// What Content-Length says.
    pub length_bytes: Option<u64>,
}

/// Applies `reply` to the answer; `key` is the credential that came with the request.
pub fn shape(reply: &Reply, content: Content, dialect: Dialect, key: &str, serial: u64) -> io::Result<Shaped> {
    let status = reply.status.unwrap_or(content.status);
    let headers = headers(reply, content.content_type, dialect, key, serial);
    let has_length = !matches!(reply.body, Body::Endless)
        && match reply.framing {
            Framing::Usual => !content.content_type.starts_with("text/event-stream"),
            Framing::ContentLength => true,
            Framing::Chunked | Framing::UntilClose => false,
        };
    let whole = whole(reply, content)?;
    let whole_bytes = length_bytes(&whole);
    let (pieces, end) = cut(&reply.ending, whole);
    // Who is cut off in a way that shows was promised the whole.
    let promised_bytes = if end.is_some() { whole_bytes } else { length_bytes(&pieces) };
    let steps = steps(reply, pieces, end);
    Ok(Shaped { status, headers, steps, length_bytes: has_length.then_some(promised_bytes) })
}

/// The body up to its end, as it would be sent without a cut.
fn whole(reply: &Reply, content: Content) -> io::Result<Vec<Bytes>> {
    let mut pieces = content.pieces;
    if let Body::FillerBytes(bytes) = reply.body {
        pieces = vec![filled(&pieces.concat(), bytes)];
    }
    if !reply.lies.is_empty() {
        pieces = pieces.iter().map(|piece| with_lies(piece, &reply.lies)).collect();
    }
    if matches!(reply.ending, Ending::NoTerminator) {
        pieces.truncate(pieces.len().saturating_sub(content.terminator));
    }
    match reply.encoding {
        Some(encoding) => compress(encoding, &pieces),
        None => Ok(pieces),
    }
}

/// What is sent of the body, and how it ends where it does not end properly.
fn cut(ending: &Ending, mut pieces: Vec<Bytes>) -> (Vec<Bytes>, Option<Step>) {
    let Ending::Cut { after, how } = ending else { return (pieces, None) };
    match *after {
        After::Events(count) => pieces.truncate(count),
        After::Bytes(count) => pieces = vec![first_bytes(&pieces, count)],
    }
    let end = match how {
        How::Clean => None,
        How::Close => Some(Step::BreakOff { reset: false }),
        How::Reset => Some(Step::BreakOff { reset: true }),
        How::Stall => Some(Step::Stall),
    };
    (pieces, end)
}

fn steps(reply: &Reply, pieces: Vec<Bytes>, end: Option<Step>) -> VecDeque<Step> {
    let pause = (!reply.pause.is_zero()).then_some(reply.pause);
    let mut steps = VecDeque::new();
    for piece in split(pieces, &reply.split) {
        if !steps.is_empty() {
            steps.extend(pause.map(Step::Pause));
        }
        steps.extend(reply.gate.clone().map(Step::Wait));
        steps.push_back(Step::Piece(piece));
    }
    if matches!(reply.body, Body::Endless) {
        steps.extend(pause.map(Step::Pause));
        steps.push_back(Step::Repeat(Bytes::from(vec![b'x'; ENDLESS_PIECE_BYTES])));
    }
    steps.extend(end);
    steps
}

fn length_bytes(pieces: &[Bytes]) -> u64 {
    u64::try_from(pieces.iter().map(Bytes::len).sum::<usize>()).unwrap_or(u64::MAX)
}

/// The provider's usual headers, those that a client may see and those that it may not, then the reply's own.
fn headers(reply: &Reply, content_type: &str, dialect: Dialect, key: &str, serial: u64) -> Vec<(String, String)> {
    let usual: &[(&str, &str)] = match dialect {
        Dialect::OpenAi => &[
            ("openai-organization", "org-Canary7Troll"),
            ("openai-project", "proj_canary_4711"),
            ("openai-processing-ms", "17"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-tokens", "1999990"),
            ("x-ratelimit-reset-tokens", "0s"),
        ],
        Dialect::Anthropic => &[
            ("anthropic-organization-id", "acct_canary_4711"),
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"),
            ("anthropic-ratelimit-tokens-limit", "400000"),
            ("anthropic-ratelimit-tokens-remaining", "399000"),
            ("anthropic-ratelimit-tokens-reset", "2026-01-01T00:00:00Z"),
        ],
    };
    let edge: [(&str, &str); 6] = [
        ("server", "cloudflare"),
        ("via", "1.1 gpu-canary-12.internal.provider.example"),
        ("cf-ray", "0123456789abcdef-OSL"),
        ("alt-svc", "h3=\":443\"; ma=86400"),
        ("set-cookie", "__cf_bm=canary-cookie; path=/; HttpOnly; Secure"),
        ("strict-transport-security", "max-age=31536000"),
    ];
    let id_name = match dialect {
        Dialect::OpenAi => "x-request-id",
        Dialect::Anthropic => "request-id",
    };

    let mut headers =
        vec![("content-type".to_owned(), content_type.to_owned()), (id_name.to_owned(), format!("req_mock{serial:08}"))];
    headers.extend(usual.iter().chain(&edge).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    if let Some(encoding) = reply.encoding {
        headers.push(("content-encoding".to_owned(), encoding.token().to_owned()));
    }
    if reply.echo_key == Some(EchoKey::Header) {
        headers.push(("x-echo-key".to_owned(), key.to_owned()));
        headers.push(("x-ratelimit-scope".to_owned(), format!("limit of {key}")));
    }
    headers.retain(|(name, _)| !reply.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
    headers.extend(reply.headers.iter().cloned());
    headers
}

/// The JSON object `body` with a first field that makes it `bytes` long (or a little longer than itself, if that is more).
fn filled(body: &[u8], bytes: usize) -> Bytes {
    const FRAME: &str = r#"{"filler":"","#;
    let rest = body.strip_prefix(b"{").unwrap_or(body);
    let fill = bytes.saturating_sub(FRAME.len() + rest.len());
    let mut out = BytesMut::with_capacity(FRAME.len() + fill + rest.len());
    out.extend_from_slice(br#"{"filler":""#);
    out.resize(out.len() + fill, b'f');
    out.extend_from_slice(br#"","#);
    out.extend_from_slice(rest);
    out.freeze()
}

/// Replaces the number after each of the named fields.
fn with_lies(piece: &Bytes, lies: &BTreeMap<String, String>) -> Bytes {
    let Ok(text) = std::str::from_utf8(piece) else { return piece.clone() };
    let mut text = text.to_owned();
    for (field, lie) in lies {
        let mark = format!("\"{field}\":");
        let mut parts = text.split(mark.as_str());
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(&mark);
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            out.push_str(if rest.len() < part.len() { lie } else { "" });
            out.push_str(rest);
        }
        text = out;
    }
    Bytes::from(text)
}

fn first_bytes(pieces: &[Bytes], count: usize) -> Bytes {
    let mut whole = Bytes::from(pieces.concat());
    whole.truncate(count);
    whole
}

fn split(pieces: Vec<Bytes>, split: &Split) -> Vec<Bytes> {
    let mut rest = match split {
        Split::Events => return pieces,
        _ => Bytes::from(pieces.concat()),
    };
    let mut out = Vec::new();
    let mut offsets: Vec<usize> = match split {
        Split::Events => Vec::new(),
        Split::EveryByte => (1..rest.len()).collect(),
        Split::Every(bytes) => (1..rest.len().div_ceil((*bytes).max(1))).map(|nth| nth * bytes).collect(),
        Split::At(offsets) => offsets.clone(),
    };
    offsets.sort_unstable();
    let mut done = 0;
    for offset in offsets {
        let length = offset.saturating_sub(done).min(rest.len());
        out.push(rest.split_to(length));
        done += length;
    }
    out.push(rest);
    out.retain(|piece| !piece.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_body_has_the_length_asked_for_and_stays_json() {
        let filled = filled(br#"{"id":"x","usage":{}}"#, 1000);
        assert_eq!(filled.len(), 1000);
        let body: serde_json::Value = serde_json::from_slice(&filled).unwrap();
        assert_eq!(body["id"], "x");
    }

    #[test]
    fn a_lie_replaces_numbers_and_nothing_else() {
        let lies = BTreeMap::from([("output_tokens".to_owned(), "1e309".to_owned())]);
        let piece = Bytes::from_static(br#"{"output_tokens":12,"total":12,"output_tokens":null,"x_output_tokens":3}"#);
        assert_eq!(with_lies(&piece, &lies), r#"{"output_tokens":1e309,"total":12,"output_tokens":null,"x_output_tokens":3}"#);
    }

    #[test]
    fn every_way_to_split_keeps_the_bytes() {
        let pieces = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defgh")];
        for (way, count) in [
            (Split::Events, 2),
            (Split::EveryByte, 8),
            (Split::Every(3), 3),
            (Split::At(vec![5, 1]), 3),
            (Split::At(vec![0, 8, 99]), 1),
        ] {
            let out = split(pieces.clone(), &way);
            assert_eq!(out.concat(), b"abcdefgh", "{way:?}");
            assert_eq!(out.len(), count, "{way:?}");
        }
    }
}
