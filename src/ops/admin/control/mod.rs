//! The control socket: a Unix socket beside the pid file that answers the admin's pages without a token, because only the service's user
//! and root reach it.
//!
//! ```text
//!   trollbridge reload | status ──► NAME.sock (0600, in a directory of 0700) ──► pages ──► answer, clients, reload
//! ```
//!
//! Not one of Pingora's listeners: at an upgrade it would remove the file of the process that took over. Here the new process renames its
//! own socket over the old one, so there is no moment without an answer, and nobody removes a file that is another's.

pub mod client;
mod serve;

use std::path::{Path, PathBuf};

pub use serve::serve;

/// Where the socket of the process with this pid file is.
pub fn path(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("sock")
}
