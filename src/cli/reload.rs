//! `trollbridge reload`: has the running gateway read its configuration again, and says how that ended.

use std::io::{self, Write};

use http::Method;

use crate::cli::exit::{EX_OK, EX_USAGE};
use crate::cli::running::{RELOADS_WITHIN, RunningArgs, unexpected};
use crate::ops::admin::reload::{Refused, Reloaded};

/// Waits for the outcome; returns the exit code.
pub fn run(args: &RunningArgs, out: &mut dyn Write) -> u8 {
    let (running, answer) = match args
        .find()
        .and_then(|running| running.ask(Method::POST, "/reload", RELOADS_WITHIN).map(|answer| (running, answer)))
    {
        Ok(answered) => answered,
        Err(failure) => return failure.say(),
    };
    // A reader that left early has seen what it wanted; the exit code still tells.
    match answer.status {
        200 => match serde_json::from_slice(&answer.body) {
            Ok(reloaded) => {
                let _ = write_reloaded(running.pid, &reloaded, out);
                EX_OK
            }
            Err(_) => unexpected(&answer).say(),
        },
        422 => match serde_json::from_slice(&answer.body) {
            Ok(refused) => {
                let _ = write_refused(running.pid, &refused, out);
                EX_USAGE
            }
            Err(_) => unexpected(&answer).say(),
        },
        _ => unexpected(&answer).say(),
    }
}

fn write_reloaded(pid: u32, reloaded: &Reloaded, out: &mut dyn Write) -> io::Result<()> {
    for warning in &reloaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    if !reloaded.needs_upgrade.is_empty() {
        writeln!(out, "note: {}", reloaded.needs_upgrade_in_words())?;
    }
    writeln!(out, "{}: in force in process {pid}", reloaded.file)
}

fn write_refused(pid: u32, refused: &Refused, out: &mut dyn Write) -> io::Result<()> {
    for fault in &refused.faults {
        writeln!(out, "{fault}")?;
    }
    for warning in &refused.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let number = refused.faults.len();
    writeln!(
        out,
        "refused, {number} fault{}: the old configuration stays in force in process {pid}",
        if number == 1 { "" } else { "s" }
    )
}
