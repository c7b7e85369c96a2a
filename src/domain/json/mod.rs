//! Reads and edits JSON in place: what a request asks for, and the few bytes that may be replaced, without a tree and without a copy.
//!
//! One strict scanner serves both directions: [`Peeker`] reads request bodies, [`rename`] finds the model's name in answers, and
//! [`splice`] replaces bytes between zero-copy slices. Nothing here re-encodes JSON: every byte outside a named value stays as it was.
//!
//! ```text
//! chunks ─► scan (utf8, text, number) ──keys and values of watched objects──┬─► peek ─► Edit ─► splice
//!                                                                           └─► rename
//! ```

mod escape;
mod fault;
mod findings;
mod peek;
mod peeked;
pub mod prompts;
pub mod rename;
pub(super) mod scan;
pub mod splice;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;

pub use fault::PeekError;
pub use peek::{Peeker, peek};
pub use peeked::{AskedOutput, IncludeUsage, Peeked};
