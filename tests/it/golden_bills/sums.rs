//! 100 000 mixed requests: metered, priced, written to a real ledger; every sum is compared with one that this file makes itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use trollbridge::domain::billing::{NanoUsd, Price};
use trollbridge::domain::end::End;
use trollbridge::domain::ledger::{Close, Open, Sent};
use trollbridge::domain::settings::{LedgerSettings, LedgerSync};
use trollbridge::domain::usage::{Meter, Source, Usage};
use trollbridge::ops::books::ledger::Ledger;

use super::bill::price;
use super::random::Random;
use shapes::{SHAPES, Written};

use crate::support::process;

mod shapes;

const REQUESTS: u64 = 100_000;
/// 2026-01-01T00:00:00Z
const NEW_YEAR: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 86_400_000;
const DAYS: u64 = 10;
const CLIENTS: [Option<&str>; 4] = [Some("alice"), Some("bob"), Some("team-a"), None];

/// A model, its price as the configuration writes it, and the same in whole numbers: billionths of a dollar per million tokens of input,
/// 5-minute write, 1-hour write, read and output, then billionths of the multiplier. What is not written was derived by hand.
const MODELS: [(&str, &str, [u128; 5], u128); 6] = [
    (
        "sonnet",
        r#"{"input_price_per_mtok": 3, "output_price_per_mtok": 15, "billing_multiplier": 1.2}"#,
        [3_000_000_000, 3_750_000_000, 6_000_000_000, 300_000_000, 15_000_000_000],
        1_200_000_000,
    ),
    (
        "opus",
        r#"{"input_price_per_mtok": 5, "output_price_per_mtok": 25, "cache_write_price_per_mtok": 6.25, "cache_write_1h_price_per_mtok": 10, "cache_hit_price_per_mtok": 0.5}"#,
        [5_000_000_000, 6_250_000_000, 10_000_000_000, 500_000_000, 25_000_000_000],
        1_000_000_000,
    ),
    (
        "gpt-4o",
        r#"{"input_price_per_mtok": 2.50, "output_price_per_mtok": 10, "cache_hit_price_per_mtok": 1.25, "billing_multiplier": 0.999999999}"#,
        [2_500_000_000, 3_125_000_000, 5_000_000_000, 1_250_000_000, 10_000_000_000],
        999_999_999,
    ),
    (
        "gpt-5",
        r#"{"input_price_per_mtok": 1.25, "output_price_per_mtok": 10, "cache_hit_price_per_mtok": 0.125, "billing_multiplier": 1.000000001}"#,
        [1_250_000_000, 1_562_500_000, 2_500_000_000, 125_000_000, 10_000_000_000],
        1_000_000_001,
    ),
    (
        "crooked",
        r#"{"input_price_per_mtok": 0.123456789, "output_price_per_mtok": 0.987654321, "cache_write_price_per_mtok": 0.111111111,
            "cache_write_1h_price_per_mtok": 0.000000001, "cache_hit_price_per_mtok": 0.0005, "billing_multiplier": 1.234567891}"#,
        [123_456_789, 111_111_111, 1, 500_000, 987_654_321],
        1_234_567_891,
    ),
    ("free", r#"{"input_price_per_mtok": 0, "output_price_per_mtok": 0}"#, [0; 5], 1_000_000_000),
];

/// The formula of U2: exact, then rounded half up. The second value says whether it was rounded up, down, or not at all.
fn cost_by_formula(classes: [u64; 5], rates: [u128; 5], multiplier: u128) -> (u128, std::cmp::Ordering) {
    /// A nano-dollar is 10⁻⁹; rates are in 10⁻⁹ per 10⁶ tokens, multipliers in 10⁻⁹.
    const PARTS: u128 = 1_000_000 * 1_000_000_000;
    let exact: u128 = classes.iter().zip(rates).map(|(tokens, rate)| u128::from(*tokens) * rate).sum::<u128>() * multiplier;
    let rounded = (2 * exact + PARTS) / (2 * PARTS);
    (rounded, (rounded * PARTS).cmp(&exact))
}

/// What the requests of one model, client or day come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    requests: u64,
    classes: [u64; 5],
    nano_usd: u128,
}

impl Sum {
    fn add(&mut self, classes: [u64; 5], nano_usd: u128) {
        self.requests += 1;
        self.classes.iter_mut().zip(classes).for_each(|(sum, more)| *sum += more);
        self.nano_usd += nano_usd;
    }

    /// A row of `trollbridge usage --json`.
    fn of_row(row: &Value) -> Self {
        let count = |field: &str| row[field].as_u64().unwrap();
        let classes =
            ["input_tokens", "cache_write_tokens", "cache_write_1h_tokens", "cache_read_tokens", "output_tokens"].map(count);
        Self { requests: count("requests"), classes, nano_usd: count("cost_nano_usd").into() }
    }
}

/// What this file expects of a report: the rows by name, none for those who have no name.
type Rows = BTreeMap<Option<String>, Sum>;

#[tokio::test(flavor = "multi_thread")]
async fn u2_the_sum_of_100_000_mixed_requests_is_right_to_the_last_unit() {
    let state = tempfile::tempdir().unwrap();
    let settings = LedgerSettings { sync: LedgerSync::Process, segment_bytes: 8 << 20, retention: None };
    let ledger = Ledger::start(state.path(), settings, false, NEW_YEAR).unwrap().0;
    let prices = MODELS.map(|(_, keys, ..)| price(keys));
    let (mut random, mut total) = (Random::new(4), Sum::default());
    let [mut by_model, mut by_client, mut by_day] = [Rows::new(), Rows::new(), Rows::new()];
    let (mut rounded_up, mut rounded_down, mut billed) = (0, 0, 0u128);

    for nth in 0..REQUESTS {
        let which = random.index(MODELS.len());
        let ((model, _, rates, multiplier), price) = (MODELS[which], &prices[which]);
        let client = *random.pick(&CLIENTS);
        let day = nth * DAYS / REQUESTS;
        let shape = random.pick(&SHAPES);
        let drawn = std::array::from_fn(|class| if shape.tells[class] { tokens(&mut random) } else { 0 });
        let written = (shape.write)(drawn);

        let read = metered(&written, &mut random);
        assert_eq!(classes(read), drawn, "request {nth}: {written:?}");
        let (cost, rounding) = cost_by_formula(drawn, rates, multiplier);
        billed += u128::from(price.cost(&read).nanos());
        rounded_up += u64::from(rounding.is_gt());
        rounded_down += u64::from(rounding.is_lt());
        enter(&ledger, nth, model, client, NEW_YEAR + day * DAY_MS, read, price);

        total.add(drawn, cost);
        by_model.entry(Some(model.to_owned())).or_default().add(drawn, cost);
        by_client.entry(client.map(str::to_owned)).or_default().add(drawn, cost);
        by_day.entry(Some(format!("2026-01-{:02}", day + 1))).or_default().add(drawn, cost);
    }

    assert_eq!(billed, total.nano_usd, "the sum of the costs is the sum of the formula");
    assert!(rounded_up > REQUESTS / 10 && rounded_down > REQUESTS / 10, "{rounded_up} up, {rounded_down} down");
    for (by, rows) in [("model", by_model), ("client", by_client), ("day", by_day)] {
        let report = command(state.path(), &["usage", "--json", "--by", by]).await;
        let told = report["rows"].as_array().unwrap().iter().map(|row| (row[by].as_str().map(str::to_owned), Sum::of_row(row)));
        assert_eq!(told.collect::<Rows>(), rows, "by {by}");
        assert_eq!(Sum::of_row(&report["total"]), total, "by {by}");
    }
    let proof = command(state.path(), &["ledger", "verify", "--json"]).await;
    assert_eq!((proof["requests"].as_u64(), proof["cost_nano_usd"].as_u64().map(u128::from)), (Some(REQUESTS), Some(billed)));
}

async fn command(state_dir: &Path, args: &[&str]) -> Value {
    let state_dir = state_dir.to_str().unwrap();
    process::run(Path::new("/"), &[args, &["--state-dir", state_dir]].concat(), &[]).await.expect(0).json()
}

/// Mostly what requests have, sometimes nothing, sometimes far more.
fn tokens(random: &mut Random) -> u64 {
    match random.below(20) {
        0 | 1 => 0,
        2..=17 => random.below(10_000),
        18 => random.below(1_000_000),
        _ => random.below(1_000_000_000),
    }
}

fn metered(written: &Written, random: &mut Random) -> Usage {
    let mut meter = Meter::new(written.shape, written.framing);
    random.cut(written.answer.as_bytes(), 400).into_iter().for_each(|chunk| meter.push(chunk));
    meter.report().usage.unwrap_or_default()
}

fn classes(usage: Usage) -> [u64; 5] {
    let Usage { input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens, .. } = usage;
    [input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens]
}

fn enter(ledger: &Ledger, nth: u64, model: &str, client: Option<&str>, at_unix_ms: u64, usage: Usage, price: &Price) {
    let sent = Sent {
        id: format!("019b7000-0000-7000-8000-{nth:012x}").into(),
        opened_at_unix_ms: at_unix_ms,
        client: client.map(Into::into),
        client_key: None,
        model: Some(model.into()),
        listed_as: None,
        upstream: "main".into(),
        endpoint: None,
        proxy: None,
        key: None,
    };
    let ticket = ledger.open(&Open { sent: sent.clone(), reservation: NanoUsd::ZERO }).unwrap();
    drop(ticket.close(&Close {
        sent,
        closed_at_unix_ms: at_unix_ms,
        attempts: 1,
        status: 200,
        end: End::Ok,
        stream: false,
        source: Source::Final,
        usage,
        lines: (&[]).into(),
        conditions: Vec::new(),
        cost: price.cost(&usage),
        multiplier: price.multiplier(),
        first_byte: None,
        total: Duration::from_millis(5),
    }));
}
