//! `trollbridge run`: the gateway itself, in the foreground or behind the command that started it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::configuration::ServerConf;

use crate::app::{self, Obstacle, Plan};
use crate::cli::exit::{EX_OK, EX_SOFTWARE, EX_TEMPFAIL, EX_USAGE};
use crate::cli::files::{CONF, CONFIG};
use crate::cli::{check, server_conf};
use crate::config;
use crate::domain::upstream::registry::Registry;
use crate::ops::host::child::{Child, Missed, Output, Parent, Stage};
use crate::ops::watch::log as program_log;

/// How long a start may take. A ledger of millions of entries that were never summed up is read first.
const MOST_START: Duration = Duration::from_secs(600);

/// How the gateway runs.
#[derive(clap::Args)]
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

/// Runs until a signal ends it, or only checks both files (`--test`); returns the exit code.
pub fn run(args: &RunArgs, out: &mut dyn Write) -> u8 {
    if args.test { test(args, out) } else { serve(args) }
}

/// Runs until a signal ends it; returns the exit code.
fn serve(args: &RunArgs) -> u8 {
    program_log::start();
    let parent = match args.reports.then(Parent::on_stdin).transpose() {
        Ok(parent) => parent.map(Arc::new),
        Err(error) => return refuse(&format!("--reports is for processes that this program starts itself: {error}")),
    };
    let (code, why) = match plan(args, parent.clone()) {
        Ok(Intent::Serve(plan)) => outcome(app::run(*plan)),
        Ok(Intent::Background(conf)) => return in_background(args, &conf),
        Err(why) => (EX_USAGE, Some(why)),
    };
    if let Some(why) = why {
        let is_told = parent.is_some_and(|parent| parent.explain(&why).is_ok());
        if !is_told {
            say(&why);
        }
    }
    code
}

enum Intent {
    Serve(Box<Plan>),
    Background(Box<ServerConf>),
}

fn plan(args: &RunArgs, parent: Option<Arc<Parent>>) -> Result<Intent, String> {
    if !args.config.exists() {
        return Err(format!(
            "There is no {}. Copy one of conf/examples/ there and fill in your keys, name another file with --config, or see the \
             gateway at work without any file: trollbridge demo",
            args.config.display()
        ));
    }
    let registry = Arc::new(Registry::default());
    if parent.is_none() {
        let conf = server_conf::load(&args.conf, &config::state_dir_of(&args.config))?;
        if args.daemon || conf.daemon {
            return Ok(Intent::Background(Box::new(conf)));
        }
    }
    let loaded = config::load_from_machine(&args.config, &registry).map_err(|faults| faults.to_string())?;
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    let state_dir = loaded.settings.state_dir.clone();
    let conf = server_conf::load(&args.conf, &state_dir)?;
    let elsewhere = Box::new(server_conf::changes_since(&conf, args.conf.clone(), state_dir));
    let (settings, config, upgrade) = (loaded.settings, Some(args.config.clone()), args.upgrade);
    Ok(Intent::Serve(Box::new(Plan { settings, config, registry, conf, upgrade, parent, elsewhere })))
}

/// Starts the gateway as a process of its own and waits until it serves; until it can take the listening sockets, when it is to take
/// over: what happens then is up to whoever sends the signal.
fn in_background(args: &RunArgs, conf: &ServerConf) -> u8 {
    let stderr = match &conf.error_log {
        None => Stdio::inherit(),
        Some(path) => match File::options().create(true).append(true).open(path) {
            Ok(file) => file.into(),
            Err(error) => return refuse(&format!("error_log: {path} can't be written: {error}")),
        },
    };
    let output = Output { stdout: Stdio::inherit(), stderr };
    let mut child = match start(&args.conf, &args.config, args.upgrade, &[], output) {
        Ok(child) => child,
        Err(code) => return code,
    };
    let stage = if args.upgrade { Stage::Waits } else { Stage::Serves };
    match child.reaches(stage, MOST_START) {
        Ok(()) => EX_OK,
        Err(missed) => gave_up(child, &missed),
    }
}

/// Starts this program again, as a gateway that tells how far it is.
pub fn start(conf: &Path, config: &Path, upgrade: bool, vars: &[(OsString, OsString)], output: Output) -> Result<Child, u8> {
    let mut words: Vec<OsString> = vec!["run".into(), "--reports".into(), "--conf".into(), conf.into()];
    words.extend(["--config".into(), config.into()]);
    if upgrade {
        words.push("--upgrade".into());
    }
    let started = std::env::current_exe().and_then(|program| Child::start(&program, &words, vars, output));
    started.map_err(|error| {
        say(&format!("the gateway can't be started: {error}"));
        EX_SOFTWARE
    })
}

/// What became of a gateway that did not come as far as it should; returns the exit code.
pub fn gave_up(child: Child, missed: &Missed) -> u8 {
    match missed {
        Missed::Ended { status, why } if why.is_empty() => {
            say(&format!("the gateway did not start ({status}); its log says more"));
            EX_SOFTWARE
        }
        Missed::Ended { status, why } => {
            say(why.trim_end());
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.filter(|code| [EX_USAGE, EX_TEMPFAIL].contains(code)).unwrap_or(EX_SOFTWARE)
        }
        Missed::Late => {
            child.end();
            say("the gateway did not come up in time and was ended");
            EX_TEMPFAIL
        }
        Missed::Unreadable(error) => {
            child.end();
            say(&format!("the gateway can't be heard and was ended: {error}"));
            EX_SOFTWARE
        }
    }
}

/// The exit code of a run, and the reason where it is no good one.
pub fn outcome(outcome: Result<(), Obstacle>) -> (u8, Option<String>) {
    match outcome {
        Ok(()) => (EX_OK, None),
        Err(obstacle) => {
            let code = match obstacle {
                Obstacle::BusyAddress { .. } | Obstacle::TryAgain(_) => EX_TEMPFAIL,
                Obstacle::Unusable(_) => EX_USAGE,
            };
            (code, Some(obstacle.to_string()))
        }
    }
}

/// Checks both files as a start would read them, and starts nothing ; returns the exit code.
fn test(args: &RunArgs, out: &mut dyn Write) -> u8 {
    let checked = check::only_file(&args.config, out);
    match server_conf::load(&args.conf, &config::state_dir_of(&args.config)) {
        Ok(_) => checked,
        Err(why) => refuse(&why),
    }
}

pub fn refuse(why: &str) -> u8 {
    say(why);
    EX_USAGE
}

pub fn say(text: &str) {
    // Behind the lines of the log that lead to it.
    program_log::finish();
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
