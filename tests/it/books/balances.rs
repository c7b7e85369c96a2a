//! G4: what a client has left is what it was granted less what it cost, now and after any start.

use std::time::Duration;

use serde_json::{Value, json};
use trollbridge::domain::billing::{Decimal, NanoUsd};
use trollbridge::domain::end::End;
use trollbridge::domain::ledger::{Close, Open, Sent};
use trollbridge::domain::settings::{LedgerSettings, LedgerSync};
use trollbridge::domain::usage::{Source, Usage};
use trollbridge::ops::books::ledger::Ledger;
use trollbridge::provider_mock::Reply;

use super::{add_client, balance, command, entries, expect_whole, nano_usd, sum};
use crate::answers::{CHAT, MESSAGES};
use crate::support::setup::{MAIN_MODEL, SECOND_MAIN_MODEL};
use crate::support::{Gateway, Mock, Request, Setup, Shorthand, soon};

fn ask(key: &str, nth: u64) -> Request {
    let (path, model) = if nth.is_multiple_of(2) { (CHAT, MAIN_MODEL) } else { (MESSAGES, SECOND_MAIN_MODEL) };
    let text = "toll ".repeat(usize::try_from(nth * 7).unwrap());
    Request::post(
        path,
        &json!({ "model": model, "max_tokens": 1 + nth % 9, "stream": nth.is_multiple_of(3), "messages": [{ "role": "user", "content": text }] }),
    )
    .bearer(key)
}

/// The listener's and the command's balance agree with the books.
async fn expect_settled(gateway: &Gateway, name: &str, granted: i64) {
    let books: Vec<Value> = entries(gateway).await.into_iter().filter(|entry| entry["client"] == name).collect();
    let left = granted - i64::try_from(sum(&books, "cost_nano_usd")).unwrap();
    assert_eq!(balance(gateway, name).await, left, "{name}, live");
    let shown = gateway.admin(&format!("/clients/{name}")).await.expect(200).json();
    assert_eq!((&shown["credits"]["reserved"], nano_usd(shown["credits"]["granted"].as_str().unwrap())), (&json!("0"), granted));
    let told = command(gateway, &["client", "show", name, "--json"]).await.expect(0).json();
    assert_eq!(nano_usd(told["credits"]["balance"].as_str().unwrap_or_else(|| panic!("{told}"))), left, "{name}, by the command");
    assert_eq!(nano_usd(told["credits"]["spent"].as_str().unwrap_or_else(|| panic!("{told}"))), granted - left);
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_balance_is_the_grants_less_the_costs_whatever_happens_to_the_gateway() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).set("/ledger", json!({ "segment_bytes": 4_096 })).start().await;
    let alice = add_client(&mut gateway, "alice", Some("1.5")).await;
    let bob = add_client(&mut gateway, "bob", Some("0.25")).await;
    soon("bob to be known", async { while gateway.send(Request::get("/v1/models").bearer(&bob)).await.status == 401 {} }).await;
    let (mut granted, mut nth) = (1_500_000_000, 0);
    for round in 0..4 {
        for _ in 0..12 {
            nth += 1;
            gateway.send(ask(&alice, nth)).await.expect(200);
            gateway.send(ask(&bob, nth + 1)).await.expect(200);
        }
        // An error costs nothing.
        main.push(Reply::status(500));
        gateway.send(ask(&alice, 1)).await.expect(500);
        expect_settled(&gateway, "alice", granted).await;
        expect_settled(&gateway, "bob", 250_000_000).await;
        match round {
            0 | 2 => drop(gateway.kill_and_restart().await),
            1 => {
                granted += 125_000_000;
                command(&gateway, &["client", "credit", "alice", "+0.125"]).await.expect(0);
            }
            _ => {}
        }
        soon("alice's balance to be the granted one", async {
            let books: Vec<Value> = entries(&gateway).await.into_iter().filter(|entry| entry["client"] == "alice").collect();
            let left = granted - i64::try_from(sum(&books, "cost_nano_usd")).unwrap();
            while balance(&gateway, "alice").await != left {
                tokio::time::sleep(super::LOOK_AGAIN).await;
            }
        })
        .await;
        expect_settled(&gateway, "alice", granted).await;
        expect_settled(&gateway, "bob", 250_000_000).await;
    }
    expect_whole(&gateway).await;
}

/// The old process of an upgrade, or any other writer of the same ledger: what it bills is gone from the balances here too, once,
/// whoever folds.
#[tokio::test(flavor = "multi_thread")]
async fn g4_what_another_process_bills_is_taken_from_the_balance_once() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let alice = add_client(&mut gateway, "alice", Some("1")).await;
    soon("alice to be known", async { while gateway.send(Request::get("/v1/models").bearer(&alice)).await.status == 401 {} })
        .await;
    gateway.send(ask(&alice, 1)).await.expect(200);
    let settings = LedgerSettings { sync: LedgerSync::Process, segment_bytes: 4_096, retention: None };
    let old = Ledger::start(&gateway.dir().join("state"), settings, true, 0).unwrap().0;
    for nth in 1..=30 {
        let sent = |client: &'static str| Sent {
            id: format!("019b7000-0000-7000-8000-{nth:012x}{client}").into(),
            opened_at_unix_ms: 1_767_225_600_000,
            client: Some(client.into()),
            client_key: None,
            model: None,
            listed_as: None,
            upstream: "main".into(),
            endpoint: None,
            proxy: None,
            key: None,
        };
        for client in ["alice", "a stranger"] {
            let ticket = old.open(&Open { sent: sent(client), reservation: NanoUsd::ZERO }).unwrap();
            drop(ticket.close(&Close {
                sent: sent(client),
                closed_at_unix_ms: 1_767_225_600_000,
                attempts: 1,
                status: 200,
                end: End::Ok,
                stream: false,
                source: Source::Final,
                usage: Usage { input_tokens: 1, ..Usage::default() },
                lines: (&[]).into(),
                conditions: Vec::new(),
                cost: NanoUsd::from_nanos(1_000_000),
                multiplier: Decimal::ONE,
                first_byte: None,
                total: Duration::from_millis(1),
            }));
        }
        if nth == 10 {
            // A report folds what the gateway has not seen yet.
            command(&gateway, &["usage"]).await.expect(0);
        }
    }
    gateway.send(ask(&alice, 2)).await.expect(200);
    let own: Vec<Value> = entries(&gateway).await.into_iter().filter(|entry| entry["client"] == "alice").collect();
    let left = 1_000_000_000 - i64::try_from(sum(&own, "cost_nano_usd")).unwrap();
    assert!(left < 970_000_000 && own.len() == 32, "{left} {}", own.len());
    soon("the other's costs", async { while balance(&gateway, "alice").await != left {} }).await;
    drop(old);
    gateway.send(ask(&alice, 3)).await.expect(200);
    expect_settled(&gateway, "alice", 1_000_000_000).await;
    gateway.kill_and_restart().await;
    expect_settled(&gateway, "alice", 1_000_000_000).await;
    expect_whole(&gateway).await;
}
