//! How a command ends: its exit code, one of sysexits.h, and what is said where there is nothing to show.

use std::io::{self, Write};

pub const EX_OK: u8 = 0;
/// Wrong usage, configuration or input.
pub const EX_USAGE: u8 = 64;
/// An internal fault, or damaged books.
pub const EX_SOFTWARE: u8 = 70;
/// Try again: a busy address, a second writer, a locked database.
pub const EX_TEMPFAIL: u8 = 75;

/// Why a command has nothing to show.
pub struct Failure {
    pub code: u8,
    pub why: String,
}

impl Failure {
    pub fn usage(why: String) -> Self {
        Self { code: EX_USAGE, why }
    }

    pub fn software(why: String) -> Self {
        Self { code: EX_SOFTWARE, why }
    }

    pub fn try_again(why: String) -> Self {
        Self { code: EX_TEMPFAIL, why }
    }

    /// Says why; gives the exit code.
    pub fn say(&self) -> u8 {
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr(), "{}", self.why);
        self.code
    }
}
