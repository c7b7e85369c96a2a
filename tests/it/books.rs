//! The books under fire (G1 to G5, U7, H5): the real gateway, a provider that counts too, and whatever can go wrong between them.
//!
//! What the tests compare: the clients' own answers, the provider's own counts, and what `trollbridge ledger` and `trollbridge usage`
//! say of the gateway's files.

mod balances;
mod credits;
mod ends;
mod full;
mod kills;
mod leaves;
mod leaves_at_random;
mod reports;
mod revoked;
mod starts;
mod stops;
mod strangers;
mod upgrades;
mod words;

use std::time::Duration;

use serde_json::Value;

use crate::support::process::{self, Ended};
use crate::support::{Gateway, soon};

/// Between two looks at what must change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Prices of every model of the tests' setup, in nano-dollars a token: 3 and 15 dollars a million, cached input at 3.75, 6 and 0.30.
const INPUT: u64 = 3_000;
const OUTPUT: u64 = 15_000;

/// Runs a command on the gateway's own configuration, as its operator would.
async fn command(gateway: &Gateway, args: &[&str]) -> Ended {
    process::run(gateway.dir(), args, &gateway.env()).await
}

/// Adds a client with this balance; gives its key, which may show up nowhere from now on.
async fn add_client(gateway: &mut Gateway, name: &str, credits: Option<&str>) -> String {
    let mut args = vec!["client", "add", name, "--json"];
    if let Some(credits) = credits {
        args.extend(["--credits", credits]);
    }
    let key = command(gateway, &args).await.expect(0).json()["key"].as_str().unwrap().to_owned();
    gateway.plant(&key);
    key
}

/// All entries that have ended, as the export has them.
pub async fn entries(gateway: &Gateway) -> Vec<Value> {
    let exported = command(gateway, &["ledger", "export"]).await.expect(0);
    exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until as many entries have ended; gives them all.
async fn until_entries(gateway: &Gateway, count: usize) -> Vec<Value> {
    let ended = async {
        loop {
            let entries = entries(gateway).await;
            if entries.len() >= count {
                return entries;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let entries = soon(&format!("{count} entries"), ended).await;
    assert_eq!(entries.len(), count, "{entries:?}");
    entries
}

/// A client's balance as the admin listener tells it, in nano-dollars.
async fn balance(gateway: &Gateway, name: &str) -> i64 {
    let shown = gateway.admin(&format!("/clients/{name}")).await.expect(200).json();
    nano_usd(shown["credits"]["balance"].as_str().unwrap_or_else(|| panic!("no balance: {shown}")))
}

/// Reads an exact amount of dollars.
fn nano_usd(text: &str) -> i64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    sign * (whole.parse::<i64>().unwrap() * 1_000_000_000 + format!("{part:0<9}").parse::<i64>().unwrap())
}

/// The sum of a count over entries.
fn sum(entries: &[Value], field: &str) -> u64 {
    entries.iter().map(|entry| entry[field].as_u64().unwrap_or_else(|| panic!("no {field}: {entry}"))).sum()
}

/// Proves the files: no torn line, no damage, every close with its open, the roll-ups equal to the segments.
async fn expect_whole(gateway: &Gateway) {
    let verified = command(gateway, &["ledger", "verify"]).await.expect(0).out;
    assert!(verified.ends_with("the ledger is whole\n"), "{verified}");
}

/// Tells a measured figure to whoever runs the test with its output.
#[expect(clippy::print_stderr, reason = "a figure to be read, not asserted")]
fn say(text: &str) {
    eprintln!("{text}");
}
