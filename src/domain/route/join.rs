//! Joins an upstream's base path with a request's path, and tells a path that climbs out of the base.
//!
//! ```text
//! base  /api/v1          +  /v1/messages?beta=true   =  /api/v1/messages?beta=true
//!           └┬┘             └┬┘ the same whole segment, written once
//! ```
//! Both sides may name the API's version: SDKs differ in whether `/v1` belongs to the base URL. The request's own bytes are not
//! decoded, normalised or encoded anew.

/// Joins `base_path` (empty, or `/…` without a trailing `/`) and `request_path` (`/…`), and appends `query` byte for byte (M6).
///
/// The longest run of whole segments that ends the base and begins the request's path is written once. The seam has exactly one
/// `/` (K10): more of them at the head of the request's path collapse into it.
///
/// ```
/// # use trollbridge::domain::route::join::join;
/// assert_eq!(join("/v1", "/v1/messages", Some("beta=true")), "/v1/messages?beta=true");
/// assert_eq!(join("/v1beta", "/chat/completions", None), "/v1beta/chat/completions");
/// ```
pub fn join(base_path: &str, request_path: &str, query: Option<&str>) -> String {
    let base = base_path.trim_end_matches('/');
    let rest = after_overlap(base, request_path.trim_start_matches('/'));
    let mut joined = String::with_capacity(base.len() + rest.len() + query.map_or(0, |query| query.len() + 1) + 1);
    joined.push_str(base);
    match rest {
        Rest::Path(path) => {
            joined.push('/');
            joined.push_str(path);
        }
        Rest::Nothing => {}
    }
    if let Some(query) = query {
        joined.push('?');
        joined.push_str(query);
    }
    joined
}

/// Whether a path holds a `.` or `..` segment, raw or percent-encoded, and so could leave the upstream's base path.
///
/// Also read as separators: `\`, `%2f` and `%5c`; a segment ends at `;` (path parameters), and `%25` may repeat (a second decoding
/// on the way). Paths are passed on as they are, so an upstream's own reading must not matter: the edge answers 404.
pub fn escapes(path: &str) -> bool {
    if memchr::memchr2(b'.', b'%', path.as_bytes()).is_none() {
        return false;
    }
    let mut segment = Segment::new();
    let mut bytes = path.as_bytes();
    while let Some((byte, rest)) = first_decoded(bytes) {
        bytes = rest;
        match byte {
            b'/' | b'\\' => {
                if segment.is_dots() {
                    return true;
                }
                segment = Segment::new();
            }
            _ => segment.push(byte),
        }
    }
    segment.is_dots()
}

/// What remains of the request's path behind the overlap.
#[derive(Clone, Copy)]
enum Rest<'a> {
    Path(&'a str),
    Nothing,
}

impl Rest<'_> {
    fn len(self) -> usize {
        match self {
            Self::Path(path) => path.len(),
            Self::Nothing => 0,
        }
    }
}

/// Cuts off `path` (without its first `/`) the segments that `base` ends with. The longest overlap wins.
fn after_overlap<'a>(base: &str, path: &'a str) -> Rest<'a> {
    // Each `/` of the base begins a candidate tail; the first one that fits is the longest.
    for (at, _) in base.match_indices('/') {
        let Some(tail) = base.get(at + 1..).filter(|tail| !tail.is_empty()) else { continue };
        match path.strip_prefix(tail) {
            Some("") => return Rest::Nothing,
            Some(rest) => {
                if let Some(rest) = rest.strip_prefix('/') {
                    return Rest::Path(rest.trim_start_matches('/'));
                }
            }
            None => {}
        }
    }
    Rest::Path(path)
}

/// Takes one byte off the front, a percent-encoded one decoded, however often its `%` was encoded again.
fn first_decoded(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != b'%' {
        return Some((*first, rest));
    }
    let mut code = rest;
    while let Some(again) = code.strip_prefix(b"25") {
        code = again;
    }
    let decoded = code.split_at_checked(2).and_then(|(hex, rest)| Some((hex_byte(hex)?, rest)));
    Some(decoded.unwrap_or((b'%', rest)))
}

fn hex_byte(hex: &[u8]) -> Option<u8> {
    hex.iter().try_fold(0u8, |byte, digit| {
        let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())?;
        Some(byte << 4 | digit)
    })
}

/// As much of a segment as its verdict needs.
struct Segment {
    dots: u8,
    other: bool,
    parameters: bool,
}

impl Segment {
    fn new() -> Self {
        Self { dots: 0, other: false, parameters: false }
    }

    fn push(&mut self, byte: u8) {
        match byte {
            _ if self.parameters => {}
            b';' => self.parameters = true,
            b'.' => self.dots = self.dots.saturating_add(1),
            _ => self.other = true,
        }
    }

    fn is_dots(&self) -> bool {
        !self.other && (1..=2).contains(&self.dots)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// M6, K10
    #[test]
    fn an_overlap_of_whole_segments_is_written_once() {
        for (base, path, joined) in [
            ("/v1", "/v1/messages", "/v1/messages"),
            ("/v1", "/chat/completions", "/v1/chat/completions"),
            ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
            ("/v1beta", "/chat/completions", "/v1beta/chat/completions"),
            ("/v1beta", "/v1/chat/completions", "/v1beta/v1/chat/completions"),
            ("/v1", "/v1beta/models", "/v1/v1beta/models"),
            ("/xv1", "/v1/models", "/xv1/v1/models"),
            ("", "/v1/messages", "/v1/messages"),
            ("/", "/v1/messages", "/v1/messages"),
            ("/v1/", "/v1/messages", "/v1/messages"),
            ("/api/v1/ai/openai/cc-omg", "/v1/messages", "/api/v1/ai/openai/cc-omg/v1/messages"),
            ("/api/v1", "/v1/messages", "/api/v1/messages"),
            ("/a/b", "/a/b/c", "/a/b/c"),
            ("/a/b", "/b/a/b/c", "/a/b/a/b/c"),
            ("/v1", "/v1", "/v1"),
            ("/v1", "/v1/", "/v1/"),
            ("/v1", "/", "/v1/"),
            ("", "/", "/"),
            ("/v1", "//v1//messages", "/v1/messages"),
            ("/v1", "//messages", "/v1/messages"),
            ("", "//evil.example/x", "/evil.example/x"),
            ("/v1", "/V1/messages", "/v1/V1/messages"),
        ] {
            assert_eq!(join(base, path, None), joined, "{base} + {path}");
        }
    }

    /// M6: byte for byte, an empty one included.
    #[test]
    fn the_query_is_kept_as_it_is() {
        assert_eq!(join("/v1", "/v1/messages", Some("beta=true")), "/v1/messages?beta=true");
        assert_eq!(join("/v1", "/v1/m", Some("")), "/v1/m?");
        assert_eq!(join("/v1", "/v1/m", Some("a=%2e%2E/../&&b?c//")), "/v1/m?a=%2e%2E/../&&b?c//");
    }

    #[test]
    fn a_path_that_climbs_is_told_in_every_spelling() {
        for path in [
            "/v1/../admin",
            "/..",
            "/v1/.",
            "/v1/./x",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/.%2e",
            "/v1/..%2fadmin",
            "/v1/x%2f..%2f..%2fadmin",
            "/v1/..\\admin",
            "/v1/..%5cadmin",
            "/v1/..;x/admin",
            "/v1/..;/admin",
            "/v1/..%3b/admin",
            "/v1/%252e%252e/admin",
            "/v1/%25252e./admin",
        ] {
            assert!(escapes(path), "{path}");
        }
        for path in [
            "/v1/models/gpt-3.5-turbo",
            "/v1/...",
            "/v1/a..b",
            "/v1/.well-known",
            "/v1/a%2fb",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/",
            "",
        ] {
            assert!(!escapes(path), "{path}");
        }
    }

    proptest! {
        /// K10, M6: whatever comes in, the base stays the head and the seam has one slash.
        #[test]
        fn the_base_is_always_the_head(
            base in proptest::collection::vec("[a-z0-9]{1,3}", 0..4),
            path in "(/{1,2}[a-z0-9]{0,3}){1,5}",
        ) {
            let base: String = base.iter().map(|segment| format!("/{segment}")).collect();
            let joined = join(&base, &path, None);
            let rest = joined.strip_prefix(&base).unwrap();
            prop_assert!(rest.is_empty() || rest.starts_with('/'));
            prop_assert!(!rest.starts_with("//"));
            prop_assert!(path.trim_start_matches('/').ends_with(rest.trim_start_matches('/')));
        }
    }
}
