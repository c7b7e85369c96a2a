//! O6: an upstream that dies within its answer never ends in a clean end.

use serde_json::json;
use trollbridge::provider_mock::{After, Encoding, Framing, How, Reply};

use super::{
    BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask_main, ask_plainly, client_that, expect_error, main_that, next_line,
};
use crate::support::Shorthand;
use crate::support::sse::Event;

/// The ways for a stream to end without its terminator.
fn ends(path: &str) -> Vec<Reply> {
    let cut = |how| Reply::usual().deltas(6).cut(After::Events(4), how);
    // The others have said by then that they are at their end (P5).
    let terse = (path == RESPONSES).then(|| Reply::usual().deltas(6).without_terminator());
    [cut(How::Clean), cut(How::Close), cut(How::Reset)].into_iter().chain(terse).collect()
}

#[track_caller]
fn expect_error_event(path: &str, event: &Event) {
    let body = event.json();
    match path {
        RESPONSES => {
            assert_eq!(event.name.as_deref(), Some("response.failed"));
            assert_eq!(body["type"], "response.failed");
            assert_eq!(body["response"]["status"], "failed");
            assert_eq!(body["response"]["error"]["code"], "server_error");
        }
        _ => {
            assert_eq!(event.name.as_deref(), (path == MESSAGES).then_some("error"));
            expect_error(path, &body);
        }
    }
}

/// O6, U7
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_that_ends_without_its_terminator_ends_in_one_error_event() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES, "/v1/completions"] {
                for reply in ends(path) {
                    let place = format!("{up:?} {down:?} {path} {:?}", reply.ending);
                    main.push(reply);
                    let answer = client_that(&gateway, down).await.send(ask_main(path, true)).await;
                    assert_eq!(answer.broken, None, "{place}: {}", answer.text());
                    let events = answer.expect(200).events();
                    let (last, before) = events.split_last().unwrap();
                    expect_error_event(path, last);
                    assert!(before.len() >= 3, "{place}: {before:?}");
                    for event in before {
                        let body = event.json();
                        assert!(event.data != "[DONE]" && event.name.as_deref() != Some("error"), "{place}: {event:?}");
                        assert!(body["error"].is_null() && body["response"]["error"].is_null(), "{place}: {event:?}");
                    }
                }
            }
        }
    }
}

/// O6: half an event never reaches the client, so that the error event stands alone.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_that_is_cut_within_an_event_shows_whole_events_only() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for path in [CHAT, MESSAGES, RESPONSES] {
            for cut in (1..400).step_by(37) {
                main.push(Reply::usual().deltas(6).cut(After::Bytes(cut), How::Close));
                // What is asked for plainly is not rewritten, so nothing else holds an event together.
                let answer = client_that(&gateway, Speaks::Http1).await.send(ask_plainly(path, true)).await;
                if answer.status == 502 {
                    // Nothing of the answer had come, so nothing had gone out.
                    expect_error(path, &answer.json());
                    continue;
                }
                let events = answer.expect(200).events();
                let (last, before) = events.split_last().unwrap();
                expect_error_event(path, last);
                for event in before {
                    assert!(event.json().is_object(), "{path} {cut}: {event:?}");
                }
            }
        }
    }
}

/// O6, U7: the line says that the upstream cut it, and what was seen of the usage.
#[tokio::test(flavor = "multi_thread")]
async fn o6_the_access_line_of_a_cut_stream_says_so() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for (path, source) in [(CHAT, "none"), (MESSAGES, "partial"), (RESPONSES, "none")] {
            for how in [How::Clean, How::Close, How::Reset] {
                main.push(Reply::usual().deltas(6).cut(After::Events(4), how));
                let answer = gateway.send(ask_main(path, true)).await;
                let line = access_line(&gateway, &answer).await;
                assert_eq!((&line["end"], &line["source"]), (&"upstream_cut".into(), &source.into()), "{path} {how:?}: {line}");
                assert_eq!((&line["status"], &line["refusal"]), (&200.into(), &"upstream_cut".into()), "{line}");
            }
        }
    }
}

/// O6: cut within an event, the error event still stands on its own.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_that_is_cut_within_an_event_ends_in_an_error_event_of_its_own() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        for bytes in [3, 9, 60, 333] {
            for how in [How::Clean, How::Close] {
                main.push(Reply::usual().cut(After::Bytes(bytes), how));
                let answer = gateway.send(ask_main(path, true)).await;
                match answer.status.as_u16() {
                    502 => expect_error(path, &answer.json()),
                    _ => expect_error_event(path, answer.expect(200).events().last().unwrap()),
                }
            }
        }
    }
}

/// O6, P6: a stream without a single event is no answer, whether its body is empty or missing: where its head was not held, an event says so.
#[tokio::test(flavor = "multi_thread")]
async fn o6_an_empty_stream_ends_in_an_error_event() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.set("/limits/hold_answer_ms", json!(0)).start().await;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES] {
                for framing in [Framing::Usual, Framing::ContentLength] {
                    main.push(Reply::events(Vec::<String>::new()).framed(framing));
                    let answer = client_that(&gateway, down).await.send(ask_main(path, true)).await.expect(200);
                    expect_error_event(path, answer.events().last().expect("an error event"));
                    assert_eq!(
                        access_line(&gateway, &answer).await["end"],
                        "upstream_error",
                        "{up:?} {down:?} {path} {framing:?}"
                    );
                }
            }
        }
    }
}

/// O6: what the provider itself ends with an error is no cut: no second error event follows.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_providers_own_error_event_stays_the_last_one() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let streams = [
        (
            CHAT,
            vec![
                r#"data: {"id":"c","choices":[{"delta":{"content":"a"}}]}"#,
                r#"data: {"error":{"message":"The server had an error","type":"server_error"}}"#,
            ],
        ),
        (
            MESSAGES,
            vec![
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}",
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
            ],
        ),
        (
            RESPONSES,
            vec![
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}",
                "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"no\"},\"usage\":null}}",
            ],
        ),
        (RESPONSES, vec!["event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"no\",\"param\":null}"]),
    ];
    for (path, events) in streams {
        let events: Vec<String> = events.into_iter().map(|event| format!("{event}\n\n")).collect();
        for ending in [Reply::usual().ending, Reply::usual().cut(After::Events(9), How::Close).ending] {
            main.push(Reply { ending, ..Reply::events(events.clone()) });
            let answer = gateway.send(ask_main(path, true)).await.expect(200);
            assert_eq!(answer.text(), events.concat(), "{path}");
            assert_eq!(access_line(&gateway, &answer).await["end"], "upstream_error", "{path}");
        }
    }
}

/// O6, U7: a connection that breaks after the stream's last word took nothing away.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_that_breaks_after_its_terminator_is_whole() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES] {
                for how in [How::Close, How::Reset] {
                    main.push(Reply::usual().cut(After::Events(1000), how));
                    let answer = client_that(&gateway, down).await.send(ask_main(path, true)).await.expect(200);
                    let last = answer.events().pop().unwrap();
                    assert!(
                        ["[DONE]", "message_stop", "response.completed"].iter().any(|word| last.data.contains(word)),
                        "{up:?} {down:?} {path} {how:?}: {last:?}"
                    );
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!((&line["end"], &line["source"]), (&"ok".into(), &"final".into()), "{line}");
                }
            }
        }
    }
}

/// O6, U6: the last word comes through even where the connection broke before the blank line behind it, rewritten or not.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_terminator_without_its_blank_line_reaches_the_client() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let events = ["data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", "data: [DONE]\n"];
    for request in [|| ask_main(CHAT, true), || ask_plainly(CHAT, true)] {
        for how in [How::Clean, How::Close, How::Reset] {
            main.push(Reply::events(events).cut(After::Events(2), how));
            assert_eq!(gateway.send(request()).await.expect(200).text(), events.concat(), "{how:?}");
        }
    }
}

/// O6: a client of a cut stream keeps its connection: its answer was complete HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn o6_the_clients_connection_outlives_a_cut_stream() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        for reply in ends(MESSAGES) {
            main.push(reply);
            client.send(ask_main(MESSAGES, true)).await.expect(200);
            client.send(ask_main(CHAT, false)).await.expect(200);
        }
    }
}

/// O6: JSON has no room for an error, so the transfer itself must break: before the length is reached, before the last chunk,
/// by a reset of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_json_body_that_is_cut_is_a_broken_transfer() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        let mut lines = 0;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES] {
                for framing in [Framing::Usual, Framing::Chunked, Framing::UntilClose] {
                    if (up, framing) == (Speaks::Http2, Framing::UntilClose) {
                        continue;
                    }
                    for how in [How::Close, How::Reset] {
                        let place = format!("{up:?} {down:?} {path} {framing:?} {how:?}");
                        main.push(Reply::usual().framed(framing).cut(After::Bytes(40), how));
                        let answer = client_that(&gateway, down).await.attempt(ask_main(path, false)).await;
                        if let Some(answer) = answer {
                            assert!(
                                answer.broken.is_some() || answer.status == 502,
                                "{place}: {} {}",
                                answer.status,
                                answer.text()
                            );
                        }
                        // Where the connection's end is the body's, nothing of the API may have come before it (P6).
                        let line = next_line(&gateway, lines).await;
                        let is_none = line["refusal"] == "no_answer" && (framing, how) == (Framing::UntilClose, How::Close);
                        let end = if is_none { "upstream_error" } else { "upstream_cut" };
                        assert_eq!(line["end"], end, "{place}");
                        lines += 1;
                    }
                }
            }
        }
    }
}

/// O6: a JSON body that is all in one piece with the end of its connection, and not whole.
#[tokio::test(flavor = "multi_thread")]
async fn o6_half_a_json_body_that_ends_with_its_connection_is_not_passed_as_whole() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for _ in 0..5 {
        main.push(Reply::raw_bytes(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"id\":\"x\",\"usage\":{",
        ));
        let answer = gateway.send(ask_main(CHAT, false)).await;
        assert!(answer.broken.is_some() || answer.status == 502, "{} {}", answer.status, answer.text());
    }
}

/// O6: a compressed stream has no room for an event in clear text: the transfer breaks.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_compressed_stream_that_is_cut_is_a_broken_transfer() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let mut lines = 0;
    for down in BOTH {
        for encoding in [Encoding::Gzip, Encoding::Br, Encoding::Zstd, Encoding::Deflate] {
            for reply in ends(MESSAGES) {
                let place = format!("{down:?} {encoding:?} {:?}", reply.ending);
                main.push(reply.compressed(encoding));
                if let Some(answer) = client_that(&gateway, down).await.attempt(ask_main(MESSAGES, true)).await {
                    assert!(answer.broken.is_some() || answer.status == 502, "{place}");
                    assert!(!answer.body().windows(11).any(|window| window == b"event: erro"), "{place}");
                }
                assert_eq!(next_line(&gateway, lines).await["end"], "upstream_cut", "{place}");
                lines += 1;
            }
        }
    }
}

/// O6, issue point 9: silence within a stream beyond the idle deadline is a cut; within JSON it breaks the transfer.
#[tokio::test(flavor = "multi_thread")]
async fn o6_an_upstream_that_falls_silent_within_its_answer_is_cut_off() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.set("/timeouts/idle_s", json!(1)).start().await;
        for path in [CHAT, MESSAGES, RESPONSES] {
            main.push(Reply::usual().deltas(6).cut(After::Events(4), How::Stall));
            let answer = gateway.send(ask_main(path, true)).await.expect(200);
            expect_error_event(path, answer.events().last().unwrap());
            assert_eq!(access_line(&gateway, &answer).await["end"], "upstream_cut");
        }
        main.push(Reply::usual().cut(After::Bytes(40), How::Stall));
        let answer = gateway.send(ask_main(CHAT, false)).await;
        assert!(answer.broken.is_some(), "{}", answer.text());
        main.wait_until(|counts| counts.cancelled >= 4).await;
    }
}
