//! `trollbridge man`: the manual, made from the same words as `--help`: one page with every command, or a page for each.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use crate::cli::exit::{EX_OK, Failure};

/// Where the manual goes.
#[derive(clap::Args)]
pub struct ManArgs {
    /// Write one page per command into this folder (trollbridge.1, trollbridge-explain.1, …) instead of one page to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What `--help` has no room for.
const MORE: &str = r#".SH "EXIT STATUS"
.TP
0
good
.TP
64
wrong usage, configuration or input
.TP
70
an internal fault, or damaged books
.TP
75
try again: a busy address, a second writer, a locked database
.SH FILES
.TP
config.json
the gateway's configuration (\-\-config); checked by
.BR "trollbridge check" ,
described by conf/config.schema.json
.TP
conf/pingora.yaml
Pingora's own settings (\-\-conf): threads, pid file, upgrade socket, the drain limit
.TP
state_dir/trollbridge.db
clients, grants, sums of the usage
.TP
state_dir/ledger/*.jsonl
the ledger: two lines for every request
.SH SIGNALS
.TP
HUP
reads config.json again: swapped in whole, or refused whole
.TP
TERM
drains: no new connections, open requests go on, at the latest until the drain limit; a second one does not wait
.TP
QUIT
hands the listening sockets to a process that was started with \-\-upgrade, and drains once that one serves;
.B trollbridge upgrade
does all of it
.TP
INT
ends at once; what is open gets an error
.SH ENVIRONMENT
What config.json names as ${VAR}; of the shipped one MAIN_TARGET_SERVER, MAIN_UPSTREAM_KEY, OHMYGPT_API_KEY, TROLL_API_KEY and
PROXY_API_KEY. RUST_LOG sets what the program's log says (default: info).
"#;

/// Prints or writes the manual of `of`; gives the exit code: 0, or 64 for a folder that can't be written.
pub fn run(args: &ManArgs, of: Command, out: &mut dyn Write) -> u8 {
    let Some(dir) = &args.dir else {
        // A reader that left early has seen what it wanted.
        let _ = page_of_all(of).and_then(|page| out.write_all(&ascii(&page)));
        return EX_OK;
    };
    match write_pages(of, dir) {
        Ok(()) => EX_OK,
        Err(error) => Failure::usage(format!("{}: {error}", dir.display())).say(),
    }
}

/// The command with the full names of those below it (`trollbridge client add`), as usage lines show them.
fn named(of: Command) -> Command {
    let mut command = of.disable_help_subcommand(true);
    command.build();
    command
}

/// The program's page, and a section for every command below it.
fn page_of_all(of: Command) -> io::Result<Vec<u8>> {
    let command = named(of);
    let mut page = head_of(&command)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for command in below(&command) {
        write_section(&command, &mut page)?;
    }
    page.extend_from_slice(MORE.as_bytes());
    Man::new(command).render_version_section(&mut page)?;
    Ok(page)
}

fn head_of(command: &Command) -> io::Result<Vec<u8>> {
    let (man, mut page) = (man(command), Vec::new());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    Ok(page)
}

fn man(command: &Command) -> Man {
    let version = env!("CARGO_PKG_VERSION");
    Man::new(command.clone()).manual("trollbridge").source(format!("trollbridge {version}")).title(page_name(command))
}

/// Every command below, depth first, hidden ones left out.
fn below(command: &Command) -> Vec<Command> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.flat_map(|command| std::iter::once(command.clone()).chain(below(command))).collect()
}

/// A command as a subsection: the sections of a page of its own, without their headings.
fn write_section(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    writeln!(page, ".SS \"{name}\"")?;
    let (man, mut sections) = (man(command), Vec::new());
    man.render_synopsis_section(&mut sections)?;
    man.render_description_section(&mut sections)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut sections)?;
    }
    for line in String::from_utf8_lossy(&sections).lines() {
        writeln!(page, "{}", if line.starts_with(".SH ") { ".PP" } else { line })?;
    }
    Ok(())
}

/// `trollbridge-client-add`
fn page_name(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).replace(' ', "-")
}

fn write_pages(of: Command, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let command = named(of);
    let commands = below(&command);
    for one in std::iter::once(&command).chain(&commands) {
        let mut page = head_of(one)?;
        if one.has_subcommands() {
            man(one).render_subcommands_section(&mut page)?;
        }
        if page_name(one) == command.get_name() {
            page.extend_from_slice(MORE.as_bytes());
        } else {
            page.extend_from_slice(b".SH \"SEE ALSO\"\n.BR trollbridge (1)\n");
        }
        fs::write(dir.join(format!("{}.1", page_name(one))), ascii(&page))?;
    }
    Ok(())
}

/// roff reads bytes by the reader's own locale: what is beyond ASCII is written by its number.
fn ascii(page: &[u8]) -> Vec<u8> {
    let mut plain = String::with_capacity(page.len());
    for character in String::from_utf8_lossy(page).chars() {
        match character {
            _ if character.is_ascii() => plain.push(character),
            _ => plain.push_str(&format!("\\[u{:04X}]", u32::from(character))),
        }
    }
    plain.into_bytes()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_page_has_a_section_for_every_command() {
        let page = String::from_utf8(page_of_all(Cli::command()).unwrap()).unwrap();
        assert!(page.lines().any(|line| line.starts_with(".TH trollbridge 1")), "{page}");
        let commands = below(&named(Cli::command()));
        assert!(commands.iter().any(|command| page_name(command) == "trollbridge-client-add"));
        for command in commands {
            let name = command.get_bin_name().unwrap();
            assert!(page.contains(&format!(".SS \"{name}\"")), "{name}");
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for argument in shown.filter_map(|argument| argument.get_long()) {
                assert!(page.contains(&format!("\\-\\-{}", argument.replace('-', "\\-"))), "{name} --{argument}");
            }
        }
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH COMMANDS", ".SH \"EXIT STATUS\"", ".SH SIGNALS"] {
            assert_eq!(page.matches(section).count(), 1, "{section}");
        }
    }

    #[test]
    fn each_command_gets_a_page_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        write_pages(Cli::command(), dir.path()).unwrap();
        for (page, part) in [
            ("trollbridge.1", ".SH SIGNALS"),
            ("trollbridge-explain.1", "trollbridge\\-explain"),
            ("trollbridge-client.1", "trollbridge\\-client\\-add(1)"),
            ("trollbridge-client-add.1", "\\-\\-credits"),
        ] {
            let text = fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.contains(".TH ") && text.contains(part), "{page}: {text}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), below(&named(Cli::command())).len() + 1);
    }

    /// groff says what it can't read; without one there is nobody to ask.
    #[test]
    fn the_page_is_good_roff() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trollbridge.1");
        let page = ascii(&page_of_all(Cli::command()).unwrap());
        assert!(page.is_ascii());
        fs::write(&file, page).unwrap();
        let checked = std::process::Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&file).output();
        if let Ok(checked) = checked {
            assert!(checked.status.success() && checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}
