//! O9 and the deadlines before the first byte: whatever an upstream does instead of answering, the client gets 502 or 504.

use std::time::Duration;

use serde_json::json;
use trollbridge::provider_mock::{AtAccept, Reply};

use super::{BOTH, CHAT, MESSAGES, Speaks, access_line, ask_main, client_that, expect_error, main_that};
use crate::support::Shorthand;

/// O9
#[tokio::test(flavor = "multi_thread")]
async fn o9_what_is_no_answer_is_502() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.set("/timeouts/first_byte_s", json!(5)).start().await;
    let replies = [
        ("garbage", Reply::garbage()),
        ("101", Reply::switching_protocols()),
        ("zebra", Reply::unknown_transfer_encoding()),
        ("endless head", Reply::endless_head()),
        ("close", Reply::close()),
        ("reset", Reply::reset()),
        ("half a head", Reply::raw_bytes("HTTP/1.1 200 OK\r\nContent-Ty")),
        ("bad length", Reply::raw_bytes("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}")),
        ("two lengths", Reply::raw_bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}\n")),
        (
            "both framings",
            Reply::raw_bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked, zebra\r\n\r\n{}"),
        ),
        ("status 99", Reply::raw_bytes("HTTP/1.1 099 Strange\r\nContent-Length: 2\r\n\r\n{}")),
        ("no status", Reply::raw_bytes("HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}")),
    ];
    for down in BOTH {
        for (what, reply) in &replies {
            for (path, stream) in [(CHAT, false), (MESSAGES, true)] {
                main.always(reply.clone());
                let answer = client_that(&gateway, down).await.send(ask_main(path, stream)).await;
                assert_eq!((answer.status.as_u16(), &answer.broken), (502, &None), "{what} {down:?}: {}", answer.text());
                expect_error(path, &answer.json());
                let line = access_line(&gateway, &answer).await;
                assert_eq!((&line["end"], &line["status"]), (&"upstream_error".into(), &502.into()), "{what}: {line}");
            }
        }
    }
    main.behave();
    gateway.send(ask_main(CHAT, false)).await.expect(200);
}

/// O9: the deadline is a total one; a head that comes byte by byte does not extend it.
#[tokio::test(flavor = "multi_thread")]
async fn o9_a_head_that_does_not_come_in_time_is_504() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.set("/timeouts/first_byte_s", json!(1)).start().await;
        for down in BOTH {
            for (what, reply) in [("hang", Reply::hang()), ("drip", Reply::usual().dribbled(Duration::from_millis(50)))] {
                if (up, what) == (Speaks::Http2, "drip") {
                    continue;
                }
                for (path, stream) in [(CHAT, true), (MESSAGES, false)] {
                    main.push(reply.clone());
                    let answer = client_that(&gateway, down).await.send(ask_main(path, stream)).await.expect(504);
                    expect_error(path, &answer.json());
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!(
                        (&line["refusal"], &line["attempts"]),
                        (&"first_byte_too_late".into(), &1.into()),
                        "{what}: {line}"
                    );
                }
            }
        }
        main.behave();
        gateway.send(ask_main(CHAT, false)).await.expect(200);
    }
}

/// O9: on a connection that dies before it says a word.
#[tokio::test(flavor = "multi_thread")]
async fn o9_a_connection_that_ends_before_a_word_is_502() {
    for up in BOTH {
        for act in [AtAccept::Close, AtAccept::Reset, AtAccept::Raw("\u{1}\u{2}\u{3} no protocol at all\r\n\r\n".into())] {
            let (setup, main) = main_that(up).await;
            let gateway = setup.start().await;
            // As often as the gateway may try.
            for _ in 0..4 {
                main.push_accept(act.clone());
            }
            let answer = gateway.send(ask_main(CHAT, false)).await.expect(502);
            expect_error(CHAT, &answer.json());
            assert_eq!(main.counts().requests, 0, "{up:?} {act:?}");
        }
    }
}

/// A slow head within the deadline is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn o9_a_head_that_comes_late_but_in_time_is_delivered() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.set("/timeouts/first_byte_s", json!(30)).set("/timeouts/idle_s", json!(1)).start().await;
    main.push(Reply::usual().delayed(Duration::from_millis(1500)));
    gateway.send(ask_main(CHAT, false)).await.expect(200);
}
