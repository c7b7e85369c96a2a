//! The ledger's records as values, and the lines they are written in.
//!
//! A request has two records: [`Open`] when it is dispatched, [`Close`] when it has ended. A close repeats what its open said, with the
//! attempt that counted, so that a bill is the sum of the closes alone; an open matters where its close never came.
//!
//! ```text
//! {"v":2,"record":"segment",…,"seq":0,"crc":"…"}     the first line of a file
//! {"v":2,"record":"open","id":…,…,"seq":1,"crc":"…"}
//! {"v":2,"record":"close","id":…,…,"seq":2,"crc":"…"}
//! ```

mod line;
mod read;
mod sums;
mod text;
pub mod time;

#[cfg(test)]
mod properties;

use std::borrow::Cow;
use std::time::Duration;

use crate::domain::billing::line::BillLine;
use crate::domain::billing::{Decimal, NanoUsd};
use crate::domain::end::End;
use crate::domain::usage::{Source, Usage};

pub use line::{seal, write_close, write_entry, write_open, write_segment};
pub use read::{LineFault, is_intact_open, read, split_glued};
pub use sums::Sums;

/// All models together that the configuration does not name: a client can invent names without end.
pub const UNLISTED: &str = "other";

/// What was sent where, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// The request's id.
    pub id: Cow<'a, str>,
    /// When the request arrived, in milliseconds since the epoch.
    pub opened_at_unix_ms: u64,
    /// The client's name; `None` where nobody is asked for a key.
    pub client: Option<Cow<'a, str>>,
    /// The id of the client's key; never its text.
    pub client_key: Option<Cow<'a, str>>,
    /// As the configuration names it, else as the client wrote it.
    pub model: Option<Cow<'a, str>>,
    /// What sums have in the model's place: the entry of the configuration that named it, or [`UNLISTED`]; `None`: it asked for no model,
    /// or the line is of a version that did not say.
    pub listed_as: Option<Cow<'a, str>>,
    pub upstream: Cow<'a, str>,
    /// The authority of the attempt.
    pub endpoint: Option<Cow<'a, str>>,
    pub proxy: Option<Cow<'a, str>>,
    /// The id of the credential of the attempt; never its text.
    pub key: Option<Cow<'a, str>>,
}

/// A request is about to be sent to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    pub sent: Sent<'a>,
    /// What was taken from the client's balance until the cost is known.
    pub reservation: NanoUsd,
}

/// A request has ended; what it is billed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Of the last attempt.
    pub sent: Sent<'a>,
    pub closed_at_unix_ms: u64,
    pub attempts: u32,
    /// The status that the client saw; 0 where nobody knows it any more.
    pub status: u16,
    pub end: End,
    pub stream: bool,
    pub source: Source,
    /// Zeros where `source` is [`Source::None`].
    pub usage: Usage,
    /// What the cost is the sum of, rounded once.
    pub lines: Cow<'a, [BillLine]>,
    /// The conditions by which prices were chosen, as an accountant reads them.
    pub conditions: Vec<Cow<'a, str>>,
    /// The multiplier included.
    pub cost: NanoUsd,
    pub multiplier: Decimal,
    /// From arrival to the answer's first byte, in whole microseconds.
    pub first_byte: Option<Duration>,
    /// From arrival to the end, in whole microseconds.
    pub total: Duration,
}

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The process that writes the segment, as in the segment's name.
    pub writer: Cow<'a, str>,
    /// Counts the writer's segments from 1.
    pub number: u32,
    pub started_at_unix_ms: u64,
    /// The first of the writer's segments that holds an open whose close is in none before this one.
    pub oldest_open: u32,
}

/// What one line of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "who reads lines handles closes, one at a time")]
pub enum Record<'a> {
    Segment(Header<'a>),
    Open(Open<'a>),
    Close(Close<'a>),
}

/// A checked line: its record, and its place in the segment's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub seq: u64,
    pub record: Record<'a>,
}

impl Close<'_> {
    /// As [`Sent::into_owned`].
    pub fn into_owned(self) -> Close<'static> {
        Close {
            sent: self.sent.into_owned(),
            lines: Cow::Owned(self.lines.into_owned()),
            conditions: self.conditions.into_iter().map(|text| Cow::Owned(text.into_owned())).collect(),
            ..self
        }
    }
}

impl Sent<'_> {
    /// Holds on to the texts, whatever becomes of the line that they were read from.
    pub fn into_owned(self) -> Sent<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Sent {
            id: owned(self.id),
            opened_at_unix_ms: self.opened_at_unix_ms,
            client: self.client.map(owned),
            client_key: self.client_key.map(owned),
            model: self.model.map(owned),
            listed_as: self.listed_as.map(owned),
            upstream: owned(self.upstream),
            endpoint: self.endpoint.map(owned),
            proxy: self.proxy.map(owned),
            key: self.key.map(owned),
        }
    }
}

impl<'a> Open<'a> {
    /// As [`Sent::into_owned`].
    pub fn into_owned(self) -> Open<'static> {
        Open { sent: self.sent.into_owned(), reservation: self.reservation }
    }

    /// Closes what a killed process left open: nothing is known of its usage, so nothing is billed.
    pub fn interrupted(self, now_unix_ms: u64) -> Close<'a> {
        Close {
            sent: self.sent,
            closed_at_unix_ms: now_unix_ms,
            attempts: 1,
            status: 0,
            end: End::Interrupted,
            stream: false,
            source: Source::None,
            usage: Usage::default(),
            lines: Cow::Borrowed(&[]),
            conditions: Vec::new(),
            cost: NanoUsd::ZERO,
            multiplier: Decimal::ONE,
            first_byte: None,
            total: Duration::ZERO,
        }
    }
}
