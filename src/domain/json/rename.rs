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
use super::scan::{Interest, Listener, Scanner, Token};

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
    search.replaceable()
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
            if span.len() <= MAX_HELD {
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

    fn replaceable(self) -> Option<Range<usize>> {
        self.found.filter(|span| span.len() <= MAX_HELD)
    }

    fn is_model(raw: &[u8]) -> bool {
        is_key(raw, "model")
    }
}

impl Listener for Search {
    fn opened(&mut self, _depth: usize, _first_member: usize) {}

    fn key(&mut self, depth: usize, raw: Option<&[u8]>, _at: usize) -> Result<Interest, PeekError> {
        self.is_at_model = false;
        let (Some(raw), None) = (raw, &self.found) else { return Ok(Interest::Skip) };
        Ok(match (self.path, depth) {
            (RenamePath::TopLevel, 1) | (RenamePath::Nested(_), 2) if Self::is_model(raw) => {
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

/// A key that cannot be decoded is another one.
fn is_key(raw: &[u8], name: &str) -> bool {
    escape::decode(raw).is_ok_and(|key| key == name)
}
