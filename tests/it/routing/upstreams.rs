//! The three upstreams that always exist, and those of the operator.

use serde_json::json;
use trollbridge::provider_mock::Reply;

use super::{CHAT, MESSAGES, ask, the_host};
use crate::support::setup::{
    MAIN_KEY, MAIN_MODEL, NAMED_MODEL, OHMYGPT_HOST, OHMYGPT_KEY, OHMYGPT_MODEL, SECOND_MAIN_MODEL, TROLL_KEY, TROLL_MODEL,
};
use crate::support::{Authority, Mock, Request, Setup, Shorthand};

#[tokio::test(flavor = "multi_thread")]
async fn m1_m4_sonnet_and_haiku_reach_main_below_its_base_path_with_mains_key() {
    let main = Mock::http().await.unwrap();
    main.expect_key(MAIN_KEY);
    let base = format!("{}/relay", main.base_url());
    let gateway = Setup::new().main(&main).set("/upstreams/main/base_url", json!(base)).start().await;

    for (path, model) in [(MESSAGES, MAIN_MODEL), (MESSAGES, SECOND_MAIN_MODEL), (CHAT, MAIN_MODEL), (CHAT, SECOND_MAIN_MODEL)] {
        main.forget_requests();
        gateway.send(ask(path, model)).await.expect(200);
        let [arrived] = &main.requests()[..] else { panic!("one request") };
        assert_eq!((arrived.method.as_str(), arrived.target.as_str()), ("POST", format!("/relay{path}").as_str()));
        assert_eq!(arrived.header("authorization"), [format!("Bearer {MAIN_KEY}")]);
        assert_eq!(arrived.header("x-api-key"), Vec::<&str>::new());
        assert_eq!(the_host(arrived), main.addr().to_string());
        assert_eq!(arrived.body, super::prompt(model).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m2_opus_and_a_model_without_an_upstream_reach_troll_with_its_primary_key() {
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new()
        .main(&main)
        .troll(&troll)
        .set("/upstreams/troll/keys/-", json!({ "id": "k2", "key": "${TROLL_SECOND}" }))
        .secret_env("TROLL_SECOND", "sk-troll-second-planted-77aa")
        .set("/models/-", json!({ "id": "nowhere-in-particular" }))
        .start()
        .await;
    for (path, model) in [(MESSAGES, TROLL_MODEL), (CHAT, TROLL_MODEL), (CHAT, "nowhere-in-particular")] {
        gateway.send(ask(path, model)).await.expect(200);
        let arrived = troll.requests().pop().unwrap();
        assert_eq!(arrived.target, path);
        assert_eq!(arrived.header("authorization"), [format!("Bearer {TROLL_KEY}")]);
    }
    assert_eq!((troll.counts().requests, main.counts().connections), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn m3_m11_k11_ohmygpt_keeps_its_host_name_wherever_the_connection_goes() {
    let authority = Authority::new();
    for http2 in [false, true] {
        let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], http2)).await.unwrap();
        ohmygpt.expect_key(OHMYGPT_KEY);
        let gateway = Setup::new().ohmygpt(&ohmygpt, &authority.ca_pem).start().await;
        let odd_host = || ask(CHAT, OHMYGPT_MODEL).header("host", "somewhere-else.example");
        gateway.client().await.send(odd_host()).await.expect(200);
        gateway.h2c_client().await.send(ask(MESSAGES, OHMYGPT_MODEL)).await.expect(200);
        for (arrived, path) in ohmygpt.requests().iter().zip([CHAT, MESSAGES]) {
            assert_eq!(arrived.target, format!("/api/v1/ai/openai/cc-omg{path}"));
            assert_eq!(arrived.sni.as_deref(), Some(OHMYGPT_HOST));
            assert_eq!(the_host(arrived), OHMYGPT_HOST);
            assert_eq!(arrived.version == hyper::Version::HTTP_2, http2, "{arrived:?}");
            assert_eq!(arrived.header("authorization"), [format!("Bearer {OHMYGPT_KEY}")]);
        }
        assert_eq!(ohmygpt.counts().requests, 2);
    }
}

/// K11: the certificate must be the fixed host's, and by the authority that was named: nothing is sent to anybody else.
#[tokio::test(flavor = "multi_thread")]
async fn m3_a_certificate_for_another_name_or_by_a_stranger_gets_no_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let wrong_name = Mock::https(authority.server(&["apic2.ohmycdn.com", "localhost", "127.0.0.1"], true)).await.unwrap();
    let by_a_stranger = Mock::https(stranger.server(&[OHMYGPT_HOST], true)).await.unwrap();
    for impostor in [&wrong_name, &by_a_stranger] {
        let gateway = Setup::new().ohmygpt(impostor, &authority.ca_pem).start().await;
        let refused = gateway.send(ask(CHAT, OHMYGPT_MODEL)).await.expect(502);
        assert_eq!(refused.json()["error"]["type"], "api_error");
        assert_eq!(impostor.counts().requests, 0);
        assert!(impostor.counts().connections > 0);
    }
    // Without the file the system's authorities decide, and they do not know the test's.
    let untrusted = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    let gateway =
        Setup::new().ohmygpt(&untrusted, &authority.ca_pem).set("/upstreams/ohmygpt/ca_file", json!(null)).start().await;
    gateway.send(ask(CHAT, OHMYGPT_MODEL)).await.expect(502);
    assert_eq!(untrusted.counts().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m3_an_upstream_that_is_not_configured_is_said_so_without_touching_a_network() {
    let authority = Authority::new();
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    // Each lacks its key alone: the address is there, and must not be used.
    let gateway = Setup::new()
        .ohmygpt(&ohmygpt, &authority.ca_pem)
        .main(&main)
        .troll(&troll)
        .env("OHMYGPT_API_KEY", "")
        .env("MAIN_UPSTREAM_KEY", "")
        .env("TROLL_API_KEY", "")
        .start()
        .await;
    for (model, message) in [
        (OHMYGPT_MODEL, "OhmyGPT not configured"),
        (MAIN_MODEL, "Main target not configured"),
        (TROLL_MODEL, "The upstream of this model is not configured"),
    ] {
        let openai = gateway.send(ask(CHAT, model)).await.expect(500);
        assert_eq!(openai.json()["error"]["message"], message);
        assert_eq!(openai.json()["error"]["type"], "api_error");
        let anthropic = gateway.send(ask(MESSAGES, model)).await.expect(500);
        assert_eq!(anthropic.json()["type"], "error");
        assert_eq!(anthropic.json()["error"], json!({ "type": "api_error", "message": message }));
        for answer in [openai, anthropic] {
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("x-should-retry"), "false");
            assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
        }
    }
    for mock in [&main, &troll, &ohmygpt] {
        assert_eq!(mock.counts().connections, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m3_main_without_an_address_is_not_configured_either() {
    let gateway = Setup::new().secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY).start().await;
    let refused = gateway.send(ask(MESSAGES, MAIN_MODEL)).await.expect(500);
    assert_eq!(refused.json()["error"]["message"], "Main target not configured");
}

/// M12: not even when they fail.
#[tokio::test(flavor = "multi_thread")]
async fn m12_main_ohmygpt_named_and_url_targets_never_touch_troll() {
    let authority = Authority::new();
    let (main, named, url, troll) =
        (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    let gateway = Setup::new()
        .main(&main)
        .named(&named)
        .ohmygpt(&ohmygpt, &authority.ca_pem)
        .troll(&troll)
        .set("/model_routing", json!({ "enabled": true, "models": { "by-url": url.base_url() } }))
        .start()
        .await;
    let all = [(&main, MAIN_MODEL), (&named, NAMED_MODEL), (&ohmygpt, OHMYGPT_MODEL), (&url, "by-url")];
    for (mock, model) in all {
        gateway.send(ask(CHAT, model)).await.expect(200);
        for (bad, seen) in
            [(Reply::status(429), 429), (Reply::status(500), 500), (Reply::status(401), 502), (Reply::close(), 502)]
        {
            mock.always(bad);
            gateway.send(ask(CHAT, model)).await.expect(seen);
        }
    }
    assert_eq!(troll.counts().connections, 0);
    let arrived = url.requests().remove(0);
    assert_eq!(arrived.header("authorization"), Vec::<&str>::new(), "a target without a key is sent no credentials");
}

/// M11: whatever the client calls the host, and however often.
#[tokio::test(flavor = "multi_thread")]
async fn m11_exactly_one_host_goes_upstream_and_it_is_the_targets() {
    let authority = Authority::new();
    let plain = Mock::http().await.unwrap();
    let h2 = Mock::https(authority.server(&["models.example"], true)).await.unwrap();
    let gateway = Setup::new()
        .main(&plain)
        .set("/models/-", json!({ "id": "over-h2", "upstream": "far" }))
        .set("/upstreams/far", json!({}))
        .at_host("far", "https://models.example:8443/v1", &h2, &authority.ca_pem)
        .start()
        .await;
    for (mock, model, host) in [(&plain, MAIN_MODEL, plain.addr().to_string()), (&h2, "over-h2", "models.example:8443".into())] {
        for name in ["evil.example", "localhost:1", "MODELS.EXAMPLE"] {
            gateway.client().await.send(ask(CHAT, model).header("host", name)).await.expect(200);
            gateway.h2c_client().await.send(ask(CHAT, model).header("host", name)).await;
        }
        gateway.h2c_client().await.send(Request::post(CHAT, &super::prompt(model))).await.expect(200);
        let arrived = mock.requests();
        assert!(arrived.len() >= 4, "{}", arrived.len());
        assert!(arrived.iter().all(|request| the_host(request) == host), "{arrived:?}");
    }
}
