//! Every fault that a script can name, seen by a client that stands where the gateway will.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};
use trollbridge::provider_mock::{After, AtAccept, CANARIES, EchoKey, Encoding, Framing, How, Reply, Rule, Script, Split};

use crate::support::{Alpn, Authority, Client, Distrust, Mock, RawClient, Request, Shorthand, soon};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn ask(stream: bool) -> Value {
    json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "hello there" }] })
}

async fn http1(mock: &Mock) -> Client {
    Client::http1(mock.addr(), Distrust::nothing()).await
}

async fn h2c(mock: &Mock) -> Client {
    Client::h2c(mock.addr(), Distrust::nothing()).await
}

async fn mock(reply: Reply) -> Mock {
    let mock = Mock::http().await.unwrap();
    mock.always(reply);
    mock
}

/// Sends one request by hand and returns all that comes until the end of the connection.
async fn raw_exchange(mock: &Mock) -> String {
    let mut raw = RawClient::connect(mock.addr()).await;
    raw.send("POST /v1/messages HTTP/1.1\r\nhost: mock\r\ncontent-length: 2\r\n\r\n{}").await;
    String::from_utf8_lossy(&raw.read_to_end().await).into_owned()
}

#[tokio::test]
async fn status_headers_and_leaking_errors() {
    let mock =
        mock(Reply::leaking_error(429).header("retry-after", "7").header("set-cookie", "a=1").header("set-cookie", "b=2")).await;
    let answer = http1(&mock).await.send(Request::post(MESSAGES, &ask(false))).await.expect(429);
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    assert!(CANARIES.iter().all(|canary| answer.text().contains(canary)), "{}", answer.text());
    assert!(answer.text().contains("tb-test-key"));
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2, "the reply's own headers replace the usual ones");
}

#[tokio::test]
async fn rules_choose_by_model_path_and_key() {
    let script = Script::parse(
        r#"{"rules":[{"model":"err-429","reply":{"status":429}},{"key":"k2","reply":{"status":402}},{"path":"/responses","reply":{"status":500}}]}"#,
    );
    let mock = Mock::scripted(script.unwrap()).await.unwrap();
    let mut client = http1(&mock).await;
    client.send(Request::post(CHAT, &json!({ "model": "err-429" }))).await.expect(429);
    client.send(Request::post(CHAT, &json!({ "model": "m" })).bearer("k2")).await.expect(402);
    client.send(Request::post("/v1/responses", &json!({ "model": "m" }))).await.expect(500);
    client.send(Request::post(CHAT, &json!({ "model": "m" }))).await.expect(200);
    mock.push_rule(Rule { model: Some("m".to_owned()), reply: Reply::status(503), ..Rule::default() });
    client.send(Request::post(CHAT, &json!({ "model": "n" }))).await.expect(200);
    client.send(Request::post(CHAT, &json!({ "model": "m" }))).await.expect(503);
    client.send(Request::post(CHAT, &json!({ "model": "m" }))).await.expect(200);
}

#[tokio::test]
async fn a_cut_falls_after_the_event_or_byte_that_the_script_names() {
    for (after, events) in [(After::Events(3), 3), (After::Bytes(10), 0)] {
        for how in [How::Close, How::Reset] {
            let mock = mock(Reply::usual().cut(after, how)).await;
            for mut client in [http1(&mock).await, h2c(&mock).await] {
                let answer = client.send(Request::post(CHAT, &ask(true))).await;
                assert!(answer.broken.is_some(), "{after:?} {how:?}");
                assert_eq!(answer.events().len(), events, "{after:?} {how:?}");
                if after == After::Bytes(10) {
                    assert_eq!(answer.body().len(), 10);
                }
            }
            assert_eq!(mock.counts().finished, 2, "a scripted cut is a finished exchange");
        }
    }
}

#[tokio::test]
async fn a_cut_breaks_a_body_that_has_a_length() {
    let mock = mock(Reply::usual().cut(After::Bytes(20), How::Close)).await;
    let answer = http1(&mock).await.send(Request::post(CHAT, &ask(false))).await;
    assert!(answer.header("content-length").parse::<usize>().unwrap() > 20);
    assert_eq!(answer.body().len(), 20);
    assert!(answer.broken.is_some());
}

#[tokio::test]
async fn a_stream_can_end_cleanly_without_its_last_word() {
    for (path, last_word) in [(CHAT, "[DONE]"), (MESSAGES, "message_stop"), ("/v1/responses", "response.completed")] {
        let mock = mock(Reply::usual().without_terminator()).await;
        let answer = http1(&mock).await.send(Request::post(path, &ask(true))).await.expect(200);
        assert!(!answer.text().contains(last_word), "{path}");
        mock.always(Reply::usual());
        let answer = http1(&mock).await.send(Request::post(path, &ask(true))).await.expect(200);
        assert!(answer.text().contains(last_word), "{path}");
    }
}

#[tokio::test]
async fn every_byte_can_travel_alone() {
    let mock = mock(Reply::usual()).await;
    let whole = http1(&mock).await.send(Request::post(MESSAGES, &ask(true))).await.expect(200);
    mock.always(Reply::usual().split(Split::EveryByte));
    for mut client in [http1(&mock).await, h2c(&mock).await] {
        let bytes = client.send(Request::post(MESSAGES, &ask(true))).await.expect(200);
        assert_eq!(bytes.body().len(), whole.body().len());
        assert!(bytes.chunks.len() > whole.body().len() / 2, "{} pieces of {} bytes", bytes.chunks.len(), whole.body().len());
    }
    mock.always(Reply::usual().split(Split::At(vec![3, 5])));
    let mut raw = RawClient::connect(mock.addr()).await;
    let body = ask(true).to_string();
    raw.send(format!("POST {MESSAGES} HTTP/1.1\r\nhost: mock\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    raw.read_until("\r\n\r\n").await;
    assert_eq!(raw.read_until("\r\neve\r\n").await, b"3\r\neve\r\n", "each piece is a chunk of its own");
    assert_eq!(raw.read_until("nt\r\n").await, b"2\r\nnt\r\n");
}

#[tokio::test]
async fn compressed_streams_decode_to_what_was_asked_for() {
    let mock = mock(Reply::usual().compressed(Encoding::Gzip)).await;
    let answer = http1(&mock).await.send(Request::post(CHAT, &ask(true))).await.expect(200);
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body().as_ref()).read_to_string(&mut text).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn framing_is_the_scripts_choice() {
    let mock = mock(Reply::usual().framed(Framing::Chunked)).await;
    let chunked = http1(&mock).await.send(Request::post(CHAT, &ask(false))).await.expect(200);
    assert_eq!((chunked.header("transfer-encoding"), chunked.header("content-length")), ("chunked", ""));
    mock.always(Reply::usual().framed(Framing::ContentLength));
    let sized = http1(&mock).await.send(Request::post(CHAT, &ask(true))).await.expect(200);
    assert_eq!(sized.header("content-length"), sized.body().len().to_string());
    mock.always(Reply::usual().framed(Framing::UntilClose));
    let open = http1(&mock).await.send(Request::post(CHAT, &ask(true))).await.expect(200);
    assert_eq!((open.header("transfer-encoding"), open.header("content-length")), ("", ""));
    assert!(open.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_dribbled_head_arrives_whole_in_the_end() {
    let mock = mock(Reply::usual().dribbled(Duration::ZERO)).await;
    for stream in [false, true] {
        let answer = http1(&mock).await.send(Request::post(CHAT, &ask(stream))).await.expect(200);
        assert!(!answer.text().is_empty());
    }
}

#[tokio::test]
async fn what_is_no_http_comes_as_it_is_written() {
    let mock = mock(Reply::garbage()).await;
    assert!(raw_exchange(&mock).await.contains("no HTTP at all"));
    mock.always(Reply::switching_protocols());
    assert!(raw_exchange(&mock).await.starts_with("HTTP/1.1 101 "));
    mock.always(Reply::unknown_transfer_encoding());
    assert!(raw_exchange(&mock).await.contains("Transfer-Encoding: zebra"));
    mock.always(Reply::close());
    assert_eq!(raw_exchange(&mock).await, "");
    mock.always(Reply::reset());
    assert_eq!(raw_exchange(&mock).await, "");
    assert!(soon("the reset", h2c(&mock).await.open(Request::post(CHAT, &ask(false)))).await.is_err());
}

#[tokio::test]
async fn an_endless_head_and_an_endless_body_go_on_until_the_client_leaves() {
    let mock = mock(Reply::endless_head()).await;
    let mut raw = RawClient::connect(mock.addr()).await;
    raw.send("POST /v1/messages HTTP/1.1\r\nhost: mock\r\ncontent-length: 2\r\n\r\n{}").await;
    let head = raw.read_exactly(3_000_000).await;
    assert!(!String::from_utf8_lossy(&head).contains("\r\n\r\n"));
    raw.reset();
    soon("the end of the exchange", mock.wait_until(|counts| counts.finished + counts.cancelled == 1)).await;

    mock.always(Reply::endless());
    let mut client = http1(&mock).await;
    let mut arriving = client.open(Request::post(CHAT, &ask(true))).await.unwrap();
    let mut bytes = 0;
    while bytes < 1_000_000 {
        bytes += arriving.chunk().await.unwrap().unwrap().len();
    }
    drop(arriving);
    client.abort();
    soon("the cancellation", mock.wait_until(|counts| counts.cancelled >= 1 && counts.finished + counts.cancelled == 2)).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_hanging_request_is_noticed() {
    let mock = mock(Reply::hang()).await;
    for mut client in [http1(&mock).await, h2c(&mock).await] {
        let seen = mock.counts().requests;
        {
            let mut open = std::pin::pin!(client.open(Request::post(CHAT, &ask(false))));
            tokio::select! {
                _ = &mut open => panic!("a hanging provider answered"),
                _ = mock.wait_until(|counts| counts.requests > seen) => {}
            }
        }
        client.abort();
        soon("the cancellation", mock.wait_until(|counts| counts.cancelled > seen)).await;
    }
}

#[tokio::test]
async fn a_stall_keeps_the_connection_and_says_nothing_more() {
    let mock = mock(Reply::usual().cut(After::Events(2), How::Stall)).await;
    let mut client = http1(&mock).await;
    let mut arriving = client.open(Request::post(MESSAGES, &ask(true))).await.unwrap();
    arriving.until("\"ping\"").await;
    assert!(tokio::time::timeout(Duration::from_millis(50), arriving.chunk()).await.is_err());
}

#[tokio::test]
async fn connections_can_fail_before_the_first_byte() {
    let mock = Mock::http().await.unwrap();
    mock.push_accept(AtAccept::Close);
    mock.push_accept(AtAccept::Reset);
    mock.push_accept(AtAccept::Raw("nonsense".into()));
    RawClient::connect(mock.addr()).await.expect_close().await;
    RawClient::connect(mock.addr()).await.expect_close().await;
    assert_eq!(RawClient::connect(mock.addr()).await.read_to_end().await, b"nonsense");
    http1(&mock).await.send(Request::post(CHAT, &ask(false))).await.expect(200);
    assert_eq!(mock.counts().requests, 1);
}

#[tokio::test]
async fn the_key_comes_back_where_the_script_wants_it() {
    let mock = mock(Reply::usual().echoing_key(EchoKey::Header)).await;
    let answer = http1(&mock).await.send(Request::post(CHAT, &ask(false)).bearer("key-1")).await.expect(200);
    assert_eq!((answer.header("x-echo-key"), answer.header("x-ratelimit-scope")), ("key-1", "limit of key-1"));
    mock.always(Reply::usual().echoing_key(EchoKey::Body).split(Split::Every(3)));
    for stream in [false, true] {
        let answer = http1(&mock).await.send(Request::post(MESSAGES, &ask(stream)).bearer("key-1")).await.expect(200);
        assert!(answer.text().contains("key-1"));
    }
}

#[tokio::test]
async fn lies_fillers_and_redirects() {
    let mock = mock(Reply::usual().lie("completion_tokens", "1e309").lie("prompt_tokens", "-5")).await;
    let answer = http1(&mock).await.send(Request::post(CHAT, &ask(false))).await.expect(200);
    assert!(answer.text().contains(r#""completion_tokens":1e309"#) && answer.text().contains(r#""prompt_tokens":-5"#));
    mock.always(Reply::filler(2_000_000));
    let big = http1(&mock).await.send(Request::post(CHAT, &ask(true))).await.expect(200);
    assert_eq!(big.body().len(), 2_000_000);
    assert!(big.json()["usage"].is_object());
    mock.always(Reply::redirect(307, "http://192.0.2.1/"));
    assert_eq!(
        http1(&mock).await.send(Request::post(CHAT, &ask(false))).await.expect(307).header("location"),
        "http://192.0.2.1/"
    );
}

#[tokio::test]
async fn an_early_reply_does_not_wait_for_the_body() {
    let mock = mock(Reply::status(413).early()).await;
    let (request, sender) = Request::post(CHAT, &ask(false)).live();
    let arriving = soon("the early answer", http1(&mock).await.open(request)).await.unwrap();
    assert_eq!(arriving.status, 413);
    assert!(!mock.requests()[0].complete);
    drop(sender);
}

#[tokio::test]
async fn tls_connections_can_be_cut_too() {
    let authority = Authority::new();
    let mock = Mock::https(authority.server(&["localhost"], true)).await.unwrap();
    mock.always(Reply::usual().cut(After::Events(2), How::Close));
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let mut client = Client::tls(mock.addr(), "localhost", &authority.ca_pem, alpn, Distrust::nothing()).await;
        let answer = client.send(Request::post(MESSAGES, &ask(true))).await;
        assert!(answer.broken.is_some(), "{alpn:?}");
        assert_eq!(answer.events().len(), 2, "{alpn:?}");
    }
}
