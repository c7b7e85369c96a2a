//! What a connection outlives: `Expect: 100-continue`, many requests one after the other, clients that read slowly or leave, and
//! upstreams that close what was kept (Q3, U7, PINGORA.md).

use std::time::Duration;

use serde_json::{Value, json};
use trollbridge::provider_mock::{After, BelowHttp, How, Reply};

use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL};
use crate::support::{Gateway, Mock, RawClient, Request, Setup, Shorthand, soon};

const MESSAGES: &str = "/v1/messages";
const MIB: usize = 1 << 20;

async fn place() -> (Gateway, Mock) {
    let main = Mock::http().await.unwrap();
    main.expect_key(MAIN_KEY);
    (Setup::new().main(&main).start().await, main)
}

fn prompt(stream: bool) -> Value {
    json!({ "model": MAIN_MODEL, "max_tokens": 10, "stream": stream, "messages": [{ "role": "user", "content": "hello" }] })
}

fn body_of(bytes: usize) -> Vec<u8> {
    let head = format!(r#"{{"model":"{MAIN_MODEL}","prompt":""#);
    [head.as_bytes(), &vec![b'x'; bytes - head.len() - 2], br#""}"#].concat()
}

fn expecting(key: &str, framing: &str) -> String {
    format!(
        "POST {MESSAGES} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\n{framing}\r\n\r\n"
    )
}

/// M10, PINGORA.md: curl waits for the 100 above 1 MB, and goes on with the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn m10_a_client_that_expects_100_continue_is_invited_once_and_its_connection_kept() {
    let (gateway, main) = place().await;
    let mut raw = gateway.raw().await;
    for bytes in [200, 64 << 10, 5 * MIB, 30 * MIB] {
        let body = body_of(bytes);
        raw.send(expecting(CLIENT_KEY, &format!("content-length: {bytes}"))).await;
        assert_eq!(raw.read_answer().await.status, 100);
        raw.send_all(&body).await;
        let answer = raw.read_answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")), "{}", answer.head);
        assert_eq!(main.requests().last().unwrap().body, body);

        raw.send(expecting(CLIENT_KEY, "transfer-encoding: chunked")).await;
        assert_eq!(raw.read_answer().await.status, 100);
        raw.send_all([format!("{bytes:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()).await;
        let answer = raw.read_answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")), "{}", answer.head);
        assert_eq!(main.requests().last().unwrap().body, body);
        main.forget_requests();
    }
    // A client that is quick asks again before the connection is back in the pool; eight requests need far fewer than eight all the same.
    assert!(main.counts().connections <= 4, "{:?}", main.counts());
}

/// PINGORA.md: a body that is sent without waiting for the invitation is read all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_continue_and_does_not_wait_is_served_too() {
    let (gateway, main) = place().await;
    let mut raw = gateway.raw().await;
    let body = body_of(100_000);
    for _ in 0..2 {
        raw.send_all([expecting(CLIENT_KEY, &format!("content-length: {}", body.len())).as_bytes(), &body].concat()).await;
        let mut answer = raw.read_answer().await;
        if answer.status == 100 {
            answer = raw.read_answer().await;
        }
        assert_eq!(answer.status, 200);
    }
    assert_eq!(main.counts().requests, 2);
}

/// H5, Q3: refused before the body, the client is not invited to send it. Whether it still comes nobody knows, so the connection is
/// closed (RFC 9110 §10.1.1).
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_in_place_of_the_100_and_closes() {
    let (gateway, main) = place().await;
    for (key, length, status) in [("wrong", 5 * MIB, 401), (CLIENT_KEY, 33 * MIB, 413), ("wrong", 100, 401)] {
        let mut raw = gateway.raw().await;
        raw.send(expecting(key, &format!("content-length: {length}"))).await;
        let answer = raw.read_answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{}", answer.head);
        assert_eq!(answer.json()["type"], "error");
        raw.expect_close().await;
    }
    assert_eq!(main.counts().connections, 0);
}

fn small(model: &str) -> String {
    let body = json!({ "model": model, "max_tokens": 10, "messages": [] }).to_string();
    format!(
        "POST {MESSAGES} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// PINGORA.md: the replayed session gives the connection back after every kind of answer.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_requests_of_every_kind_share_one_connection() {
    let (gateway, main) = place().await;
    let mut client = gateway.client().await;
    for round in 0..40 {
        client.send(Request::post(MESSAGES, &prompt(round % 2 == 0))).await.expect(200);
        client.send(Request::post("/v1/chat/completions", &prompt(true)).chunked(10)).await.expect(200);
        client.send(Request::get("/v1/models")).await.expect(200);
        client.send(Request::post(MESSAGES, &prompt(false)).bearer("wrong")).await.expect(401);
        client.send(Request::post_bytes(MESSAGES, "{")).await.expect(400);
        client.send(Request::get("/nowhere")).await.expect(404);
        main.push(Reply::leaking_error(500));
        client.send(Request::post(MESSAGES, &prompt(false))).await.expect(500);
        main.push(Reply::status(429));
        client.send(Request::post(MESSAGES, &prompt(true))).await.expect(429);
        assert!(client.is_reusable().await, "round {round}");
    }
    assert_eq!(gateway.metric("requests_in_flight").await, 0);
}

/// RFC 9112 §9.3.2: requests that arrive together are answered one after the other, in their order.
#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let (gateway, main) = place().await;
    let mut raw = gateway.raw().await;
    let get = format!("GET /v1/models HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n");
    main.push(Reply::usual().delayed(Duration::from_millis(100)));
    let requests = [small(MAIN_MODEL), small("no such model"), get, small(MAIN_MODEL), small("no such model")];
    raw.send(requests.concat()).await;
    let mut seen = Vec::new();
    for _ in &requests {
        let answer = raw.read_answer().await;
        seen.push((answer.status, answer.json()["type"].as_str().unwrap_or("list").to_owned()));
    }
    let texts: Vec<(u16, &str)> = seen.iter().map(|(status, kind)| (*status, kind.as_str())).collect();
    // The unknown model goes to troll, which is not configured here.
    assert_eq!(texts, [(200, "message"), (500, "error"), (200, "list"), (200, "message"), (500, "error")]);

    // One that comes while the answer before it is still on its way.
    main.push(Reply::usual().delayed(Duration::from_millis(300)));
    raw.send(small(MAIN_MODEL)).await;
    soon("the request", main.wait_until(|counts| counts.requests == 3)).await;
    raw.send(small(MAIN_MODEL)).await;
    for _ in 0..2 {
        assert_eq!(raw.read_answer().await.status, 200);
    }
    assert_eq!(main.counts().cancelled, 0);
}

/// Q3: the bytes that nobody reads stay with the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn q3_a_client_that_does_not_read_slows_its_upstream_and_fills_no_memory() {
    let (gateway, main) = place().await;
    gateway.send(Request::post(MESSAGES, &prompt(true))).await.expect(200);
    let before = gateway.rss_bytes();
    // More in all than could hide anywhere on the way.
    let event = format!("event: ping\ndata: {{\"type\":\"ping\",\"filler\":\"{}\"}}\n\n", "x".repeat(MIB));
    main.always(Reply::events(std::iter::repeat_n(event, 400)));

    for http2 in [false, true] {
        let mut client = if http2 { gateway.h2c_client().await } else { gateway.client().await };
        let finished = main.counts().finished;
        let mut arriving = client.open(Request::post(MESSAGES, &prompt(true))).await.unwrap();
        arriving.chunk().await.unwrap().unwrap();
        // Nobody reads on. Meanwhile the gateway has all the time it would need to swallow the rest: another client gets as much.
        main.push(Reply::filler(40 * MIB));
        gateway.send(Request::post(MESSAGES, &prompt(false))).await.expect(200);
        assert_eq!(main.counts().finished, finished + 1, "the unread answer has not been taken to its end");
        let grown = gateway.rss_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB as u64, "grew by {} MiB", grown / MIB as u64);

        drop(arriving);
        client.abort();
        soon("the upstream's cancellation", main.wait_until(|counts| counts.cancelled > u64::from(http2))).await;
        gateway.until_metric("requests_in_flight", |count| count == 0).await;
    }
    let gone = gateway.wait_for_logs(2, |line| line.contains("client_gone")).await;
    assert_eq!(gone.len(), 2, "{gone:?}");
}

async fn leaves_nothing_behind(gateway: &Gateway, ends: &str) {
    gateway.until_metric("requests_in_flight", |count| count == 0).await;
    gateway.until_metric("request_body_bytes", |bytes| bytes == 0).await;
    gateway.wait_for_log(|line| line.contains(MESSAGES) && line.contains(ends)).await;
}

/// Q3, U7
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_within_its_body_leaves_nothing_behind() {
    for http2 in [false, true] {
        for framed in [false, true] {
            let (gateway, main) = place().await;
            let mut client = if http2 { gateway.h2c_client().await } else { gateway.client().await };
            let (mut request, pieces) = Request::post_bytes(MESSAGES, "").live();
            if framed {
                request = request.header("content-length", "100000");
            }
            let sending = tokio::spawn(async move {
                let opened = client.open(request).await;
                (client, opened.is_ok())
            });
            pieces.send(format!(r#"{{"model":"{MAIN_MODEL}","x":""#).into()).await.unwrap();
            gateway.until_metric("requests_in_flight", |count| count == 1).await;
            sending.abort();
            drop(sending.await);
            drop(pieces);
            leaves_nothing_behind(&gateway, "client_gone").await;
            assert_eq!(main.counts().connections, 0);
        }
    }
}

/// Q3, U7
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_or_within_its_answer_cancels_the_upstream() {
    let before_the_head = || Reply::hang();
    let within_the_stream = || Reply::usual().cut(After::Events(3), How::Stall);
    for http2 in [false, true] {
        for (reply, begun) in [(before_the_head(), false), (within_the_stream(), true)] {
            let (gateway, main) = place().await;
            main.push(reply);
            let mut client = if http2 { gateway.h2c_client().await } else { gateway.client().await };
            if begun {
                let mut arriving = client.open(Request::post(MESSAGES, &prompt(true))).await.unwrap();
                arriving.until("content_block_start").await;
                assert_eq!(gateway.metric("requests_in_flight").await, 1);
                drop(arriving);
                client.abort();
            } else {
                let waiting = tokio::spawn(async move { client.open(Request::post(MESSAGES, &prompt(true))).await.is_ok() });
                soon("the request", main.wait_until(|counts| counts.requests == 1)).await;
                waiting.abort();
            }
            soon("the cancellation", main.wait_until(|counts| counts.cancelled == 1)).await;
            leaves_nothing_behind(&gateway, "client_gone").await;
            // Nothing is wrong with the gateway or the provider.
            main.behave();
            gateway.send(Request::post(MESSAGES, &prompt(false))).await.expect(200);
        }
    }
}

/// U7: the same for a TCP reset.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_its_connection_cancels_the_upstream() {
    let (gateway, main) = place().await;
    main.push(Reply::hang());
    let mut raw: RawClient = gateway.raw().await;
    raw.send(small(MAIN_MODEL)).await;
    soon("the request", main.wait_until(|counts| counts.requests == 1)).await;
    raw.reset();
    soon("the cancellation", main.wait_until(|counts| counts.cancelled == 1)).await;
    leaves_nothing_behind(&gateway, "client_gone").await;
}

/// PINGORA.md: a kept connection that the upstream has closed meanwhile is no reason to fail, not even a POST.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_upstream_connection_that_was_closed_meanwhile_is_replaced_quietly() {
    let (gateway, main) = place().await;
    let mut client = gateway.client().await;
    let mut replaced = 0;
    for round in 0..40 {
        client.send(Request::post(MESSAGES, &prompt(round % 2 == 0))).await.expect(200);
        // The next request on that connection finds it closed or reset, without an answer.
        main.push(if round % 4 < 2 { Reply::close() } else { Reply::reset() });
        let answer = client.send(Request::post(MESSAGES, &prompt(false))).await;
        // One that comes before the kept connection is back in its pool opens one of its own, and that one's fault is a 502.
        if answer.status == 502 {
            client = gateway.client().await;
            continue;
        }
        assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        replaced += 1;
    }
    assert!(replaced >= 10, "{replaced}");
    // A6: what met a dead connection was no attempt.
    let once = |line: &str| line.contains(MESSAGES) && line.contains("attempts=1");
    assert_eq!(gateway.wait_for_logs(80, once).await.len(), 80);
}

/// T8: the same while a large body is on its way out: writing fails before anything was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_upstream_connection_that_dies_under_a_large_body_is_replaced_quietly() {
    let (gateway, main) = place().await;
    let mut client = gateway.client().await;
    let body = body_of(20 * MIB);
    for reply in [Reply::reset().early(), Reply::close().early()] {
        let mut answers = Vec::new();
        // As above, for a request that comes too early for the kept connection.
        while answers.last() != Some(&200) {
            assert!(answers.len() < 10, "{answers:?}");
            client.send(Request::post(MESSAGES, &prompt(false))).await.expect(200);
            main.push(reply.clone());
            let answer = client.send(Request::post_bytes(MESSAGES, body.clone())).await;
            answers.push(answer.status.as_u16());
            if answer.status != 200 {
                client = gateway.client().await;
            }
        }
        assert_eq!(main.requests().last().unwrap().body, body);
    }
}

/// The opposite: a fresh connection that dies without an answer may have cost money already; it is not tried for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_every_connection_is_a_502() {
    let (gateway, main) = place().await;
    main.always(Reply { below_http: Some(BelowHttp::Close), ..Reply::default() });
    let answer = gateway.send(Request::post(MESSAGES, &prompt(false))).await.expect(502);
    assert_eq!(answer.json()["error"]["type"], "api_error");
    assert!(main.counts().requests <= 4);
}

/// PINGORA.md: closed while it lay idle, which the gateway may have noticed or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_after_every_answer_costs_no_request() {
    let (gateway, main) = place().await;
    let mut client = gateway.client().await;
    let body = json!({ "type": "message", "usage": { "input_tokens": 1, "output_tokens": 1 } }).to_string();
    for _ in 0..50 {
        // Says nothing of its intention, and closes.
        main.push(Reply::raw_bytes(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )));
        client.send(Request::post(MESSAGES, &prompt(false))).await.expect(200);
    }
}
