//! Keys without proxies: troll's own (T5), and those of main and of a named upstream, which rotate in the same way.

use super::*;
use crate::answers::{CHAT, MESSAGES, access_line, expect_error};
use crate::support::Shorthand;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, NAMED_MODEL};

#[tokio::test(flavor = "multi_thread")]
async fn t5_without_proxies_the_keys_rotate_on_direct_connections() {
    for (path, stream) in [(CHAT, false), (MESSAGES, true)] {
        let troll = Mock::http().await.unwrap();
        let gateway = with_keys(Setup::new().troll(&troll), "troll", 3).set("/log/format", json!("json")).start().await;
        troll.push(Reply::status(429).header("retry-after", "60"));
        troll.push(Reply::status(402));
        let answer = gateway.send(ask_troll(path, stream)).await.expect(200);
        assert_eq!(keys_at(&troll), ["k1", "k2", "k3"]);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["proxy"], &line["key"]), (&json!(3), &Value::Null, &json!("k3")), "{line}");
        // The two rest; the third carries all.
        gateway.send(ask_troll(path, stream)).await.expect(200);
        assert_eq!(keys_at(&troll), ["k1", "k2", "k3", "k3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_of_main_and_of_a_named_upstream_rotate_in_the_same_way() {
    for (upstream, model) in [("main", MAIN_MODEL), ("named", NAMED_MODEL)] {
        let (place, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
        let setup = Setup::new()
            .troll(&troll)
            .set("/log/format", json!("json"))
            .set(&format!("/upstreams/{upstream}"), json!({ "base_url": place.base_url() }));
        let setup = if upstream == "named" { setup.set("/models/-", json!({ "id": model, "upstream": "named" })) } else { setup };
        let gateway = with_keys(setup, upstream, 2).start().await;
        place.rule(of_key("k1", Reply::status(429).header("retry-after", "77")));
        let answer = gateway.send(ask(CHAT, model, true)).await.expect(200);
        assert_eq!(keys_at(&place), ["k1", "k2"], "{upstream}");
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["upstream"], &line["key"]), (&json!(2), &json!(upstream), &json!("k2")), "{line}");

        // The last key's limit is the client's own answer, and no other upstream is asked.
        place.rule(of_key("k2", Reply::status(429).header("retry-after", "55")));
        let (answer, cooled) = timed(gateway.send(ask(MESSAGES, model, false))).await;
        let answer = answer.expect(429);
        assert_eq!(answer.header("retry-after"), "55", "{upstream}");
        expect_error(MESSAGES, &answer.json());
        assert_eq!(keys_at(&place), ["k1", "k2", "k2"], "{upstream}");
        // All rest, and that is known beforehand.
        let (answer, asked) = timed(gateway.send(ask(MESSAGES, model, false))).await;
        expect_wait(&answer.expect(429), Duration::from_secs(55), &cooled, &asked);
        assert_eq!((place.counts().requests, troll.counts().connections), (3, 0), "{upstream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_key_passes_its_429_on_and_is_never_refused_beforehand() {
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).troll(&troll).set("/log/format", json!("json")).start().await;
    for (place, model) in [(&main, MAIN_MODEL), (&troll, TROLL_MODEL)] {
        place.always(Reply::status(429).header("retry-after", "44"));
        for asked in 1..=3 {
            let answer = gateway.send(ask(CHAT, model, false)).await.expect(429);
            assert_eq!(answer.header("retry-after"), "44");
            assert_eq!(place.counts().requests, asked);
            assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);
        }
        place.behave();
        gateway.send(ask(CHAT, model, false)).await.expect(200);
    }
    assert_eq!(main.requests()[0].header("authorization"), [format!("Bearer {MAIN_KEY}")]);
}
