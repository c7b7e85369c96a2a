//! Before a request is whole: handshakes, prefaces, heads, bodies.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::frames::{self, CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, SETTINGS};
use super::{Place, TLS_NAME, drip, ended};
use crate::answers::MESSAGES;
use crate::support::certs::client_config;
use crate::support::request::CLIENT_KEY;

impl Place {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.gateway.addr()).await.unwrap()
    }

    async fn tls_tcp(&self) -> TcpStream {
        TcpStream::connect(self.gateway.tls_addr()).await.unwrap()
    }

    /// A connection after the handshake, with these protocols offered.
    async fn tls(&self, alpn: &[&str]) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(client_config(&self.ca_pem, alpn));
        connector.connect(ServerName::try_from(TLS_NAME).unwrap(), self.tls_tcp().await).await.unwrap()
    }
}

/// A5: a TLS handshake that is not begun, begun, or dripped.
#[tokio::test(flavor = "multi_thread")]
async fn a5_a_stalled_tls_handshake_is_ended_by_its_total_deadline() {
    /// The head of a record of 512 bytes, and of the message in it.
    const BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let place = Place::impatient().await;
    place
        .unnoticed(async {
            let silent = drip("a silent handshake", place.tls_tcp().await, b"", b"");
            let half = drip("half a handshake", place.tls_tcp().await, BEGUN, b"");
            let dripped = drip("a dripped handshake", place.tls_tcp().await, BEGUN, b"\x03");
            tokio::join!(silent, half, dripped)
        })
        .await;
    place.gateway.until_metric("requests_in_flight", |flying| flying == 0).await;
}

/// A5: nothing after the handshake, whatever was agreed in it.
#[tokio::test(flavor = "multi_thread")]
async fn a5_silence_after_a_tls_handshake_is_ended() {
    let place = Place::impatient().await;
    place
        .unnoticed(async {
            for alpn in [&["h2"][..], &["http/1.1"], &[]] {
                drip(&format!("silence after {alpn:?}"), place.tls(alpn).await, b"", b"").await;
            }
            for begun in [&PREFACE[..23], &[PREFACE, SETTINGS].concat()] {
                drip("silence after a preface", place.tls(&["h2"]).await, begun, b"").await;
            }
        })
        .await;
}

/// A5: a preface of HTTP/2 that comes byte by byte, over TLS and without.
#[tokio::test(flavor = "multi_thread")]
async fn a5_a_dripped_preface_is_ended_by_its_total_deadline() {
    async fn dripped<S: tokio::io::AsyncRead + tokio::io::AsyncWrite>(stream: S) {
        let (mut read, mut write) = tokio::io::split(stream);
        // The whole preface would take twice the deadline.
        let dripping = async {
            for byte in PREFACE {
                if tokio::io::AsyncWriteExt::write_all(&mut write, &[*byte]).await.is_err() {
                    break;
                }
                drop(tokio::io::AsyncWriteExt::flush(&mut write).await);
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            panic!("the whole preface was awaited");
        };
        let mut said = Vec::new();
        let reading = async { drop(read.read_to_end(&mut said).await) };
        tokio::select! {
            () = reading => {}
            () = dripping => {}
        }
    }
    let place = Place::impatient().await;
    place.unnoticed(async { tokio::join!(dripped(place.tls(&["h2"]).await), dripped(place.tcp().await)) }).await;
}

/// A5: frames that are no request keep no connection open, on a new one and on one that had a request.
#[tokio::test(flavor = "multi_thread")]
async fn a5_an_http2_connection_lives_by_its_requests_alone() {
    let place = Place::impatient().await;
    place
        .unnoticed(async {
            let begun = [PREFACE, SETTINGS].concat();
            let after_a_request = [&begun[..], &frames::request(1, MESSAGES, None, "{}")].concat();
            let window = frames::frame(frames::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
            for first in [&begun, &after_a_request] {
                for drop in [PING, SETTINGS, &window] {
                    drip("a connection without a request", place.tcp().await, first, drop).await;
                }
            }
        })
        .await;
}

/// A5: a head of HTTP/2 in frames that never end.
#[tokio::test(flavor = "multi_thread")]
async fn a5_a_head_in_dripped_continuations_is_ended() {
    let place = Place::impatient().await;
    place
        .unnoticed(async {
            let head = frames::head("GET", "/v1/models", Some(CLIENT_KEY));
            let first = [PREFACE, SETTINGS, &frames::frame(HEADERS, 0, 1, &head)].concat();
            drip("a head without an end", place.tcp().await, first, &frames::frame(CONTINUATION, 0, 1, b"")).await;
        })
        .await;
}

/// A5: a body of HTTP/2 that comes byte by byte has the deadline that one of HTTP/1 has.
#[tokio::test(flavor = "multi_thread")]
async fn a5_a_dripped_http2_body_ends_with_its_deadline_and_then_the_connection() {
    let place = Place::impatient().await;
    let said = place
        .unnoticed(async {
            let head = frames::frame(HEADERS, END_HEADERS, 1, &frames::head("POST", MESSAGES, Some(CLIENT_KEY)));
            let first = [PREFACE, SETTINGS, &head].concat();
            drip("a body without an end", place.tcp().await, first, &frames::frame(DATA, 0, 1, b" ")).await
        })
        .await;
    assert!(String::from_utf8_lossy(&said).contains("did not arrive"), "{:?}", String::from_utf8_lossy(&said));
    place.gateway.until_metric("requests_in_flight", |flying| flying == 0).await;
}

/// A5: whoever has no key has one request at a time on a connection, so that a hundred of them are answered one by one.
#[tokio::test(flavor = "multi_thread")]
async fn a5_requests_without_a_key_are_all_answered() {
    let place = Place::impatient().await;
    let mut requests = [PREFACE, SETTINGS].concat();
    for stream in 0..100 {
        requests.extend(frames::request(1 + 2 * stream, MESSAGES, None, "{}"));
    }
    let said = ended("a hundred refusals", drip("a hundred refusals", place.tcp().await, requests, b"")).await;
    let (mut rest, mut heads) = (said, 0);
    while let Some((kind, _)) = frames::take(&mut rest) {
        heads += usize::from(kind == HEADERS);
    }
    assert_eq!(heads, 100);
}
