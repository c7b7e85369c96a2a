//! The ground: what the process has of its machine, and what it shares with the other processes on it. Knows nothing of money or of counts.
//!
//! ```text
//! time        clock
//! names       resolver/
//! memory      body_budget        what request bodies may take, and one client's of them
//! TLS         tls ─► ca, certificate    the files that the settings name, proved before they are used
//! files       regular            what is no file is refused, never waited for
//! processes   child (`run -d`), handover (`upgrade`), drain (the end), pid_file, signals
//! machine     what the kernel says of this process
//! ```

pub mod body_budget;
pub mod ca;
pub mod certificate;
pub mod child;
pub mod clock;
pub mod drain;
pub mod handover;
pub mod machine;
pub mod pid_file;
pub mod regular;
pub mod resolver;
pub mod signals;
pub mod tls;
