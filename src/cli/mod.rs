//! The commands: one file each. Exit codes: 0 good, 64 wrong usage or configuration, 70 internal, 75 try again.

pub mod check;
pub mod client;
pub mod completions;
pub mod demo;
pub mod explain;
pub mod ledger;
pub mod man;
pub mod mock;
pub mod price;
pub mod reload;
pub mod run;
mod running;
mod server_conf;
mod span;
mod state;
pub mod status;
pub mod upgrade;
pub mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub const EX_OK: u8 = 0;
pub const EX_USAGE: u8 = 64;
pub const EX_SOFTWARE: u8 = 70;
pub const EX_TEMPFAIL: u8 = 75;

const CONFIG: &str = "config.json";
const CONF: &str = "conf/pingora.yaml";

/// An edge gateway for LLM APIs: one address, one key, every model.
#[derive(Parser)]
#[command(name = "trollbridge", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (the default command)
    Run(RunArgs),
    /// Parse and validate a configuration and run its own tests; exit 0 or 64
    Check {
        /// The gateway's configuration
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Say where a request would go, and why; nothing is sent
    Explain(explain::Args),
    /// Add, list, show, revoke and credit clients; a running gateway follows within a second
    Client(client::ClientArgs),
    /// Say what a usage costs, line by line
    Price(price::Args),
    /// Run the gateway with a provider of its own, on throw-away state: prints curl lines to copy
    Demo {
        /// The address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Sum up what was used and what it costs
    Usage(usage::Args),
    /// Export the ledger's entries, or prove its files
    Ledger(ledger::Args),
    /// Read the running gateway's configuration again; a refused one changes nothing (exit 64, with every fault)
    Reload(running::RunningArgs),
    /// Replace the running gateway by this program and its configuration, without losing a connection
    Upgrade(running::RunningArgs),
    /// Say how the running gateway is (exit 75 where it is not ready for requests, or none runs)
    Status {
        #[command(flatten)]
        running: running::RunningArgs,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Run the scripted provider alone
    Mock(mock::Args),
    /// Print what a shell needs to complete commands and flags
    Completions(completions::Args),
    /// Print the manual page: trollbridge man | man -l -
    Man(man::Args),
}

/// How the gateway runs.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// Pingora's own settings: threads, pid file, upgrade socket, drain limit
    #[arg(short, long, value_name = "FILE", default_value = CONF)]
    conf: PathBuf,
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Take the listeners over from the running process, which then drains; `trollbridge upgrade` does all of it
    #[arg(short, long)]
    upgrade: bool,
    /// Go into the background; returns once the gateway serves
    #[arg(short, long)]
    daemon: bool,
    /// Tell the process at the other end of the standard input how far the start is
    #[arg(long, hide = true)]
    reports: bool,
    /// Check the configuration and exit
    #[arg(short, long)]
    test: bool,
}

/// Parses the arguments and runs one command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            // A closed pipe is no reason to fail differently.
            let _ = error.print();
            return if wrong { EX_USAGE.into() } else { EX_OK.into() };
        }
    };
    let mut out = std::io::stdout();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) if args.test => run::test(&args, &mut out).into(),
        Command::Run(args) => run::run(&args).into(),
        Command::Check { config, json } => check::run(&config, json, &mut out).into(),
        Command::Explain(args) => explain::run(&args, &mut out).into(),
        Command::Client(args) => client::run(&args, &mut out).into(),
        Command::Price(args) => price::run(&args, &mut out).into(),
        Command::Demo { listen } => demo::run(listen).into(),
        Command::Usage(args) => usage::run(&args, &mut out).into(),
        Command::Ledger(args) => ledger::run(&args, &mut out).into(),
        Command::Reload(args) => reload::run(&args, &mut out).into(),
        Command::Upgrade(args) => upgrade::run(&args, &mut out).into(),
        Command::Status { running, json } => running::status(&running, json, status::render, &mut out).into(),
        Command::Mock(args) => mock::run(&args).into(),
        Command::Completions(args) => completions::run(&args, &mut out).into(),
        Command::Man(args) => man::run(&args, &mut out).into(),
    }
}
