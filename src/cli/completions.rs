//! `trollbridge completions`: what a shell needs to complete our commands and flags.

use std::io::{self, Write};

use clap_complete::{Shell, generate};

use crate::cli::exit::EX_OK;

/// The shell in question.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// bash: source it; zsh: a file _trollbridge in a folder of $fpath; fish: a file in ~/.config/fish/completions
    shell: Shell,
}

/// Prints the script that completes `of`; gives the exit code.
pub fn run(args: &CompletionsArgs, of: clap::Command, out: &mut dyn Write) -> u8 {
    let _ = print(args.shell, of, out);
    EX_OK
}

/// `generate` takes a writer that can't fail, a pipe can: hence the buffer.
fn print(shell: Shell, mut of: clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let mut script = Vec::new();
    generate(shell, &mut of, env!("CARGO_PKG_NAME"), &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            print(*shell, Cli::command(), &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
