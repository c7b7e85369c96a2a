//! Answers that are not taken: no window, no reader, a few bytes at a time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use trollbridge::provider_mock::Reply;

use super::frames::{self, DATA, HEADERS, NO_WINDOW, PREFACE, RST_STREAM, WINDOW_UPDATE};
use super::{DRIP, Place, drip, ended};
use crate::answers::{BOTH, CHAT, MESSAGES, ask_main, client_that};
use crate::support::request::CLIENT_KEY;
use crate::support::setup::MAIN_MODEL;
use crate::support::{RawClient, Request, Shorthand};

/// Beyond what sockets and buffers take between a provider and a client that reads nothing.
const BIG: usize = 24 << 20;

fn body(stream: bool) -> String {
    json!({ "model": MAIN_MODEL, "max_tokens": 10, "stream": stream, "messages": [] }).to_string()
}

impl Place {
    /// How the last request ended whose answer was this big and not taken.
    async fn line_of_the_untaken(&self) -> Value {
        let line = self.gateway.wait_for_log(|line| line.starts_with(r#"{"opened_at""#) && line.contains("client_gone")).await;
        serde_json::from_str(&line).unwrap()
    }
}

/// Reads frames until the stream is reset.
async fn until_reset(raw: &mut RawClient, stream: u32, ack: Option<&[u8]>) -> Vec<(u8, u32)> {
    let (mut read, mut seen) = (Vec::new(), Vec::new());
    ended("the stream", async {
        while !seen.contains(&(RST_STREAM, stream)) {
            read.extend(raw.read_exactly(1).await);
            while let Some(frame) = frames::take(&mut read) {
                seen.push(frame);
                if let Some(ack) = ack {
                    raw.send(ack).await;
                }
            }
        }
    })
    .await;
    seen
}

/// A5: a window that never opens, without a key: the connection ends, and no request is held.
#[tokio::test(flavor = "multi_thread")]
async fn a5_refusals_that_no_window_takes_end_with_their_connection() {
    let place = Place::impatient().await;
    let mut attack = [PREFACE, NO_WINDOW].concat();
    for stream in 0..100 {
        attack.extend(frames::request(1 + 2 * stream, MESSAGES, None, "{}"));
    }
    place
        .unnoticed(async {
            let tcp = || TcpStream::connect(place.gateway.addr());
            let silent = drip("no window, in silence", tcp().await.unwrap(), &attack, b"");
            let busy = drip("no window, with pings", tcp().await.unwrap(), &attack, frames::PING);
            tokio::join!(silent, busy)
        })
        .await;
    place.gateway.until_metric("requests_in_flight", |flying| flying == 0).await;
}

/// A5: a window that never opens, with a key: the stream is reset and billed as left; the connection's other streams go on.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_answer_that_no_window_takes_is_reset_and_billed_as_left() {
    for stream in [false, true] {
        let place = Place::with(json!({ "keepalive_s": 20 })).await;
        // Not out of the provider's hands in one piece, so that its end is not seen before the client's.
        place.main.push(Reply::filler(1 << 20));
        let mut raw = place.gateway.raw().await;
        raw.send([PREFACE, NO_WINDOW, &frames::request(1, CHAT, Some(CLIENT_KEY), &body(stream))].concat()).await;
        place.main.wait_for(1).await;
        let seen = place.unnoticed(until_reset(&mut raw, 1, None)).await;
        assert!(seen.contains(&(HEADERS, 1)) && !seen.contains(&(DATA, 1)), "{seen:?}");
        let line = place.line_of_the_untaken().await;
        assert_eq!((&line["status"], &line["end"]), (&json!(200), &json!("client_gone")), "{line}");

        let window = frames::frame(WINDOW_UPDATE, 0, 3, &100_000_u32.to_be_bytes());
        raw.send([frames::request(3, CHAT, Some(CLIENT_KEY), &body(stream)), window].concat()).await;
        let (mut read, mut ended) = (Vec::new(), false);
        while !ended {
            read.extend(raw.read_exactly(1).await);
            while let Some(frame) = frames::take(&mut read) {
                assert_ne!(frame, (RST_STREAM, 3));
                ended |= frame == (DATA, 3);
            }
        }
    }
}

/// A5: a window that opens by a byte at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_answer_taken_byte_by_byte_is_reset() {
    let place = Place::with(json!({ "write_bytes_per_s": 1_000_000 })).await;
    place.main.push(Reply::filler(1 << 20));
    let mut raw = place.gateway.raw().await;
    raw.send([PREFACE, NO_WINDOW, &frames::request(1, CHAT, Some(CLIENT_KEY), &body(false))].concat()).await;
    place.main.wait_for(1).await;
    let one = frames::frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    let seen = place.unnoticed(until_reset(&mut raw, 1, Some(&one))).await;
    assert!(seen.iter().filter(|frame| **frame == (DATA, 1)).count() > 1, "it was taken byte by byte");
}

/// A connection with a small buffer of its own, and a request for a big answer on it.
async fn ask_for_much(place: &Place, stream: bool) -> TcpStream {
    place.main.push(Reply::filler(BIG));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let mut tcp = socket.connect(place.gateway.addr()).await.unwrap();
    let body = body(stream);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut tcp, [head, body].concat().as_bytes()).await.unwrap();
    // Or the big answer would be another client's.
    place.main.wait_for(1).await;
    tcp
}

/// A5: an answer of HTTP/1 that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_answer_that_nobody_reads_is_given_up_and_billed_as_left() {
    let place = Place::impatient().await;
    let tcp = ask_for_much(&place, false).await;
    let line = place.unnoticed(ended("an answer without a reader", place.line_of_the_untaken())).await;
    assert_eq!(line["status"], 200, "{line}");
    place.gateway.until_metric("requests_in_flight", |flying| flying == 0).await;
    drop(tcp);
}

/// A5: an answer of HTTP/1 that is read far below the least rate, so that the kernel sees progress all the while.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_answer_that_is_read_in_drips_is_given_up() {
    let place = Place::with(json!({ "write_bytes_per_s": 10_000_000 })).await;
    let mut tcp = ask_for_much(&place, false).await;
    let dripping = async {
        let mut piece = [0; 4 << 10];
        while matches!(tcp.read(&mut piece).await, Ok(1..)) {
            tokio::time::sleep(DRIP).await;
        }
    };
    let line = async {
        tokio::select! {
            line = place.line_of_the_untaken() => line,
            () = async { dripping.await; std::future::pending().await } => unreachable!(),
        }
    };
    place.unnoticed(ended("an answer read in drips", line)).await;
    place.gateway.until_metric("requests_in_flight", |flying| flying == 0).await;
}

/// A5: a reader that is slow, but above the least rate, gets all of it; so does one that waits for a silent provider.
#[tokio::test(flavor = "multi_thread")]
async fn a5_slow_readers_and_silent_providers_are_none_of_the_stalling() {
    let place = Place::with(json!({ "write_bytes_per_s": 1 })).await;
    let mut tcp = ask_for_much(&place, false).await;
    let (mut read, mut piece) = (0, vec![0; 1 << 20]);
    ended("a slow reader's answer", async {
        while read < BIG {
            let count = tcp.read(&mut piece).await.unwrap();
            assert_ne!(count, 0, "cut after {read} bytes");
            read += count;
            if read / (2 << 20) != (read - count) / (2 << 20) {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    })
    .await;

    let silent = || Reply::usual().delayed(Duration::from_millis(2_500));
    for speaks in BOTH {
        place.main.push(silent());
        client_that(&place.gateway, speaks).await.send(ask_main(CHAT, true)).await.expect(200);
    }
}

/// A5: an answer of the gateway's own to a known client, which nobody takes.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_answer_of_our_own_that_no_window_takes_is_given_up() {
    let place = Place::impatient().await;
    let mut raw = place.gateway.raw().await;
    let models = frames::frame(HEADERS, 5, 1, &frames::head("GET", "/v1/models", Some(CLIENT_KEY)));
    let refused = frames::request(3, MESSAGES, Some(CLIENT_KEY), r#"{"model":1}"#);
    raw.send([PREFACE, NO_WINDOW, &models, &refused].concat()).await;
    place
        .unnoticed(async {
            ended("both streams", raw.read_to_end()).await;
        })
        .await;
    place.gateway.until_metric("requests_in_flight", |flying| flying == 0).await;
    place.gateway.send(Request::get("/v1/models")).await.expect(200);
}
