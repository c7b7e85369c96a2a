//! `trollbridge mock`: the scripted provider alone, for trying a configuration without a real one.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::{EX_OK, EX_SOFTWARE, EX_TEMPFAIL, EX_USAGE};
use crate::provider_mock::{Mock, Options, Script};

#[derive(clap::Args)]
pub struct MockArgs {
    /// The address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// A JSON file of rules that say which requests get which answer
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// Serves until SIGINT or SIGTERM; returns the exit code. The first line on stdout names the address: `mock provider on http://127.0.0.1:8081`.
pub fn run(args: &MockArgs) -> u8 {
    let script = match args.script.as_deref().map(read_script).transpose() {
        Ok(script) => script.unwrap_or_default(),
        Err(message) => return fail(EX_USAGE, &message),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(EX_SOFTWARE, &error.to_string()),
    };
    match runtime.block_on(serve(args.listen, script)) {
        Ok(()) => EX_OK,
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::AddrInUse { EX_TEMPFAIL } else { EX_SOFTWARE };
            fail(code, &format!("{}: {error}", args.listen))
        }
    }
}

fn read_script(path: &std::path::Path) -> Result<Script, String> {
    let read = || -> Result<Script, Box<dyn Error>> { Ok(Script::parse(&std::fs::read_to_string(path)?)?) };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

async fn serve(listen: SocketAddr, script: Script) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mock = Mock::start(Options { listen, script: Arc::new(Mutex::new(script)), ..Options::default() }).await?;
    let mut out = io::stdout();
    writeln!(out, "mock provider on {}", mock.base_url())?;
    out.flush()?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn fail(code: u8, message: &str) -> u8 {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "trollbridge mock: {message}");
    code
}
