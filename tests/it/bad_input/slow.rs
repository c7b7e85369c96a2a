//! Too slow: heads and bodies have total deadlines, which a dripped byte does not extend, and nobody may sit on an idle connection
//! (Q4). The deadlines are a second; what is asserted is the end, never the time.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CHAT, MESSAGES, Place, good_body, post, sized};
use crate::support::{Request, Shorthand, soon};

/// Between two dripped bytes: far below every deadline.
const DRIP: Duration = Duration::from_millis(40);

async fn impatient_place() -> Place {
    Place::with(|setup| setup.set("/limits", json!({ "header_read_s": 1, "body_read_s": 1, "keepalive_s": 1 }))).await
}

/// Sends `first`, then `drop` again and again until the peer ends the connection; returns what the peer said.
async fn drip(place: &Place, first: impl AsRef<[u8]>, drop: &'static [u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(place.gateway.addr()).await.unwrap();
    tcp.write_all(first.as_ref()).await.unwrap();
    let (mut read, mut write) = tcp.into_split();
    let dripping = tokio::spawn(async move {
        while write.write_all(drop).await.is_ok() {
            tokio::time::sleep(DRIP).await;
        }
    });
    let mut said = Vec::new();
    // A reset is an end as well, once everything before it was read.
    let _ = soon("the dripped connection to be ended", read.read_to_end(&mut said)).await;
    dripping.abort();
    said
}

/// Q4
#[tokio::test(flavor = "multi_thread")]
async fn q4_a_client_that_says_nothing_is_closed() {
    let place = impatient_place().await;
    place.gateway.raw().await.expect_close().await;
    for beginning in [
        "G",
        "GE",
        "P",
        "PR",
        "PRI",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        "POST /v1/messages HTTP/1.1\r\nhost:",
    ] {
        let mut raw = place.gateway.raw().await;
        raw.send(beginning).await;
        raw.read_to_end().await;
    }
    place.assert_provider_heard_nothing();
}

/// Q4
#[tokio::test(flavor = "multi_thread")]
async fn q4_a_dripped_head_is_ended_by_its_total_deadline() {
    let place = impatient_place().await;
    drip(&place, "G", b"G").await;
    drip(&place, post(MESSAGES, "").trim_end(), b"x").await;
    drip(&place, "", b"\r\n").await;
    place.assert_provider_heard_nothing();
}

/// Q4
#[tokio::test(flavor = "multi_thread")]
async fn q4_a_head_dripped_on_a_kept_connection_is_ended_too() {
    let place = impatient_place().await;
    let first = sized(MESSAGES, "", good_body());
    let said = drip(&place, [&first[..], b"GET /v1/models HTTP/1.1\r\nx: "].concat(), b"x").await;
    assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(place.main.counts().requests, 1);
}

/// Q4: HTTP/2 has the same patience: no SETTINGS, no request, half a HEADERS frame.
#[tokio::test(flavor = "multi_thread")]
async fn q4_an_h2c_connection_that_makes_no_request_is_closed() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    /// A HEADERS frame of 16 384 bytes on stream 1.
    const HEADERS: &[u8] = b"\0\x40\0\x01\0\0\0\0\x01";
    let place = impatient_place().await;
    for beginning in [PREFACE.to_vec(), [PREFACE, SETTINGS].concat()] {
        let mut raw = place.gateway.raw().await;
        raw.send(beginning).await;
        raw.read_to_end().await;
    }
    drip(&place, [PREFACE, SETTINGS, HEADERS].concat(), b"\x40").await;
    place.assert_provider_heard_nothing();
}

/// Q4
#[tokio::test(flavor = "multi_thread")]
async fn q4_a_slow_body_is_408_in_the_paths_dialect_whatever_is_dripped() {
    let place = impatient_place().await;
    for path in [CHAT, MESSAGES] {
        for (fields, piece) in [("content-length: 100000\r\n", &b" "[..]), ("transfer-encoding: chunked\r\n", b"1\r\n \r\n")] {
            let said = drip(&place, post(path, fields), piece).await;
            let said = String::from_utf8(said).unwrap();
            assert!(said.starts_with("HTTP/1.1 408 "), "{path} {fields}: {said:?}");
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let name = if path == CHAT { &body["error"]["code"] } else { &body["error"]["type"] };
            assert_eq!(name, if path == CHAT { "body_timeout" } else { "invalid_request_error" });
        }
    }
    place.assert_provider_heard_nothing();
}

/// Q4
#[tokio::test(flavor = "multi_thread")]
async fn q4_a_body_that_never_ends_over_http2_is_408_and_the_connection_goes_on() {
    let place = impatient_place().await;
    let mut client = place.gateway.h2c_client().await;
    let (request, pieces) = Request::post_bytes(MESSAGES, "").live();
    pieces.send("{".into()).await.unwrap();
    let answer = client.send(request).await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["type"], "error");
    drop(pieces);
    client.send(Request::post_bytes(MESSAGES, good_body())).await.expect(200);
}

/// Q4
#[tokio::test(flavor = "multi_thread")]
async fn q4_an_idle_kept_connection_is_closed() {
    let place = impatient_place().await;
    let mut raw = place.gateway.raw().await;
    raw.send(sized(MESSAGES, "", good_body())).await;
    assert_eq!(raw.read_answer().await.status, 200);
    raw.expect_close().await;

    let mut http2 = place.gateway.h2c_client().await;
    http2.send(Request::post_bytes(MESSAGES, good_body())).await.expect(200);
    soon("the idle HTTP/2 connection to be closed", http2.closed()).await;
}

/// Q4: only idleness is punished. A request that takes longer than every client deadline is none of the client's slowness.
#[tokio::test(flavor = "multi_thread")]
async fn q4_a_slow_answer_is_not_held_against_the_client() {
    let place = impatient_place().await;
    let slow = || trollbridge::provider_mock::Reply::usual().delayed(Duration::from_millis(2_500));
    for h2c in [false, true] {
        let mut client = if h2c { place.gateway.h2c_client().await } else { place.gateway.client().await };
        place.main.push(slow());
        client.send(Request::post_bytes(MESSAGES, good_body())).await.expect(200);
        assert!(client.is_reusable().await);
    }
}
