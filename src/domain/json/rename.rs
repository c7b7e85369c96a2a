//! Puts the client's own name for the model into an answer that names the upstream's (M13).
//!
//! Only the bytes of the first string value at the asked place change, every other byte and every other chunk passes as it came. What
//! is no valid JSON passes unchanged from the fault on. Memory: a value that chunks cut is held back, at most [`MAX_HELD`] bytes of it;
//! a longer value passes unchanged.
//!
//! The answer's length changes, so its head must not carry the upstream's `Content-Length`.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::escape;
use super::fault::PeekError;
use super::scan::{Interest, Raw, Scanner, Token, Watcher};

/// The longest value, quotes included, that is replaced.
pub const MAX_HELD: usize = 4096;

/// Where the model's name stands in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenamePath {
    /// `{"model": …}`: chat completions and their chunks, completions, embeddings, Messages, a whole Responses object.
    TopLevel,
    /// `{"<member>": {"model": …}}`: `"message"` in the `message_start` event of Messages, `"response"` in events of Responses.
    Nested(&'static str),
}

/// Finds the value, quotes included, in one complete JSON text such as an event's data.
///
/// `None` if there is no such string or it is longer than [`MAX_HELD`], or if the text is not one valid JSON object.
pub fn model_span(json: &[u8], path: RenamePath) -> Option<Range<usize>> {
    let mut scanner = Scanner::new();
    let mut search = Search::new(path);
    scanner.push(json, &mut search).and_then(|()| scanner.finish()).ok()?;
    search.found.filter(is_replaceable)
}

/// Encodes a name as the JSON string that takes the place of a [`model_span`].
pub fn model_value(name: &str) -> Bytes {
    escape::encode(name).into()
}

/// Rewrites one JSON answer while its chunks pass.
#[derive(Debug)]
pub struct ModelRename {
    /// `None`: nothing is left to do, all passes.
    search: Option<(Scanner, Search)>,
    to: Bytes,
    held: VecDeque<Bytes>,
    /// The place of the first byte that is held.
    held_at: usize,
}

impl ModelRename {
    pub fn new(path: RenamePath, to: &str) -> Self {
        Self { search: Some((Scanner::new(), Search::new(path))), to: model_value(to), held: VecDeque::new(), held_at: 0 }
    }

    /// Takes the next chunk and appends to `out` what may pass now: the chunk itself, or its parts around the value.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        let Some((scanner, search)) = &mut self.search else {
            out.push(chunk);
            return;
        };
        let scanned = scanner.push(&chunk, search);
        self.held.push_back(chunk);
        if let Some(span) = search.found.take() {
            if is_replaceable(&span) {
                self.release_until(span.start, |piece| out.push(piece));
                self.release_until(span.end, drop);
                out.push(self.to.clone());
            }
            self.pass_all(out);
            return;
        }
        match (scanned, scanner.open_string()) {
            (Err(_), _) => self.pass_all(out),
            (Ok(()), None) => self.release_until(usize::MAX, |piece| out.push(piece)),
            (Ok(()), Some(start)) => {
                self.release_until(start, |piece| out.push(piece));
                if self.held.iter().map(Bytes::len).sum::<usize>() > MAX_HELD {
                    self.pass_all(out);
                }
            }
        }
    }

    /// Appends what was held back of an answer that ended inside the value.
    pub fn finish(mut self, out: &mut Vec<Bytes>) {
        self.pass_all(out);
    }

    fn pass_all(&mut self, out: &mut Vec<Bytes>) {
        self.search = None;
        out.extend(self.held.drain(..).filter(|piece| !piece.is_empty()));
    }

    fn release_until(&mut self, end: usize, mut sink: impl FnMut(Bytes)) {
        while self.held_at < end
            && let Some(mut piece) = self.held.pop_front()
        {
            let rest = piece.split_off(piece.len().min(end - self.held_at));
            self.held_at += piece.len();
            if !rest.is_empty() {
                self.held.push_front(rest);
            }
            if !piece.is_empty() {
                sink(piece);
            }
        }
    }
}

/// Looks for the first string at the path.
#[derive(Debug)]
struct Search {
    path: RenamePath,
    is_at_model: bool,
    found: Option<Range<usize>>,
}

impl Search {
    fn new(path: RenamePath) -> Self {
        Self { path, is_at_model: false, found: None }
    }
}

impl Watcher for Search {
    fn opened(&mut self, _depth: usize, _first_member: usize) {}

    fn key(&mut self, depth: usize, raw: Option<Raw<'_>>, _at: usize) -> Result<Interest, PeekError> {
        self.is_at_model = false;
        let (Some(raw), None) = (raw, &self.found) else { return Ok(Interest::Skip) };
        Ok(match (self.path, depth) {
            (RenamePath::TopLevel, 1) | (RenamePath::Nested(_), 2) if is_key(raw, "model") => {
                self.is_at_model = true;
                Interest::Value
            }
            (RenamePath::Nested(member), 1) if is_key(raw, member) => Interest::Members,
            _ => Interest::Skip,
        })
    }

    fn value(&mut self, token: Token<'_>, span: Range<usize>) -> Result<(), PeekError> {
        if self.is_at_model && matches!(token, Token::String(_)) {
            self.found = Some(span);
        }
        Ok(())
    }
}

/// However the value was cut: one that could not have been held is not replaced either.
fn is_replaceable(span: &Range<usize>) -> bool {
    span.len() <= MAX_HELD
}

/// A key that cannot be decoded is another one.
fn is_key(raw: Raw<'_>, name: &str) -> bool {
    if raw.has_escapes { escape::decode(raw.bytes).is_ok_and(|key| key == name) } else { raw.bytes == name.as_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed<const N: usize>(path: RenamePath, chunks: [&str; N]) -> Vec<Bytes> {
        let mut rename = ModelRename::new(path, "alias");
        let mut out = Vec::new();
        for chunk in chunks {
            rename.push(Bytes::copy_from_slice(chunk.as_bytes()), &mut out);
        }
        rename.finish(&mut out);
        out
    }

    #[test]
    fn m13_names_the_clients_model_in_every_shape_of_answer() {
        let message_start = r#"{"type":"message_start","message":{"id":"x","model":"real","usage":{"model":"y"}},"model":"z"}"#;
        let expected = message_start.replace("real", "alias");
        assert_eq!(renamed(RenamePath::Nested("message"), [message_start]).concat(), expected.as_bytes());
        assert_eq!(&message_start[model_span(message_start.as_bytes(), RenamePath::Nested("message")).unwrap()], r#""real""#);

        let completion = r#"{"id":"x", "choices":[{"model":"y"}], "mod\u0065l" : "re\u0061l" }"#;
        let expected = r#"{"id":"x", "choices":[{"model":"y"}], "mod\u0065l" : "alias" }"#;
        assert_eq!(renamed(RenamePath::TopLevel, [completion]).concat(), expected.as_bytes());
    }

    #[test]
    fn m13_a_model_that_is_no_string_or_stands_elsewhere_stays() {
        for json in [
            r#"{"model":null}"#,
            r#"{"a":{"model":"x"}}"#,
            r#"{"model":["x"]}"#,
            r#"["model","x"]"#,
            r#""model""#,
            "{}",
            "12",
            "",
        ] {
            assert_eq!(renamed(RenamePath::TopLevel, [json]).concat(), json.as_bytes());
            assert_eq!(model_span(json.as_bytes(), RenamePath::TopLevel), None);
            assert_eq!(renamed(RenamePath::Nested("model"), [json]).concat(), json.as_bytes());
        }
    }

    #[test]
    fn of_two_models_the_first_string_is_renamed() {
        let json = r#"{"model":1,"model":"a","model":"b"}"#;
        assert_eq!(renamed(RenamePath::TopLevel, [json]).concat(), br#"{"model":1,"model":"alias","model":"b"}"#);
        assert_eq!(model_span(json.as_bytes(), RenamePath::TopLevel), Some(19..22));
    }

    #[test]
    fn what_is_no_json_passes_unchanged() {
        for text in [
            "data: {\"model\":\"a\"}",
            "{model:\"a\"}",
            "<html>",
            "{\"x\":\"\n\",\"model\":\"a\"}",
            "{\"model\":\"a",
            "{\"model\":\"a\n\"}",
        ] {
            assert_eq!(renamed(RenamePath::TopLevel, [text]).concat(), text.as_bytes());
            assert_eq!(model_span(text.as_bytes(), RenamePath::TopLevel), None);
        }
        assert_eq!(model_span(br#"{"model":"a"} x"#, RenamePath::TopLevel), None);
        assert_eq!(model_span(br#"{"model":"a""#, RenamePath::TopLevel), None);
    }

    #[test]
    fn only_a_value_that_is_cut_is_held_back() {
        let mut rename = ModelRename::new(RenamePath::TopLevel, "alias");
        let mut out = Vec::new();
        for (chunk, passed) in [("{\"id\":\"x", 1), ("\",\"mod", 2), ("el\":\"re", 3), ("al", 3), ("\",\"b\":1", 5), ("}", 6)] {
            rename.push(Bytes::from(chunk), &mut out);
            assert_eq!(out.len(), passed, "{chunk} {out:?}");
        }
        rename.finish(&mut out);
        assert_eq!(out.concat(), br#"{"id":"x","model":"alias","b":1}"#);
    }

    #[test]
    fn chunks_without_the_value_pass_as_they_are() {
        let chunks =
            [Bytes::from("{\"a\":\"é"), Bytes::from("\",\"model\":\"m\""), Bytes::from(",\"b\":[1,"), Bytes::from("2]}")];
        let mut rename = ModelRename::new(RenamePath::TopLevel, "alias");
        for (n, chunk) in chunks.iter().enumerate() {
            let mut out = Vec::new();
            rename.push(chunk.clone(), &mut out);
            assert_eq!(out.len() == 1 && out[0].as_ptr() == chunk.as_ptr(), n != 1);
        }
    }

    #[test]
    fn a_value_longer_than_may_be_held_passes_unchanged_however_it_is_cut() {
        for (len, is_renamed) in [(MAX_HELD - 2, true), (MAX_HELD - 1, false), (100_000, false)] {
            let json = format!(r#"{{"model":"{}","model":1}}"#, "x".repeat(len));
            assert_eq!(model_span(json.as_bytes(), RenamePath::TopLevel).is_some(), is_renamed);
            for size in [1, 100, MAX_HELD, json.len()] {
                let mut rename = ModelRename::new(RenamePath::TopLevel, "alias");
                let mut out = Vec::new();
                for chunk in json.as_bytes().chunks(size) {
                    rename.push(Bytes::copy_from_slice(chunk), &mut out);
                    assert!(rename.held.iter().map(Bytes::len).sum::<usize>() <= MAX_HELD);
                }
                rename.finish(&mut out);
                assert_eq!(out.concat() == br#"{"model":"alias","model":1}"#, is_renamed, "{len} {size}");
                assert_eq!(out.concat() == json.as_bytes(), !is_renamed, "{len} {size}");
            }
        }
    }
}
