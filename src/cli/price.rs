//! `trollbridge price`: what a usage costs, line by line, as it would be billed.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, Failure};
use crate::cli::files::CONFIG;
use crate::config;
use crate::domain::billing::{Decimal, Price, exact_usd};
use crate::domain::settings::Settings;
use crate::domain::usage::{Report, Source, Usage, sample};

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

fn bill_of(args: &PriceArgs) -> Result<Bill, String> {
    let settings = config::load_from_machine(&args.config, &Default::default()).map_err(|faults| faults.to_string())?.settings;
    let file = args.usage.display();
    let text = std::fs::read(&args.usage).map_err(|error| format!("{file}: {error}"))?;
    let report = sample::read(&text).map_err(|why| format!("{file}: {why}"))?;
    Bill::of(&settings, &args.model, report).map_err(|why| format!("{file}: {why}"))
}

struct Bill {
    model: String,
    price: Price,
    is_default_price: bool,
    usage: Usage,
    report: Report,
}

impl Bill {
    fn of(settings: &Settings, model: &str, report: Report) -> Result<Self, String> {
        let usage = report.usage.ok_or("there is no usage in it to price; the gateway would bill an estimate")?;
        let route = settings.routing.by_model(Some(model)).map_err(|refusal| refusal.to_string())?;
        if settings.billing.require_price && !route.has_price() {
            return Err(format!("\"{model}\" has no price and is not served: billing.require_price is on"));
        }
        Ok(Self {
            model: route.model.as_ref().map_or_else(|| model.to_owned(), |model| model.id.to_string()),
            price: *settings.price_of(&route),
            is_default_price: !route.has_price(),
            usage,
            report,
        })
    }

    fn sum(&self) -> u128 {
        self.price.lines(&self.usage).iter().map(|line| line.exact()).fold(0, u128::saturating_add)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let default = if self.is_default_price { " (default price)" } else { "" };
        writeln!(out, "model {}: {}{default}", self.model, self.price)?;
        for line in self.price.lines(&self.usage) {
            let amount = exact_usd(line.exact());
            writeln!(
                out,
                "{:<15}{:>15} tokens × {:>12} USD/Mtok = {amount:>20} USD",
                line.class,
                line.tokens,
                line.rate.to_string()
            )?;
        }
        writeln!(out, "{:<15}{:>66} USD", "sum", exact_usd(self.sum()))?;
        if self.price.multiplier() != Decimal::ONE {
            writeln!(out, "{:<15}× {}", "multiplier", self.price.multiplier())?;
        }
        writeln!(out, "{:<15}{:>66} USD", "cost", self.price.cost(&self.usage).to_string())?;
        if self.report.clamped > 0 {
            writeln!(out, "note: {} counts could not be believed and were bent", self.report.clamped)?;
        }
        if self.report.source == Source::Partial {
            writeln!(out, "note: the stream's totals are missing; these are its last running counts")?;
        }
        Ok(())
    }

    fn as_json(&self) -> Value {
        let lines = self.price.lines(&self.usage).map(|line| {
            json!({
                "class": line.class,
                "tokens": line.tokens,
                "usd_per_mtok": line.rate.to_string(),
                "usd": exact_usd(line.exact()),
            })
        });
        json!({
            "model": self.model,
            "price_is_default": self.is_default_price,
            "lines": lines,
            "sum_usd": exact_usd(self.sum()),
            "multiplier": self.price.multiplier().to_string(),
            "cost_usd": self.price.cost(&self.usage).to_string(),
            "cost_nano_usd": self.price.cost(&self.usage).nanos(),
            "source": self.report.source.label(),
            "clamped": self.report.clamped,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn bill(model: &str, billing: &str, usage: &str) -> Result<Bill, String> {
        let text = format!(
            r#"{{"models": [{{"id": "m", "id_aliases": ["alias"], "input_price_per_mtok": 3, "output_price_per_mtok": 15,
            "cache_write_price_per_mtok": 3.75, "cache_hit_price_per_mtok": 0.30, "billing_multiplier": 1.2}}], "billing": {{{billing}}}}}"#
        );
        let settings = config::load(Path::new("f"), &|_| None, &|_| Ok(text.clone())).unwrap().settings;
        Bill::of(&settings, model, sample::read(usage.as_bytes()).unwrap())
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
                "input 500 tokens × 3 USD/Mtok = 0.0015 USD",
                "cache write 200 tokens × 3.75 USD/Mtok = 0.00075 USD",
                "cache write 1h 0 tokens × 6 USD/Mtok = 0 USD",
                "cache read 300 tokens × 0.3 USD/Mtok = 0.00009 USD",
                "output 500 tokens × 15 USD/Mtok = 0.0075 USD",
                "sum 0.00984 USD",
                "multiplier × 1.2",
                "cost 0.011808 USD",
            ]
        );
        let json = bill.as_json();
        assert_eq!(
            (&json["cost_nano_usd"], &json["sum_usd"], &json["lines"][4]["usd"]),
            (&json!(11_808_000), &json!("0.00984"), &json!("0.0075"))
        );
    }

    #[test]
    fn u1_a_model_without_a_price_is_billed_at_the_default_or_refused() {
        let default = bill("other", "", USAGE).unwrap();
        assert!(default.is_default_price && default.price.cost(&default.usage).to_string() == "0.00984");
        assert!(bill("other", r#""require_price": true"#, USAGE).err().unwrap().contains("require_price"));
        assert!(bill("m", "", r#"{"id": "x"}"#).err().unwrap().contains("no usage"));
    }
}
