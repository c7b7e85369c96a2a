//! Connections to upstreams and from clients (issue point 9).

use std::net::{Ipv4Addr, TcpListener};

use bytes::Bytes;
use serde_json::json;
use trollbridge::provider_mock::{AtAccept, Reply, Tls};

use crate::answers::{BOTH, CHAT, MESSAGES, Speaks, access_line, ask_main, client_that, expect_error, main_that};
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, MAIN_PLACE};
use crate::support::{Alpn, Authority, Client, Mock, Request, Setup, Shorthand};

/// `main` at `https://MAIN_PLACE`, in truth at this mock, trusted by `ca_pem`.
fn main_over_tls(main: &Mock, ca_pem: &str) -> Setup {
    Setup::new().set("/log/format", json!("json")).secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY).at_host(
        "main",
        &format!("https://{MAIN_PLACE}"),
        main,
        ca_pem,
    )
}

async fn expect_untrusted(tls: Tls, ca_pem: &str, why: &str) {
    let main = Mock::https(tls).await.unwrap();
    let gateway = main_over_tls(&main, ca_pem).start().await;
    for (path, stream) in [(CHAT, false), (MESSAGES, true)] {
        let answer = gateway.send(ask_main(path, stream)).await.expect(502);
        expect_error(path, &answer.json());
        assert!(!answer.text().contains(MAIN_PLACE), "{}", answer.text());
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["end"], &line["refusal"]), (&"upstream_error".into(), &"upstream_failed".into()), "{why}: {line}");
    }
    assert_eq!(main.counts().requests, 0, "{why}: the request reached a server that nobody can trust");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused_and_gets_no_request() {
    expect_untrusted(Authority::new().server(&[MAIN_PLACE], true), &Authority::new().ca_pem, "another authority").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused_and_gets_no_request() {
    let authority = Authority::new();
    expect_untrusted(authority.server(&["other.provider.test", "127.0.0.1"], true), &authority.ca_pem, "another name").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_time_is_over_is_refused_and_gets_no_request() {
    let authority = Authority::new();
    expect_untrusted(authority.expired(&[MAIN_PLACE]), &authority.ca_pem, "expired").await;
}

/// Without a `ca_file` the system's authorities count, and none of them signed this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_certificate_is_refused_without_its_authority() {
    let main = Mock::https(Authority::new().server(&[MAIN_PLACE], true)).await.unwrap();
    let gateway = Setup::new()
        .secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
        .set("/upstreams/main/base_url", json!(format!("https://{MAIN_PLACE}")))
        .set("/upstreams/main/connect_to", json!(main.addr()))
        .start()
        .await;
    gateway.send(ask_main(CHAT, false)).await.expect(502);
    assert_eq!(main.counts().requests, 0);
}

/// An address has no name to send, and is verified all the same: never an empty server name.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_place_of_a_name_is_verified_too() {
    for (names, status, requests) in [(&["127.0.0.1"][..], 200, 1), (&[MAIN_PLACE, "localhost"][..], 502, 0)] {
        let authority = Authority::new();
        let main = Mock::https(authority.server(names, true)).await.unwrap();
        let setup = Setup::new().secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY);
        let ca_file = setup.file("ca.pem", &authority.ca_pem);
        let gateway = setup
            .set("/upstreams/main/base_url", json!(main.base_url()))
            .set("/upstreams/main/ca_file", json!(ca_file))
            .start()
            .await;
        gateway.send(ask_main(CHAT, false)).await.expect(status);
        assert_eq!(main.counts().requests, requests);
    }
}

/// K11: `connect_to` changes the TCP address; Host, SNI and the certificate check stay the URL's.
#[tokio::test(flavor = "multi_thread")]
async fn k11_connect_to_changes_the_address_alone() {
    for http2 in [true, false] {
        let authority = Authority::new();
        let main = Mock::https(authority.server(&[MAIN_PLACE], http2)).await.unwrap();
        let gateway = main_over_tls(&main, &authority.ca_pem)
            .set("/upstreams/main/base_url", json!(format!("https://{MAIN_PLACE}:8443/base/")))
            .start()
            .await;
        gateway.send(ask_main(CHAT, false)).await.expect(200);
        let arrived = main.requests().remove(0);
        assert_eq!(arrived.sni.as_deref(), Some(MAIN_PLACE));
        assert_eq!(arrived.target, "/base/v1/chat/completions");
        let authority = arrived.authority.clone().unwrap_or_else(|| arrived.header("host").concat());
        assert_eq!(authority, format!("{MAIN_PLACE}:8443"));
    }
}

/// HTTP/2 where the upstream offers it and the configuration does not forbid it.
#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_the_protocol_to_an_upstream() {
    for (offered, wanted, version) in [
        (true, None, http::Version::HTTP_2),
        (true, Some(true), http::Version::HTTP_2),
        (true, Some(false), http::Version::HTTP_11),
        (false, None, http::Version::HTTP_11),
    ] {
        let authority = Authority::new();
        let main = Mock::https(authority.server(&[MAIN_PLACE], offered)).await.unwrap();
        let mut setup = main_over_tls(&main, &authority.ca_pem);
        if let Some(wanted) = wanted {
            setup = setup.set("/upstreams/main/http2", json!(wanted));
        }
        let gateway = setup.start().await;
        for (path, stream) in [(CHAT, false), (MESSAGES, true)] {
            gateway.send(ask_main(path, stream)).await.expect(200);
        }
        assert!(main.requests().iter().all(|request| request.version == version && request.tls), "{offered} {wanted:?}");
    }
}

/// One request after the other shares one upstream connection, whoever asks and however it was answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_an_upstream_is_used_again() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.threads(1).start().await;
        let big = json!({ "model": MAIN_MODEL, "messages": [{ "role": "user", "content": "x".repeat(200_000) }] }).to_string();
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for _ in 0..3 {
                client.send(ask_main(CHAT, false)).await.expect(200);
                client.send(ask_main(MESSAGES, true)).await.expect(200);
                main.push(Reply::status(429));
                client.send(ask_main(CHAT, false)).await.expect(429);
                client.send(Request::post_bytes(CHAT, big.clone())).await.expect(200);
                client.send(Request::post_bytes(CHAT, big.clone()).chunked(10_000)).await.expect(200);
            }
            gateway.send(ask_main(CHAT, false)).await.expect(200);
        }
        assert_eq!(main.requests().len(), 32);
        // A client that is quick asks again before the connection is back in the pool.
        assert!(main.counts().connections <= 6, "{up:?} {:?}", main.counts());
    }
}

/// Many at once over HTTP/2 are streams of few connections.
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_share_an_http2_connection() {
    let (setup, main) = main_that(Speaks::Http2).await;
    let gateway = setup.start().await;
    gateway.send(ask_main(CHAT, false)).await.expect(200);
    let client = gateway.h2c_client().await;
    let mut flying = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let mut client = client.fork();
        flying.spawn(async move { client.send(ask_main(MESSAGES, true)).await.expect(200) });
    }
    while let Some(done) = flying.join_next().await {
        assert!(done.unwrap().text().contains("message_stop"));
    }
    // Those that start while no connection has room yet open one of their own.
    assert!(main.counts().connections <= 20, "{:?}", main.counts());
}

/// A kept connection that the upstream closed meanwhile costs no request.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_died_is_replaced_unseen() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for fault in [Reply::close(), Reply::reset()] {
        let mut answers = Vec::new();
        // A request that comes before the kept connection is back in its pool opens one of its own, and that one's fault is a 502.
        while answers.last() != Some(&200) {
            assert!(answers.len() < 20, "{answers:?}");
            gateway.send(ask_main(CHAT, false)).await.expect(200);
            main.push(fault.clone());
            let answer = gateway.send(ask_main(CHAT, false)).await;
            // A6: the one that met the dead connection was none.
            assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);
            answers.push(answer.status.as_u16());
        }
    }
}

/// Refused connections and unanswered handshakes end within the connect deadline, in a clear answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_connection_is_a_clear_502() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for base_url in [format!("http://{closed}"), format!("https://{closed}"), "http://no-such-name.invalid".to_owned()] {
        let gateway = Setup::new()
            .secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
            .set("/log/format", json!("json"))
            .set("/upstreams/main/base_url", json!(base_url))
            .set("/timeouts/connect_ms", json!(1000))
            .start()
            .await;
        for down in BOTH {
            for (path, stream) in [(CHAT, false), (MESSAGES, true)] {
                let answer = client_that(&gateway, down).await.send(ask_main(path, stream)).await.expect(502);
                expect_error(path, &answer.json());
                assert!(!answer.text().contains("invalid\"") || path == CHAT, "{}", answer.text());
                assert!(
                    !answer.text().contains(&closed.to_string()) && !answer.text().contains("no-such-name"),
                    "{}",
                    answer.text()
                );
                let line = access_line(&gateway, &answer).await;
                assert_eq!((&line["end"], &line["refusal"]), (&"upstream_error".into(), &"upstream_failed".into()), "{line}");
            }
        }
    }
}

/// A handshake that nobody answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_an_answer_is_502_within_the_connect_deadline() {
    let authority = Authority::new();
    let main = Mock::https(authority.server(&[MAIN_PLACE], true)).await.unwrap();
    let gateway = main_over_tls(&main, &authority.ca_pem).set("/timeouts/connect_ms", json!(300)).start().await;
    for _ in 0..4 {
        main.push_accept(AtAccept::Hang);
    }
    let answer = gateway.send(ask_main(CHAT, false)).await.expect(502);
    expect_error(CHAT, &answer.json());
    assert_eq!(main.counts().requests, 0);
}

/// One of several tries that fails is not the end of the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fails_once_is_tried_again() {
    let authority = Authority::new();
    let main = Mock::https(authority.server(&[MAIN_PLACE], true)).await.unwrap();
    let gateway = main_over_tls(&main, &authority.ca_pem).start().await;
    main.push_accept(AtAccept::Close);
    main.push_accept(AtAccept::Reset);
    let answer = gateway.send(ask_main(CHAT, false)).await.expect(200);
    assert_eq!(access_line(&gateway, &answer).await["attempts"], 3);
}

/// A name with an address that does not answer (`localhost` is often `::1` as well) is reached at another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_and_every_address_of_it_tried() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
        .set("/upstreams/main/base_url", json!(format!("http://localhost:{}", main.addr().port())))
        .start()
        .await;
    for _ in 0..4 {
        gateway.send(ask_main(CHAT, false)).await.expect(200);
    }
    assert_eq!(main.requests()[0].header("host"), [format!("localhost:{}", main.addr().port())]);
}

/// Two upstreams at one address under two names never share a connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_one_upstream_alone() {
    let authority = Authority::new();
    let both = Mock::https(authority.server(&[MAIN_PLACE, "named.provider.test"], true)).await.unwrap();
    let gateway = main_over_tls(&both, &authority.ca_pem)
        .set("/upstreams/named", json!({ "base_url": "https://named.provider.test" }))
        .at_host("named", "https://named.provider.test", &both, &authority.ca_pem)
        .set("/models/-", json!({ "id": "other", "upstream": "named" }))
        .start()
        .await;
    for model in [MAIN_MODEL, "other", MAIN_MODEL, "other"] {
        gateway.send(Request::post(CHAT, &json!({ "model": model, "messages": [] }))).await.expect(200);
    }
    let requests = both.requests();
    assert_eq!(requests[0].sni.as_deref(), Some(MAIN_PLACE));
    assert_eq!(requests[1].sni.as_deref(), Some("named.provider.test"));
    assert!(requests[1].header("authorization").is_empty());
    for of_main in [0, 2] {
        for of_named in [1, 3] {
            assert_ne!(requests[of_main].connection, requests[of_named].connection);
        }
    }
}

/// The TLS listener speaks both protocols to clients, bodies in both directions beyond every buffer.
#[tokio::test(flavor = "multi_thread")]
async fn the_tls_listener_serves_both_protocols() {
    let authority = Authority::new();
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.tls_listener(&authority.server(&["gateway.test"], true)).start().await;
    let body = json!({ "model": MAIN_MODEL, "messages": [{ "role": "user", "content": "x".repeat(3_000_000) }] }).to_string();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let mut client = Client::tls(gateway.tls_addr(), "gateway.test", &authority.ca_pem, alpn, gateway.distrust()).await;
        for chunked in [false, true] {
            main.forget_requests();
            main.push(Reply::filler(3_000_000));
            let request = Request::post_bytes(CHAT, Bytes::from(body.clone()));
            let answer = client.send(if chunked { request.chunked(100_000) } else { request }).await.expect(200);
            assert_eq!(answer.body().len(), 3_000_000);
            assert_eq!(main.requests()[0].body, body);
            assert_eq!(answer.version, if alpn == Alpn::Http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 });
        }
        client.send(ask_main(MESSAGES, true)).await.expect(200);
        assert!(client.is_reusable().await);
    }
}
