//! Answers that come before the answer, and answers that come before the request's end.

use bytes::Bytes;
use http::Method;
use serde_json::json;
use trollbridge::provider_mock::{AtAccept, BelowHttp, Body, Framing, How, Reply};

use super::{BOTH, CHAT, MESSAGES, Speaks, ask_main, client_that, expect_error, main_that};
use crate::support::setup::{MAIN_MODEL, NAMED_KEY};
use crate::support::{Mock, Request, Setup, Shorthand};

/// RFC 9110 §15.2: an interim answer may come at any time, asked for or not. It is the upstream's word to us, its headers tell of
/// the upstream (O7), and a client of HTTP/1.0 must never see one: none passes.
#[tokio::test(flavor = "multi_thread")]
async fn an_interim_answer_stays_between_upstream_and_gateway() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let interim = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nSet-Cookie: canary=1\r\nServer: gpu-canary-12\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nX-Backend: gpu-canary-12\r\n\r\n",
    ];
    let body = r#"{"id":"x","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let last = |status: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let orders: [&[usize]; 5] = [&[0], &[1], &[2], &[0, 1, 2], &[1, 1]];
    for order in orders {
        for joined in [true, false] {
            for (status, line) in [(200, "200 OK"), (500, "500 No")] {
                let mut pieces: Vec<String> =
                    order.iter().filter_map(|&at| interim.get(at)).map(|text| (*text).to_owned()).collect();
                pieces.push(last(line));
                if joined {
                    pieces = vec![pieces.concat()];
                }
                let below = BelowHttp::Raw { pieces, pause: std::time::Duration::from_millis(20), then: How::Close };
                let reply = Reply { below_http: Some(below), ..Reply::usual() };

                main.push(reply.clone());
                let mut raw = gateway.raw().await;
                let request = json!({ "model": MAIN_MODEL, "messages": [] }).to_string();
                raw.send(format!(
                    "POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{request}",
                    crate::support::request::CLIENT_KEY,
                    request.len(),
                ))
                .await;
                let answer = raw.read_answer().await;
                assert_eq!(answer.status, status, "{order:?}: {}", answer.head);
                assert!(!answer.head.contains("canary"), "{}", answer.head);
                if status == 200 {
                    assert_eq!(answer.body, body.as_bytes());
                } else {
                    expect_error(CHAT, &answer.json());
                }

                main.push(reply);
                let answer = gateway.h2c_client().await.send(ask_main(CHAT, false)).await.expect(status);
                assert_eq!(answer.text() == body, status == 200);
            }
        }
    }
}

/// An upstream that answers while our request is still on its way to it: the client gets that answer, not the broken pipe.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_requests_end_reaches_the_client() {
    let big = json!({ "model": MAIN_MODEL, "messages": [{ "role": "user", "content": "x".repeat(8 << 20) }] }).to_string();
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for (path, reply, status) in [
                (CHAT, Reply::status(413), 413),
                (MESSAGES, Reply::status(429).header("retry-after", "3"), 429),
                (MESSAGES, Reply { body: Body::Text(String::new()), ..Reply::status(413) }, 413),
                (CHAT, Reply::json(json!({ "id": "early", "choices": [] })), 200),
            ] {
                main.push(reply.early());
                let answer = client_that(&gateway, down).await.send(Request::post_bytes(path, big.clone())).await;
                assert_eq!((answer.status.as_u16(), &answer.broken), (status, &None), "{up:?} {down:?}: {}", answer.text());
                if status == 200 {
                    assert_eq!(answer.json()["id"], "early");
                } else {
                    expect_error(path, &answer.json());
                }
            }
        }
        gateway.send(ask_main(CHAT, false)).await.expect(200);
    }
}

/// The same from a server that answers without a look at the request and closes at once, as a rate limiter in front of a provider
/// does.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_a_server_that_closes_at_once_reaches_the_client() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let text = "HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: 3\r\nConnection: close\r\n\r\n";
    main.push_accept(AtAccept::Raw(Bytes::from_static(text.as_bytes())));
    let answer = gateway.send(ask_main(CHAT, false)).await;
    // A reset may overtake the answer on the loopback; it must not become anything else.
    assert!([429, 502].contains(&answer.status.as_u16()), "{}", answer.status);
    expect_error(CHAT, &answer.json());
}

/// HEAD and GET on paths that pass through: no body where none may be, and the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_gets_a_head_and_nothing_more() {
    let named = Mock::http().await.unwrap();
    named.expect_key(NAMED_KEY);
    let gateway =
        Setup::new().named(&named).set("/host_routes", json!([{ "host": "files.test", "upstream": "named" }])).start().await;
    for down in BOTH {
        let mut client = client_that(&gateway, down).await;
        let with_host = |method: Method, path: &str| {
            Request::new(method, path).bearer(crate::support::request::CLIENT_KEY).header("host", "files.test")
        };
        if down == Speaks::Http1 {
            for reply in [
                Reply::raw_body("0123456789"),
                Reply::raw_body("0123456789").framed(Framing::Chunked),
                Reply::status(404),
                Reply::status(500).framed(Framing::Chunked),
                Reply { status: Some(200), ..Reply::events(["data: x\n\n"]) },
            ] {
                let status = reply.status.unwrap_or(200);
                for method in [Method::HEAD, Method::GET] {
                    named.push(Reply { status: Some(status), ..reply.clone() });
                    let answer = client.send(with_host(method.clone(), "/v1/files/f-1")).await.expect(status);
                    assert_eq!(answer.body().is_empty(), method == Method::HEAD, "{method} {status}: {}", answer.text());
                    assert!(client.is_reusable().await, "{method} {status}");
                }
            }
        }
        // No route for it: the path takes POST, and that is said without a body.
        let answer = client.send(Request::new(Method::HEAD, CHAT).bearer(crate::support::request::CLIENT_KEY)).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow"), answer.text().as_str()), (405, "POST", ""));
        assert!(client.is_reusable().await);
    }
}
