//! The books: who may spend what, and what was spent. Nothing is served that they do not know of.
//!
//! ```text
//! clients/   the clients in memory, as requests ask for them ─┐
//! ledger/    append-only files, one line per open and close ──┼─► store/   the database: clients, grants, roll-ups of usage
//! ```
//!
//! The ledger is the truth of what was spent, the database that of who the clients are; the sums in it can be made again from the ledger.

pub mod clients;
pub mod ledger;
pub mod store;
