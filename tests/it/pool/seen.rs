//! What an operator sees of the pool: access lines, `/status.json`, `/metrics`; and that no key or login is in any of them.

use super::Kind::{Connect, Reverse};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line};
use crate::support::{Act, Client, Distrust, Shorthand};

const USERNAME: &str = "planted-username-e1b7";
const PASSWORD: &str = "planted-password-7a29";

#[tokio::test(flavor = "multi_thread")]
async fn ids_states_and_counts_are_shown_and_no_secret_is() {
    let mut pool = Pool::of(&[Connect, Reverse, Connect]).await;
    pool.ways[0].proxy().require(USERNAME, PASSWORD);
    let setup = pool
        .setup(3)
        .secret_env("P1_PASSWORD", PASSWORD)
        .planted(USERNAME)
        .set("/upstreams/troll/proxies/0/username", json!(USERNAME))
        .set("/upstreams/troll/proxies/0/password", json!("${P1_PASSWORD}"))
        .set("/upstreams/troll/health_check/failures", json!(1));
    let gateway = pool.start(setup).await;
    pool.ways[2].proxy.as_mut().unwrap().kill().await;
    pool.ways[0].provider.push_rule(once("k1", Reply::leaking_error(429).header("retry-after", "500")));
    pool.ways[0].provider.push_rule(once("k2", Reply::leaking_error(401)));

    let answer = gateway.send(ask_troll(MESSAGES, true)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["proxy"], &line["key"], &line["attempts"]), (&json!("p1"), &json!("k3"), &json!(3)), "{line}");
    assert_eq!(line["skipped"], "k1:rate_limited,k2:unauthorized");
    gateway.send(ask_troll(CHAT, false)).await.expect(200);
    let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["proxy"], &line["attempts"]), (&json!("p1"), &json!(2)), "{line}");
    assert_eq!(line["skipped"], "k1:cooling,k2:dead,p3:unreachable");

    let troll = status(&gateway, "troll").await;
    let k1 = member(&troll["keys"], "k1");
    assert_eq!(
        (&k1["state"], &k1["cause"], &k1["attempts"], &k1["rests"]),
        (&json!("cooling"), &json!("rate_limited"), &json!(1), &json!(1))
    );
    let until: jiff::Timestamp = k1["until"].as_str().unwrap().parse().unwrap();
    assert!(until > jiff::Timestamp::now());
    assert!((1..=500).contains(&k1["ready_in_s"].as_u64().unwrap()));
    assert_eq!(member(&troll["keys"], "k2")["state"], "dead");
    assert_eq!(member(&troll["keys"], "k3")["state"], "ready");
    for (id, kind, health, attempts, failures) in
        [("p1", "connect", "up", 4, 0), ("p2", "reverse", "up", 1, 0), ("p3", "connect", "down", 1, 1)]
    {
        let proxy = member(&troll["proxies"], id);
        assert_eq!(
            (&proxy["kind"], &proxy["health"], &proxy["quota"]),
            (&json!(kind), &json!(health), &json!("ready")),
            "{proxy}"
        );
        assert_eq!((&proxy["attempts"], &proxy["connect_failures"]), (&json!(attempts), &json!(failures)), "{proxy}");
        assert_eq!(proxy["keys"], json!(["k1", "k2", "k3"]));
    }

    let page = gateway.admin("/metrics").await.expect(200).text();
    for line in [
        r#"key_state{upstream="troll",key="k1",state="cooling"} 1"#,
        r#"key_state{upstream="troll",key="k1",state="ready"} 0"#,
        r#"key_state{upstream="troll",key="k2",state="dead"} 1"#,
        r#"key_state{upstream="troll",key="k3",state="ready"} 1"#,
        r#"key_attempts_total{upstream="troll",key="k1"} 1"#,
        r#"key_attempts_total{upstream="troll",key="k3"} 4"#,
        r#"proxy_up{upstream="troll",proxy="p1"} 1"#,
        r#"proxy_up{upstream="troll",proxy="p3"} 0"#,
        r#"proxy_ready{upstream="troll",proxy="p2"} 1"#,
        r#"proxy_attempts_total{upstream="troll",proxy="p1"} 4"#,
        r#"proxy_connect_failures_total{upstream="troll",proxy="p3"} 1"#,
    ] {
        assert!(page.contains(&format!("trollbridge_{line}\n")), "no {line} in\n{page}");
    }
    // Nobody without the token is told.
    let mut unknown = Client::http1(gateway.admin_addr(), Distrust::nothing()).await;
    assert_eq!(unknown.send(Request::get("/status.json").bearer("wrong")).await.status, 401);
}

/// The text form of the access line has the same names.
#[tokio::test(flavor = "multi_thread")]
async fn the_text_line_names_proxy_key_and_attempts() {
    let pool = Pool::of(&[Connect, Reverse]).await;
    let gateway = pool.start(pool.setup(1).set("/log/format", json!("text"))).await;
    pool.ways[0].proxy().push(Act::Garbage);
    let id = gateway.send(ask_troll(CHAT, false)).await.expect(200).header("x-request-id").to_owned();
    let line = gateway.wait_for_log(|line| line.contains(&format!("id={id}"))).await;
    for field in [" proxy=p2 ", " key=k1 ", " attempts=2 ", " end=ok "] {
        assert!(line.contains(field), "no {field} in {line}");
    }
}

/// What a proxy says of itself may be a secret of the operator's; it reaches the log masked, and no client.
#[tokio::test(flavor = "multi_thread")]
async fn no_login_is_in_what_is_said_of_failures() {
    for act in [Act::RefuseLogin, Act::RefuseTarget, Act::Garbage] {
        let pool = Pool::of(&[Connect]).await;
        let setup = pool
            .setup(1)
            .secret_env("P1_PASSWORD", PASSWORD)
            .planted(USERNAME)
            .set("/upstreams/troll/proxies/0/username", json!(USERNAME))
            .set("/upstreams/troll/proxies/0/password", json!("${P1_PASSWORD}"))
            .set("/upstreams/troll/health_check/failures", json!(1));
        let gateway = pool.start(setup).await;
        pool.ways[0].proxy().always(act);
        let answer = gateway.send(ask_troll(MESSAGES, true)).await;
        assert!([502, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        assert!(!answer.text().contains("p1"), "{}", answer.text());
        gateway.wait_for_log(|line| line.contains("proxy p1 of troll")).await;
    }
}
