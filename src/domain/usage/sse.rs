//! Finds the `data:` lines of a server-sent-event stream without holding the stream.
//!
//! The splitter sees bytes in whatever pieces the network delivered and hands on the payload in pieces as well: nothing is
//! copied, nothing is stored but where it stands, so a line of any length costs the same few bytes of memory. An event that lies
//! whole in one chunk (nearly all do) comes as one [`Piece::Whole`], for which a cheap test can decide that nothing in it
//! matters.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

use memchr::memchr2;

/// What the splitter found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Piece<'a> {
    /// The complete data of an event of one data line; no [`Piece::End`] follows.
    Whole(&'a [u8]),
    /// More data of the event in progress; a line feed stands between two data lines.
    Part(&'a [u8]),
    /// The event in progress is complete.
    End,
}

/// Where in the stream the splitter stands.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) struct Lines {
    at: At,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_cr: bool,
    /// The event in progress has a data line.
    has_data: bool,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// The stream's beginning, with so many bytes of a byte order mark seen.
    Bom(usize),
    LineStart,
    /// So many bytes of `data` matched.
    Name(usize),
    /// After the colon, where one space may stand.
    Colon,
    Data,
    /// A comment or another field.
    Other,
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
const NAME: [u8; 4] = *b"data";

impl Lines {
    pub(in crate::domain) fn new() -> Self {
        Self { at: At::Bom(0), after_cr: false, has_data: false }
    }

    /// Splits the next bytes of the stream.
    pub(in crate::domain) fn push(&mut self, chunk: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        let mut rest = self.skip_bom(chunk);
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr)
                && let Some(tail) = rest.strip_prefix(b"\n")
            {
                rest = tail;
                continue;
            }
            let Some((line, tail)) = memchr2(b'\n', b'\r', rest).and_then(|end| rest.split_at_checked(end)) else {
                self.open_line(rest, &mut sink);
                return;
            };
            rest = self.end_of_line(tail);
            if !matches!(self.at, At::LineStart) {
                self.open_line(line, &mut sink);
                self.close_line(&mut sink);
            } else if line.is_empty() {
                self.end_event(&mut sink);
            } else if let Some(payload) = payload_of(line) {
                rest = self.data_line(payload, rest, &mut sink);
            }
        }
    }

    fn skip_bom<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let At::Bom(seen) = self.at {
            let Some((first, rest)) = bytes.split_first() else { return bytes };
            match BOM.get(seen) {
                Some(expected) if expected == first => {
                    bytes = rest;
                    self.at = At::Bom(seen + 1);
                }
                // A torn mark makes the first line's name unknown.
                Some(_) if seen > 0 => self.at = At::Other,
                _ => self.at = At::LineStart,
            }
        }
        bytes
    }

    /// Drops the line's end, which `tail` begins with; a carriage return takes its line feed along.
    fn end_of_line<'a>(&mut self, tail: &'a [u8]) -> &'a [u8] {
        match tail {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            [b'\r', rest @ ..] => {
                self.after_cr = rest.is_empty();
                rest
            }
            _ => tail,
        }
    }

    /// A data line that lies whole in the chunk; `rest` follows it. Takes the blank line too when it is there.
    fn data_line<'a>(&mut self, payload: &[u8], rest: &'a [u8], sink: &mut impl FnMut(Piece<'_>)) -> &'a [u8] {
        if !self.has_data && matches!(rest.first(), Some(b'\n' | b'\r')) {
            sink(Piece::Whole(payload));
            return self.end_of_line(rest);
        }
        self.begin_data(sink);
        sink(Piece::Part(payload));
        rest
    }

    /// Takes a line's next piece, whose end is not in sight or whose beginning came earlier.
    fn open_line(&mut self, piece: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let mut rest = piece;
        while let Some((&byte, tail)) = rest.split_first() {
            self.at = match self.at {
                At::Data => return sink(Piece::Part(rest)),
                At::Other => return,
                At::Bom(_) | At::LineStart => At::Name(0),
                At::Name(matched) => {
                    rest = tail;
                    match NAME.get(matched) {
                        Some(&expected) if expected == byte => At::Name(matched + 1),
                        None if byte == b':' => {
                            self.begin_data(sink);
                            At::Colon
                        }
                        _ => At::Other,
                    }
                }
                At::Colon => {
                    rest = if byte == b' ' { tail } else { rest };
                    At::Data
                }
            };
        }
    }

    fn close_line(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        // `data` without a colon is an empty data line.
        if matches!(self.at, At::Name(matched) if matched == NAME.len()) {
            self.begin_data(sink);
        }
        self.at = At::LineStart;
    }

    fn begin_data(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        if self.has_data {
            sink(Piece::Part(b"\n"));
        }
        self.has_data = true;
    }

    fn end_event(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        if std::mem::take(&mut self.has_data) {
            sink(Piece::End);
        }
    }
}

/// The value of a complete data line, `None` for other fields and comments.
pub(super) fn payload_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(&NAME)? {
        [b':', b' ', payload @ ..] | [b':', payload @ ..] => Some(payload),
        [] => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut open, mut events) = (Lines::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |piece| match piece {
                Piece::Whole(data) => events.push(String::from_utf8(data.to_vec()).unwrap()),
                Piece::Part(data) => open.extend_from_slice(data),
                Piece::End => events.push(String::from_utf8(std::mem::take(&mut open)).unwrap()),
            });
        }
        if !open.is_empty() {
            events.push(format!("{} (open)", String::from_utf8(open).unwrap()));
        }
        events
    }

    #[test]
    fn u5_line_ends_spaces_comments_and_marks_are_read_by_the_standard() {
        for (stream, expected) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", vec!["a", "b"]),
            ("data: a\r\rdata: b\r\r", vec!["a", "b"]),
            ("data:a\n\ndata:  b\n\n", vec!["a", " b"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("\u{feff}\u{feff}data: a\n\n", vec![]),
            (": keep-alive\n\nevent: x\nid: 1\ndata: a\nretry: 5\n\n", vec!["a"]),
            ("data: a\ndata: b\n\n", vec!["a\nb"]),
            ("data: a\ndata\ndata: b\n\n", vec!["a\n\nb"]),
            ("data\n\n", vec![""]),
            ("database: a\n\nxdata: b\n\n data: c\n\ndat: d\n\n", vec![]),
            ("event: ping\n\n\n\n", vec![]),
            ("data: a", vec!["a (open)"]),
            ("data: a\n", vec!["a (open)"]),
        ] {
            assert_eq!(events(&[stream.as_bytes()]), expected, "{stream:?}");
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(events(&bytes), expected, "byte by byte: {stream:?}");
            for cut in 0..=stream.len() {
                let (head, tail) = stream.as_bytes().split_at(cut);
                assert_eq!(events(&[head, &[], tail]), expected, "cut at {cut}: {stream:?}");
            }
        }
    }
}
