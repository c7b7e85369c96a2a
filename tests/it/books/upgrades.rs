//! G4 and G1 while two processes write: the other one's reservations count, its costs are taken once, and its death is noticed.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use trollbridge::domain::billing::{Decimal, NanoUsd};
use trollbridge::domain::end::End;
use trollbridge::domain::ledger::{Close, Open, Sent};
use trollbridge::domain::settings::{LedgerSettings, LedgerSync};
use trollbridge::domain::usage::{Source, Usage};
use trollbridge::ops::books::ledger::{Ledger, Ticket};
use trollbridge::provider_mock::Reply;

use super::{LOOK_AGAIN, add_client, balance, entries, expect_whole, nano_usd, sum, until_entries};
use crate::answers::{CHAT, MESSAGES};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Gate, Gateway, Mock, Request, Setup, Shorthand, soon};

/// Reserves 15 nano-dollars × 1 000 for a thousand tokens of output, and a little for its input.
fn ask(path: &str, key: &str, max_tokens: u64) -> Request {
    let body = json!({ "model": MAIN_MODEL, "max_tokens": max_tokens, "stream": true, "messages": [{ "role": "user", "content": "who pays" }] });
    Request::post(path, &body).bearer(key)
}

async fn until_known(gateway: &Gateway, key: &str) {
    soon("the client to be known", async { while gateway.send(Request::get("/v1/models").bearer(key)).await.status == 401 {} })
        .await;
}

async fn reserved(gateway: &Gateway, name: &str) -> i64 {
    let shown = gateway.admin(&format!("/clients/{name}")).await.expect(200).json();
    nano_usd(shown["credits"]["reserved"].as_str().unwrap_or_else(|| panic!("no reservation: {shown}")))
}

async fn until_reserved(gateway: &Gateway, name: &str, fits: impl Fn(i64) -> bool) -> i64 {
    soon("what is reserved to fit", async {
        loop {
            let reserved = reserved(gateway, name).await;
            if fits(reserved) {
                return reserved;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
}

fn sent(nth: u64) -> Sent<'static> {
    Sent {
        id: format!("019b7000-0000-7000-8000-{nth:012x}").into(),
        opened_at_unix_ms: 1_767_225_600_000,
        client: Some("alice".into()),
        client_key: None,
        model: None,
        listed_as: None,
        upstream: "main".into(),
        endpoint: None,
        proxy: None,
        key: None,
    }
}

fn open(ledger: &Ledger, nth: u64, nano_usd: u64) -> Ticket {
    ledger.open(&Open { sent: sent(nth), reservation: NanoUsd::from_nanos(nano_usd) }).unwrap()
}

fn close(ticket: Ticket, nth: u64, nano_usd: u64) {
    drop(ticket.close(&Close {
        sent: sent(nth),
        closed_at_unix_ms: 1_767_225_600_000,
        attempts: 1,
        status: 200,
        end: End::Ok,
        stream: false,
        source: Source::Final,
        usage: Usage { input_tokens: 1, ..Usage::default() },
        lines: (&[]).into(),
        conditions: Vec::new(),
        cost: NanoUsd::from_nanos(nano_usd),
        multiplier: Decimal::ONE,
        first_byte: None,
        total: Duration::from_millis(1),
    }));
}

/// The other writer is played by the test: a ledger whose process leaves without closing what it opened is a killed one.
#[tokio::test(flavor = "multi_thread")]
async fn g4_what_another_process_has_open_can_t_be_spent_and_is_free_again_when_that_process_is_killed() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let alice = add_client(&mut gateway, "alice", Some("0.1")).await;
    until_known(&gateway, &alice).await;
    let settings = LedgerSettings { sync: LedgerSync::Process, segment_bytes: 4_096, retention: None };
    let other = Ledger::start(&gateway.dir().join("state"), settings, true, 0).unwrap().0;
    let (ended, killed) = (open(&other, 1, 60_000_000), open(&other, 2, 30_000_000));
    // Nobody has to look around first: the next request does.
    let refused = gateway.send(ask(CHAT, &alice, 1_000)).await.expect(402).json();
    assert!(refused["error"]["message"].as_str().is_some_and(|said| said.contains("USD")), "{refused}");
    assert_eq!((reserved(&gateway, "alice").await, balance(&gateway, "alice").await), (90_000_000, 100_000_000));
    close(ended, 1, 10_000_000);
    gateway.send(ask(CHAT, &alice, 1_000)).await.expect(200);
    until_reserved(&gateway, "alice", |reserved| reserved == 30_000_000).await;

    drop((killed, other));
    until_reserved(&gateway, "alice", |reserved| reserved == 0).await;
    let books = until_entries(&gateway, 3).await;
    let ends: Vec<&Value> = books.iter().map(|entry| &entry["end"]).filter(|end| *end != "ok").collect();
    assert_eq!(ends, ["interrupted"], "closed by the gateway that lives");
    assert_eq!(balance(&gateway, "alice").await, 100_000_000 - i64::try_from(sum(&books, "cost_nano_usd")).unwrap());
    expect_whole(&gateway).await;
}

/// The real thing: one gateway hands over to the next, and is killed before its last answer is through.
#[tokio::test(flavor = "multi_thread")]
async fn g1_g4_a_gateway_that_takes_over_counts_the_old_one_s_requests_and_survives_its_death() {
    let main = Mock::http().await.unwrap();
    let mut old = Setup::new().main(&main).grace_seconds(120).start().await;
    let alice = add_client(&mut old, "alice", Some("0.1")).await;
    until_known(&old, &alice).await;
    let (first, second) = (Gate::closed(), Gate::closed());
    main.push(Reply::usual().gated(&first));
    main.push(Reply::usual().gated(&second));
    let (mut to_end, mut to_break) = (old.client().await, old.client().await);
    let to_end = tokio::spawn({
        let request = ask(CHAT, &alice, 3_000);
        async move { to_end.send(request).await }
    });
    main.wait_for(1).await;
    let to_break = tokio::spawn({
        let request = ask(MESSAGES, &alice, 2_000);
        async move { to_break.attempt(request).await }
    });
    main.wait_for(2).await;
    let held = reserved(&old, "alice").await;
    assert!(held > 75_000_000, "{held}");

    let old_pid = old.pid();
    old.upgrade().await.expect(0);
    assert_eq!(until_reserved(&old, "alice", |reserved| reserved > 0).await, held, "the new one knows from its first moment");
    old.send(ask(CHAT, &alice, 3_000)).await.expect(402);
    old.send(ask(CHAT, &alice, 10)).await.expect(200);
    first.let_out(1_000);
    to_end.await.unwrap().expect(200);
    let rest = until_reserved(&old, "alice", |reserved| reserved < held).await;
    assert!(rest > 30_000_000 && rest < 40_000_000, "{rest}");
    old.send(ask(CHAT, &alice, 3_000)).await.expect(200);
    let books = until_entries(&old, 3).await;
    assert_eq!(balance(&old, "alice").await, 100_000_000 - i64::try_from(sum(&books, "cost_nano_usd")).unwrap());

    let killed = Command::new("kill").args(["-s", "KILL", &old_pid.to_string()]).status().unwrap();
    assert!(killed.success(), "{killed}");
    until_reserved(&old, "alice", |reserved| reserved == 0).await;
    drop(to_break.await);
    let books = until_entries(&old, 4).await;
    let ends: Vec<&Value> = books.iter().map(|entry| &entry["end"]).filter(|end| *end != "ok").collect();
    assert_eq!(ends, ["interrupted"], "closed without a start");
    assert_eq!(balance(&old, "alice").await, 100_000_000 - i64::try_from(sum(&books, "cost_nano_usd")).unwrap());
    expect_whole(&old).await;
    assert_eq!(entries(&old).await.len(), 4);
}
