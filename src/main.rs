//! The binary: takes the allocator, parses arguments, runs one command.

use std::process::ExitCode;

/// Transparent huge pages are off (feature `no_thp`): with them every open stream holds twice the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let code = trollbridge::cli::main();
    trollbridge::ops::watch::log::finish();
    code
}
