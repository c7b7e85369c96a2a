//! O7 and O8: what an answer may say about us and the provider besides its content.

use trollbridge::provider_mock::{CANARIES, EchoKey, Encoding, Framing, Reply, Split};

use super::{
    BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask_main, ask_plainly, client_that, expect_error, main_that, next_line,
};
use crate::support::Shorthand;
use crate::support::request::{Answer, CLIENT_KEY};
use crate::support::setup::MAIN_KEY;

/// Fails unless the answer was stopped where the key would have stood.
#[track_caller]
fn expect_stopped(answer: &Answer, place: &str) {
    let shows_error = String::from_utf8_lossy(&answer.body()).contains("must not be shown");
    assert!(answer.broken.is_some() || shows_error, "{place}: {} {:?}", answer.status, answer.body());
    assert!(!answer.body().windows(MAIN_KEY.len()).any(|window| window == MAIN_KEY.as_bytes()), "{place}");
}

/// O7: the list is the client's own (`support::distrust`); here, that what should pass does.
#[tokio::test(flavor = "multi_thread")]
async fn o7_a_good_answer_keeps_the_listed_headers_and_no_other() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let setup = CANARIES.into_iter().fold(setup, |setup, canary| setup.planted(canary)).planted("canary-cookie");
        let gateway = setup.start().await;
        for down in BOTH {
            let wide = |reply: Reply| {
                reply
                    .header("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT")
                    .header("retry-after-ms", "1500")
                    .header("x-should-retry", "false")
                    .header("location", "https://gpu-canary-12.internal.provider.example/")
                    .header("x-powered-by", "gpu-canary-12.internal.provider.example")
                    .header("anthropic-organization-id", "org-Canary7Troll")
                    .header("access-control-allow-origin", "*")
                    .header("www-authenticate", "Bearer realm=\"acct_canary_4711\"")
            };
            for stream in [false, true] {
                main.push(wide(Reply::usual()));
                let chat = client_that(&gateway, down).await.send(ask_main(CHAT, stream)).await.expect(200);
                for (name, value) in [
                    ("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT"),
                    ("retry-after-ms", "1500"),
                    ("x-should-retry", "false"),
                    ("x-ratelimit-limit-requests", "10000"),
                    ("x-ratelimit-reset-requests", "6ms"),
                    ("openai-processing-ms", "17"),
                    ("openai-version", "2020-10-01"),
                ] {
                    assert_eq!(chat.header(name), value, "{name}");
                }
                assert!(!chat.header("x-request-id").starts_with("req_mock"));
                let line = access_line(&gateway, &chat).await;
                assert!(line["upstream_request_id"].as_str().unwrap().starts_with("req_mock"), "{line}");

                main.push(wide(Reply::usual()));
                let message = client_that(&gateway, down).await.send(ask_main(MESSAGES, stream)).await.expect(200);
                assert_eq!(message.header("anthropic-ratelimit-requests-remaining"), "3999");
                assert_eq!(message.header("request-id"), message.header("x-request-id"));
            }
        }
    }
}

/// O8
#[tokio::test(flavor = "multi_thread")]
async fn o8_a_key_in_a_header_is_taken_out_with_its_header() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for reply in [Reply::usual(), Reply::status(429), Reply::status(400)] {
            let status = reply.status.unwrap_or(200);
            let leaking = reply.echoing_key(EchoKey::Header).header("x-should-retry", MAIN_KEY).header("retry-after", MAIN_KEY);
            main.push(leaking.header("content-type", &format!("application/json; boundary={MAIN_KEY}")));
            let answer = gateway.send(ask_main(CHAT, false)).await.expect(status);
            assert_eq!(answer.header("x-ratelimit-scope"), "");
        }
    }
}

/// O8
#[tokio::test(flavor = "multi_thread")]
async fn o8_a_key_in_an_error_body_is_masked() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for encoding in [None, Some(Encoding::Gzip)] {
        main.push(Reply { encoding, ..Reply::leaking_error(400) });
        let answer = gateway.send(ask_main(CHAT, false)).await.expect(400);
        assert!(answer.text().contains("request key *****"), "{}", answer.text());
    }
}

/// O8: JSON and events, plain and compressed, on every pair of protocols: cut with an error and an alarm.
#[tokio::test(flavor = "multi_thread")]
async fn o8_a_body_that_holds_our_key_is_cut_with_an_error_and_an_alarm() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        let mut lines = 0;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES] {
                for stream in [false, true] {
                    for encoding in
                        [None, Some(Encoding::Gzip), Some(Encoding::Br), Some(Encoding::Zstd), Some(Encoding::Deflate)]
                    {
                        for framing in [Framing::Usual, Framing::Chunked] {
                            let place = format!("{up:?} {down:?} {path} {stream} {encoding:?} {framing:?}");
                            main.push(Reply { encoding, ..Reply::usual().echoing_key(EchoKey::Body) }.framed(framing));
                            let answer = client_that(&gateway, down).await.attempt(ask_main(path, stream)).await;
                            if let Some(answer) = answer {
                                expect_stopped(&answer, &place);
                            }
                            let line = next_line(&gateway, lines).await;
                            lines += 1;
                            assert_eq!(
                                (&line["refusal"], &line["end"]),
                                (&"leak_stopped".into(), &"upstream_cut".into()),
                                "{place}"
                            );
                            let id = line["id"].as_str().unwrap();
                            gateway.wait_for_log(|line| line.contains("ALARM") && line.contains(id)).await;
                        }
                    }
                }
            }
        }
    }
}

/// O8: cut anywhere within the key, as it is written and as JSON would escape it.
#[tokio::test(flavor = "multi_thread")]
async fn o8_a_key_is_found_across_chunks_for_every_cut_within_it() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let before = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"";
    let event = format!("{before}{MAIN_KEY}\"}}}}\n\n");
    for stream in [true, false] {
        for at in before.len()..=before.len() + MAIN_KEY.len() {
            for split in [Split::At(vec![at]), Split::At(vec![at, at + 1, at + 5])] {
                let reply = if stream { Reply::events([event.clone()]) } else { Reply::raw_body(event.clone()) };
                main.push(reply.split(split));
                let answer = gateway.send(ask_main(MESSAGES, stream)).await;
                expect_stopped(&answer, &format!("{stream} at {at}"));
                if stream && answer.status == 200 {
                    let last = answer.events().pop().unwrap();
                    expect_error(MESSAGES, &last.json());
                }
            }
        }
    }
    main.push(Reply::events([event]).split(Split::EveryByte));
    expect_stopped(&gateway.send(ask_main(MESSAGES, true)).await, "every byte");
}

/// O8, U6: where the stream is rewritten on its way, too.
#[tokio::test(flavor = "multi_thread")]
async fn o8_a_key_is_stopped_in_a_stream_that_is_rewritten() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for split in [Split::Events, Split::EveryByte, Split::Every(5)] {
        main.push(Reply::usual().echoing_key(EchoKey::Body).split(split));
        let answer = gateway.send(ask_plainly(CHAT, true)).await;
        expect_stopped(&answer, "rewritten");
        assert_ne!(answer.events().last().map(|event| event.data.clone()).as_deref(), Some("[DONE]"));
    }
}

/// O8: what only begins like a key is no key, at the very end of a body too.
#[tokio::test(flavor = "multi_thread")]
async fn o8_half_a_key_passes() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let half = &MAIN_KEY[..MAIN_KEY.len() - 1];
    for split in [Split::Events, Split::EveryByte] {
        let body = format!("{{\"choices\":[\"{half}\"]}} {half}");
        main.push(Reply::raw_body(body.clone()).split(split));
        assert_eq!(gateway.send(ask_main(CHAT, false)).await.expect(200).text(), body);
    }
}

/// O8, L1: neither a reason phrase, nor a head that can't be read, nor the provider's request id carries our key to a client or a log; the
/// gateway's own output is searched when it is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn o8_a_key_in_a_heads_odd_places_is_seen_nowhere() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let body = r#"{"choices":[],"answer":"answer-text-canary"}"#;
    let head = |status: &str, more: &str| {
        Reply::raw_bytes(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    };
    for (reply, status) in [
        (head(&format!("200 {MAIN_KEY}"), ""), 200),
        (head("200 OK", &format!("x-request-id: {MAIN_KEY}\r\n")), 200),
        (head("200 OK", &format!("bad header {MAIN_KEY}\r\n")), 502),
    ] {
        main.push(reply);
        let mut client = gateway.raw().await;
        let asked = r#"{"model":"claude-sonnet-4-5-20250929"}"#;
        client
            .send(format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CLIENT_KEY}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{asked}",
                asked.len()
            ))
            .await;
        let seen = String::from_utf8_lossy(&client.read_to_end().await).into_owned();
        assert!(seen.starts_with(&format!("HTTP/1.1 {status} ")), "{seen}");
        assert!(!seen.contains(MAIN_KEY), "{seen}");
    }
    let log = gateway.stop();
    assert!(!log.contains(MAIN_KEY) && !log.contains("answer-text-canary"), "{log}");
}
