//! Too much: bodies beyond the limit, and more bodies than the process may hold (Q3).

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::{CHAT, MAIN_MODEL, MESSAGES, Place, good_body, post, sized};
use crate::support::client::Arriving;
use crate::support::{Client, Request, soon};

const MIB: usize = 1 << 20;

async fn place_with_a_limit_of_1_mib() -> Place {
    Place::with(|setup| setup.set("/limits/max_body_bytes", json!(MIB))).await
}

pub(super) fn body_of(bytes: usize) -> Vec<u8> {
    let head = format!(r#"{{"model":"{MAIN_MODEL}","prompt":""#);
    [head.as_bytes(), &vec![b'x'; bytes - head.len() - 2], br#""}"#].concat()
}

/// Q3
#[tokio::test(flavor = "multi_thread")]
async fn q3_a_body_at_the_limit_passes_and_one_byte_more_is_413_in_either_framing() {
    let place = place_with_a_limit_of_1_mib().await;
    for request in
        [Request::post_bytes("/v1/embeddings", body_of(MIB)), Request::post_bytes("/v1/embeddings", body_of(MIB)).chunked(10_000)]
    {
        place.gateway.send(request).await.expect(200);
    }
    assert_eq!(place.main.counts().requests, 2);
    for request in
        [Request::post_bytes(MESSAGES, body_of(MIB + 1)), Request::post_bytes(MESSAGES, body_of(MIB + 1)).chunked(10_000)]
    {
        let answer = place.gateway.send(request).await.expect(413);
        assert_eq!(answer.json()["error"]["type"], "request_too_large");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(&MIB.to_string()));
        assert_eq!(answer.header("connection"), "close");
    }
    assert_eq!(place.main.counts().requests, 2);
}

/// Q3: the client writes all of its body before it reads, and still finds the answer.
#[tokio::test(flavor = "multi_thread")]
async fn q3_a_client_that_is_still_sending_sees_the_413_and_no_broken_pipe() {
    let place = place_with_a_limit_of_1_mib().await;
    let body = body_of(20 * MIB);
    let mut chunks = Vec::with_capacity(body.len() + 5_000);
    for piece in body.chunks(64 << 10) {
        chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunks.extend_from_slice(piece);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    let chunked = [post(CHAT, "transfer-encoding: chunked\r\n").as_bytes(), &chunks].concat();
    for request in [sized(CHAT, "", &body), chunked] {
        let mut raw = place.gateway.raw().await;
        raw.send_all(&request[..10 * MIB]).await;
        raw.send(&request[10 * MIB..]).await;
        let answer = raw.read_answer().await;
        place.assert_refusal(&answer, CHAT, 413);
        raw.expect_close().await;
    }
    place.assert_provider_heard_nothing();
}

/// Q3: HTTP/2 knows where the refused body ends, and gives back the window it took.
#[tokio::test(flavor = "multi_thread")]
async fn q3_refused_bodies_leave_an_http2_connection_usable() {
    let place = place_with_a_limit_of_1_mib().await;
    let mut client = place.gateway.h2c_client().await;
    for round in 0..6 {
        let too_large = Request::post_bytes(MESSAGES, body_of(5 * MIB));
        let request = if round % 2 == 0 { too_large } else { too_large.chunked(16 << 10) };
        let answer = client.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.broken), (413, None));
    }
    client.send(Request::post_bytes("/v1/embeddings", body_of(MIB))).await.expect(200);
    assert_eq!(place.main.counts().requests, 1);
}

/// Q3: what passes through unread is held to the same limit.
#[tokio::test(flavor = "multi_thread")]
async fn q3_a_body_that_passes_unread_is_held_to_the_limit_too() {
    let place = Place::with(|setup| {
        setup.set("/limits/max_body_bytes", json!(MIB)).set("/host_routes", json!([{ "host": "raw.test", "upstream": "main" }]))
    })
    .await;
    let request = |bytes: usize| {
        Request::post_bytes("/v1/audio/transcriptions", vec![b'x'; bytes])
            .without("content-type")
            .header("content-type", "application/octet-stream")
            .header("host", "raw.test")
    };
    place.gateway.send(request(MIB)).await;
    place.gateway.send(request(MIB).chunked(10_000)).await;
    let arrived = place.main.requests();
    assert_eq!(arrived.iter().map(|request| request.body.len()).collect::<Vec<_>>(), [MIB, MIB]);

    place.gateway.send(request(MIB + 1)).await.expect(413);
    assert_eq!(place.main.counts().requests, 2, "the head alone told that it is too large");
    let answer = place.gateway.send(request(5 * MIB).chunked(10_000)).await.expect(413);
    assert_eq!(answer.json()["error"]["code"], "request_too_large");
}

/// A request whose head and first bytes are sent; the rest is the test's.
pub(super) struct Begun {
    pieces: mpsc::Sender<Bytes>,
    answer: tokio::task::JoinHandle<Result<Arriving, hyper::Error>>,
}

pub(super) fn begin(mut client: Client, request: Request) -> Begun {
    let (request, pieces) = request.live();
    Begun { pieces, answer: tokio::spawn(async move { client.open(request).await }) }
}

impl Begun {
    pub(super) async fn send(&self, piece: impl Into<Bytes>) {
        soon("the body's piece to be taken", self.pieces.send(piece.into())).await.unwrap();
    }

    pub(super) async fn answer(self) -> crate::support::request::Answer {
        drop(self.pieces);
        soon("the answer", self.answer).await.unwrap().unwrap().finish().await
    }
}

/// Q3: bodies in flight share one budget; who does not fit may come back.
#[tokio::test(flavor = "multi_thread")]
async fn q3_more_bodies_than_the_process_may_hold_are_503_with_retry_after() {
    let place = Place::with(|setup| setup.set("/limits", json!({ "inflight_body_bytes": MIB, "max_body_bytes": MIB }))).await;
    let body = Bytes::from(body_of(700_000));
    let holder = begin(place.gateway.client().await, Request::post_bytes("/v1/embeddings", ""));
    holder.send(body.slice(..600_000)).await;
    let held = || async { place.gateway.metric("request_body_bytes").await };
    place.gateway.until_metric("request_body_bytes", |bytes| bytes == 600_000).await;

    for request in [Request::post_bytes(MESSAGES, body.clone()), Request::post_bytes(MESSAGES, body.clone()).chunked(50_000)] {
        let answer = place.gateway.send(request).await.expect(503);
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    }
    assert_eq!(place.main.counts().requests, 0);
    assert_eq!(held().await, 600_000, "a refusal gives back what it took");

    // A small one still fits.
    place.gateway.send(Request::post_bytes(MESSAGES, good_body())).await.expect(200);
    holder.send(body.slice(600_000..)).await;
    holder.answer().await.expect(200);
    place.gateway.until_metric("request_body_bytes", |bytes| bytes == 0).await;
    place.gateway.send(Request::post_bytes("/v1/embeddings", body)).await.expect(200);
}
