//! T11, T13: how long a key rests, and what a reload does to that.

use std::fs;
use std::time::SystemTime;

use super::Kind::{Connect, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line};
use crate::support::Shorthand;

fn at(wait: Duration) -> SystemTime {
    // Whole seconds, as these forms have it.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + wait;
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// The wait that the client is told, of a key that was refused with these headers.
async fn told_after(status: u16, headers: &[(&str, &str)]) -> u64 {
    let pool = Pool::of(&[Connect]).await;
    let gateway = pool.start(pool.setup(1)).await;
    let reply = headers.iter().fold(Reply::status(status), |reply, (name, value)| reply.header(name, value));
    pool.always("k1", &reply);
    let answer = gateway.send(ask_troll(MESSAGES, true)).await.expect(503);
    let key = key_status(&gateway, "k1").await;
    assert_eq!((&key["state"], &key["rests"]), (&json!("cooling"), &json!(1)), "{key}");
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_a_key_rests_as_long_as_the_answer_says_in_each_of_its_forms() {
    const WAIT: u64 = 3000;
    let date = || httpdate::fmt_http_date(at(Duration::from_secs(WAIT)));
    let instant = || jiff::Timestamp::try_from(at(Duration::from_secs(WAIT))).unwrap().to_string();
    for headers in [
        vec![("retry-after", WAIT.to_string())],
        vec![("retry-after", date())],
        vec![("anthropic-ratelimit-tokens-reset", instant()), ("anthropic-ratelimit-tokens-remaining", "0".to_owned())],
        vec![("x-ratelimit-reset-requests", "50m0s".to_owned())],
        // What is told outright counts more than the reset of a limit.
        vec![("retry-after", WAIT.to_string()), ("x-ratelimit-reset-tokens", "1s".to_owned())],
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (told, span) = timed(told_after(429, &headers)).await;
        let passed = (*span.end() - *span.start()).as_secs() + 2;
        assert!((WAIT - passed..=WAIT).contains(&told), "{told} for {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_without_a_word_a_key_rests_a_minute_after_429_and_an_hour_after_402() {
    for (status, wait) in [(429, 60), (402, 3_600)] {
        let (told, span) = timed(told_after(status, &[])).await;
        let passed = (*span.end() - *span.start()).as_secs() + 1;
        assert!((wait - passed..=wait).contains(&told), "{told} after {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_the_settings_say_how_long_a_key_rests_without_a_word_and_at_most() {
    let pool = Pool::of(&[Connect]).await;
    let setup =
        pool.setup(2).set("/upstreams/troll/cooldown", json!({ "rate_limited_s": 700, "exhausted_s": 900, "longest_s": 800 }));
    let gateway = pool.start(setup).await;
    pool.always("k1", &Reply::status(429));
    pool.always("k2", &Reply::status(429).header("retry-after", "100000"));
    let (answer, span) = timed(gateway.send(ask_troll(MESSAGES, false))).await;
    expect_wait(&answer.expect(503), Duration::from_secs(700), &span, &span);
    let longest = key_status(&gateway, "k2").await["ready_in_s"].as_u64().unwrap();
    assert!((700..=800).contains(&longest), "{longest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_a_reload_keeps_the_ends_of_cooldowns_and_the_health_of_proxies() {
    let mut pool = Pool::of(&[Connect, Socks5]).await;
    let setup = pool.bound(&[&["k1", "k2"], &["k1", "k2"]]).set("/upstreams/troll/health_check/failures", json!(1));
    let gateway = pool.start(setup).await;
    pool.ways[0].provider.push_rule(once("k1", Reply::status(429).header("retry-after", "600")));
    let (answer, cooled) = timed(gateway.send(ask_troll(CHAT, false))).await;
    answer.expect(200);
    pool.ways[1].proxy.as_mut().unwrap().kill().await;
    gateway.send(ask_troll(CHAT, false)).await.expect(200);
    let before = (key_status(&gateway, "k1").await, proxy_status(&gateway, "p2").await);
    assert_eq!((&before.0["state"], &before.1["health"]), (&json!("cooling"), &json!("down")));

    for _ in 0..2 {
        reload(&gateway).await;
        let after = (key_status(&gateway, "k1").await, proxy_status(&gateway, "p2").await);
        assert_eq!((&after.0["state"], &after.0["until"]), (&json!("cooling"), &before.0["until"]));
        assert_eq!((&after.1["health"], &after.1["since"]), (&json!("down"), &before.1["since"]));
        let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["key"], &line["attempts"]), (&json!("k2"), &json!(1)), "{line}");
    }
    // Another list of keys is no other proxy and no other key: the wait goes on from its first moment.
    gateway.rewrite_config(|config| config["upstreams"]["troll"]["proxies"][0]["keys"] = json!(["k1"]));
    reload(&gateway).await;
    let (answer, asked) = timed(gateway.send(ask_troll(CHAT, false))).await;
    expect_wait(&answer.expect(503), Duration::from_secs(600), &cooled, &asked);
    assert_eq!(pool.ways[0].keys(), ["k1", "k2", "k2", "k2", "k2"]);
    pool.expect_nothing_direct();
}

/// Another text is another key: nobody has refused it yet.
#[tokio::test(flavor = "multi_thread")]
async fn t13_a_key_with_a_new_text_starts_afresh() {
    let pool = Pool::of(&[Connect]).await;
    let setup = pool.setup(2);
    let file = setup.file("k1", text_of("k1"));
    let gateway = pool.start(setup.set("/upstreams/troll/keys/0/key", json!({ "file": file }))).await;
    for id in ["k1", "k2"] {
        pool.ways[0].provider.push_rule(once(id, Reply::status(402)));
    }
    gateway.send(ask_troll(CHAT, false)).await.expect(503);
    fs::write(&file, text_of("k3")).unwrap();
    reload(&gateway).await;
    let fresh = key_status(&gateway, "k1").await;
    assert_eq!((&fresh["state"], &fresh["attempts"], &fresh["rests"]), (&json!("ready"), &json!(0), &json!(0)), "{fresh}");
    assert_eq!(key_status(&gateway, "k2").await["state"], "cooling");
    let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
    assert_eq!(access_line(&gateway, &answer).await["key"], "k1");
    assert_eq!(pool.ways[0].keys(), ["k1", "k2", "k3"]);
}

/// T13: a successor would ask the key that has just said no, and the proxy that has just died.
#[tokio::test(flavor = "multi_thread")]
async fn t13_an_upgrade_hands_over_which_keys_rest_and_which_proxies_are_down() {
    let pool = Pool::of(&[Connect, Socks5]).await;
    let mut gateway = pool.start(pool.setup(2)).await;
    pool.always("k1", &Reply::status(429).header("retry-after", "3000"));
    while key_status(&gateway, "k1").await["state"] != "cooling" {
        gateway.send(ask_troll(MESSAGES, false)).await.expect(200);
    }
    let before = key_status(&gateway, "k1").await;
    gateway.upgrade().await.expect(0);
    let after = key_status(&gateway, "k1").await;
    let left = |key: &Value| key["ready_in_s"].as_u64().unwrap();
    assert!(after["state"] == "cooling" && left(&after).abs_diff(left(&before)) < 60, "{before} {after}");
    assert_eq!((&after["cause"], &after["attempts"]), (&json!("rate_limited"), &json!(0)));
    for _ in 0..10 {
        gateway.send(ask_troll(MESSAGES, false)).await.expect(200);
    }
    assert_eq!(key_status(&gateway, "k1").await["attempts"], 0);
}
