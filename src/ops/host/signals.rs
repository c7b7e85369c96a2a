//! Signals that must not end the process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// "File size limit exceeded": the same number on every Linux but MIPS, and on the BSDs.
const SIGXFSZ: i32 = 25;

/// Makes a write beyond the file size limit (`ulimit -f`, `LimitFSIZE=`) fail as one on a full disk does; by default the kernel ends the
/// process with a signal, and what the ledger would do about it (G3) never happens. Must be called within a runtime.
///
/// # Errors
///
/// The signal can't be watched.
pub fn ignore_file_size_signal() -> io::Result<()> {
    // The handler stays when the stream is dropped: tokio never puts the default back (tokio::signal::unix, "Caveats").
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}
