//! T10: whose fault it is. A proxy that can't be used costs no key, and a key that is refused for good costs no proxy.

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line};
use crate::support::{Act, Shorthand};

/// The ways a forward proxy fails, and whether that takes it down at once.
const FAILS: [(Act, bool); 7] = [
    (Act::Reset, false),
    (Act::Hang, false),
    (Act::Garbage, false),
    (Act::Endless, false),
    (Act::CloseEarly, false),
    (Act::RefuseTarget, false),
    (Act::RefuseLogin, true),
];

async fn expect_no_key_blamed(gateway: &Gateway) {
    for key in status(gateway, "troll").await["keys"].as_array().unwrap() {
        assert_eq!((&key["state"], &key["rests"]), (&json!("ready"), &json!(0)), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_proxy_that_gives_no_tunnel_hands_over_to_the_next_and_the_key_is_not_blamed() {
    for kind in [Connect, Socks5] {
        let pool = Pool::of(&[kind, Reverse]).await;
        let gateway = pool
            .start(
                pool.setup(2).set("/timeouts/connect_ms", json!(1000)).set("/upstreams/troll/health_check/failures", json!(100)),
            )
            .await;
        for (failed, (act, is_certain)) in FAILS.into_iter().enumerate() {
            let what = format!("{kind:?} {act:?}");
            let served = pool.shares();
            pool.ways[0].proxy().push(act);
            let answer = gateway.send(ask_troll(MESSAGES, true)).await.expect(200);
            let line = access_line(&gateway, &answer).await;
            assert_eq!(
                (&line["attempts"], &line["proxy"], &line["key"]),
                (&json!(2), &json!("p2"), &json!("k1")),
                "{what}: {line}"
            );
            assert_eq!(pool.shares(), [served[0], served[1] + 1], "{what}");
            expect_no_key_blamed(&gateway).await;
            let p1 = proxy_status(&gateway, "p1").await;
            assert_eq!(p1["connect_failures"], failed as u64 + 1, "{what}: {p1}");
            assert_eq!(p1["health"], if is_certain { "down" } else { "up" }, "{what}: {p1}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_reverse_proxy_that_answers_for_itself_hands_over_to_the_next() {
    for status in [407, 502] {
        let pool = Pool::of(&[Reverse, Connect]).await;
        let gateway = pool.start(pool.setup(2)).await;
        pool.ways[0].provider.push(Reply::leaking_error(status));
        let answer = gateway.send(ask_troll(CHAT, true)).await.expect(200);
        assert_eq!((pool.ways[0].keys(), pool.ways[1].keys()), (vec!["k1"], vec!["k1"]), "{status}");
        assert_eq!(access_line(&gateway, &answer).await["attempts"], 2);
        expect_no_key_blamed(&gateway).await;
    }
    // Of a forward proxy they are the provider's own word.
    let pool = Pool::of(&[Connect, Reverse]).await;
    let gateway = pool.start(pool.setup(2)).await;
    pool.ways[0].provider.push(Reply::leaking_error(502));
    gateway.send(ask_troll(CHAT, false)).await.expect(502);
    assert_eq!(pool.shares(), [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_reverse_proxy_where_nobody_listens_hands_over_to_the_next() {
    let pool = Pool::of(&[Reverse, Socks5]).await;
    let mut nobody = ScriptedProxy::connect().await;
    nobody.kill().await;
    let setup = pool.setup(1).set("/upstreams/troll/proxies/0/addr", json!(nobody.addr()));
    let gateway = setup.start().await;
    let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    assert_eq!(line["proxy"], "p2", "{line}");
    assert_eq!(pool.shares(), [0, 1]);
    expect_no_key_blamed(&gateway).await;
}

/// A wrong password is refused once and not tried again, and the log says who must act, without the login.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_proxy_that_refuses_our_login_is_not_asked_again() {
    for kind in [Connect, Socks5] {
        let pool = Pool::of(&[kind, Connect]).await;
        let setup = pool
            .setup(1)
            .secret_env("P1_PASSWORD", "planted-password-51d0")
            .planted("planted-username-88fe")
            .set("/upstreams/troll/proxies/0/username", json!("planted-username-88fe"))
            .set("/upstreams/troll/proxies/0/password", json!("${P1_PASSWORD}"));
        pool.ways[0].proxy().require("planted-username-88fe", "another-password");
        let gateway = setup.start().await;
        until_health(&gateway, "p1", "down").await;
        let connections = pool.ways[0].proxy().seen().connections;
        assert_eq!(connections, 1, "{kind:?}");
        for _ in 0..6 {
            let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["attempts"], &line["proxy"]), (&json!(1), &json!("p2")), "{line}");
        }
        assert_eq!(pool.ways[0].proxy().seen().connections, connections, "{kind:?}");
        let told =
            gateway.log_lines().iter().filter(|line| line.contains("proxy p1 of troll is not used until a check passes")).count();
        assert_eq!(told, 1, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_key_that_is_refused_for_good_is_dead_until_a_reload() {
    for refusal in [401, 403] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.setup(2)).await;
        pool.ways[0].provider.push_rule(once("k1", Reply::leaking_error(refusal).header("retry-after", "1")));
        let answer = gateway.send(ask_troll(MESSAGES, true)).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["proxy"], &line["key"]), (&json!(2), &json!("p1"), &json!("k2")), "{line}");
        let dead = key_status(&gateway, "k1").await;
        let cause = if refusal == 401 { "unauthorized" } else { "forbidden" };
        assert_eq!((&dead["state"], &dead["cause"], &dead["until"]), (&json!("dead"), &json!(cause), &Value::Null));
        for _ in 0..4 {
            gateway.send(ask_troll(CHAT, false)).await.expect(200);
        }
        assert_eq!((pool.ways[0].keys(), pool.ways[1].keys()), (vec!["k1", "k2", "k2", "k2"], vec!["k2", "k2"]), "{refusal}");

        reload(&gateway).await;
        assert_eq!(key_status(&gateway, "k1").await["state"], "ready");
        gateway.send(ask_troll(CHAT, false)).await.expect(200);
        let used: Vec<_> = pool.ways.iter().flat_map(Way::keys).collect();
        assert_eq!(used.iter().filter(|key| **key == "k1").count(), 2, "{used:?}");
    }
}

/// What every key is refused is this request's fault: its client takes no key from the others (A1), and is not told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_request_that_every_key_is_refused_kills_none_of_them() {
    for refusal in [401, 403] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.bound(&[&["k1"], &["k2"]])).await;
        for (way, id) in pool.ways.iter().zip(["k1", "k2"]) {
            way.provider.push_rule(once(id, Reply::leaking_error(refusal)));
        }
        let mut client = gateway.client().await;
        let answer = client.send(ask_troll(MESSAGES, false)).await.expect(502);
        assert_eq!(answer.header("retry-after"), "");
        assert_eq!(access_line(&gateway, &answer).await["attempts"], 2);
        assert!(client.is_reusable().await);
        for id in ["k1", "k2"] {
            assert_eq!(key_status(&gateway, id).await["state"], "ready", "{refusal}");
        }
        let next = gateway.send(ask_troll(MESSAGES, false)).await.expect(200);
        assert_eq!(access_line(&gateway, &next).await["attempts"], 1, "a second client notices nothing");
        pool.expect_nothing_direct();
    }
}
