//! A1, A2: a refusal that is about one model, one request or the account's money, and not about the key for everybody. A second client works all
//! the while and notices nothing.

use super::Kind::Connect;
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line};
use crate::support::Shorthand;

/// A model that some keys can't serve; troll takes every name.
const BIG: &str = "big-model-9";

fn refusal(status: u16, error: Value) -> Reply {
    Reply { status: Some(status), ..Reply::json(json!({ "error": error })) }
}

/// What a provider says of the model, in each status.
fn refusals_of_the_model() -> Vec<(Reply, &'static str)> {
    let access = json!({ "message": format!("Project `proj_x` does not have access to model `{BIG}`"), "code": null });
    let missing = json!({ "message": "The model does not exist or you do not have access to it.", "code": "model_not_found" });
    let limit = json!({ "message": format!("Rate limit reached for {BIG} in organization org-x on requests per min (RPM)"), "code": "rate_limit_exceeded" });
    vec![
        (refusal(403, access), "no_access"),
        (refusal(404, missing.clone()), "no_access"),
        (refusal(400, missing), "no_access"),
        (refusal(429, limit), "rate_limited"),
    ]
}

/// Whenever this model comes with this key.
fn of_model(key: &str, model: &str, reply: Reply) -> Rule {
    Rule { model: Some(model.to_owned()), ..of_key(key, reply) }
}

async fn expect_carried_by(gateway: &Gateway, request: Request, key: &str, attempts: u64, place: &str) {
    let answer = gateway.send(request).await.expect(200);
    let line = access_line(gateway, &answer).await;
    assert_eq!((&line["key"], &line["attempts"]), (&json!(key), &json!(attempts)), "{place}: {line}");
}

/// Sends requests of another model until `attack` is over; each is carried by the first key at once.
async fn unnoticed<T>(gateway: &Gateway, attack: impl Future<Output = T>) -> T {
    let victim = async {
        loop {
            expect_carried_by(gateway, ask_troll(MESSAGES, false), "k1", 1, "the other client").await;
        }
    };
    tokio::select! {
        biased;
        done = attack => done,
        () = victim => unreachable!("it works for ever"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_key_that_may_not_serve_one_model_serves_all_others() {
    for (reply, cause) in refusals_of_the_model() {
        let provider = Mock::http().await.unwrap();
        provider.rule(of_model("k1", BIG, reply.clone()));
        let gateway = with_keys(Setup::new().troll(&provider), "troll", 2).set("/log/format", json!("json")).start().await;
        let place = format!("{:?}", reply.status);
        unnoticed(&gateway, async {
            expect_carried_by(&gateway, ask(CHAT, BIG, false), "k2", 2, &place).await;
            expect_carried_by(&gateway, ask(CHAT, BIG, true), "k2", 1, "what is known is not tried again").await;
        })
        .await;
        let key = key_status(&gateway, "k1").await;
        assert_eq!(
            (&key["state"], &key["models"][0]["model"], &key["models"][0]["cause"]),
            (&json!("ready"), &json!(BIG), &json!(cause))
        );
        let metrics = gateway.admin("/metrics").await.expect(200).text();
        assert!(metrics.contains("trollbridge_key_models_resting{upstream=\"troll\",key=\"k1\"} 1"), "{metrics}");
        expect_carried_by(&gateway, ask_troll(CHAT, false), "k1", 1, &place).await;

        reload(&gateway).await;
        let tries_again = if cause == "no_access" { 2 } else { 1 };
        expect_carried_by(&gateway, ask(CHAT, BIG, false), "k2", tries_again, "after a reload").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_what_no_key_may_serve_changes_nothing_for_others() {
    for (reply, _) in refusals_of_the_model() {
        let status = reply.status.unwrap();
        if status == 429 {
            continue;
        }
        let provider = Mock::http().await.unwrap();
        for key in ["k1", "k2", "k3"] {
            provider.rule(of_model(key, BIG, reply.clone()));
        }
        let gateway = with_keys(Setup::new().troll(&provider), "troll", 3).set("/log/format", json!("json")).start().await;
        unnoticed(&gateway, async {
            for _ in 0..3 {
                let answer = gateway.send(ask(CHAT, BIG, false)).await.expect(if status == 403 { 502 } else { status });
                assert_eq!(access_line(&gateway, &answer).await["attempts"], 3, "{status}");
            }
        })
        .await;
        for key in ["k1", "k2", "k3"] {
            let key = key_status(&gateway, key).await;
            assert_eq!((&key["state"], &key["rests"], &key["models"]), (&json!("ready"), &json!(0), &Value::Null), "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_one_request_beyond_every_limit_rests_nobody() {
    let provider = Mock::http().await.unwrap();
    let message = "Request too large for big on tokens per min (TPM): Limit 10000, Requested 50000.";
    let reply = refusal(429, json!({ "message": message, "type": "tokens", "code": "rate_limit_exceeded" }));
    provider.rule(Rule { model: Some(BIG.to_owned()), reply, ..Rule::default() });
    let gateway = with_keys(Setup::new().troll(&provider), "troll", 3).set("/log/format", json!("json")).start().await;
    unnoticed(&gateway, async {
        for path in [CHAT, MESSAGES] {
            let answer = gateway.send(ask(path, BIG, false)).await.expect(429);
            assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), ("false", ""));
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["refusal"], &line["attempts"]), (&json!("beyond_limit"), &json!(3)), "{line}");
            assert!(line["skipped"].as_str().unwrap().contains("k1:too_large"), "{line}");
        }
    })
    .await;
    for key in ["k1", "k2", "k3"] {
        assert_eq!(key_status(&gateway, key).await["rests"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_money_rests_as_exhausted_and_its_words_stay_here() {
    let money = [
        refusal(
            400,
            json!({ "code": "Arrearage", "message": "Access denied, please make sure your account is in good standing." }),
        ),
        refusal(429, json!({ "code": "insufficient_quota", "message": "You exceeded your current quota: good standing" })),
        refusal(400, json!({ "type": "invalid_request_error", "message": "Your credit balance is too low: good standing" })),
        refusal(403, json!({ "type": "billing_error", "message": "good standing" })),
    ];
    for reply in money {
        let pool = Pool::of(&[Connect]).await;
        let gateway = pool.start(pool.setup(2)).await;
        pool.always("k1", &reply);
        expect_carried_by(&gateway, ask_troll(CHAT, false), "k2", 2, "the next key serves").await;
        let key = key_status(&gateway, "k1").await;
        assert_eq!((&key["state"], &key["cause"]), (&json!("cooling"), &json!("exhausted")), "{reply:?}");
        assert!(key["ready_in_s"].as_u64().unwrap() > 3_000, "{key}");
        expect_carried_by(&gateway, ask_troll(CHAT, false), "k2", 1, "and goes on").await;
        pool.always("k2", &reply);
        let answer = gateway.send(ask_troll(CHAT, false)).await;
        assert!(!answer.text().contains("good standing") && answer.status.is_server_error(), "{}", answer.text());
    }
}

/// A page that something before the provider sends says nothing of the key.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_page_for_people_kills_no_key() {
    let pool = Pool::of(&[Connect, Connect]).await;
    let gateway = pool.start(pool.setup(1)).await;
    let page =
        Reply { status: Some(403), ..Reply::raw_body("<html>Attention Required!</html>").header("content-type", "text/html") };
    pool.ways[0].provider.rule(of_key("k1", page));
    for _ in 0..4 {
        let answer = gateway.send(ask_troll(CHAT, false)).await.expect(200);
        assert_eq!(access_line(&gateway, &answer).await["proxy"], "p2");
    }
    assert_eq!(key_status(&gateway, "k1").await["state"], "ready");
}
