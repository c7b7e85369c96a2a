//! `trollbridge run`: the gateway itself.

use std::io::Write;
use std::sync::Arc;

use pingora_core::server::configuration::Opt;

use crate::app::{self, Obstacle, Plan};
use crate::cli::{EX_OK, EX_TEMPFAIL, EX_USAGE, RunArgs, check, server_conf};
use crate::config;
use crate::domain::upstream::registry::Registry;
use crate::ops::log as program_log;

/// Runs until a signal ends it; returns the exit code.
pub fn run(args: &RunArgs) -> u8 {
    program_log::start();
    if !args.config.exists() {
        return refuse(&format!(
            "There is no {}. Copy one of conf/examples/ there and fill in your keys, name another file with --config, or see the \
             gateway at work without any file: trollbridge demo",
            args.config.display()
        ));
    }
    let registry = Registry::default();
    let loaded = match config::load_from_machine(&args.config, &registry) {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults.to_string()),
    };
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    let state_dir = loaded.settings.state_dir.clone();
    let conf = match server_conf::load(&args.conf, &state_dir) {
        Ok(conf) => conf,
        Err(why) => return refuse(&why),
    };
    let elsewhere = Box::new(server_conf::changes_since(&conf, args.conf.clone(), state_dir));
    let opt = Opt { upgrade: args.upgrade, daemon: args.daemon, ..Opt::default() };
    finish(app::run(Plan {
        settings: loaded.settings,
        config: Some(args.config.clone()),
        registry: Arc::new(registry),
        conf,
        opt,
        elsewhere,
    }))
}

/// Turns the outcome of a run into words and an exit code.
pub fn finish(outcome: Result<(), Obstacle>) -> u8 {
    match outcome {
        Ok(()) => EX_OK,
        Err(obstacle) => {
            let code = match obstacle {
                Obstacle::BusyAddress { .. } | Obstacle::TryAgain(_) => EX_TEMPFAIL,
                Obstacle::Unusable(_) => EX_USAGE,
            };
            say(&obstacle.to_string());
            code
        }
    }
}

/// Checks both files as a start would read them, and starts nothing (`--test`); returns the exit code.
pub fn test(args: &RunArgs, out: &mut dyn Write) -> u8 {
    let checked = check::run(&args.config, false, out);
    match server_conf::load(&args.conf, &config::state_dir_of(&args.config)) {
        Ok(_) => checked,
        Err(why) => refuse(&why),
    }
}

fn refuse(why: &str) -> u8 {
    say(why);
    EX_USAGE
}

fn say(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
