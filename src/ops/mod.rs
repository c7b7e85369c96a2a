//! Touches the machine: what this process is made of and runs on, its books, what is seen of it, and the operator's doors. One job per file.
//!
//! ```text
//! admin/   the operator's doors: pages, control socket, reload     asks and changes the parts
//!   │
//! parts.rs the one list of what a process is made of                one of each below
//!   │
//! watch/   what is counted and written down: metrics, logs, health     shows books and host
//!   │
//! books/   who may spend what, and what was spent                      stands on host
//!   │
//! host/    clock, names, memory, certificates, signals, other processes   knows none of the others
//! ```
//!
//! An arrow goes down only. May use `domain`, `config` and tokio; never the proxy engine. Nothing here decides about a request.

pub mod admin;
pub mod books;
pub mod host;
pub mod parts;
pub mod watch;
