//! Where events end in a stream, and where their data stands in them.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use super::super::sse::payload_of;

/// Where the data lines of an event stand; one, nearly always.
pub(super) struct DataLines {
    spans: Vec<Range<usize>>,
}

impl DataLines {
    pub(super) fn of(text: &[u8], offset: usize) -> Self {
        let (mut spans, mut at) = (Vec::with_capacity(1), 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            if let Some(payload) = rest.get(..end).and_then(payload_of) {
                let begin = offset + at + end - payload.len();
                spans.push(begin..begin + payload.len());
            }
            at += end + 1;
        }
        Self { spans }
    }

    /// The event's data: its lines joined by line feeds.
    pub(super) fn joined<'a>(&self, event: &'a [u8]) -> Cow<'a, [u8]> {
        let lines = || self.spans.iter().filter_map(|span| event.get(span.clone()));
        match self.spans.as_slice() {
            [span] => event.get(span.clone()).unwrap_or_default().into(),
            _ => lines().collect::<Vec<_>>().join(&b'\n').into(),
        }
    }

    /// Finds the place in the event of a span of the joined data. A JSON string has no line feed inside, so it is in one line.
    pub(super) fn in_event(&self, span: Range<usize>) -> Option<Range<usize>> {
        let mut begin = 0;
        for line in &self.spans {
            if span.start >= begin && span.end <= begin + line.len() {
                return Some(line.start + span.start - begin..line.start + span.end - begin);
            }
            begin += line.len() + 1;
        }
        None
    }
}

/// Finds the blank lines that end events.
#[derive(Debug)]
pub(super) struct Boundary {
    at_line_start: bool,
    after_cr: bool,
}

/// The end of an event in a piece of the stream.
pub(super) struct EventEnd {
    /// Counted from the piece's beginning, the blank line included.
    pub(super) len: usize,
    /// Without the line feed that may come after the blank line's carriage return, so that it does not depend on the chunks.
    pub(super) judged_len: usize,
    /// The piece ends with the blank line's carriage return: its line feed may still come.
    pub(super) is_torn: bool,
}

impl Boundary {
    pub(super) fn new() -> Self {
        Self { at_line_start: true, after_cr: false }
    }

    /// Finds the end of the event in progress; `None` if the piece does not reach it.
    pub(super) fn find(&mut self, piece: &[u8]) -> Option<EventEnd> {
        let mut at = usize::from(std::mem::take(&mut self.after_cr) && piece.first() == Some(&b'\n'));
        loop {
            let rest = piece.get(at..).filter(|rest| !rest.is_empty())?;
            let Some(line_len) = memchr2(b'\n', b'\r', rest) else {
                self.at_line_start = false;
                return None;
            };
            let is_blank = line_len == 0 && self.at_line_start;
            self.at_line_start = true;
            let (end_len, is_torn) = match rest.get(line_len..) {
                Some([b'\r', b'\n', ..]) => (2, false),
                Some([b'\r']) => (1, true),
                _ => (1, false),
            };
            at += line_len + end_len;
            if is_blank {
                return Some(EventEnd { len: at, judged_len: at - (end_len - 1), is_torn });
            }
            self.after_cr = is_torn;
        }
    }
}
