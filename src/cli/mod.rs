//! The commands: one file each, which ends as `exit` says. This file knows them all, and none of them knows it.

mod check;
mod client;
mod completions;
mod demo;
mod exit;
mod explain;
mod files;
mod ledger;
mod man;
mod mock;
mod online;
mod price;
mod reload;
mod run;
mod running;
mod server_conf;
mod span;
mod state;
mod status;
mod upgrade;
mod usage;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use exit::{EX_OK, EX_USAGE};
use run::RunArgs;

/// An edge gateway for LLM APIs: one address, one key, every model.
#[derive(Parser)]
#[command(name = "trollbridge", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Commands>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Commands {
    /// Run the gateway (the default command)
    Run(RunArgs),
    /// Parse and validate a configuration and run its own tests; exit 0 or 64
    Check(check::CheckArgs),
    /// Say where a request would go, and why; nothing is sent
    Explain(explain::ExplainArgs),
    /// Add, list, show, revoke and credit clients; a running gateway follows within a second
    Client(client::ClientArgs),
    /// Say what a usage costs, line by line
    Price(price::PriceArgs),
    /// Run the gateway with a provider of its own, on throw-away state: prints curl lines to copy
    Demo {
        /// The address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Sum up what was used and what it costs
    Usage(usage::UsageArgs),
    /// Export the ledger's entries, or prove its files
    Ledger(ledger::LedgerArgs),
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
    Mock(mock::MockArgs),
    /// Print what a shell needs to complete commands and flags
    Completions(completions::CompletionsArgs),
    /// Print the manual page: trollbridge man | man -l -
    Man(man::ManArgs),
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
    let code = match cli.command.unwrap_or(Commands::Run(cli.run)) {
        Commands::Run(args) => run::run(&args, &mut out),
        Commands::Check(args) => check::run(&args, &mut out),
        Commands::Explain(args) => explain::run(&args, &mut out),
        Commands::Client(args) => client::run(&args, &mut out),
        Commands::Price(args) => price::run(&args, &mut out),
        Commands::Demo { listen } => demo::run(listen),
        Commands::Usage(args) => usage::run(&args, &mut out),
        Commands::Ledger(args) => ledger::run(&args, &mut out),
        Commands::Reload(args) => reload::run(&args, &mut out),
        Commands::Upgrade(args) => upgrade::run(&args, &mut out),
        Commands::Status { running, json } => status::run(&running, json, &mut out),
        Commands::Mock(args) => mock::run(&args),
        Commands::Completions(args) => completions::run(&args, Cli::command(), &mut out),
        Commands::Man(args) => man::run(&args, Cli::command(), &mut out),
    };
    code.into()
}
