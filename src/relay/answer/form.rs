//! How a head says that the body is framed and encoded, and whether it can then be read at all.

use http::header::{self, HeaderMap, HeaderValue};

use crate::domain::usage::decode::Decoder;

/// Families of charsets in which a key of ours looks as it does in ASCII, or as it does between the NULs of a wide one: the guard reads both.
const READABLE_CHARSETS: [&str; 26] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "ansi",
    "iso-8859-",
    "iso8859-",
    "iso_8859-",
    "latin",
    "windows-",
    "cp125",
    "gb",
    "big5",
    "shift",
    "sjis",
    "euc-",
    "koi8",
    "utf-16",
    "utf16",
    "utf-32",
    "utf32",
    "ucs-",
    "iso-10646-ucs",
    "macintosh",
    "tis-620",
    "binary",
];

/// Those of them that the guard alone reads.
const WIDE_CHARSETS: [&str; 6] = ["utf-16", "utf16", "utf-32", "utf32", "ucs-", "iso-10646-ucs"];

/// How the head says that the body is framed and encoded.
pub struct Form {
    pub sse: bool,
    /// JSON whose only end is that of the connection: whether it is whole shows in the JSON alone.
    pub unframed_json: bool,
    /// In an encoding that an event in clear text would break.
    pub encoded: bool,
    pub decoder: Option<Decoder>,
    /// In a way, or in letters, in which nobody here can tell what it says.
    pub unmeterable: bool,
    unreadable: Option<String>,
}

impl Form {
    pub fn of(headers: &HeaderMap, version: http::Version) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let codings = codings(headers);
        let decoder = decoder_of(headers);
        let encoded = !codings.is_empty();
        let charset = charset(content_type);
        let is_wide = charset.as_ref().is_some_and(|charset| WIDE_CHARSETS.iter().any(|wide| charset.starts_with(wide)));
        let unreadable = match charset {
            _ if encoded && decoder.is_none() => Some(format!("content-encoding {:?}", codings.join(", "))),
            Some(charset) if !READABLE_CHARSETS.iter().any(|known| charset.starts_with(known)) => {
                Some(format!("charset {charset:?}"))
            }
            _ => None,
        };
        Self {
            sse: content_type.get(..17).is_some_and(|begin| begin.eq_ignore_ascii_case(b"text/event-stream")),
            unframed_json: is_json(content_type)
                && version < http::Version::HTTP_2
                && !headers.contains_key(header::CONTENT_LENGTH)
                && !headers.contains_key(header::TRANSFER_ENCODING),
            encoded,
            decoder,
            unmeterable: is_wide || unreadable.is_some(),
            unreadable,
        }
    }

    /// What makes it impossible to tell what the body says (A8).
    pub fn unreadable(&self) -> Option<String> {
        self.unreadable.clone()
    }
}

/// What reads a compressed body; `None`: it is not compressed, or in a way that nobody here can read.
pub fn decoder_of(headers: &HeaderMap) -> Option<Decoder> {
    match codings(headers).as_slice() {
        [coding] => Decoder::for_encoding(coding),
        _ => None,
    }
}

/// The content codings, over all headers, in their order; `identity` is none.
fn codings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let names: Vec<String> =
        values.flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect::<Vec<_>>()).collect();
    names.into_iter().filter(|name| !name.is_empty() && name != "identity").collect()
}

fn charset(content_type: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    let named = text
        .split(';')
        .skip(1)
        .find_map(|parameter| parameter.trim().strip_prefix("charset")?.trim_start().strip_prefix('=').map(str::to_owned));
    named.map(|name| name.trim().trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence.is_empty() || essence.ends_with(b"/json") || essence.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        let headers = pairs.iter().map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()));
        Form::of(&headers.collect::<HeaderMap>(), http::Version::HTTP_11)
    }

    #[test]
    fn a8_unknown_and_stacked_encodings_and_foreign_charsets_are_unreadable() {
        for pairs in [
            &[("content-encoding", "compress")][..],
            &[("content-encoding", "gzip, br")],
            &[("content-encoding", "gzip"), ("content-encoding", "gzip")],
            &[("content-encoding", "identity"), ("content-encoding", "exi")],
            &[("content-type", "text/plain; charset=utf-7")],
            &[("content-type", "application/json;charset=\"IBM037\"")],
            &[("content-type", "text/plain; format=flowed; Charset = EBCDIC-US")],
            &[("content-encoding", "gzip"), ("content-type", "text/plain; charset=iso-2022-jp")],
        ] {
            assert!(form(pairs).unreadable().is_some(), "{pairs:?}");
        }
        for pairs in [
            &[][..],
            &[("content-encoding", "")],
            &[("content-encoding", "identity")],
            &[("content-encoding", "GZip")],
            &[("content-encoding", "identity, zstd")],
            &[("content-encoding", "br"), ("content-encoding", "identity")],
            &[("content-type", "text/event-stream; charset=UTF-8")],
            &[("content-type", "application/json; charset=")],
            &[("content-type", "application/json; charset=utf-16le")],
            &[("content-type", "audio/mpeg")],
            &[("content-type", "multipart/byteranges; boundary=charset")],
        ] {
            assert_eq!(form(pairs).unreadable(), None, "{pairs:?}");
        }
    }

    #[test]
    fn h4_one_known_encoding_has_a_decoder() {
        for (value, is_known) in
            [("identity", false), ("gzip", true), ("deflate, identity", true), ("gzip, gzip", false), ("x", false)]
        {
            assert_eq!(form(&[("content-encoding", value)]).decoder.is_some(), is_known, "{value}");
        }
        assert!(!form(&[("content-encoding", "identity")]).encoded && form(&[("content-encoding", "x")]).encoded);
    }
}
