//! The foundation itself, against the real gateway: every upstream of a setup, every kind of client, every way to look inside.

use serde_json::json;

use crate::support::setup::{
    MAIN_KEY, MAIN_MODEL, NAMED_KEY, NAMED_MODEL, OHMYGPT_HOST, OHMYGPT_KEY, OHMYGPT_MODEL, TROLL_KEY, TROLL_MODEL,
};
use crate::support::{Alpn, Authority, Client, Mock, Request, Setup};

fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] }))
}

/// M1, M2, M3, K11: each model reaches its own provider with that provider's key; ohmygpt keeps its fixed name.
#[tokio::test(flavor = "multi_thread")]
async fn a_setup_reaches_all_four_upstreams_over_every_kind_of_connection() {
    let authority = Authority::new();
    let (main, troll, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    for (mock, key) in [(&main, MAIN_KEY), (&troll, TROLL_KEY), (&named, NAMED_KEY), (&ohmygpt, OHMYGPT_KEY)] {
        mock.expect_key(key);
    }
    let gateway = Setup::new()
        .main(&main)
        .troll(&troll)
        .named(&named)
        .ohmygpt(&ohmygpt, &authority.ca_pem)
        .tls_listener(&authority.server(&["localhost"], true))
        .start()
        .await;

    let over_tls = |alpn| Client::tls(gateway.tls_addr(), "localhost", &authority.ca_pem, alpn, gateway.distrust());
    for mut client in
        [gateway.client().await, gateway.h2c_client().await, over_tls(Alpn::Http1).await, over_tls(Alpn::Http2).await]
    {
        for model in [MAIN_MODEL, TROLL_MODEL, NAMED_MODEL, OHMYGPT_MODEL] {
            client.send(chat(model)).await.expect(200);
            assert!(client.is_reusable().await);
        }
    }
    for mock in [&main, &troll, &named, &ohmygpt] {
        assert_eq!(mock.counts().requests, 4);
    }
    let arrived = ohmygpt.requests().remove(0);
    assert_eq!(arrived.sni.as_deref(), Some(OHMYGPT_HOST));
    assert!(arrived.target.starts_with("/api/v1/ai/openai/cc-omg/"), "{}", arrived.target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_can_look_at_the_log_the_health_and_the_memory_of_a_gateway() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let id = gateway.send(chat(MAIN_MODEL)).await.expect(200).header("x-request-id").to_owned();
    let line = gateway.wait_for_log(|line| line.contains(&id)).await;
    assert!(line.contains(MAIN_MODEL), "{line}");
    assert!(gateway.health().await["status"].is_string());
    assert!(gateway.rss_bytes() > 1_000_000);

    let mut raw = gateway.raw().await;
    raw.send("GET / HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    assert_eq!(raw.read_answer().await.status, 200);
    assert!(gateway.stop().contains(&id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_can_see_a_start_refused() {
    let (code, said) = Setup::new().set("/upstreams/main/base_url", json!("ftp://nowhere")).start_refused().await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("base_url"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "planted text")]
async fn a_planted_text_in_an_answer_fails_the_test() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).planted(MAIN_MODEL).start().await;
    gateway.send(chat(MAIN_MODEL)).await;
}
