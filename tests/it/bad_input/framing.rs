//! Requests whose end two readers could see in different places: refused, and the connection closed.

use super::{After, CHAT, CLIENT_KEY, MESSAGES, Place, good_body, post, sized};

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_a_head_with_a_doubtful_length_is_refused_in_the_paths_dialect_and_the_connection_closed() {
    let place = Place::new().await;
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: five\r\n",
        "content-length: -5\r\n",
        "content-length: +5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 5, 6\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 99999999999999999999999\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: xchunked\r\n",
    ] {
        for path in [CHAT, MESSAGES] {
            // What follows could be a second request, smuggled past one of two readers.
            let smuggled = format!("{}0\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n", post(path, fields));
            place.refuses(smuggled, path, 400, After::Closed).await;
        }
    }
    place.assert_provider_heard_nothing();
}

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_http_1_0_with_a_chunked_body_is_refused() {
    let place = Place::new().await;
    let head = format!(
        "POST {MESSAGES} HTTP/1.0\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: keep-alive\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    place.refuses(head, MESSAGES, 400, After::Closed).await;
    place.assert_provider_heard_nothing();
}

/// Q5
#[tokio::test(flavor = "multi_thread")]
async fn q5_malformed_chunks_are_refused() {
    let place = Place::new().await;
    let body = good_body();
    let size = body.len();
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n".to_owned(),
        "-2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "0x2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "fffffffffffffffff\r\n{}".to_owned(),
        "ffffffffffffffff\r\n{}".to_owned(),
        // The size is one short: no line end follows the chunk.
        format!("{:x}\r\n{body}\r\n0\r\n\r\n", size - 1),
        format!("{size:x}\r\n{body}0\r\n\r\n"),
    ] {
        let request = post(MESSAGES, "transfer-encoding: chunked\r\n") + &chunks;
        let mut raw = place.gateway.raw().await;
        raw.send(request).await;
        let answer = raw.read_answer().await;
        place.assert_refusal(&answer, MESSAGES, 400);
        raw.expect_close().await;
    }
    place.assert_provider_heard_nothing();
}

/// M10: what RFC 9112 allows is no bad input.
#[tokio::test(flavor = "multi_thread")]
async fn odd_but_valid_chunks_are_read_and_the_connection_goes_on() {
    let place = Place::new().await;
    let body = good_body();
    let (first, rest) = body.split_at(3);
    let chunks = format!("3;name=value\r\n{first}\r\n000{:X};x=\"y\"\r\n{rest}\r\n0\r\n\r\n", rest.len());
    let mut raw = place.gateway.raw().await;
    for _ in 0..2 {
        raw.send(post(MESSAGES, "transfer-encoding: chunked\r\n") + &chunks).await;
        assert_eq!(raw.read_answer().await.status, 200);
    }
    assert!(place.main.requests().iter().all(|arrived| arrived.body == body));
}

/// Q5: many clients send a length twice; equal ones leave no doubt, and the provider sees one.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_length_twice_is_one_length() {
    let place = Place::new().await;
    let body = good_body();
    let mut raw = place.gateway.raw().await;
    raw.send(sized(MESSAGES, &format!("content-length: {}\r\n", body.len()), &body)).await;
    assert_eq!(raw.read_answer().await.status, 200);
    assert_eq!(place.main.requests()[0].header("content-length"), [body.len().to_string()]);
}

/// Q5: the rest of a body that never comes is no request.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_before_its_length_reaches_no_provider() {
    let place = Place::new().await;
    for request in
        [post(MESSAGES, "content-length: 100\r\n") + "{}", post(MESSAGES, "transfer-encoding: chunked\r\n") + "2\r\n{}\r\n"]
    {
        let mut raw = place.gateway.raw().await;
        raw.send(request).await;
        raw.finish_sending().await;
        raw.read_to_end().await;
    }
    let gone = |line: &str| line.contains(MESSAGES) && line.contains("client_gone");
    place.gateway.wait_for_logs(2, gone).await;
    place.assert_provider_heard_nothing();
}
