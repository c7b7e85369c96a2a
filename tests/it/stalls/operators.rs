//! The admin listener, and what every listener refuses: it has the deadlines of the others.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Place, drip, ended};
use crate::support::RawClient;
use crate::support::request::CLIENT_KEY;
use crate::support::setup::ADMIN_TOKEN;

/// A5: idle, half a head, a dripped head, a body after a refusal, a body that is awaited: all end.
#[tokio::test(flavor = "multi_thread")]
async fn a5_the_admin_listener_ends_whoever_stalls() {
    const HALF: &str = "GET /health HTTP/1.1\r\nhost: x\r\nx-a: ";
    const REFUSED: &str = "POST /clients HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let awaited =
        format!("POST /clients HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n");
    let kept = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let place = Place::impatient().await;
    let stalled = |what: &'static str, first: String, drop: &'static [u8]| {
        let addr = place.gateway.admin_addr();
        async move { drip(what, TcpStream::connect(addr).await.unwrap(), first, drop).await }
    };
    let said = place
        .unnoticed(async {
            tokio::join!(
                stalled("an idle connection", String::new(), b""),
                stalled("half a head", HALF.to_owned(), b""),
                stalled("a dripped head", HALF.to_owned(), b"y"),
                stalled("a body after a refusal", REFUSED.to_owned(), b""),
                stalled("a dripped body after a refusal", REFUSED.to_owned(), b"1\r\nx\r\n"),
                stalled("a dripped body", awaited, b"1\r\n \r\n"),
                stalled("a kept connection", kept.to_owned(), b""),
            )
        })
        .await;
    let status = |said: &[u8]| String::from_utf8_lossy(said).split(' ').nth(1).map(str::to_owned);
    let refused = [&said.3, &said.4].map(|said| status(said));
    assert_eq!(refused, [Some("401".to_owned()), Some("401".to_owned())]);
    assert_eq!((status(&said.5).as_deref(), status(&said.6).as_deref()), (Some("408"), Some("200")));
    assert_eq!(place.gateway.admin("/health").await.status, 200);
}

/// A5: a body without an end behind a refusal is dropped for a while, then the connection is.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_endless_body_behind_a_refusal_of_the_admin_listener_is_cut() {
    let place = Place::impatient().await;
    let mut tcp = TcpStream::connect(place.gateway.admin_addr()).await.unwrap();
    place
        .unnoticed(ended("an endless body", async {
            tcp.write_all(b"POST /reload HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000000\r\n\r\n").await.unwrap();
            while tcp.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
        }))
        .await;
}

/// RFC 9112 §3.2: without `Host` a request of HTTP/1.1 is 400, on every listener and whatever its target says; one of HTTP/1.0 is not.
#[tokio::test(flavor = "multi_thread")]
async fn a5_http11_without_a_host_is_400_on_every_listener() {
    let place = Place::with(json!({ "keepalive_s": 20, "header_read_s": 10 })).await;
    let targets = [(place.gateway.addr(), "/v1/models"), (place.gateway.admin_addr(), "/health")];
    for (addr, target) in targets {
        for (head, status) in [
            (format!("GET {target} HTTP/1.1\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n"), 400),
            (format!("GET http://x{target} HTTP/1.1\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n"), 400),
            (format!("GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n"), 200),
            (format!("GET {target} HTTP/1.0\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n"), 200),
        ] {
            let mut raw = RawClient::connect(addr).await;
            raw.send(&head).await;
            let answer = raw.read_answer().await;
            assert_eq!(answer.status, status, "{head:?}: {}", String::from_utf8_lossy(&answer.body));
            if status == 400 {
                assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| message.contains("Host")));
                raw.expect_close().await;
            }
        }
    }
}
