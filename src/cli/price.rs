//! `trollbridge price`: what a usage costs, line by line, as it would be billed.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, Failure};
use crate::cli::files::CONFIG;
use crate::config;
use crate::domain::billing::bill::Bill;
use crate::domain::billing::line::{BillLine, sum_of};
use crate::domain::billing::{Decimal, Price, exact_usd};
use crate::domain::settings::Settings;
use crate::domain::usage::{Report, Source, sample};

/// The usage in question.
#[derive(clap::Args)]
pub struct PriceArgs {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The model, by any of its names
    #[arg(long)]
    model: String,
    /// A provider's usage object, a whole answer, or a recorded event stream
    #[arg(long, value_name = "FILE")]
    usage: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Prints the bill; gives the exit code: 0, or 64 for files that can't be read and models that are refused.
pub fn run(args: &PriceArgs, out: &mut dyn Write) -> u8 {
    match bill_of(args) {
        Ok(bill) => {
            // A reader that left early has seen what it wanted.
            let _ = if args.json { writeln!(out, "{:#}", bill.as_json()) } else { bill.write(out) };
            EX_OK
        }
        Err(why) => Failure::usage(why).say(),
    }
}

fn bill_of(args: &PriceArgs) -> Result<Priced, String> {
    let settings = config::load_from_machine(&args.config, &Default::default()).map_err(|faults| faults.to_string())?.settings;
    let file = args.usage.display();
    let text = std::fs::read(&args.usage).map_err(|error| format!("{file}: {error}"))?;
    let report = sample::read(&text).map_err(|why| format!("{file}: {why}"))?;
    Priced::of(&settings, &args.model, report).map_err(|why| format!("{file}: {why}"))
}

/// What the gateway would bill, and by which price.
struct Priced {
    model: String,
    price: Price,
    is_default_price: bool,
    report: Report,
    bill: Bill,
}

impl Priced {
    fn of(settings: &Settings, model: &str, report: Report) -> Result<Self, String> {
        let usage = report.usage.ok_or("there is no usage in it to price; the gateway would bill an estimate")?;
        let route = settings.routing.by_model(Some(model)).map_err(|refusal| refusal.to_string())?;
        if settings.billing.require_price && !route.has_price() {
            return Err(format!("\"{model}\" has no price and is not served: billing.require_price is on"));
        }
        let price = settings.price_of(&route);
        let bill = Bill::charged(&settings.prices_of(&route), &usage, &report.others, &report.facts);
        Ok(Self {
            model: route.model.as_ref().map_or_else(|| model.to_owned(), |model| model.id.to_string()),
            price: price.clone(),
            is_default_price: !route.has_price(),
            report,
            bill,
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let default = if self.is_default_price { " (default price)" } else { "" };
        writeln!(out, "model {}: {}{default}", self.model, self.price)?;
        for (when, multiplier) in &self.bill.conditions {
            let times = multiplier.map_or_else(String::new, |multiplier| format!(" (× {multiplier})"));
            writeln!(out, "condition: {when}{times}")?;
        }
        for line in &self.bill.lines {
            let (unit, per) = if line.class.is_call() { ("calls", "USD/call") } else { ("tokens", "USD/Mtok") };
            let times = if line.times == Decimal::ONE { String::new() } else { format!("× {}", line.times) };
            let of = line.model.as_ref().map_or_else(String::new, |model| format!("  {model}"));
            writeln!(
                out,
                "{:<15}{:>15} {unit:<6} × {:>12} {per} {times:<10} = {:>20} USD{of}",
                line.class.to_string(),
                line.count,
                line.rate.to_string(),
                line.exact().map_or_else(too_large, exact_usd),
            )?;
        }
        writeln!(out, "{:<15}{:>78} USD", "sum", self.sum())?;
        writeln!(out, "{:<15}{:>78} USD", "cost", self.bill.cost.to_string())?;
        for unpriced in &self.bill.unpriced {
            writeln!(out, "note: {unpriced}")?;
        }
        if self.report.clamped > 0 {
            writeln!(out, "note: {} counts could not be believed and were bent", self.report.clamped)?;
        }
        if self.report.source == Source::Partial {
            writeln!(out, "note: the stream's totals are missing; these are its last running counts")?;
        }
        Ok(())
    }

    fn sum(&self) -> String {
        sum_of(&self.bill.lines).map_or_else(too_large, exact_usd)
    }

    fn as_json(&self) -> Value {
        let line = |line: &BillLine| {
            json!({
                "model": line.model.as_deref(),
                "class": line.class.label(),
                "count": line.count,
                "usd_per_mtok": (!line.class.is_call()).then(|| line.rate.to_string()),
                "usd_per_call": line.class.is_call().then(|| line.rate.to_string()),
                "times": line.times.to_string(),
                "usd": line.exact().map(exact_usd),
            })
        };
        json!({
            "model": self.model,
            "price_is_default": self.is_default_price,
            "conditions": self.bill.conditions.iter().map(|(when, _)| when.to_string()).collect::<Vec<_>>(),
            "lines": self.bill.lines.iter().map(line).collect::<Vec<_>>(),
            "sum_usd": self.sum(),
            "multiplier": self.price.multiplier().to_string(),
            "cost_usd": self.bill.cost.to_string(),
            "cost_nano_usd": self.bill.cost.nanos(),
            "unpriced": self.bill.unpriced.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "source": self.report.source.label(),
            "clamped": self.report.clamped,
        })
    }
}

fn too_large() -> String {
    "more than can be".to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn bill(model: &str, billing: &str, usage: &str) -> Result<Priced, String> {
        let text = format!(
            r#"{{"models": [{{"id": "m", "id_aliases": ["alias"], "input_price_per_mtok": 3, "output_price_per_mtok": 15,
            "cache_write_price_per_mtok": 3.75, "cache_hit_price_per_mtok": 0.30, "billing_multiplier": 1.2}}], "billing": {{{billing}}}}}"#
        );
        let settings = config::load(Path::new("f"), &|_| None, &|_| Ok(text.clone())).unwrap().settings;
        Priced::of(&settings, model, sample::read(usage.as_bytes()).unwrap())
    }

    const USAGE: &str =
        r#"{"input_tokens": 500, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 300, "output_tokens": 500}"#;

    /// U2: the golden vector, as an accountant would check it.
    #[test]
    fn u2_the_sum_is_shown_line_by_line() {
        let bill = bill("alias", "", USAGE).unwrap();
        let mut out = Vec::new();
        bill.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "model m: in 3, out 15, cache write 3.75 (1h 6), cache read 0.3 USD/Mtok, ×1.2",
                "input 500 tokens × 3 USD/Mtok × 1.2 = 0.0018 USD",
                "cache write 200 tokens × 3.75 USD/Mtok × 1.2 = 0.0009 USD",
                "cache read 300 tokens × 0.3 USD/Mtok × 1.2 = 0.000108 USD",
                "output 500 tokens × 15 USD/Mtok × 1.2 = 0.009 USD",
                "sum 0.011808 USD",
                "cost 0.011808 USD",
            ]
        );
        let json = bill.as_json();
        assert_eq!(
            (&json["cost_nano_usd"], &json["sum_usd"], &json["lines"][3]["usd"]),
            (&json!(11_808_000), &json!("0.011808"), &json!("0.009"))
        );
    }

    #[test]
    fn u1_a_model_without_a_price_is_billed_at_the_default_or_refused() {
        let default = bill("other", "", USAGE).unwrap();
        assert!(default.is_default_price && default.bill.cost.to_string() == "0.00984");
        assert!(bill("other", r#""require_price": true"#, USAGE).err().unwrap().contains("require_price"));
        assert!(bill("m", "", r#"{"id": "x"}"#).err().unwrap().contains("no usage"));
    }
}
