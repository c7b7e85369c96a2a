//! What each signal does to what is open.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trollbridge::provider_mock::{After, How};

use super::*;
use crate::answers::{CHAT, RESPONSES};
use crate::books;
use crate::support::request::CLIENT_KEY;
use crate::support::{Client, Gateway, Shorthand, soon};

/// What an error in a running stream looks like, by API.
const ERRORS: [(&str, &str); 3] =
    [(MESSAGES, "event: error\ndata: {"), (CHAT, "data: {\"error\":{"), (RESPONSES, "event: response.failed\n")];

fn access_line(gateway: &Gateway) -> Value {
    let lines = gateway.log_lines();
    let line = lines.iter().find(|line| line.starts_with(r#"{"opened_at""#)).expect("an access line");
    serde_json::from_str(line).unwrap()
}

/// Must show of the issue: a stream that is longer than the limit ends in an error event, and what it used is in the ledger. One stream
/// speaks, the other says nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_beyond_the_drain_limit_ends_in_an_error_of_its_dialect_and_is_billed() {
    for (path, error) in ERRORS {
        for is_silent in [false, true] {
            let (setup, main) = with_main().await;
            let mut gateway = setup.grace_seconds(1).start().await;
            let talks = Reply::usual().saying("pebbles and ").deltas(2_000);
            main.push(if is_silent { talks.cut(After::Events(12), How::Stall) } else { talks.paced(Duration::from_millis(20)) });
            let mut client = gateway.client().await;
            let mut arriving = client.open(ask(path, true)).await.unwrap();
            arriving.until_events(10).await;
            gateway.signal("TERM");
            let answer = arriving.finish().await;
            assert_eq!(answer.broken, None, "{path}: the stream is torn off");
            assert!(answer.text().contains(error), "{path}: {}", answer.text());
            assert!(!answer.text().contains("[DONE]") && !answer.text().contains("message_stop"), "{path}");
            assert_eq!(gateway.ended().await.code(), Some(0));

            let line = access_line(&gateway);
            assert_eq!((&line["end"], &line["refusal"]), (&json!("interrupted"), &json!("stopping")), "{line}");
            let entries = books::entries(&gateway).await;
            let [entry] = entries.as_slice() else { panic!("{entries:?}") };
            assert_eq!((&entry["end"], &entry["stream"]), (&json!("interrupted"), &json!(true)), "{entry}");
            assert!(entry["output_tokens"].as_u64().is_some_and(|tokens| tokens > 1), "{entry}");
            assert_eq!(entry["output_tokens"], line["output_tokens"], "{entry} {line}");
        }
    }
}

/// The same before the first byte: an answer that tells SDKs to ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_still_waits_at_the_limit_is_answered_with_503() {
    for h2 in [false, true] {
        let (setup, main) = with_main().await;
        let mut gateway = setup.grace_seconds(0).start().await;
        main.push(Reply::hang());
        let mut client = if h2 { gateway.h2c_client().await } else { gateway.client().await };
        let asking = tokio::spawn(async move { client.send(ask_messages(false)).await });
        soon("the request", main.wait_until(|counts| counts.requests == 1)).await;
        gateway.signal("TERM");
        let answer = asking.await.unwrap().expect(503);
        assert_eq!((answer.header("retry-after"), &answer.json()["error"]["type"]), ("1", &json!("overloaded_error")));
        assert_eq!(gateway.ended().await.code(), Some(0));
    }
}

/// And while the client still sends: no upstream hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_half_sent_at_the_cut_is_answered_with_503_and_the_connection_closed() {
    for (signal, h2) in [("TERM", false), ("TERM", true), ("INT", false), ("INT", true)] {
        let (setup, main) = with_main().await;
        let mut gateway = setup.grace_seconds(0).start().await;
        let mut client = if h2 { gateway.h2c_client().await } else { gateway.client().await };
        let (request, pieces) = Request::post_bytes(MESSAGES, "").live();
        pieces.send(r#"{"model":"#.into()).await.unwrap();
        let asking = tokio::spawn(async move {
            let answer = client.send(request).await;
            (client, answer)
        });
        gateway.until_metric("requests_in_flight", |open| open == 1).await;
        gateway.signal(signal);
        let (mut client, answer) = asking.await.unwrap();
        let answer = answer.expect(503);
        assert_eq!((answer.header("retry-after"), &answer.json()["error"]["type"]), ("1", &json!("overloaded_error")));
        soon("the connection to be closed", client.closed()).await;
        assert_eq!(gateway.ended().await.code(), Some(0), "{signal} {h2}");
        assert_eq!(main.counts().requests, 0);
        let line = access_line(&gateway);
        assert_eq!((&line["end"], &line["refusal"]), (&json!("refused"), &json!("stopping")), "{line}");
    }
}

/// What is no JSON passes through to the upstream of its host as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_passing_body_that_is_half_sent_at_the_cut_is_answered_with_503() {
    const HOST: &str = "files.internal.example.com";
    let (setup, main) = with_main().await;
    let mut gateway = setup.set("/host_routes", json!([{ "host": HOST, "upstream": "main" }])).start().await;
    main.push(Reply::hang());
    let mut client = gateway.client().await;
    let request = Request::post_bytes("/v1/files", "").without("content-type").header("content-type", "application/octet-stream");
    let (request, pieces) = request.header("host", HOST).live();
    pieces.send("the first piece".into()).await.unwrap();
    let asking = tokio::spawn(async move { client.send(request).await });
    soon("the request", main.wait_until(|counts| counts.connections == 1)).await;
    gateway.signal("INT");
    let answer = asking.await.unwrap().expect(503);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(gateway.ended().await.code(), Some(0));
    let line = access_line(&gateway);
    assert_eq!((&line["end"], &line["refusal"]), (&json!("interrupted"), &json!("stopping")), "{line}");
}

/// A client that does not read its answer cannot be told. The request has its line and its entry all the same, and they agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_torn_off_by_the_end_has_its_access_line() {
    let (setup, main) = with_main().await;
    let mut gateway = setup.start().await;
    main.push(Reply::endless());
    let mut client = gateway.client().await;
    let mut arriving = client.open(ask_messages(true)).await.unwrap();
    arriving.until("data: ").await;
    // Until the kernel takes no more for the client. Where that takes longer, the request is cut and not torn off: the line is the same.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gateway.signal("INT");
    assert_eq!(gateway.ended().await.code(), Some(0));
    let line = access_line(&gateway);
    assert_eq!((&line["end"], &line["path"]), (&json!("interrupted"), &json!(MESSAGES)), "{line}");
    let entries = books::entries(&gateway).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    for field in ["id", "end", "source", "output_tokens"] {
        assert_eq!(entry[field], line[field], "{entry} {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_what_is_open_end_and_takes_nothing_new() {
    let (setup, main) = with_main().await;
    let mut gateway = setup.grace_seconds(60).start().await;
    main.push(stream_of(40).paced(Duration::from_millis(100)));
    let mut client = gateway.client().await;
    let mut arriving = client.open(ask_messages(true)).await.unwrap();
    arriving.until_events(3).await;
    gateway.signal("TERM");
    gateway.wait_for_log(|line| line.contains("draining")).await;
    let refused = async {
        while Client::try_http1(gateway.addr(), gateway.distrust()).await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("connections to be refused", refused).await;

    // Whoever watches it can still do so: load balancers, scrapes, people.
    gateway.admin("/readyz").await.expect(503);
    gateway.admin("/livez").await.expect(200);
    let told = gateway.command("status").await.expect(75).out;
    assert!(told.contains(", draining, pid "), "{told}");
    assert_eq!(gateway.metric("requests_in_flight").await, 1);

    let answer = arriving.finish().await;
    assert!(answer.text().ends_with(&events(40).concat()[200..]), "{}", answer.text());
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(!gateway.dir().join("pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_is_gone_long_before_the_limit() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.grace_seconds(600).start().await;
    // A kept connection without a request is nothing to wait for.
    let mut client = gateway.client().await;
    client.send(ask_messages(false)).await.expect(200);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// A kept connection may send one more request for a moment; one that comes just at the end of it is answered or never taken.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_a_drain_reaches_the_provider_and_is_dropped() {
    let (setup, main) = with_main().await;
    let mut gateway = setup.grace_seconds(60).start().await;
    let body = json!({ "model": MAIN_MODEL, "max_tokens": 5, "messages": [] }).to_string();
    let head = format!("POST {MESSAGES} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n");
    let request = format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut asking = tokio::task::JoinSet::new();
    let mut kept = Vec::new();
    for _ in 0..24 {
        let mut tcp = TcpStream::connect(gateway.addr()).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        assert!(tcp.read(&mut answer).await.unwrap() > 0);
        kept.push(tcp);
    }
    // Slower than the end of the process, where that does not wait.
    main.always(Reply::usual().delayed(Duration::from_millis(300)));
    gateway.signal("TERM");
    for (nth, mut tcp) in kept.into_iter().enumerate() {
        let request = request.clone();
        asking.spawn(async move {
            tokio::time::sleep(Duration::from_millis(970 + 3 * nth as u64)).await;
            let sent = tcp.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let read = tcp.read_to_end(&mut answer).await;
            sent.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200 ")
        });
    }
    let mut answered = 24;
    while let Some(done) = asking.join_next().await {
        answered += u64::from(done.unwrap());
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(main.counts().requests, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_shortens_the_drain_and_sigint_does_not_wait_at_all() {
    for signals in [&["TERM", "TERM"][..], &["TERM", "INT"], &["INT"]] {
        let (setup, main) = with_main().await;
        let mut gateway = setup.grace_seconds(600).start().await;
        main.push(Reply::usual().deltas(300).cut(After::Events(12), How::Stall));
        let mut client = gateway.client().await;
        let mut arriving = client.open(ask_messages(true)).await.unwrap();
        arriving.until_events(10).await;
        for (nth, signal) in signals.iter().enumerate() {
            gateway.signal(signal);
            if nth + 1 < signals.len() {
                gateway.wait_for_log(|line| line.contains("draining")).await;
            }
        }
        let answer = arriving.finish().await;
        assert!(answer.text().contains("event: error"), "{signals:?}: {}", answer.text());
        assert_eq!(gateway.ended().await.code(), Some(0), "{signals:?}");
    }
}

/// A service manager that stops a service sends SIGTERM to all its processes, and again to those that outlive the main one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_process_does_not_take_sigterm_for_impatience() {
    let (setup, main) = with_main().await;
    let mut gateway = setup.grace_seconds(60).start().await;
    main.push(stream_of(40).paced(Duration::from_millis(100)));
    let mut client = gateway.client().await;
    let mut arriving = client.open(ask_messages(true)).await.unwrap();
    arriving.until_events(3).await;
    let old = gateway.pid();
    gateway.upgrade().await.expect(0);
    for _ in 0..2 {
        let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -s TERM {old}")).status().unwrap();
        assert!(sent.success(), "{sent}");
        gateway.wait_for_log(|line| line.contains("this one drains already")).await;
    }
    let answer = arriving.finish().await;
    assert!(answer.text().ends_with(&events(40).concat()[200..]), "{}", answer.text());
    gateway.until_gone(old).await;
}
