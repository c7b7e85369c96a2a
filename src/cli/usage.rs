//! `trollbridge usage`: what was used and what it costs, by model, client, upstream, key or day.
//!
//! What is written and not in the roll-ups yet is added to them first, so that a report is never behind.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, EX_SOFTWARE, Failure};
use crate::cli::span;
use crate::cli::state::{StateArgs, database};
use crate::domain::ledger::{Sums, time};
use crate::domain::usage::{CLASSES, Tool};
use crate::ops::books::ledger::{directory, fold};
use crate::ops::books::store::Store;
use crate::ops::books::store::usage::{self as rows, By, MS_PER_HOUR};
use crate::ops::host::clock;
use crate::ops::watch::line;

#[derive(clap::Args)]
pub struct UsageArgs {
    /// What each line of the report stands for
    #[arg(long, value_enum, default_value = "model")]
    by: By,
    /// From when on: 24h, 7d (before now), 2026-01-31, 2026-01-31T12:00:00Z; whole hours in UTC. All where it is not given
    #[arg(long, value_name = "SPAN|DATE")]
    since: Option<String>,
    /// Until before when; now where it is not given
    #[arg(long, value_name = "SPAN|DATE")]
    until: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// Print CSV for spreadsheets
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// What was asked for.
struct Summary {
    by: By,
    /// Hours since the epoch.
    from: u64,
    until: u64,
    rows: Vec<(String, Sums)>,
    total: Sums,
}

/// Gives the exit code: 0, 64 for what was written wrong, 75 for a database that is locked, 70 for files that can't be read.
pub fn run(args: &UsageArgs, out: &mut dyn Write) -> u8 {
    let summary = match sum_up(args) {
        Ok(summary) => summary,
        Err(failure) => return failure.say(),
    };
    let written = if args.json {
        writeln!(out, "{:#}", summary.as_json())
    } else if args.csv {
        summary.write_csv(out)
    } else {
        summary.write_table(out)
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => EX_SOFTWARE,
        _ => EX_OK,
    }
}

fn sum_up(args: &UsageArgs) -> Result<Summary, Failure> {
    let now = clock::now_unix_ms();
    let moment =
        |written: &Option<String>| written.as_deref().map(|text| span::moment(text, now)).transpose().map_err(Failure::usage);
    let from = moment(&args.since)?.map_or(0, |since| since / MS_PER_HOUR);
    let until = moment(&args.until)?.map_or(u64::MAX, |until| until.div_ceil(MS_PER_HOUR));
    let state_dir = args.state.with_ledger()?;
    let store = Store::open(&state_dir).map_err(|error| database(&error))?;
    let folded = fold::fold_once(&directory(&state_dir), &store).map_err(|error| match error {
        fold::FoldError::Store(error) => database(&error),
        unreadable => Failure::software(unreadable.to_string()),
    })?;
    for segment in &folded.refused {
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr(), "{segment} was written by another version and is not in the report");
    }
    for stranger in &folded.strangers {
        let _ = writeln!(io::stderr(), "{stranger} is no regular file and is not in the report");
    }
    let rows = store.with(|conn| rows::report(conn, args.by, from, until)).map_err(|error| database(&error))?;
    let mut total = Sums::default();
    rows.iter().for_each(|(_, sums)| total.add(sums));
    Ok(Summary { by: args.by, from, until, rows, total })
}

impl Summary {
    fn as_json(&self) -> Value {
        let row = |(name, sums): &(String, Sums)| {
            let mut row = as_json(sums);
            if let Some(fields) = row.as_object_mut() {
                fields.insert(label(self.by).to_owned(), if name.is_empty() { Value::Null } else { json!(name) });
            }
            row
        };
        json!({
            "by": label(self.by),
            "since": (self.from > 0).then(|| time::text(self.from.saturating_mul(MS_PER_HOUR))),
            "until": (self.until < u64::MAX).then(|| time::text(self.until.saturating_mul(MS_PER_HOUR))),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "total": as_json(&self.total),
        })
    }

    fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        let names: Vec<String> = counts(&self.total).map(|(name, _)| name).collect();
        let (before, apart) = names.split_at(EVERYWHERE);
        let name = [label(self.by).to_owned()];
        let cost = ["cost_nano_usd".to_owned(), "cost_usd".to_owned()];
        csv.write_record(name.iter().chain(before).chain(&cost).chain(apart))?;
        for (name, sums) in &self.rows {
            let numbers: Vec<String> = counts(sums).map(|(_, count)| count.to_string()).collect();
            let (before, apart) = numbers.split_at(EVERYWHERE.min(numbers.len()));
            let cost = [sums.cost.nanos().to_string(), sums.cost.to_string()];
            csv.write_record([no_formula(name)].iter().chain(before).chain(&cost).chain(apart))?;
        }
        csv.flush()
    }

    /// The columns that few answers fill are left out where nobody did.
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let is_shown: Vec<bool> =
            counts(&self.total).enumerate().map(|(nth, (_, count))| nth < EVERYWHERE || count > 0).collect();
        let shown = |cells: Vec<String>| cells.into_iter().zip(&is_shown).filter(|(_, shown)| **shown).map(|(cell, _)| cell);
        let head = counts(&self.total).map(|(name, _)| name.trim_end_matches("_tokens").replace('_', " ")).collect();
        let mut lines = vec![cells(label(self.by), shown(head), "cost USD".to_owned())];
        for (name, sums) in self.rows.iter().map(|(name, sums)| (name.as_str(), sums)).chain([("total", &self.total)]) {
            let numbers = counts(sums).map(|(_, count)| count.to_string()).collect();
            lines.push(cells(name, shown(numbers), sums.cost.to_string()));
        }
        let mut widths = vec![0; lines.first().map_or(0, Vec::len)];
        for line in &lines {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        for line in &lines {
            let (Some((name, numbers)), Some((first, rest))) = (line.split_first(), widths.split_first()) else { continue };
            write!(out, "{name:first$}")?;
            numbers.iter().zip(rest).try_for_each(|(number, width)| write!(out, "  {number:>width$}"))?;
            writeln!(out)?;
        }
        Ok(())
    }
}

fn cells(name: &str, numbers: impl Iterator<Item = String>, cost: String) -> Vec<String> {
    // A client may have chosen the name: it must not move a terminal's cursor.
    let mut shown = Vec::new();
    line::message(&mut shown, if name.is_empty() { "-" } else { name });
    [String::from_utf8(shown).unwrap_or_default()].into_iter().chain(numbers).chain([cost]).collect()
}

/// Requests and the classes that nearly every answer has; what follows them few have.
const EVERYWHERE: usize = 6;

/// What is counted, by the names that programs read.
fn counts(sums: &Sums) -> impl Iterator<Item = (String, u64)> {
    let tokens = CLASSES.into_iter().map(|class| format!("{class}_tokens")).zip(sums.usage.tokens());
    let calls = sums.usage.calls;
    let calls = Tool::ALL.into_iter().map(move |tool| (format!("{}_calls", tool.label()), calls.of(tool)));
    [("requests".to_owned(), sums.requests)].into_iter().chain(tokens).chain(calls)
}

fn as_json(sums: &Sums) -> Value {
    let mut row: serde_json::Map<String, Value> = counts(sums).map(|(name, count)| (name, json!(count))).collect();
    row.insert("cost_nano_usd".to_owned(), json!(sums.cost.nanos()));
    row.insert("cost_usd".to_owned(), json!(sums.cost.to_string()));
    Value::Object(row)
}

fn label(by: By) -> &'static str {
    match by {
        By::Model => "model",
        By::Client => "client",
        By::Upstream => "upstream",
        By::Key => "key",
        By::Day => "day",
    }
}

impl clap::ValueEnum for By {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Model, Self::Client, Self::Upstream, Self::Key, Self::Day]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(label(*self)))
    }
}

/// A name as a cell: a model's name comes from clients, and spreadsheets run what begins like a formula.
fn no_formula(name: &str) -> String {
    if name.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{name}") } else { name.to_owned() }
}
