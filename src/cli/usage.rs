//! `trollbridge usage`: what was used and what it costs, by model, client, upstream, key or day.
//!
//! What is written and not in the roll-ups yet is added to them first, so that a report is never behind.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, EX_SOFTWARE, Failure};
use crate::cli::span;
use crate::cli::state::{StateArgs, database};
use crate::domain::ledger::{Sums, time};
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
        let head = [
            label(self.by),
            "requests",
            "input_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
            "cache_read_tokens",
            "output_tokens",
            "cost_nano_usd",
            "cost_usd",
        ];
        csv.write_record(head)?;
        for (name, sums) in &self.rows {
            let counts = counts(sums).map(|count| count.to_string());
            let cost = [sums.cost.nanos().to_string(), sums.cost.to_string()];
            csv.write_record([no_formula(name)].iter().chain(&counts).chain(&cost))?;
        }
        csv.flush()
    }

    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = ["requests", "input", "cache write", "cache write 1h", "cache read", "output"];
        let mut lines = vec![cells(label(self.by), head.map(str::to_owned), "cost USD".to_owned())];
        for (name, sums) in self.rows.iter().map(|(name, sums)| (name.as_str(), sums)).chain([("total", &self.total)]) {
            lines.push(cells(name, counts(sums).map(|count| count.to_string()), sums.cost.to_string()));
        }
        let mut widths = [0; 8];
        for line in &lines {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        for line in &lines {
            let [name, numbers @ ..] = line;
            let [first, rest @ ..] = widths;
            write!(out, "{name:first$}")?;
            numbers.iter().zip(rest).try_for_each(|(number, width)| write!(out, "  {number:>width$}"))?;
            writeln!(out)?;
        }
        Ok(())
    }
}

fn cells(name: &str, [requests, input, write, write_1h, read, output]: [String; 6], cost: String) -> [String; 8] {
    // A client may have chosen the name: it must not move a terminal's cursor.
    let mut shown = Vec::new();
    line::message(&mut shown, if name.is_empty() { "-" } else { name });
    [String::from_utf8(shown).unwrap_or_default(), requests, input, write, write_1h, read, output, cost]
}

fn counts(sums: &Sums) -> [u64; 6] {
    let usage = &sums.usage;
    [
        sums.requests,
        usage.input_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
    ]
}

fn as_json(sums: &Sums) -> Value {
    let usage = &sums.usage;
    json!({
        "requests": sums.requests,
        "input_tokens": usage.input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "cost_nano_usd": sums.cost.nanos(),
        "cost_usd": sums.cost.to_string(),
    })
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
