//! The handshakes against a scripted peer in memory, and what keeps connections apart.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::domain::secret::Secret;

fn login(username: &str, password: &str) -> Login {
    Login::new(ForwardKind::Connect, username, Secret::new(password)).unwrap()
}

fn target(host: &str) -> Target {
    Target::new(host, 443).unwrap()
}

/// Answers the CONNECT with these bytes and stays; returns the outcome and what it was asked.
async fn asked_and_answered(login: Option<Login>, answer: &[u8]) -> (Result<Vec<u8>, TunnelFailure>, String) {
    let (mut ours, mut proxys) = duplex(64 * 1024);
    proxys.write_all(answer).await.unwrap();
    let outcome = connect::handshake(&mut ours, &target("api.example"), login.as_ref()).await;
    drop(ours);
    let mut request = String::new();
    proxys.read_to_string(&mut request).await.unwrap();
    (outcome, request)
}

async fn answered(answer: &[u8]) -> Result<Vec<u8>, TunnelFailure> {
    asked_and_answered(None, answer).await.0
}

#[tokio::test]
async fn t7_connect_asks_by_authority_and_logs_in_by_basic() {
    let (outcome, request) = asked_and_answered(None, b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    assert_eq!(outcome, Ok(Vec::new()));
    assert_eq!(request, "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n");

    let (_, request) = asked_and_answered(Some(login("Aladdin", "open sesame")), b"HTTP/1.0 200 OK\r\n\r\n").await;
    assert!(request.ends_with("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"), "{request}");
}

#[tokio::test]
async fn t7_connect_keeps_what_comes_right_behind_the_answer() {
    assert_eq!(answered(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nhello\n\nworld").await, Ok(b"hello\n\nworld".to_vec()));
    assert_eq!(answered(b"HTTP/1.1 204 OK\n\nhello").await, Ok(b"hello".to_vec()));
    // Framing has no meaning in a tunnel.
    assert_eq!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await, Ok(b"hello".to_vec()));
}

#[tokio::test]
async fn t7_connect_tells_a_refused_login_from_a_refused_target_and_from_garbage() {
    assert_eq!(answered(b"HTTP/1.1 407 No\r\n\r\n").await, Err(TunnelFailure::AuthRefused("it wants a username and password")));
    for answer in [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 401 No\r\n\r\n"] {
        let wrong = asked_and_answered(Some(login("u", "p")), answer).await.0;
        assert_eq!(wrong, Err(TunnelFailure::AuthRefused("it does not take this username and password")));
    }
    let refused = Err(TunnelFailure::TargetRefused("502 Bad Gateway".to_owned()));
    assert_eq!(answered(b"HTTP/1.1 502 Bad Gateway\r\nServer: x\r\n\r\n<html>").await, refused);
    for garbage in [&b"SSH-2.0-OpenSSH_9"[..], b"\x05\xff", b"HTTP/1.1 20000 OK\r\n\r\n", b"HTTP/1.1 101 Hm\r\n\r\n"] {
        assert!(matches!(answered(garbage).await, Err(TunnelFailure::Garbage(_))), "{garbage:?}");
    }
}

#[tokio::test]
async fn t7_an_answer_without_end_is_bounded() {
    let mut endless = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    endless.resize(20 * 1024, b'x');
    assert_eq!(answered(&endless).await, Err(TunnelFailure::Garbage("its answer has no end")));
    let many_lines = [&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(65), b"\r\n"].concat();
    assert!(matches!(answered(&many_lines).await, Err(TunnelFailure::Garbage(_))));
    assert!(matches!(answered(&vec![0; 20 * 1024]).await, Err(TunnelFailure::Garbage(_))));
}

#[tokio::test]
async fn t7_connect_reads_an_answer_in_any_pieces() {
    let (mut ours, mut proxys) = duplex(1);
    let sending = tokio::spawn(async move {
        let mut request = [0; "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n".len()];
        proxys.read_exact(&mut request).await.unwrap();
        proxys.write_all(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n").await.unwrap();
        proxys
    });
    assert_eq!(connect::handshake(&mut ours, &target("api.example"), None).await, Ok(Vec::new()));
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn t7_a_proxys_words_never_carry_the_login() {
    let echo = b"HTTP/1.1 500 canary-u canary-p Y2FuYXJ5LXU6Y2FuYXJ5LXA= no\r\n\r\n";
    let failure = asked_and_answered(Some(login("canary-u", "canary-p")), echo).await.0.unwrap_err();
    let error: Box<Error> = failure.clone().into();
    let text = format!("{failure} {failure:?} {error} {error:?}");
    assert!(!text.contains("canary") && !text.contains("Y2Fu"), "{text}");
    assert!(text.contains("500 *****"), "{text}");
}

async fn socks(login: Option<&Login>, host: &str, script: &[u8]) -> (Result<(), TunnelFailure>, Vec<u8>, DuplexStream) {
    let (mut ours, mut proxys) = duplex(64 * 1024);
    proxys.write_all(script).await.unwrap();
    let outcome = socks5::handshake(&mut ours, &target(host), login).await;
    let mut asked = vec![0; 1024];
    proxys.write_all(b"!").await.unwrap();
    let count = proxys.read(&mut asked).await.unwrap();
    asked.truncate(count);
    (outcome, asked, ours)
}

#[tokio::test]
async fn t7_socks5_sends_names_as_names_and_swallows_nothing() {
    let (outcome, asked, mut ours) = socks(None, "api.example", b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hello").await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(asked, b"\x05\x01\x00\x05\x01\x00\x03\x0bapi.example\x01\xbb");
    let mut early = [0; 6];
    ours.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"hello!");

    let (_, asked, _) = socks(None, "[::1]", b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00").await;
    assert_eq!(asked, b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb");
}

#[tokio::test]
async fn t7_socks5_tells_its_failures_apart() {
    let login = login("user", "secret");
    let (outcome, asked, _) = socks(Some(&login), "a.example", b"\x05\x02\x01\x01").await;
    assert_eq!(outcome, Err(TunnelFailure::AuthRefused("it does not take this username and password")));
    assert_eq!(asked, b"\x05\x02\x00\x02\x01\x04user\x06secret");
    for wants_login in [&b"\x05\xff"[..], b"\x05\x02"] {
        assert!(matches!(socks(None, "a.example", wants_login).await.0, Err(TunnelFailure::AuthRefused(_))));
    }
    let refused = socks(None, "a.example", b"\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00").await.0;
    assert_eq!(refused, Err(TunnelFailure::TargetRefused("Connection refused".to_owned())));
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x05\x00\x05\x00\x00\x09", b"\x05\x00\x05\x77\x00\x01"] {
        assert!(matches!(socks(None, "a.example", garbage).await.0, Err(TunnelFailure::Garbage(_))), "{garbage:?}");
    }
}

fn through(kind: ForwardKind, proxy: &str, login: Option<Login>, host: &str) -> Tunnel {
    Tunnel { kind, proxy: proxy.parse().unwrap(), login, target: target(host), deadline: Duration::from_secs(5) }
}

#[test]
fn t7_a_connection_is_kept_apart_by_proxy_kind_login_target_and_authority() {
    use ForwardKind::{Connect, Socks5};
    let keys = [
        through(Connect, "192.0.2.1:1", None, "a.example").group_key(None),
        through(Socks5, "192.0.2.1:1", None, "a.example").group_key(None),
        through(Connect, "192.0.2.2:1", None, "a.example").group_key(None),
        through(Connect, "192.0.2.1:1", Some(login("u", "p")), "a.example").group_key(None),
        through(Connect, "192.0.2.1:1", Some(login("u", "q")), "a.example").group_key(None),
        through(Connect, "192.0.2.1:1", Some(login("v", "p")), "a.example").group_key(None),
        through(Connect, "192.0.2.1:1", None, "b.example").group_key(None),
        through(Connect, "192.0.2.1:1", None, "a.example").group_key(Some(Path::new("ca.pem"))),
    ];
    let apart: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(apart.len(), keys.len());
    assert_eq!(keys[0], through(Connect, "192.0.2.1:1", None, "a.example").group_key(None));
}

#[tokio::test]
async fn t10_a_port_where_nobody_listens_is_unreachable() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let tunnel = through(ForwardKind::Connect, &address, None, "a.example");
    assert_eq!(tunnel.probe().await, Err(TunnelFailure::Unreachable(ErrorKind::ConnectionRefused)));
}

#[test]
fn a_tunnel_never_prints_its_login() {
    let tunnel = through(ForwardKind::Connect, "192.0.2.1:1", Some(login("canary-u", "canary-p")), "a.example");
    assert_eq!(format!("{tunnel:?} {tunnel:#?}").matches("canary").count(), 0);
}
