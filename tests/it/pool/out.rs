//! T4, T5: nobody is left. The client learns when to come back, and nothing goes past the proxies that was not meant to.

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line, expect_error};
use crate::support::{Client, Shorthand};

const ASKED: [(&str, bool); 4] = [(CHAT, false), (CHAT, true), (MESSAGES, false), (MESSAGES, true)];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fails unless this is the 503 of a pool that is out, in the dialect of the path.
#[track_caller]
fn expect_out(path: &str, answer: Answer) -> Answer {
    let answer = answer.expect(503);
    let body = answer.json();
    expect_error(path, &body);
    match path {
        MESSAGES => assert_eq!(body["error"]["type"], "overloaded_error"),
        _ => assert_eq!(body["error"]["code"], "overloaded"),
    }
    assert!(answer.header("content-type").starts_with("application/json"));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_pool_whose_keys_all_rest_says_to_the_second_when_the_first_is_back() {
    for (path, stream) in ASKED {
        let pool = Pool::of(&[Connect, Socks5, Reverse]).await;
        let gateway = pool.start(pool.bound(&[&["k1"], &["k2", "k3"], &["k4"]])).await;
        for (id, wait) in [("k1", "50"), ("k2", "40"), ("k3", "30"), ("k4", "3000")] {
            pool.always(id, &Reply::leaking_error(429).header("retry-after", wait));
        }
        let mut client = gateway.client().await;
        let (answer, cooled) = timed(client.send(ask_troll(path, stream))).await;
        let answer = expect_out(path, answer);
        expect_wait(&answer, secs(30), &cooled, &cooled);
        assert_eq!(pool.shares(), [1, 2, 1]);
        let line = access_line(&gateway, &answer).await;
        assert_eq!(
            (&line["attempts"], &line["status"], &line["end"]),
            (&json!(4), &json!(503), &json!("upstream_error")),
            "{line}"
        );

        // Known beforehand: nobody is contacted, on a connection that goes on.
        let connections: Vec<_> = pool.ways.iter().map(|way| way.provider.counts().connections).collect();
        for (path, stream) in ASKED {
            assert!(client.is_reusable().await);
            let (answer, asked) = timed(client.send(ask_troll(path, stream))).await;
            let answer = expect_out(path, answer);
            expect_wait(&answer, secs(30), &cooled, &asked);
            assert_eq!(access_line(&gateway, &answer).await["attempts"], 0);
        }
        assert_eq!(pool.shares(), [1, 2, 1]);
        assert_eq!(pool.ways.iter().map(|way| way.provider.counts().connections).collect::<Vec<_>>(), connections);
        pool.expect_nothing_direct();
    }
}

/// The clock may have moved on until the answer is written, but a client is never told to come back at once.
#[tokio::test(flavor = "multi_thread")]
async fn t4_a_wait_below_a_second_is_told_as_one() {
    let pool = Pool::of(&[Connect]).await;
    let gateway = pool.start(pool.setup(1)).await;
    let refused = Reply::status(429).header("retry-after-ms", "900");
    pool.always("k1", &refused);
    let answer = expect_out(CHAT, gateway.send(ask_troll(CHAT, false)).await);
    assert_eq!(answer.header("retry-after"), "1");
}

async fn kill_all(pool: &mut Pool) {
    for way in &mut pool.ways {
        way.proxy.as_mut().expect("a forward proxy").kill().await;
    }
}

async fn expect_refused_unasked(pool: &Pool, gateway: &Gateway, client: &mut Client, wait: std::ops::RangeInclusive<u64>) {
    for (path, stream) in ASKED {
        let answer = expect_out(path, client.send(ask_troll(path, stream)).await);
        let told: u64 = answer.header("retry-after").parse().unwrap();
        assert!(wait.contains(&told), "{told}");
        assert_eq!(access_line(gateway, &answer).await["attempts"], 0);
        assert!(client.is_reusable().await);
    }
    pool.expect_nothing_direct();
    assert_eq!(pool.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn t5_with_all_proxies_down_nothing_goes_direct_and_the_next_check_is_the_time_to_come_back() {
    let mut pool = Pool::of(&[Connect, Socks5]).await;
    let setup = pool.setup(2).set("/upstreams/troll/health_check", json!({ "interval_s": 1234, "failures": 1, "successes": 2 }));
    let gateway = pool.start(setup).await;
    kill_all(&mut pool).await;
    let answer = expect_out(MESSAGES, gateway.send(ask_troll(MESSAGES, true)).await);
    // Two checks have to pass, and the first of them is due an interval after the last.
    let due: u64 = answer.header("retry-after").parse().unwrap();
    assert!((2400..=2468).contains(&due), "{due}");
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["attempts"], &line["proxy"]), (&json!(2), &json!("p2")), "{line}");
    expect_refused_unasked(&pool, &gateway, &mut gateway.client().await, 2400..=2468).await;
    for id in ["k1", "k2"] {
        assert_eq!(key_status(&gateway, id).await["state"], "ready");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t5_allowed_to_the_requests_go_direct_while_all_proxies_are_down() {
    let mut pool = Pool::of(&[Connect, Socks5]).await;
    let setup = pool
        .setup(2)
        .set("/upstreams/troll/health_check/failures", json!(1))
        .set("/upstreams/troll/allow_direct_when_down", json!(true));
    let gateway = pool.start(setup).await;
    kill_all(&mut pool).await;
    // The request that finds them dead is served as well.
    let answer = gateway.send(ask_troll(CHAT, true)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["attempts"], &line["proxy"], &line["key"]), (&json!(3), &Value::Null, &json!("k1")), "{line}");
    let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
    assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);
    assert_eq!(keys_at(&pool.own), ["k1", "k1"]);
    assert_eq!(pool.requests(), 0);
}

/// What is exhausted is not down: the same keys would be refused without a proxy as well.
#[tokio::test(flavor = "multi_thread")]
async fn t5_an_exhausted_pool_that_is_up_never_goes_direct() {
    let pool = Pool::of(&[Connect, Socks5]).await;
    let gateway = pool.start(pool.bound(&[&["k1"], &["k2"]]).set("/upstreams/troll/allow_direct_when_down", json!(true))).await;
    for id in ["k1", "k2"] {
        pool.always(id, &Reply::status(402));
    }
    for _ in 0..3 {
        expect_out(CHAT, gateway.send(ask_troll(CHAT, false)).await);
    }
    assert_eq!(pool.shares(), [1, 1]);
    pool.expect_nothing_direct();
}
