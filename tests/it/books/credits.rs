//! G4: a balance under many requests at once.

use std::sync::Arc;

use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use super::{INPUT, OUTPUT, add_client, balance, entries, expect_whole, sum};
use crate::answers::{CHAT, MESSAGES};
use crate::support::request::Answer;
use crate::support::setup::MAIN_MODEL;
use crate::support::{Client, Gate, Gateway, Mock, Request, Setup, Shorthand, soon};

const MAX_TOKENS: u64 = 20;

fn ask(path: &str, key: &str, stream: bool) -> Request {
    let body = json!({ "model": MAIN_MODEL, "max_tokens": MAX_TOKENS, "stream": stream,
        "messages": [{ "role": "user", "content": "who pays the troll" }] });
    Request::post(path, &body).bearer(key)
}

/// Sends as many requests at once, half over connections of their own and half over a few of HTTP/2, in both dialects, half of them
/// streamed.
async fn storm(gateway: &Gateway, key: &str, requests: usize) -> Vec<(&'static str, Answer)> {
    let mut lanes = Vec::new();
    for _ in 0..requests.div_ceil(100) {
        lanes.push(gateway.h2c_client().await);
    }
    let distrust = gateway.distrust();
    let start = Arc::new(tokio::sync::Barrier::new(requests));
    let sent: Vec<_> = (0..requests)
        .map(|nth| {
            let path = if nth % 4 < 2 { CHAT } else { MESSAGES };
            let (request, start) = (ask(path, key, nth % 8 < 4), start.clone());
            let over_http2 = (nth % 2 == 0).then(|| lanes[nth / 2 % lanes.len()].fork());
            let (addr, distrust) = (gateway.addr(), distrust.clone());
            tokio::spawn(async move {
                let mut client = match over_http2 {
                    Some(client) => client,
                    None => Client::http1(addr, distrust).await,
                };
                start.wait().await;
                (path, client.send(request).await)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in sent {
        answers.push(answer.await.unwrap());
    }
    answers
}

/// Splits answers into those served and those refused; whoever was refused was told so in its dialect, and not to try again.
fn served(answers: &[(&'static str, Answer)]) -> usize {
    let mut served = 0;
    for (path, answer) in answers {
        if answer.status == 200 {
            assert_eq!(answer.broken, None);
            served += 1;
            continue;
        }
        let body: Value = answer.clone().expect(402).json();
        assert_eq!(answer.header("x-should-retry"), "false", "{body}");
        let word = if *path == MESSAGES { "billing_error" } else { "insufficient_quota" };
        assert_eq!(body["error"]["type"], word, "{body}");
        assert!(
            body["error"]["message"].as_str().is_some_and(|message| message.contains("USD")),
            "it says what is missing: {body}"
        );
    }
    served
}

/// An honest provider stays within the reservation, so not even the last request goes below zero.
#[tokio::test(flavor = "multi_thread")]
async fn g4_a_thousand_requests_at_once_on_a_cent_never_spend_more_than_the_cent() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let key = add_client(&mut gateway, "cent", Some("0.01")).await;
    main.always(Reply::usual().deltas(usize::try_from(MAX_TOKENS).unwrap()));
    soon("the client to be known", async { while gateway.send(ask(CHAT, &key, false)).await.status == 401 {} }).await;

    let answers = storm(&gateway, &key, 1_000).await;
    let served = served(&answers) + 1;
    let books = entries(&gateway).await;
    let spent = sum(&books, "cost_nano_usd");
    assert_eq!(books.len(), served, "an entry for each that was served, none for what was refused");
    assert_eq!(main.counts().requests, served as u64, "nothing refused was sent");
    assert!(served > 10 && spent <= 10_000_000, "{served} served for {spent}");
    assert_eq!(balance(&gateway, "cent").await, 10_000_000 - i64::try_from(spent).unwrap());
    let told = main.requests().into_iter().map(|request| request.usage.unwrap());
    assert_eq!(spent, told.map(|usage| usage.input_tokens * INPUT + usage.output_tokens * OUTPUT).sum::<u64>());
    expect_whole(&gateway).await;
}

/// The bound of `domain::credit`: below zero by what the requests in flight cost beyond their reservations, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn g4_a_provider_that_exceeds_the_maximum_overspends_by_the_requests_in_flight_alone() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let key = add_client(&mut gateway, "cent", Some("0.01")).await;
    main.always(Reply::usual().lie("completion_tokens", "1000").lie("output_tokens", "1000"));
    soon("the client to be known", async { while gateway.send(Request::get("/v1/models").bearer(&key)).await.status == 401 {} })
        .await;

    let served = served(&storm(&gateway, &key, 300).await);
    let spent = i64::try_from(sum(&entries(&gateway).await, "cost_nano_usd")).unwrap();
    // Each reservation is more than its maximum of output alone, so there were at most so many at a time.
    let most_at_once = 10_000_000 / (MAX_TOKENS * OUTPUT);
    assert!(served >= 1 && served as u64 <= most_at_once, "{served}");
    let beyond_each = i64::try_from((1_000 - MAX_TOKENS) * OUTPUT).unwrap();
    let balance = balance(&gateway, "cent").await;
    assert_eq!(balance, 10_000_000 - spent);
    assert!(balance < 0 && -balance <= beyond_each * i64::try_from(served).unwrap(), "{served} served, {balance} left");
    gateway.send(ask(CHAT, &key, false)).await.expect(402);
}

/// Where the reservation is the cost, ten answers are ten answers, however many ask.
#[tokio::test(flavor = "multi_thread")]
async fn g4_of_fifty_at_once_on_credit_for_ten_answers_ten_are_served() {
    let main = Mock::http().await.unwrap();
    let mut setup = Setup::new().main(&main);
    for price in ["input_price_per_mtok", "cache_write_price_per_mtok", "cache_hit_price_per_mtok"] {
        setup = setup.set(&format!("/models/0/{price}"), json!(0));
    }
    let mut gateway = setup.start().await;
    let ten = 10 * MAX_TOKENS * OUTPUT;
    let key = add_client(&mut gateway, "ten", Some(&format!("0.{ten:09}"))).await;
    soon("the client to be known", async { while gateway.send(Request::get("/v1/models").bearer(&key)).await.status == 401 {} })
        .await;

    // All ten reservations are held at the same time, until everybody else was refused.
    let gate = Gate::closed();
    main.always(Reply::usual().deltas(usize::try_from(MAX_TOKENS).unwrap()).gated(&gate));
    let opener = async {
        main.wait_for(10).await;
        gateway.until_metric("ledger_entries_open", |open| open == 10).await;
        gateway.wait_for_logs(40, |line| line.contains("refusal=no_credit")).await;
        gate.let_out(1_000_000);
    };
    let (answers, ()) = tokio::join!(storm(&gateway, &key, 50), opener);
    assert_eq!(served(&answers), 10);
    assert_eq!(main.counts().requests, 10);
    assert_eq!(balance(&gateway, "ten").await, 0);
    gateway.send(ask(CHAT, &key, false)).await.expect(402);
}
