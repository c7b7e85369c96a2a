//! T6: health by active checks, and quotas that no check lifts.

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, access_line};
use crate::support::{Act, Shorthand};

fn every_second(setup: Setup) -> Setup {
    setup.set("/upstreams/troll/health_check", CHECKED_EACH_SECOND.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_three_failed_checks_take_a_proxy_down_and_one_that_passes_brings_it_up() {
    for kind in [Connect, Socks5] {
        let pool = Pool::of(&[kind, Connect]).await;
        let gateway = pool.start(every_second(pool.setup(1))).await;
        let p1 = pool.ways[0].proxy();
        p1.always(Act::RefuseTarget);
        let before = p1.seen().connections;
        until_health(&gateway, "p1", "down").await;
        assert!(p1.seen().connections >= before + 3, "{kind:?}: down before the third failure");
        gateway.wait_for_log(|line| line.contains("proxy p1 of troll is down")).await;
        for _ in 0..4 {
            gateway.send(ask_troll(CHAT, false)).await.expect(200);
        }
        assert_eq!(pool.shares(), [0, 4], "{kind:?}");
        let down = proxy_status(&gateway, "p1").await;
        assert!(down["since"].is_string(), "{down}");
        assert_eq!((&down["quota"], &down["connect_failures"]), (&json!("ready"), &json!(0)), "{down}");

        p1.always(Act::Tunnel);
        until_health(&gateway, "p1", "up").await;
        gateway.wait_for_log(|line| line.contains("proxy p1 of troll is up again")).await;
        for _ in 0..4 {
            gateway.send(ask_troll(CHAT, false)).await.expect(200);
        }
        assert_eq!(pool.shares(), [2, 6], "{kind:?}");
        pool.expect_nothing_direct();
    }
}

/// The numbers are settings.
#[tokio::test(flavor = "multi_thread")]
async fn t6_as_many_failures_and_successes_as_the_settings_say() {
    let pool = Pool::of(&[Connect, Connect]).await;
    let check = json!({ "interval_s": 1, "failures": 1, "successes": 2 });
    let gateway = pool.start(pool.setup(1).set("/upstreams/troll/health_check", check)).await;
    let p1 = pool.ways[0].proxy();
    p1.always(Act::RefuseTarget);
    until_health(&gateway, "p1", "down").await;
    let passed = p1.seen().tunnels;
    p1.always(Act::Tunnel);
    until_health(&gateway, "p1", "up").await;
    assert!(p1.seen().tunnels >= passed + 2, "up before the second success");
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_a_check_that_hangs_fails_when_its_time_is_over() {
    let pool = Pool::of(&[Connect, Connect]).await;
    pool.ways[0].proxy().always(Act::Hang);
    let check = json!({ "interval_s": 1, "timeout_s": 1, "failures": 1 });
    let setup = pool.setup(1).set("/upstreams/troll/health_check", check).set("/timeouts/connect_ms", json!(60_000));
    let gateway = setup.start().await;
    until_health(&gateway, "p1", "down").await;
    gateway.send(ask_troll(CHAT, false)).await.expect(200);
    assert_eq!(pool.shares(), [0, 1]);
}

/// A reverse proxy is asked for nothing but a connection, so anything that listens will do here.
#[tokio::test(flavor = "multi_thread")]
async fn t6_a_reverse_proxy_is_checked_by_its_port() {
    let pool = Pool::of(&[Reverse, Connect]).await;
    let mut port = ScriptedProxy::connect().await;
    let setup = every_second(pool.setup(1)).set("/upstreams/troll/proxies/0/addr", json!(port.addr()));
    let gateway = setup.start().await;
    port.wait_until(|seen| seen.connections >= 2).await;
    assert_eq!(proxy_status(&gateway, "p1").await["health"], "up");
    port.kill().await;
    until_health(&gateway, "p1", "down").await;
    for _ in 0..2 {
        let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["proxy"], &line["attempts"]), (&json!("p2"), &json!(1)), "{line}");
    }
    port.revive().await;
    until_health(&gateway, "p1", "up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_a_passed_check_never_ends_a_cooldown() {
    let pool = Pool::of(&[Connect, Reverse]).await;
    let gateway = pool.start(every_second(pool.bound(&[&["k1"], &["k2"]]))).await;
    for id in ["k1", "k2"] {
        pool.always(id, &Reply::status(402));
    }
    gateway.send(ask_troll(CHAT, false)).await.expect(503);
    let cooling = key_status(&gateway, "k1").await;
    assert_eq!(cooling["state"], "cooling");
    let checks = pool.ways[0].proxy().seen().tunnels;
    pool.ways[0].proxy().wait_until(|seen| seen.tunnels >= checks + 3).await;
    assert_eq!(key_status(&gateway, "k1").await["until"], cooling["until"]);
    let p1 = proxy_status(&gateway, "p1").await;
    assert_eq!((&p1["health"], &p1["quota"], &p1["until"]), (&json!("up"), &json!("exhausted"), &cooling["until"]));
    gateway.send(ask_troll(CHAT, false)).await.expect(503);
    assert_eq!(pool.shares(), [1, 1]);
}

/// Through every kind of proxy the upstream itself is asked, with no key, and it is the status that decides.
#[tokio::test(flavor = "multi_thread")]
async fn t6_a_check_by_http_asks_the_upstream_through_the_proxy_and_expects_a_status() {
    for expected in [200, 418] {
        let pool = Pool::of(&[Connect, Socks5, Reverse]).await;
        let (good, bad) = if expected == 200 { (200, 418) } else { (418, 200) };
        let answering = |status: u16| {
            for way in &pool.ways {
                way.provider.behave();
                way.provider.always(Reply { status: Some(status), ..Reply::json(json!({})) });
            }
        };
        answering(good);
        let mut check = json!({ "interval_s": 1, "failures": 2, "path": "/v1/models?limit=1" });
        if expected != 200 {
            check["expected_status"] = json!(expected);
        }
        let gateway = pool.setup(1).set("/upstreams/troll/health_check", check).start().await;
        for way in &pool.ways {
            let asked = way.provider.wait_for(2).await.pop().unwrap();
            assert_eq!((&*asked.method, &*asked.target), ("GET", "/v1/models?limit=1"));
            assert_eq!(asked.header("host"), [pool.own.addr().to_string()]);
            assert!(asked.headers.iter().all(|(name, _)| name != "authorization" && name != "x-api-key"), "{asked:?}");
            assert_eq!(proxy_status(&gateway, &way.id).await["health"], "up");
        }
        answering(bad);
        for way in &pool.ways {
            until_health(&gateway, &way.id, "down").await;
        }
        answering(good);
        for way in &pool.ways {
            until_health(&gateway, &way.id, "up").await;
        }
        pool.expect_nothing_direct();
    }
}
