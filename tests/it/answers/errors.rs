//! O3, O4, O5: an upstream's error becomes one of ours.

use std::time::{Duration, SystemTime};

use serde_json::json;
use trollbridge::provider_mock::{After, Body, CANARIES, Encoding, Framing, How, Reply};

use super::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask, ask_main, client_that, expect_error, main_that};
use crate::support::setup::{MAIN_MODEL, NAMED_MODEL, OHMYGPT_HOST, OHMYGPT_MODEL, TROLL_MODEL};
use crate::support::{Authority, Mock, Setup, Shorthand};

const STATUSES: [u16; 19] = [400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 451, 500, 501, 502, 503, 504, 529];
/// A piece of the mock's message that a developer needs.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Invalid value: 'purple'",
        404 => "The model does not exist",
        413 => "exceeds the maximum size",
        422 => "well-formed but could not be processed",
        _ => unreachable!("no fault of a client: {status}"),
    }
}

/// The canaries may appear in no answer and no log line.
fn watching(setup: Setup) -> Setup {
    CANARIES.into_iter().fold(setup, |setup, canary| setup.planted(canary))
}

/// O3, O4: every status on every upstream in both dialects, the provider telling all it knows.
#[tokio::test(flavor = "multi_thread")]
async fn o3_an_error_keeps_its_status_and_tells_nothing_of_the_provider() {
    let authority = Authority::new();
    let (main, troll, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    let gateway = watching(Setup::new())
        .main(&main)
        .troll(&troll)
        .named(&named)
        .ohmygpt(&ohmygpt, &authority.ca_pem)
        .set("/log/format", json!("json"))
        .start()
        .await;
    let upstreams =
        [(MAIN_MODEL, &main, true), (NAMED_MODEL, &named, true), (TROLL_MODEL, &troll, false), (OHMYGPT_MODEL, &ohmygpt, false)];
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        for (model, mock, passes) in upstreams {
            for status in STATUSES {
                for (path, stream) in [(CHAT, false), (MESSAGES, true), (RESPONSES, true)] {
                    mock.push(Reply::leaking_error(status));
                    let shown = if (401..=403).contains(&status) { 502 } else { status };
                    let answer = client.send(ask(path, model, stream)).await.expect(shown);
                    expect_error(path, &answer.json());
                    assert_eq!(answer.header("content-type"), "application/json");
                    let text = answer.text();
                    assert!(!text.contains(&mock.addr().to_string()) && !text.contains("req_mock"), "{text}");
                    if matches!(status, 400 | 404 | 413 | 422) {
                        assert_eq!(text.contains(reason(status)), passes, "{model} {status} {path}: {text}");
                    } else {
                        assert!(!text.contains("(organization"), "{text}");
                    }
                    if path == MESSAGES && shown == 502 {
                        assert_eq!(answer.json()["error"]["type"], "api_error", "O4");
                    }
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!((&line["end"], &line["status"]), (&"upstream_error".into(), &shown.into()), "{line}");
                }
            }
        }
        assert!(client.is_reusable().await);
    }
}

/// O3: the switch turns each upstream's default round.
#[tokio::test(flavor = "multi_thread")]
async fn o3_pass_client_faults_is_a_switch_of_each_upstream() {
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = watching(Setup::new())
        .main(&main)
        .troll(&troll)
        .set("/upstreams/main/pass_client_faults", json!(false))
        .set("/upstreams/troll/pass_client_faults", json!(true))
        .start()
        .await;
    for status in [400, 404, 413, 422] {
        for (model, mock, passes) in [(MAIN_MODEL, &main, false), (TROLL_MODEL, &troll, true)] {
            mock.push(Reply::leaking_error(status));
            let answer = gateway.send(ask(CHAT, model, false)).await.expect(status);
            assert_eq!(answer.text().contains(reason(status)), passes, "{status} {model}: {}", answer.text());
        }
    }
}

/// O3: the operator finds the provider's own words by the request's id, without secrets; at most 2 KiB of them.
#[tokio::test(flavor = "multi_thread")]
async fn o3_the_original_is_logged_with_the_requests_id_and_masked() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = watching(setup).start().await;
    for status in [400, 403, 429, 500, 529] {
        main.push(Reply::leaking_error(status));
        let answer = gateway.send(ask_main(CHAT, false)).await;
        let id = answer.header("x-request-id");
        let line = gateway.wait_for_log(|line| line.contains(id) && line.contains(&format!("answered {status}: "))).await;
        assert!(line.contains("served by *****"), "{line}");
        assert!(line.contains(r#"\"type\""#), "the original, not only its message: {line}");
    }
    main.push(Reply { status: Some(500), ..Reply::filler(1_000_000) });
    let answer = gateway.send(ask_main(CHAT, false)).await.expect(500);
    let id = answer.header("x-request-id");
    let line = gateway.wait_for_log(|line| line.contains(id) && line.contains("answered 500: ")).await;
    assert!(line.contains("fffff") && line.len() < 3000, "{} bytes", line.len());
}

/// O3: an error without a body, in each form that HTTP has for it, gets one of ours; the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn o3_an_error_without_a_body_gets_ours() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for status in [400, 401, 404, 429, 500, 503] {
                for path in [CHAT, MESSAGES] {
                    for framing in [Framing::Usual, Framing::ContentLength, Framing::Chunked] {
                        for none in [Body::Text(String::new()), Body::Events(Vec::new())] {
                            let place = format!("{up:?} {down:?} {status} {path} {framing:?} {none:?}");
                            main.push(Reply { body: none, ..Reply::status(status) }.framed(framing));
                            let answer =
                                client.send(ask_main(path, false)).await.expect(if status == 401 { 502 } else { status });
                            expect_error(path, &answer.json());
                            let line = access_line(&gateway, &answer).await;
                            assert_eq!(line["end"], "upstream_error", "{place}");
                            assert!(client.is_reusable().await, "{place}");
                        }
                    }
                }
            }
        }
    }
}

/// O3: bodies that are no error of either dialect.
#[tokio::test(flavor = "multi_thread")]
async fn o3_an_error_body_of_any_shape_gets_ours() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = watching(setup).start().await;
    let html = "<html><title>502 gpu-canary-12.internal.provider.example</title></html>";
    for body in [
        html,
        "",
        "{",
        "null",
        "[]",
        "\"text\"",
        r#"{"error":null}"#,
        r#"{"error":{"message":7}}"#,
        r#"{"error":{"message":"  "}}"#,
    ] {
        main.push(Reply { body: Body::Text(body.to_owned()), ..Reply::status(400) });
        let answer = gateway.send(ask_main(MESSAGES, false)).await.expect(400);
        expect_error(MESSAGES, &answer.json());
    }
    for simple in
        [r#"{"error":"bad purple value"}"#, r#"{"message":"bad purple value"}"#, r#"{"error":{"message":"bad purple value"}}"#]
    {
        main.push(Reply { body: Body::Text(simple.to_owned()), ..Reply::status(400) });
        let answer = gateway.send(ask_main(CHAT, false)).await.expect(400);
        assert_eq!(answer.json()["error"]["message"], "bad purple value", "{simple}");
    }
}

/// O3, H4: the message is read out of a compressed error body too.
#[tokio::test(flavor = "multi_thread")]
async fn o3_a_compressed_error_body_is_read_and_masked() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = watching(setup).start().await;
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd] {
        main.push(Reply::leaking_error(400).compressed(encoding));
        let answer = gateway.send(ask_main(CHAT, false)).await.expect(400);
        assert_eq!(answer.header("content-encoding"), "");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(reason(400)), "{encoding:?}: {}", answer.text());
    }
    main.push(Reply::leaking_error(400).header("content-encoding", "gzip"));
    expect_error(CHAT, &gateway.send(ask_main(CHAT, false)).await.expect(400).json());
}

/// O3: an error body that never ends, or comes by drops, or stalls, or breaks off, does not keep the client waiting.
#[tokio::test(flavor = "multi_thread")]
async fn o3_an_error_body_without_an_end_is_answered_all_the_same() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.set("/timeouts/idle_s", json!(1)).start().await;
        let drip = Duration::from_millis(100);
        for down in BOTH {
            for status in [400, 500] {
                let endless = Reply { status: Some(status), ..Reply::endless() };
                for reply in [
                    endless.clone(),
                    endless.paced(drip),
                    Reply::leaking_error(status).split(trollbridge::provider_mock::Split::EveryByte).paced(drip),
                    Reply::leaking_error(status).cut(After::Bytes(20), How::Stall),
                    Reply::leaking_error(status).cut(After::Bytes(20), How::Close),
                    Reply::leaking_error(status).cut(After::Bytes(20), How::Reset),
                ] {
                    let place = format!("{up:?} {down:?} {status} {:?} {:?}", reply.body, reply.ending);
                    main.push(reply);
                    let answer = client_that(&gateway, down).await.send(ask_main(CHAT, false)).await;
                    assert_eq!(answer.broken, None, "{place}: {}", answer.text());
                    expect_error(CHAT, &answer.expect(status).json());
                }
            }
        }
    }
}

/// O3, Q3: nor does a huge one grow the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn o3_a_huge_error_body_is_not_kept() {
    const HUGE_BYTES: usize = 200 << 20;
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    gateway.send(ask_main(CHAT, false)).await.expect(200);
    let before = gateway.rss_bytes();
    for status in [400, 500] {
        main.push(Reply { status: Some(status), ..Reply::filler(HUGE_BYTES) });
        expect_error(CHAT, &gateway.send(ask_main(CHAT, false)).await.expect(status).json());
    }
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < (HUGE_BYTES as u64) / 4, "grown by {grown} bytes");
}

/// O4: our key is the operator's business.
#[tokio::test(flavor = "multi_thread")]
async fn o4_a_refused_key_of_ours_is_no_hint_about_the_clients() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for status in [401, 402, 403] {
        for path in [CHAT, MESSAGES] {
            main.push(Reply::leaking_error(status));
            let answer = gateway.send(ask_main(path, false)).await.expect(502);
            let body = answer.json();
            assert_eq!(body["error"]["type"], "api_error");
            let message = body["error"]["message"].as_str().unwrap().to_lowercase();
            for hint in ["api key", "credit", "permission", "unauthorized"] {
                assert!(!message.contains(hint), "{message}");
            }
            assert_eq!(access_line(&gateway, &answer).await["refusal"], "key_refused");
        }
    }
}

/// O5
#[tokio::test(flavor = "multi_thread")]
async fn o5_a_429_keeps_its_wait_in_each_of_its_forms() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let limited = |name: &str, value: &str| Reply::status(429).header(name, value);
    for (reply, wait) in [
        (limited("retry-after", "7"), "7"),
        (limited("retry-after", " 120 "), "120"),
        (limited("retry-after", "0"), "1"),
        (limited("retry-after-ms", "2500"), "3"),
        (limited("retry-after-ms", "1"), "1"),
        (limited("retry-after-ms", "1500.5"), "2"),
        (limited("retry-after", "2.5"), "3"),
        (limited("retry-after", "soon"), ""),
        (limited("retry-after", "-5"), ""),
        (limited("retry-after", "NaN"), ""),
        (Reply::status(429), ""),
    ] {
        for path in [CHAT, MESSAGES] {
            main.push(reply.clone());
            let answer = gateway.send(ask_main(path, true)).await.expect(429);
            assert_eq!(answer.header("retry-after"), wait, "{:?}", reply.headers);
        }
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(1000));
    main.push(limited("retry-after", &date));
    let wait: u64 = gateway.send(ask_main(CHAT, false)).await.expect(429).header("retry-after").parse().unwrap();
    assert!((900..=1000).contains(&wait), "{wait}");
    main.push(limited("retry-after", "Mon, 01 Jan 2001 00:00:00 GMT"));
    gateway.send(ask_main(CHAT, false)).await.expect(429);
}

/// O5: a wait stays with a 503 and a 529 as well.
#[tokio::test(flavor = "multi_thread")]
async fn o5_an_overload_keeps_its_wait() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for status in [503, 529] {
        main.push(Reply::status(status).header("retry-after", "9"));
        let answer = gateway.send(ask_main(MESSAGES, false)).await.expect(status);
        assert_eq!(answer.header("retry-after"), "9");
        assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    }
}

/// O5, O7: on an error, too, a client is told when to come back and how much is left; whose account it is, is not.
#[tokio::test(flavor = "multi_thread")]
async fn o5_an_error_keeps_the_providers_advice() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    main.push(
        Reply::status(429)
            .header("retry-after-ms", "1500")
            .header("x-should-retry", "true")
            .header("anthropic-ratelimit-tokens-remaining", "0")
            .header("anthropic-organization-id", "org-canary"),
    );
    let answer = gateway.send(ask_main(MESSAGES, false)).await.expect(429);
    assert_eq!(answer.header("retry-after-ms"), "1500");
    assert_eq!(answer.header("x-should-retry"), "true");
    assert_eq!(answer.header("anthropic-ratelimit-tokens-remaining"), "0");
    assert_eq!(answer.header("anthropic-organization-id"), "");
    main.push(Reply::status(402).header("x-should-retry", "true"));
    let ours = gateway.send(ask_main(MESSAGES, false)).await.expect(502);
    assert_eq!(ours.header("x-should-retry"), "", "what is said about our key is not the client's");
}

/// M16
#[tokio::test(flavor = "multi_thread")]
async fn m16_a_redirect_is_neither_followed_nor_shown() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let other = Mock::http().await.unwrap();
    let gateway = setup.start().await;
    for status in [300, 301, 302, 303, 304, 307, 308] {
        main.push(Reply::redirect(status, &format!("{}/v1/chat/completions", other.base_url())));
        let answer = gateway.send(ask_main(CHAT, false)).await.expect(502);
        expect_error(CHAT, &answer.json());
        assert_eq!(answer.header("location"), "");
    }
    assert_eq!(other.counts().connections, 0);
}
