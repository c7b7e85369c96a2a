//! What we say instead of the provider: one enum of refusals, each with a public half and an internal one.
//!
//! [`Refusal::answer`] is the public half: status, kind, message, what a client may do next. `Display` is the internal one, for the
//! log. [`Refusal::label`] is the metric's word, [`Refusal::fault`] says who has to act. All four are matched exhaustively, so a
//! new variant does not compile until each of them is answered. [`body`] is the only file that writes error bodies.

pub mod body;
pub mod models;
mod public;
mod refusal;

pub use public::Answer;
pub use refusal::{Fault, NotConfigured, Refusal};
