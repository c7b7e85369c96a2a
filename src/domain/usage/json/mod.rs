//! Follows the key path of a JSON text while its bytes pass, and reads the few values that stand where usage stands.
//!
//! The scanner takes the text in any pieces and keeps no part of it: a place in a tree of watched keys, a nesting depth and one
//! key, number or type word in the making. A whole answer of any size and the data of one small event cost the same memory.
//!
//! ```text
//! Root ─ usage ─ Usage ─ prompt_tokens_details, cache_creation ─ Details     counts are read in Usage and Details only
//!  ├─ message (Anthropic), response (Responses) ─ usage ─ Usage
//!  ├─ type, error                                                            how a stream ends
//!  └─ choices ─ Choice ─ delta ─ Output …                                    text, when it is counted; how a choice ends
//! ```
//!
//! Everything else is skipped, strings with vector instructions, so text that looks like usage counts for nothing. Keys are
//! compared as written: an escaped `"us\u0061ge"` is another key. What is not JSON ends the reading of this event, never the
//! stream.

mod event;
mod place;
mod strings;
mod tree;
mod word;

use super::counts::{Counts, Field, read_count};
use super::shape::Shape;
use crate::domain::json::scan::closing::{OpenString, after_string, text_run};
pub(super) use event::{Choices, Event, EventKind};
use place::{Place, Role, Tally};
use tree::Tree;
use word::Word;

#[derive(Clone, Copy, Debug)]
pub(super) struct KeyScanner {
    shape: Shape,
    /// `[DONE]` is looked for, and text is counted.
    in_stream: bool,
    counts_text: bool,
    state: State,
    place: Place,
    /// What the value after the current key is.
    role: Role,
    /// The root object is open.
    is_open: bool,
    /// Containers open inside a value that is skipped.
    nesting: u64,
    word: Word,
    /// The usage object in progress.
    draft: Counts,
    /// Where the usage object stands.
    usage_in: Place,
    /// The containers of a field that carries output.
    tree: Tree,
    /// What the text in progress is added to.
    tally: Tally,
    /// Of the choice in progress: its number, and whether it is at its end.
    choice: (u64, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// In an object: a key or the end.
    Key,
    InKey,
    InKeyEscape,
    Colon,
    Value,
    /// In an array: the first value or the end.
    FirstElement,
    Element,
    /// After a value.
    After,
    Skip,
    SkipString,
    SkipEscape,
    /// A number or a literal that is skipped.
    Literal,
    Number,
    Kind,
    KindEscape,
    Text,
    TextEscape,
    Finish,
    FinishEscape,
    /// So many bytes of `[DONE]` matched.
    Done(usize),
    /// The root value is complete.
    Closed,
    /// Not JSON.
    Dead,
}

/// Where in a value a scanner stands; what of it may differ without a difference for the scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// In text that is counted, outside of an escape.
    Text,
    /// In a string that is skipped, outside of an escape.
    SkippedString,
    /// In a number or a literal that is skipped, or between the parts of a container that is.
    Skipped,
    /// Where every byte matters.
    Other,
}

const DONE: [u8; 6] = *b"[DONE]";

impl KeyScanner {
    pub(super) fn new(shape: Shape, in_stream: bool, counts_text: bool) -> Self {
        Self {
            shape,
            in_stream,
            counts_text: in_stream && counts_text,
            state: State::Start,
            place: Place::Root,
            role: Role::Skip,
            is_open: false,
            nesting: 0,
            word: Word::default(),
            draft: Counts::default(),
            usage_in: Place::Root,
            tree: Tree::default(),
            tally: Tally::Text,
            choice: (0, false),
        }
    }

    /// Forgets the text so far: a new one begins.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.shape, self.in_stream, self.counts_text);
    }

    /// Whether the root value is complete.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed || (self.state == State::Literal && !self.is_open)
    }

    /// Whether it can't become an object any more: what an answer is.
    pub(super) fn is_no_object(&self) -> bool {
        !self.is_open && self.state != State::Start
    }

    pub(super) fn inside(&self) -> Inside {
        match self.state {
            State::Text if self.tally == Tally::Text => Inside::Text,
            State::SkipString => Inside::SkippedString,
            State::Skip | State::Literal => Inside::Skipped,
            _ => Inside::Other,
        }
    }

    /// Reads the next bytes of the text.
    pub(super) fn push(&mut self, mut bytes: &[u8], event: &mut Event) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match self.state {
                State::Key | State::Colon | State::Value | State::FirstElement | State::Element | State::After
                    if is_space(byte) =>
                {
                    rest
                }
                State::Start => self.start(byte, rest),
                State::Key => self.key_or_end(byte, rest, event),
                State::InKey => self.in_key(bytes, event),
                State::InKeyEscape => self.goto(State::InKey, rest),
                State::Colon if byte == b':' => self.goto(State::Value, rest),
                State::Value => self.value(byte, bytes, rest, event),
                State::FirstElement | State::Element => self.element(byte, bytes, rest, event),
                State::After => self.after(byte, rest, event),
                State::Skip => self.skip(bytes),
                State::SkipString => self.skip_string(bytes),
                State::SkipEscape => self.goto(State::SkipString, rest),
                State::Literal => self.literal(bytes),
                State::Number => self.number(bytes, event),
                State::Kind => self.kind(bytes, event),
                State::KindEscape => self.goto(State::Kind, rest),
                State::Text => self.text(bytes, event),
                State::TextEscape => {
                    // An escape counts as one byte, `\uXXXX` as four.
                    self.count(usize::from(byte != b'u'), event);
                    self.goto(State::Text, rest)
                }
                State::Finish => self.finish(bytes, event),
                State::FinishEscape => self.goto(State::Finish, rest),
                State::Done(matched) => self.done(matched, byte, rest, event),
                State::Colon => self.goto(State::Dead, rest),
                State::Closed | State::Dead => return,
            };
        }
    }

    fn goto<'a>(&mut self, state: State, rest: &'a [u8]) -> &'a [u8] {
        self.state = state;
        rest
    }

    fn start<'a>(&mut self, byte: u8, rest: &'a [u8]) -> &'a [u8] {
        self.state = match byte {
            // A byte order mark may stand before a body.
            b' ' | b'\t' | b'\n' | b'\r' | 0xef | 0xbb | 0xbf => State::Start,
            b'{' => {
                self.is_open = true;
                State::Key
            }
            b'[' if self.in_stream => State::Done(1),
            b'[' => {
                self.nesting = 1;
                State::Skip
            }
            b'"' => State::SkipString,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => State::Literal,
            _ => State::Dead,
        };
        rest
    }

    fn done<'a>(&mut self, matched: usize, byte: u8, rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        self.state = match DONE.get(matched) {
            Some(&expected) if expected == byte => State::Done(matched + 1),
            None if is_space(byte) => State::Done(matched),
            _ => State::Dead,
        };
        event.done = self.state == State::Done(DONE.len());
        rest
    }

    fn key_or_end<'a>(&mut self, byte: u8, rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        match byte {
            b'"' => self.begin_key(rest, event),
            b'}' => self.close(rest, event),
            _ => self.goto(State::Dead, rest),
        }
    }

    #[inline]
    fn begin_key<'a>(&mut self, rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        self.word.clear();
        self.state = State::InKey;
        self.in_key(rest, event)
    }

    #[inline]
    fn in_key<'a>(&mut self, bytes: &'a [u8], event: &mut Event) -> &'a [u8] {
        let (run, end, rest) = text_run(bytes);
        match end {
            Some(b'"') => {
                self.role = self
                    .word
                    .join(run)
                    .map_or(self.place.unread(self.tally), |key| self.place.role(key, self.shape, self.counts_text, self.tally));
                let Some(value) = rest.strip_prefix(b":") else { return self.goto(State::Colon, rest) };
                match value.strip_prefix(b" ").unwrap_or(value).split_first() {
                    Some((&byte, after)) if !is_space(byte) => {
                        self.value(byte, value.strip_prefix(b" ").unwrap_or(value), after, event)
                    }
                    _ => self.goto(State::Value, value),
                }
            }
            Some(_) => {
                self.word.spoil();
                self.goto(State::InKeyEscape, rest)
            }
            None => {
                self.word.push(run);
                rest
            }
        }
    }

    /// The first byte of a value decides what becomes of it.
    fn value<'a>(&mut self, byte: u8, bytes: &'a [u8], rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        match (self.role, byte) {
            (Role::Object(place), b'{') => {
                self.enter(place, event);
                self.goto(State::Key, rest)
            }
            (Role::Array(place), b'[') => {
                event.answers |= place == Place::Choices;
                self.place = place;
                self.goto(State::FirstElement, rest)
            }
            (Role::Output(tally), b'{' | b'[') if self.tree.has_room() => {
                if self.place != Place::Output {
                    self.tree.begin_in(self.place);
                    self.tally = tally;
                }
                self.place = Place::Output;
                self.tree.open(byte == b'[');
                self.goto(if byte == b'[' { State::FirstElement } else { State::Key }, rest)
            }
            (Role::Count(_) | Role::Index, b'-' | b'0'..=b'9') => {
                self.word.clear();
                self.state = State::Number;
                self.number(bytes, event)
            }
            (Role::Count(_), b'"' | b'{' | b'[' | b't' | b'f') => {
                event.clamped = event.clamped.saturating_add(1);
                self.skipped(byte, rest)
            }
            (Role::Kind, b'"') => {
                self.word.clear();
                self.goto(State::Kind, rest)
            }
            (Role::Text, b'"') => {
                self.tally = Tally::Text;
                self.goto(State::Text, rest)
            }
            (Role::Output(tally), b'"') => {
                self.tally = tally;
                self.goto(State::Text, rest)
            }
            (Role::Finish, b'"') => {
                self.word.clear();
                self.goto(State::Finish, rest)
            }
            (Role::Sign, b'[') => {
                event.answers = true;
                self.skipped(byte, rest)
            }
            (Role::Error, byte) => {
                event.has_error |= matches!(byte, b'{' | b'"');
                event.answers |= event.has_error;
                self.skipped(byte, rest)
            }
            _ => self.skipped(byte, rest),
        }
    }

    #[inline]
    fn skipped<'a>(&mut self, byte: u8, rest: &'a [u8]) -> &'a [u8] {
        match byte {
            b'{' | b'[' => {
                self.nesting = 1;
                self.state = State::Skip;
                self.skip(rest)
            }
            b'"' => self.skip_string(rest),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.state = State::Literal;
                self.literal(rest)
            }
            _ => self.goto(State::Dead, rest),
        }
    }

    fn enter(&mut self, place: Place, event: &mut Event) {
        match place {
            Place::Choice => self.choice = (0, false),
            Place::Usage => {
                event.answers = true;
                self.usage_in = self.place;
                self.draft = Counts::default();
                // A second usage object in the same event and place is one too many.
                if self.place == Place::Root && event.has_usage {
                    event.clamped = event.clamped.saturating_add(1);
                }
            }
            Place::Response => event.has_response = true,
            _ => {}
        }
        self.place = place;
    }

    fn element<'a>(&mut self, byte: u8, bytes: &'a [u8], rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        if byte == b']' {
            event.empty_choices |= self.place == Place::Choices && self.state == State::FirstElement;
            return self.close(rest, event);
        }
        self.role = self.place.element(self.counts_text, self.tally);
        self.value(byte, bytes, rest, event)
    }

    fn after<'a>(&mut self, byte: u8, rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        let in_array = match self.place {
            Place::Output => self.tree.in_array(),
            place => place == Place::Choices,
        };
        match (byte, in_array) {
            (b',', true) => self.goto(State::Element, rest),
            (b',', false) => match rest {
                [b'"', key @ ..] => self.begin_key(key, event),
                _ => self.goto(State::Key, rest),
            },
            (b']', true) | (b'}', false) => self.close(rest, event),
            _ => self.goto(State::Dead, rest),
        }
    }

    /// Leaves the current place.
    fn close<'a>(&mut self, rest: &'a [u8], event: &mut Event) -> &'a [u8] {
        if self.place == Place::Output {
            self.place = self.tree.close();
            return self.goto(State::After, rest);
        }
        if self.place == Place::Choice {
            event.choices.note(self.choice.0, self.choice.1);
        }
        if self.place == Place::Usage {
            event.counts.merge(&self.draft);
            if self.usage_in == Place::Root {
                event.has_usage = true;
                event.has_output |= self.draft.has(Field::Output);
            }
        }
        match self.place.parent(self.usage_in, self.shape) {
            Some(parent) => {
                self.place = parent;
                self.goto(State::After, rest)
            }
            None => self.goto(State::Closed, rest),
        }
    }

    /// After a value that was no watched container.
    fn end_value<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        self.goto(if self.is_open { State::After } else { State::Closed }, rest)
    }

    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        let mut nesting = self.nesting;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'"' => match after_string(rest) {
                    Ok(after) => rest = after,
                    Err(open) => {
                        self.nesting = nesting;
                        return self.cut_string(open);
                    }
                },
                b'{' | b'[' => nesting = nesting.saturating_add(1),
                b'}' | b']' => {
                    nesting -= 1;
                    if nesting == 0 {
                        self.nesting = 0;
                        return self.end_value(rest);
                    }
                }
                _ => {}
            }
        }
        self.nesting = nesting;
        rest
    }

    #[inline]
    fn skip_string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match after_string(bytes) {
            Ok(rest) if self.nesting > 0 => self.goto(State::Skip, rest),
            Ok(rest) => self.end_value(rest),
            Err(open) => self.cut_string(open),
        }
    }

    fn cut_string(&mut self, open: OpenString) -> &'static [u8] {
        self.goto(if open.in_escape { State::SkipEscape } else { State::SkipString }, &[])
    }

    fn literal<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|&byte| is_space(byte) || matches!(byte, b',' | b'}' | b']'));
        match end.and_then(|end| bytes.get(end..)) {
            Some(rest) => self.end_value(rest),
            None => &[],
        }
    }

    fn number<'a>(&mut self, bytes: &'a [u8], event: &mut Event) -> &'a [u8] {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let Some((last, rest)) = bytes.iter().position(|byte| !is_part(byte)).and_then(|end| bytes.split_at_checked(end)) else {
            self.word.push(bytes);
            return &[];
        };
        if self.role == Role::Index {
            let (text, cut) = self.word.begun(last);
            self.choice.0 = read_count(text, cut).map_or(u64::MAX, |(index, bent)| if bent { u64::MAX } else { index });
        }
        if let Role::Count(field) = self.role {
            let (text, cut) = self.word.begun(last);
            let bent = match read_count(text, cut) {
                Some((count, bent)) => self.draft.raise(field, count) || bent,
                None => true,
            };
            event.clamped = event.clamped.saturating_add(u32::from(bent));
        }
        self.goto(State::After, rest)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
