//! The ground: what the process has of its machine, and what it shares with the other processes on it. Knows nothing of money or of counts.
//!
//! ```text
//! time        clock
//! names       resolver/
//! memory      body_budget        what request bodies may take
//! TLS         tls ─► ca, certificate    the files that the settings name, proved before they are used
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
pub mod resolver;
pub mod signals;
pub mod tls;
