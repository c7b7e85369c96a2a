//! Usage: the token counts of an answer, read while its bytes pass.
//!
//! A [`Meter`] sees the answer's bytes after they were forwarded, in whatever pieces the network delivered, and gives the same
//! [`Report`] for every way of cutting them. It never delays, changes or rejects a byte, and it holds no part of the answer but, where text
//! is counted, what stands around the text of one event (at most a kilobyte): constant memory for a stream or a body of any length. What
//! it cannot read makes the usage `none`: a wrong bill is worse than a missing one.
//!
//! ```text
//! bytes ─► [decode] ─┬─ SSE:  sse (data lines) ─► json (key path) ─► counts ─► Usage
//!                    │             └─► text (a delta like the last one)
//!                    └─ JSON: ───────────────────► json
//! ```
//!
//! [`rewrite`] edits a stream for the client and shares nothing with the meter but the readers.

mod counts;
pub mod decode;
mod facts;
mod json;
mod key;
mod meter;
mod report;
pub mod rewrite;
pub mod sample;
mod shape;
pub(in crate::domain) mod sse;
mod text;
mod tokens;
pub mod whole;

#[cfg(test)]
mod endings;
#[cfg(test)]
mod fixtures;

pub use facts::{Facts, Label};
pub use meter::Meter;
pub use report::{Other, Report, Source};
pub use shape::{Framing, Shape};
pub use tokens::{CLASSES, Calls, MAX_COUNT, Tool, Usage};
