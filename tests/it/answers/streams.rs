//! O1: the events of a stream, as they came and when they came.

use trollbridge::provider_mock::{Framing, Reply, Split};

use super::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask_main, ask_plainly, client_that, main_that};
use crate::support::sse;
use crate::support::{Gate, Shorthand};

/// Streams as unlike each other as the standard allows; each ends as its API does.
fn streams() -> [(&'static str, Vec<String>); 3] {
    let text = |pieces: &[&str]| pieces.iter().map(|piece| (*piece).to_owned()).collect();
    [
        (
            CHAT,
            text(&[
                "\u{feff}: a comment first\n\n",
                "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"na\u{ef}ve \u{6a4b} \u{1f9cc}\"}}]}\n\n",
                "data:{\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"no space, CRLF\"}}]}\r\n\r\n",
                "id: 7\nretry: 10\ndata: {\"id\":\"c\",\ndata: \"choices\":[]}\n\n",
                "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n",
                "data: [DONE]\n\n",
            ]),
        ),
        (
            MESSAGES,
            text(&[
                "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\r\n\r\n",
                "event: ping\ndata: {\"type\": \"ping\"}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\u00e4 \u{e4}\"}}\n\n",
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ]),
        ),
        (
            RESPONSES,
            text(&[
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":3}}}\n\n",
            ]),
        ),
    ]
}

/// O1, U5: unchanged and in order for all ways of cutting it, on every pair of protocols, with the same usage in the line.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_stream_passes_byte_for_byte_however_it_is_cut() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for (path, events) in streams() {
                for split in [Split::Events, Split::EveryByte, Split::Every(7), Split::Every(1000)] {
                    let place = format!("{path} {up:?} {down:?} {split:?}");
                    main.push(Reply::events(events.clone()).split(split));
                    let answer = client.send(ask_main(path, true)).await.expect(200);
                    assert_eq!(answer.text(), events.concat(), "{place}");
                    assert!(answer.header("content-type").starts_with("text/event-stream"), "{place}");
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!(
                        (&line["end"], &line["source"], &line["input_tokens"], &line["output_tokens"]),
                        (&"ok".into(), &"final".into(), &9.into(), &3.into()),
                        "{place}: {line}"
                    );
                }
            }
        }
    }
}

/// O1: every event is at the client before the provider sends the next one. The interlock would hang if one were held back.
#[tokio::test(flavor = "multi_thread")]
async fn o1_an_event_is_not_held_back() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for (path, events) in streams() {
                let gate = Gate::closed();
                main.push(Reply::events(events.clone()).gated(&gate));
                let mut client = client_that(&gateway, down).await;
                let mut arriving = client.open(ask_main(path, true)).await.unwrap();
                let mut arrived = Vec::new();
                for event in &events {
                    gate.let_out(1);
                    arrived.extend_from_slice(event.as_bytes());
                    arriving.until_bytes(&arrived).await;
                }
                arriving.finish().await.expect(200);
            }
        }
    }
}

/// O1, U6: where the usage chunk is taken out, what stays is not held back either.
#[tokio::test(flavor = "multi_thread")]
async fn o1_an_event_is_not_held_back_where_the_usage_chunk_is_taken_out() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let gate = Gate::closed();
    main.push(Reply::usual().deltas(4).gated(&gate));
    let mut client = gateway.client().await;
    let mut arriving = client.open(ask_plainly(CHAT, true)).await.unwrap();
    // The role, four deltas, the finish reason.
    for seen in 1..=6 {
        gate.let_out(1);
        arriving.until_events(seen).await;
    }
    gate.let_out(2);
    let answer = arriving.finish().await.expect(200);
    assert_eq!(answer.events().len(), 7);
    assert_eq!(answer.events().last().unwrap().data, "[DONE]");
}

/// O1: a long stream of many events arrives whole, on HTTP/2 beyond its flow-control windows.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_stream_of_ten_thousand_events_arrives_whole() {
    for (up, down) in [(Speaks::Http1, Speaks::Http2), (Speaks::Http2, Speaks::Http1)] {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        main.push(Reply::usual().deltas(10_000));
        let answer = client_that(&gateway, down).await.send(ask_plainly(MESSAGES, true)).await.expect(200);
        let deltas = sse::events(&answer.body()).iter().filter(|e| e.name.as_deref() == Some("content_block_delta")).count();
        assert_eq!(deltas, 10_000);
        assert_eq!(access_line(&gateway, &answer).await["output_tokens"], 10_000);
    }
}

/// O1, O6: a stream whose end is the connection's is whole when its terminator came.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_stream_that_ends_with_its_connection_is_whole_with_its_terminator() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for (path, events) in streams() {
        for down in BOTH {
            main.push(Reply::events(events.clone()).framed(Framing::UntilClose));
            let answer = client_that(&gateway, down).await.send(ask_main(path, true)).await.expect(200);
            assert_eq!(answer.text(), events.concat(), "{path}");
        }
    }
}

/// O6: a path whose streams have no terminator gets no error event for want of one.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_of_an_api_without_terminator_ends_as_it_came() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let events = ["event: speech.audio.delta\ndata: {\"audio\":\"AAAA\"}\n\n", "data: {\"type\":\"speech.audio.done\"}\n\n"];
    for framing in [Framing::Usual, Framing::UntilClose] {
        main.push(Reply { status: Some(200), ..Reply::events(events) }.framed(framing));
        let answer = gateway.send(ask_main("/v1/audio/speech", true)).await.expect(200);
        assert_eq!(answer.text(), events.concat());
        assert_eq!(access_line(&gateway, &answer).await["end"], "ok");
    }
}
