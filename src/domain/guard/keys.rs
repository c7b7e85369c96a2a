//! The search itself: whether a key, or another form of one, is in a text, and how much of the text's end may begin one.
//!
//! ```text
//!   text ─┬─► every form, by its four-byte pieces: one look per step as long as the shortest form, whatever the number of keys
//!         └─► has it an escape that spells a byte of a key, or a NUL? ── nearly never ──► read what it spells, the same search
//! ```
//! A form that lies in a text covers one of the places that are looked at, and all its pieces are in the table: none is missed. What the
//! table lets through by chance is compared byte by byte, so nothing but a whole key is ever found.

use memchr::memmem::Finder;
use memchr::{memchr2, memchr3};

use super::forms::forms;
use super::spelling::{self, ESCAPED, WIDE, hex_byte, is_of_spelling};

/// Forms with the same beginning of this length are compared together, by their common prefix.
const GROUP_BYTES: usize = 3;
/// The bytes of a form that are looked up at once.
const PIECE: usize = 4;

/// All forms of our keys, prepared for searching.
pub(super) struct Keys {
    /// Sorted.
    forms: Vec<Box<[u8]>>,
    groups: Vec<Group>,
    /// The lengths of the longest and the shortest form.
    longest: usize,
    shortest: usize,
    /// The hashes of all pieces of all forms.
    pieces: Vec<u64>,
    /// The bytes that occur in forms, and those that begin one.
    alphabet: [bool; 256],
    beginnings: [bool; 256],
    /// How JSON's escape of a byte of ASCII begins, and the shorter ones by which a byte of a key may be spelled.
    numbered: Finder<'static>,
    escapes: Vec<Finder<'static>>,
}

/// Forms that share a prefix; providers' keys nearly all begin with `sk-`.
struct Group {
    prefix: Finder<'static>,
    forms: Vec<Box<[u8]>>,
}

impl Keys {
    pub(super) fn new<'k>(keys: impl Iterator<Item = &'k str>) -> Self {
        let mut forms: Vec<Box<[u8]>> = keys.flat_map(forms).collect();
        forms.sort();
        forms.dedup();
        let has = |byte: usize| forms.iter().flatten().any(|&used| usize::from(used) == byte);
        let begins = |byte: usize| forms.iter().filter_map(|form| form.first()).any(|&first| usize::from(first) == byte);
        let escapes = [("/", r"\/"), ("\"", "\\\""), ("\\", r"\\")];
        let escapes = escapes.into_iter().filter(|(char, _)| char.bytes().any(|byte| has(usize::from(byte))));
        Self {
            longest: forms.iter().map(|form| form.len()).max().unwrap_or(0),
            shortest: forms.iter().map(|form| form.len()).min().unwrap_or(0),
            pieces: table(&forms),
            alphabet: std::array::from_fn(has),
            beginnings: std::array::from_fn(begins),
            numbered: Finder::new(br"\u00"),
            escapes: escapes.map(|(_, escape)| Finder::new(escape).into_owned()).collect(),
            groups: forms.chunk_by(|a, b| a.get(..GROUP_BYTES) == b.get(..GROUP_BYTES)).map(Group::of).collect(),
            forms,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The forms, the longest first: a key may begin with another one.
    pub(super) fn longest_first(&self) -> Vec<&[u8]> {
        let mut forms: Vec<&[u8]> = self.forms.iter().map(AsRef::as_ref).collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms
    }

    /// Whether a key is in the text, in any form and spelling.
    pub(super) fn occurs_in(&self, text: &[u8]) -> bool {
        // No spelling is shorter than the form itself.
        text.len() >= self.shortest && (self.is_written_in(text) || (self.is_spelled_otherwise(text) && self.is_spelled_in(text)))
    }

    /// What was kept back, with as much of the next piece as the rest of a key can take. Empty, without a copy, if nothing was.
    pub(super) fn join(&self, held: &[u8], piece: &[u8]) -> Vec<u8> {
        if held.is_empty() {
            return Vec::new();
        }
        [held, piece.get(..self.reach(piece)).unwrap_or(piece)].concat()
    }

    /// Whether [`Keys::join`] took all of the piece; otherwise no key that began before the piece can still be open at its end.
    pub(super) fn reaches_end(&self, joined: &[u8], piece: &[u8]) -> bool {
        !joined.is_empty() && piece.len() <= self.reach(piece)
    }

    /// The length of the longest end of `text` that begins a key without completing one.
    pub(super) fn begun_at_end(&self, text: &[u8]) -> usize {
        let run = |most: usize| text.iter().rev().take(most).take_while(|byte| self.is_used(**byte)).count();
        let end = |len: usize| text.get(text.len() - len..).unwrap_or_default();
        let near = end(run(self.longest));
        if near.is_empty() {
            return 0;
        }
        let written = (1..=near.len().min(self.longest.saturating_sub(1))).rev().find(|&len| self.begins(end(len))).unwrap_or(0);
        match spelled_with(near) {
            1 => written,
            width => written.max(self.begun_by_spelling(end(run(self.longest * width)))),
        }
    }

    /// How much of the beginning of a piece can belong to a key that began before it.
    fn reach(&self, piece: &[u8]) -> usize {
        self.longest * spelled_with(piece.get(..self.longest).unwrap_or(piece))
    }

    fn begun_by_spelling(&self, text: &[u8]) -> usize {
        let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
        let open = spelling::read(text, |byte, at| {
            bytes.push(byte);
            places.push(at);
        });
        let from = bytes.len().saturating_sub(self.longest);
        let begun = (from..bytes.len()).find(|&at| bytes.get(at..).is_some_and(|end| self.begins(end)));
        let place = begun.and_then(|at| places.get(at).copied()).or(open);
        place.map_or(0, |place| text.len() - place)
    }

    fn begins(&self, end: &[u8]) -> bool {
        if end.first().is_none_or(|byte| self.beginnings.get(usize::from(*byte)) != Some(&true)) {
            return false;
        }
        let at = self.forms.partition_point(|form| &**form < end);
        self.forms.get(at).is_some_and(|form| form.starts_with(end))
    }

    /// Whether a byte may be part of a key in any spelling.
    fn is_used(&self, byte: u8) -> bool {
        self.is_of_a_key(byte) || is_of_spelling(byte)
    }

    fn is_of_a_key(&self, byte: u8) -> bool {
        self.alphabet.get(usize::from(byte)) == Some(&true)
    }

    fn is_written_in(&self, text: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let step = self.shortest - (PIECE - 1);
        text.windows(PIECE).step_by(step).enumerate().any(|(nth, piece)| self.is_piece(piece) && self.is_around(text, nth * step))
    }

    fn is_piece(&self, piece: &[u8]) -> bool {
        let hash = hash(piece, self.pieces.len());
        self.pieces.get(hash / 64).is_some_and(|word| word & 1 << (hash % 64) != 0)
    }

    /// Whether a form covers this place.
    fn is_around(&self, text: &[u8], at: usize) -> bool {
        let window = text.get(at.saturating_sub(self.longest)..(at + self.longest).min(text.len())).unwrap_or_default();
        self.groups.iter().any(|group| group.occurs_in(window))
    }

    /// Whether reading what the text spells could show more than the text itself.
    fn is_spelled_otherwise(&self, text: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        // Nearly every event has none of them.
        let Some(mut rest) = memchr3(b'\\', b'%', 0, text).and_then(|at| text.get(at..)) else { return false };
        let text = rest;
        while let Some(found) = memchr2(b'%', 0, rest).and_then(|at| rest.get(at..)) {
            match found {
                [b'%', high, low, ..] if !hex_byte(*high, *low).is_some_and(|byte| self.is_of_a_key(byte) || byte == b'%') => {}
                [b'%', _] | [b'%'] => {}
                _ => return true,
            }
            rest = found.get(1..).unwrap_or_default();
        }
        let spells = |at: usize| match text.get(at + 4..) {
            Some([high, low, ..]) => hex_byte(*high, *low).is_some_and(|byte| self.is_of_a_key(byte)),
            _ => false,
        };
        self.numbered.find_iter(text).any(spells) || self.escapes.iter().any(|escape| escape.find(text).is_some())
    }

    fn is_spelled_in(&self, text: &[u8]) -> bool {
        let mut bytes = Vec::with_capacity(text.len());
        spelling::read(text, |byte, _| bytes.push(byte));
        self.is_written_in(&bytes)
    }
}

impl Group {
    fn of(forms: &[Box<[u8]>]) -> Self {
        // The forms are sorted: what the first and the last share, all share.
        let shared = match forms {
            [first, .., last] => first.iter().zip(last).take_while(|(a, b)| a == b).map(|(a, _)| *a).collect(),
            _ => forms.concat(),
        };
        Self { prefix: Finder::new(&shared).into_owned(), forms: forms.to_vec() }
    }

    fn occurs_in(&self, mut text: &[u8]) -> bool {
        while let Some(found) = self.prefix.find(text).and_then(|at| text.get(at..)) {
            if self.forms.iter().any(|form| found.starts_with(form)) {
                return true;
            }
            text = found.get(1..).unwrap_or_default();
        }
        false
    }
}

/// How many bytes one of a key may take in a text like this one.
fn spelled_with(text: &[u8]) -> usize {
    match memchr3(b'\\', b'%', 0, text) {
        None => 1,
        Some(_) if memchr::memchr(0, text).is_some() => WIDE,
        Some(_) => ESCAPED,
    }
}

/// One bit for each hash; a sixteenth of them or fewer are set.
fn table(forms: &[Box<[u8]>]) -> Vec<u64> {
    let pieces: usize = forms.iter().map(|form| form.len()).sum();
    let mut table = vec![0_u64; (pieces / 4).next_power_of_two().max(64)];
    let words = table.len();
    for piece in forms.iter().flat_map(|form| form.windows(PIECE)) {
        let hash = hash(piece, words);
        if let Some(word) = table.get_mut(hash / 64) {
            *word |= 1 << (hash % 64);
        }
    }
    table
}

/// A number below 64 times `words`, which is a power of two.
fn hash(piece: &[u8], words: usize) -> usize {
    let piece = <[u8; PIECE]>::try_from(piece).map_or(0, u32::from_le_bytes);
    let mixed = u64::from(piece).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(mixed).unwrap_or(0) & (words * 64 - 1)
}
