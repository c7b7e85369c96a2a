//! `trollbridge ledger export` and `ledger verify`: the entries themselves, and the proof that their files are whole.
//!
//! Both read beside a gateway that runs and change nothing.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, EX_SOFTWARE, Failure};
use crate::cli::span;
use crate::cli::state::{StateArgs, database};
use crate::domain::ledger::write_entry;
use crate::ops::books::ledger::directory;
use crate::ops::books::ledger::export::{self, Missed};
use crate::ops::books::ledger::verify::{self, Verdict};
use crate::ops::books::store::{Store, StoreError, usage};
use crate::ops::host::clock;

#[derive(clap::Args)]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Print one JSON object per ended request, of all segments that are kept
    Export {
        /// Requests that ended from then on: 24h, 7d (before now), 2026-01-31, 2026-01-31T12:00:00Z
        #[arg(long, value_name = "SPAN|DATE")]
        since: Option<String>,
        /// Requests that ended before
        #[arg(long, value_name = "SPAN|DATE")]
        until: Option<String>,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Check every line, every pair of records, every sum and that no file is gone; exit 0, or 70 with a list of what is damaged
    Verify {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        state: StateArgs,
    },
}

/// Runs one of them; gives the exit code.
pub fn run(args: &LedgerArgs, out: &mut dyn Write) -> u8 {
    let done = match &args.command {
        LedgerCommand::Export { since, until, state } => export(since.as_deref(), until.as_deref(), state, out),
        LedgerCommand::Verify { json, state } => verify(*json, state, out),
    };
    done.unwrap_or_else(|failure| failure.say())
}

fn export(since: Option<&str>, until: Option<&str>, state: &StateArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let now = clock::now_unix_ms();
    let moment = |text: Option<&str>| text.map(|text| span::moment(text, now)).transpose().map_err(Failure::usage);
    let (since, until) = (moment(since)?.unwrap_or(0), moment(until)?.unwrap_or(u64::MAX));
    let ledger = directory(&state.with_ledger()?);
    let (mut out, mut line) = (BufWriter::with_capacity(64 * 1024, out), Vec::new());
    let exported = export::each_entry(&ledger, |close| {
        if close.closed_at_unix_ms < since || close.closed_at_unix_ms >= until {
            return Ok(());
        }
        line.clear();
        write_entry(&mut line, close);
        out.write_all(&line)
    });
    let missed = match exported.and_then(|missed| out.flush().map(|()| missed)) {
        Ok(missed) => missed,
        // The reader has seen what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(EX_OK),
        Err(error) => return Err(unreadable(&ledger, &error)),
    };
    if missed == Missed::default() {
        return Ok(EX_OK);
    }
    let Missed { damaged_lines, segments, strangers } = missed;
    Err(Failure::software(format!(
        "{damaged_lines} damaged lines, {segments} segments of another version and {strangers} that are no regular files are not in the \
         export; `trollbridge ledger verify` lists them"
    )))
}

fn verify(json: bool, state: &StateArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let state_dir = state.with_ledger()?;
    let ledger = directory(&state_dir);
    let (mut verdict, mut has_roll_ups) = verdict(&state_dir, &ledger)?;
    if verdict.missing > 0 {
        // A gateway that runs may have removed it for its age since the database was asked.
        (verdict, has_roll_ups) = self::verdict(&state_dir, &ledger)?;
    }
    // A reader that left early has seen what it wanted; the exit code still tells.
    let _ = if json { writeln!(out, "{:#}", as_json(&verdict)) } else { write_text(&verdict, has_roll_ups, out) };
    Ok(if verdict.findings.is_empty() { EX_OK } else { EX_SOFTWARE })
}

/// What the files show, and whether there is a database to compare them with.
fn verdict(state_dir: &Path, ledger: &Path) -> Result<(Verdict, bool), Failure> {
    // What the database knows is asked before the files are read: what is added meanwhile is no contradiction then.
    let folded = match Store::open_existing(state_dir) {
        Ok(store) => Some(store.with(usage::snapshot).map_err(|error| database(&error))?),
        Err(StoreError::Missing { .. }) => None,
        Err(error) => return Err(database(&error)),
    };
    let verdict = verify::verify(ledger, folded.as_ref().map(|(marks, totals)| (marks, *totals)));
    Ok((verdict.map_err(|error| unreadable(ledger, &error))?, folded.is_some()))
}

fn write_text(verdict: &Verdict, has_roll_ups: bool, out: &mut dyn Write) -> io::Result<()> {
    let Verdict { segments, missing: _, opens, closes, in_flight, to_recover, sums, findings } = verdict;
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    writeln!(out, "{segments} segments, {opens} requests opened, {closes} closed, {in_flight} in flight, {} USD", sums.cost)?;
    if *to_recover > 0 {
        writeln!(out, "{to_recover} were open when a process was killed; the next start closes them, or a gateway that runs")?;
    }
    if !has_roll_ups {
        writeln!(out, "there is no database yet to compare the sums with")?;
    }
    match findings.len() {
        0 => writeln!(out, "the ledger is whole"),
        1 => writeln!(out, "the ledger is damaged: 1 finding"),
        several => writeln!(out, "the ledger is damaged: {several} findings"),
    }
}

fn as_json(verdict: &Verdict) -> Value {
    let finding =
        |finding: &verify::Finding| json!({ "segment": finding.segment, "byte": finding.byte, "message": finding.message });
    json!({
        "ok": verdict.findings.is_empty(),
        "segments": verdict.segments,
        "segments_missing": verdict.missing,
        "opens": verdict.opens,
        "closes": verdict.closes,
        "in_flight": verdict.in_flight,
        "to_recover": verdict.to_recover,
        "requests": verdict.sums.requests,
        "tokens": verdict.sums.tokens(),
        "cost_nano_usd": verdict.sums.cost.nanos(),
        "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn unreadable(ledger: &Path, error: &io::Error) -> Failure {
    Failure::software(format!("the ledger in {} can't be read: {error}", ledger.display()))
}
