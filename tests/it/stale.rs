//! A6: kept connections to an upstream that died unseen, and HTTP/2 connections that take no more: the next one is new, and nobody notices.

mod upstream;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::answers::{CHAT, access_line};
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, MAIN_PLACE};
use crate::support::{Authority, Gateway, Request, Setup};

use upstream::{Death, Upstream};

fn setup() -> Setup {
    // No attempt is to spare, and no retry: what follows a dead connection is neither.
    Setup::new()
        .set("/log/format", json!("json"))
        .set("/retry", json!({ "max_attempts": 1, "max_share_percent": 0 }))
        .secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
}

async fn over_http1() -> (Gateway, Arc<Upstream>) {
    let upstream = Upstream::http1().await;
    let base_url = format!("http://{}", upstream.addr);
    (setup().set("/upstreams/main/base_url", json!(base_url)).start().await, upstream)
}

async fn over_http2(setup: Setup) -> (Gateway, Arc<Upstream>) {
    let authority = Authority::new();
    let upstream = Upstream::http2(&authority.server(&[MAIN_PLACE], true)).await;
    let ca_file = setup.file("main-ca.pem", &authority.ca_pem);
    let gateway = setup
        .set("/upstreams/main/base_url", json!(format!("https://{MAIN_PLACE}")))
        .set("/upstreams/main/connect_to", json!(upstream.addr))
        .set("/upstreams/main/ca_file", json!(ca_file))
        .start()
        .await;
    (gateway, upstream)
}

/// A prompt that is known again at the upstream by its `user`.
fn prompt(user: &str, bytes: usize) -> Request {
    let content = "x".repeat(bytes);
    Request::post(CHAT, &json!({ "model": MAIN_MODEL, "user": user, "messages": [{ "role": "user", "content": content }] }))
}

/// So many requests at once, each of which must be answered by one attempt; `wave` names them.
async fn ask_at_once(gateway: &Arc<Gateway>, wave: &str, count: usize, bytes: usize, attempts: u64) {
    let mut flying = JoinSet::new();
    for nth in 0..count {
        let (gateway, user) = (gateway.clone(), format!("{wave}-{nth}"));
        flying.spawn(async move {
            let answer = gateway.send(prompt(&user, bytes)).await;
            assert_eq!(answer.status, 200, "{user}: {}", answer.text());
            assert_eq!(access_line(&gateway, &answer).await["attempts"], attempts, "{user}");
        });
    }
    while let Some(done) = flying.join_next().await {
        done.unwrap();
    }
}

/// A second client that works all the while: gives the number of its requests; each is answered well.
fn keep_asking(gateway: &Arc<Gateway>) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let gateway = gateway.clone();
    let asks = tokio::spawn(async move {
        let mut client = gateway.client().await;
        let mut asked = 0;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let answer = client.send(prompt(&format!("victim-{asked}"), 10)).await;
            assert_eq!(answer.status, 200, "the second client's request {asked}: {}", answer.text());
            asked += 1;
        }
        asked
    });
    (stop, asks)
}

/// Each request met at most one dead connection, and then a connection that nobody had used before.
fn expect_new_ones(upstream: &Upstream) {
    let (mut served, mut met) = (HashMap::new(), 0);
    for seen in upstream.seen() {
        let nth_on_it: &mut usize = served.entry(seen.connection).or_default();
        *nth_on_it += 1;
    }
    let mut by_request: HashMap<String, Vec<_>> = HashMap::new();
    // A body that was not read to its end has no name.
    for seen in upstream.seen().into_iter().filter(|seen| !seen.user.is_empty()) {
        by_request.entry(seen.user.clone()).or_default().push(seen);
    }
    for (user, seen) in by_request {
        let dead = seen.iter().filter(|seen| seen.was_dead).count();
        assert!(dead <= 1 && seen.len() == dead + 1, "{user}: {seen:?}");
        if dead == 1 {
            met += 1;
            assert_eq!(served[&seen[1].connection], 1, "{user}: a connection of its own: {seen:?}");
        }
    }
    assert!(met > 0, "no dead connection was met");
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_four_or_forty_dead_kept_connections_at_once_are_no_502() {
    for count in [4, 40] {
        let (gateway, upstream) = over_http1().await;
        let gateway = Arc::new(gateway);
        upstream.answer_together(count);
        ask_at_once(&gateway, "warm", count, 10, 1).await;
        let (stop, second) = keep_asking(&gateway);
        upstream.kill_all(Death::Reset);
        // One after the other first: none of the others that died may be the next.
        for nth in 0..2 {
            ask_at_once(&gateway, &format!("alone{nth}"), 1, 10, 1).await;
        }
        ask_at_once(&gateway, "crowd", count, 10, 1).await;
        // And under a body that is still being written.
        upstream.kill_all(Death::Reset);
        ask_at_once(&gateway, "large", count, 300_000, 1).await;
        stop.send(()).unwrap();
        assert!(second.await.unwrap() > 0);
        expect_new_ones(&upstream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_an_http2_connection_that_takes_no_more_is_replaced_unseen() {
    for death in [Death::Refuse, Death::GoAway, Death::Reset] {
        for bytes in [10, 300_000] {
            let (gateway, upstream) = over_http2(setup()).await;
            let gateway = Arc::new(gateway);
            ask_at_once(&gateway, "warm", 1, 10, 1).await;
            upstream.kill_all(death);
            let (stop, second) = keep_asking(&gateway);
            ask_at_once(&gateway, "alone", 1, bytes, 1).await;
            ask_at_once(&gateway, "crowd", 40, bytes, 1).await;
            stop.send(()).unwrap();
            assert!(second.await.unwrap() > 0);
            let most = upstream.seen().iter().filter(|seen| seen.was_dead).count();
            assert!(most > 0, "{death:?}: no dead connection was met");
        }
    }
}

/// A new connection that refuses the stream is an attempt, and the next one is new again.
#[tokio::test(flavor = "multi_thread")]
async fn a6_a_refused_stream_goes_to_another_connection_each_time() {
    let (gateway, upstream) = over_http2(setup().set("/retry", json!({ "max_attempts": 3 }))).await;
    let gateway = Arc::new(gateway);
    ask_at_once(&gateway, "warm", 1, 10, 1).await;
    upstream.kill_next(2, Death::Refuse);
    ask_at_once(&gateway, "asked", 1, 10, 3).await;
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1, 2, 3], "warmed, then refused by the kept one and by two new ones");
}

/// The limit of it: what breaks on a connection of its own may have been worked on, and is not sent a third time.
#[tokio::test(flavor = "multi_thread")]
async fn a6_what_breaks_on_a_new_connection_is_not_sent_again() {
    let (gateway, upstream) = over_http1().await;
    let gateway = Arc::new(gateway);
    ask_at_once(&gateway, "warm", 1, 10, 1).await;
    upstream.kill_next(9, Death::Reset);
    let answer = gateway.send(prompt("broken", 10)).await.expect(502);
    assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);
    let seen = upstream.seen().into_iter().filter(|seen| seen.user == "broken").count();
    assert!((1..=2).contains(&seen), "{seen}");
}
