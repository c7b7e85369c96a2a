//! T2, T3, T9, T12: what follows a refusal, and what ends the attempts.

use trollbridge::provider_mock::{After, How};

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line, expect_error, next_line};
use crate::support::{Act, Shorthand};

const ASKED: [(&str, bool); 4] = [(CHAT, false), (CHAT, true), (MESSAGES, false), (MESSAGES, true)];

#[tokio::test(flavor = "multi_thread")]
async fn t2_the_secondary_key_answers_by_the_same_proxy_when_the_primary_is_refused() {
    for (kind, refusal) in [(Connect, 429), (Socks5, 402), (Reverse, 429), (Connect, 402)] {
        for (path, stream) in ASKED {
            let pool = Pool::of(&[kind, Connect]).await;
            let gateway = pool.start(pool.setup(2)).await;
            pool.ways[0].provider.push_rule(once("k1", Reply::leaking_error(refusal)));
            let what = format!("{kind:?} {refusal} {path} {stream}");
            let answer = gateway.send(ask_troll(path, stream)).await.expect(200);
            assert_eq!(pool.ways[0].keys(), ["k1", "k2"], "{what}");
            assert_eq!(pool.shares(), [2, 0], "{what}");
            if stream {
                let last = answer.events().pop().unwrap();
                assert!(last.data == "[DONE]" || last.name.as_deref() == Some("message_stop"), "{what}: {last:?}");
            }
            let line = access_line(&gateway, &answer).await;
            assert_eq!(line["attempts"], 2, "{what}: {line}");
            assert_eq!((&line["proxy"], &line["key"], &line["end"]), (&json!("p1"), &json!("k2"), &json!("ok")), "{what}");
            pool.expect_nothing_direct();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_a_proxy_whose_keys_are_both_refused_is_out_until_the_first_of_them_is_back() {
    for (path, stream) in ASKED {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.bound(&[&["k1", "k2"], &["k3", "k4"]])).await;
        pool.ways[0].provider.push_rule(once("k1", Reply::status(402)));
        pool.ways[0].provider.push_rule(once("k2", Reply::status(429).header("retry-after", "2")));
        let mut client = gateway.client().await;
        let (answer, cooled) = timed(client.send(ask_troll(path, stream))).await;
        let line = access_line(&gateway, &answer.expect(200)).await;
        assert_eq!((&line["attempts"], &line["proxy"], &line["key"]), (&json!(3), &json!("p2"), &json!("k3")), "{line}");
        assert_eq!(pool.ways[0].keys(), ["k1", "k2"]);

        // While it is out, all go to the other one; then it has its turn again, with the key that is back.
        let served = pool.ways[0].provider.counts().requests;
        while pool.ways[0].provider.counts().requests == served {
            assert!(cooled.start().elapsed() < Duration::from_secs(60), "the proxy is never back");
            let answer = client.send(ask_troll(path, stream)).await.expect(200);
            let line = access_line(&gateway, &answer).await;
            assert_eq!(line["attempts"], 1, "{line}");
            let is_back = cooled.start().elapsed() >= Duration::from_secs(2);
            assert!(line["proxy"] == "p2" || is_back, "{line}");
        }
        assert_eq!(pool.ways[0].keys().last(), Some(&"k2"));
        assert!(pool.ways[1].keys().iter().all(|key| *key == "k3"));
        pool.expect_nothing_direct();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t9_an_answer_that_has_begun_is_not_asked_for_again() {
    for how in [How::Close, How::Reset] {
        for (path, stream, after) in
            [(CHAT, true, After::Events(1)), (MESSAGES, true, After::Events(2)), (CHAT, false, After::Bytes(20))]
        {
            let pool = Pool::of(&[Connect, Socks5]).await;
            let gateway = pool.start(pool.setup(2)).await;
            pool.ways[0].provider.push(Reply::usual().cut(after, how));
            let answer = gateway.send(ask_troll(path, stream)).await;
            assert_eq!(answer.status, 200);
            let text = String::from_utf8_lossy(&answer.body()).into_owned();
            assert!(answer.broken.is_some() || text.contains("error"), "{path} {stream} {how:?}: {text}");
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["attempts"], &line["end"]), (&json!(1), &json!("upstream_cut")), "{line}");
            assert_eq!(pool.shares(), [1, 0], "{path} {stream} {how:?}");
        }
    }
}

/// The head of a 429 says enough: nobody waits for a body that does not come.
#[tokio::test(flavor = "multi_thread")]
async fn t9_a_status_alone_turns_a_stream_to_the_next_key() {
    for path in [CHAT, MESSAGES] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.setup(2)).await;
        pool.ways[0].provider.push(Reply::status(429).cut(After::Bytes(1), How::Stall));
        let answer = gateway.send(ask_troll(path, true)).await.expect(200);
        assert!(answer.events().len() > 2);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["key"]), (&json!(2), &json!("k2")), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_there_are_no_more_attempts_than_the_setting_allows() {
    for most in [1, 2, 3] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let setup = pool.bound(&[&["k1", "k2"], &["k3", "k4"]]).set("/retry/max_attempts", json!(most));
        let gateway = pool.start(setup).await;
        for (id, _) in KEYS {
            pool.always(id, &Reply::status(429).header("retry-after", "33"));
        }
        let mut client = gateway.client().await;
        let answer = client.send(ask_troll(MESSAGES, true)).await.expect(503);
        // Another key is ready, so the wait of those that were tried is not the client's.
        assert_eq!(answer.header("retry-after"), "1");
        expect_error(MESSAGES, &answer.json());
        assert_eq!(pool.requests(), most);
        assert_eq!(access_line(&gateway, &answer).await["attempts"], most);
        assert!(client.is_reusable().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_no_attempt_begins_when_the_time_is_over() {
    let pool = Pool::of(&[Connect, Socks5]).await;
    let gateway = pool.start(pool.setup(2).set("/retry/budget_ms", json!(200))).await;
    pool.ways[0].provider.push(Reply::status(429).delayed(Duration::from_millis(400)));
    let answer = gateway.send(ask_troll(CHAT, false)).await.expect(503);
    assert_eq!(pool.shares(), [1, 0]);
    assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);

    // A proxy that hangs takes the time as well.
    let setup = pool.setup(2).set("/retry/budget_ms", json!(200)).set("/timeouts/connect_ms", json!(400));
    drop(gateway);
    pool.ways[1].proxy().always(Act::Hang);
    let gateway = pool.start(setup).await;
    gateway.send(ask_troll(CHAT, false)).await.expect(200);
    let answer = gateway.send(ask_troll(CHAT, false)).await.expect(502);
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["attempts"], &line["proxy"]), (&json!(1), &json!("p2")), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_a_client_that_leaves_during_an_attempt_ends_the_attempts() {
    for reply in [Reply::hang(), Reply::status(429).delayed(Duration::from_secs(1))] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.setup(2)).await;
        pool.ways[0].provider.push(reply);
        let mut client = gateway.client().await;
        let left = tokio::select! {
            _ = client.open(ask_troll(CHAT, true)) => false,
            _ = pool.ways[0].provider.wait_for(1) => true,
        };
        assert!(left, "an answer came");
        client.abort();
        let line = next_line(&gateway, 0).await;
        assert_eq!((&line["attempts"], &line["end"]), (&json!(1), &json!("client_gone")), "{line}");
        assert_eq!(pool.requests(), 1);
    }
}

/// While a connection is opened nobody looks at the client's; before another attempt somebody must.
#[tokio::test(flavor = "multi_thread")]
async fn t12_a_client_that_leaves_while_a_proxy_hangs_ends_the_attempts() {
    for over_http2 in [false, true] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.setup(2).set("/timeouts/connect_ms", json!(1000))).await;
        let hanging = pool.ways[0].proxy();
        hanging.push(Act::Hang);
        let before = hanging.seen().connections;
        let mut client = if over_http2 { gateway.h2c_client().await } else { gateway.client().await };
        let left = tokio::select! {
            _ = client.open(ask_troll(CHAT, true)) => false,
            _ = hanging.wait_until(|seen| seen.connections > before) => true,
        };
        assert!(left, "an answer came");
        client.abort();
        let line = next_line(&gateway, 0).await;
        assert_eq!((&line["attempts"], &line["end"]), (&json!(1), &json!("client_gone")), "{line}");
        assert_eq!(pool.requests(), 0);
    }
}
