//! One client's bodies and the memory of all (A4): what is only declared takes nothing, what is sent is its client's share, and another
//! client, who works all the while, notices nothing.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::sizes::{Begun, begin, body_of};
use super::{MESSAGES, Place, good_body};
use crate::support::{Client, Gateway, RawClient, Request, process};

const MIB: usize = 1 << 20;
/// Between two looks at what must change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A gateway with room for four largest bodies, one of them a client's, and the keys of two clients.
async fn crowded() -> (Place, String, String) {
    let limits = json!({ "max_body_bytes": MIB, "inflight_body_bytes": 4 * MIB, "client_body_percent": 25, "body_read_s": 600 });
    let place = Place::with(|setup| setup.set("/limits", limits)).await;
    let (greedy, other) = (add(&place.gateway, "greedy").await, add(&place.gateway, "other").await);
    (place, greedy, other)
}

async fn add(gateway: &Gateway, name: &str) -> String {
    let added = process::run(gateway.dir(), &["client", "add", name, "--json"], &gateway.env()).await.expect(0);
    let key = added.json()["key"].as_str().unwrap().to_owned();
    while gateway.send(good(&key)).await.status != 200 {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    key
}

fn good(key: &str) -> Request {
    Request::post_bytes(MESSAGES, good_body()).bearer(key)
}

/// A client that asks again and again until it is told to stop.
struct Working {
    stop: oneshot::Sender<()>,
    statuses: JoinHandle<Vec<u16>>,
}

impl Working {
    async fn begin(gateway: &Gateway, key: &str) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (mut client, key) = (gateway.client().await, key.to_owned());
        let statuses = tokio::spawn(async move {
            let mut statuses = Vec::new();
            while stopped.try_recv().is_err() {
                statuses.push(client.send(good(&key)).await.status.as_u16());
            }
            statuses
        });
        Self { stop, statuses }
    }

    async fn noticed_nothing(self) {
        self.stop.send(()).unwrap();
        let statuses = self.statuses.await.unwrap();
        assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
}

/// Declares a body of the largest size on a connection of its own, and sends its first byte.
async fn declare(gateway: &Gateway, key: &str) -> RawClient {
    let mut raw = gateway.raw().await;
    let head = format!(
        "POST {MESSAGES} HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {MIB}\r\n\r\n{{"
    );
    raw.send_all(head).await;
    raw
}

/// As [`declare`] in HTTP/2, without any byte.
fn declare_in_h2(client: &Client, key: &str) -> Begun {
    let request = Request::post_bytes(MESSAGES, "").bearer(key).header("content-length", &MIB.to_string());
    begin(client.fork(), request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_what_a_client_declares_and_does_not_send_takes_nothing_from_anybody() {
    let (place, greedy, other) = crowded().await;
    let gateway = &place.gateway;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(declare(gateway, &greedy).await);
    }
    let h2 = gateway.h2c_client().await;
    let streams: Vec<_> = (0..40).map(|_| declare_in_h2(&h2, &greedy)).collect();
    gateway.until_metric("requests_in_flight", |requests| requests == 80).await;
    gateway.until_metric("request_body_bytes", |bytes| bytes == 40).await;

    let working = Working::begin(gateway, &other).await;
    for _ in 0..20 {
        // The one who declared so much is not refused either.
        gateway.send(good(&greedy)).await.expect(200);
        gateway.send(Request::post_bytes("/v1/embeddings", body_of(MIB / 2)).bearer(&other)).await.expect(200);
    }
    working.noticed_nothing().await;
    drop((open, streams));
    gateway.until_metric("request_body_bytes", |bytes| bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_what_one_client_really_sends_is_its_own_share_in_either_protocol() {
    for http2 in [false, true] {
        let (place, greedy, other) = crowded().await;
        let gateway = &place.gateway;
        let working = Working::begin(gateway, &other).await;
        let client = if http2 { gateway.h2c_client().await } else { gateway.client().await };
        let body = Bytes::from(body_of(MIB - 1_000));
        let holder = begin(client, Request::post_bytes("/v1/embeddings", "").bearer(&greedy));
        for piece in body.chunks(64 << 10) {
            holder.send(Bytes::copy_from_slice(piece)).await;
        }
        gateway.until_metric("request_body_bytes", |bytes| bytes >= (MIB - 1_000) as u64).await;

        let large = || Request::post_bytes(MESSAGES, body_of(MIB / 2));
        for request in [large().bearer(&greedy), large().bearer(&greedy).chunked(50_000)] {
            let answer = gateway.send(request).await.expect(503);
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
            let error = &answer.json()["error"];
            assert_eq!(error["type"], "overloaded_error");
            assert!(error["message"].as_str().unwrap().contains("this API key"), "{error}");
        }
        // A small one still fits; the others, and whoever has the static key, have all the rest.
        gateway.send(good(&greedy)).await.expect(200);
        gateway.send(large().bearer(&other)).await.expect(200);
        gateway.send(large()).await.expect(200);
        working.noticed_nothing().await;

        holder.answer().await.expect(200);
        gateway.until_metric("request_body_bytes", |bytes| bytes == 0).await;
        gateway.send(Request::post_bytes("/v1/embeddings", body).bearer(&greedy)).await.expect(200);
        gateway.wait_for_log(|line| line.contains("client=greedy") && line.contains("status=503")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_the_holders_of_the_static_key_are_one_client_and_alone_they_have_all() {
    let limits = json!({ "max_body_bytes": MIB, "inflight_body_bytes": 4 * MIB });
    let place = Place::with(|setup| setup.set("/limits", limits)).await;
    let gateway = &place.gateway;
    let body = Bytes::from(body_of(MIB));
    let mut held = Vec::new();
    for nth in 1..=3 {
        let holder = begin(gateway.client().await, Request::post_bytes("/v1/embeddings", ""));
        for piece in body.slice(..MIB - 1_000).chunks(64 << 10) {
            holder.send(Bytes::copy_from_slice(piece)).await;
        }
        gateway.until_metric("request_body_bytes", |bytes| bytes == (nth * (MIB - 1_000)) as u64).await;
        held.push(holder);
    }
    drop(held);
    gateway.until_metric("request_body_bytes", |bytes| bytes == 0).await;

    let other = add(gateway, "other").await;
    let holder = begin(gateway.client().await, Request::post_bytes("/v1/embeddings", ""));
    holder.send(body.slice(..MIB - 1_000)).await;
    gateway.until_metric("request_body_bytes", |bytes| bytes == (MIB - 1_000) as u64).await;
    gateway.send(Request::post_bytes(MESSAGES, body.clone())).await.expect(503);
    gateway.send(Request::post_bytes("/v1/embeddings", body).bearer(&other)).await.expect(200);
}
