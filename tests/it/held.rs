//! `retry.hold_first_event_ms`: a stream that fails with its first event goes to another key, and the client sees one clean stream.

use serde_json::{Value, json};
use trollbridge::provider_mock::{After, Framing, How, Reply, Split};

use crate::answers::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask, client_that, next_line};
use crate::support::request::CLIENT_KEY;
use crate::support::setup::{TROLL_KEY, TROLL_MODEL};
use crate::support::{Authority, Gate, Mock, Request, Setup, Shorthand, soon};

const SECOND_KEY: &str = "sk-troll-planted-second-77b1c0de";
const TROLL_PLACE: &str = "troll.provider.test";
/// Longer than any test: what ends such a hold is never the clock.
const FOR_EVER_MS: u64 = 60_000;

const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const COMMENT: &str = ": still thinking\n\n";
const OVERLOADED: &str =
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";

/// `troll` with two keys as a provider that speaks this protocol, in a setup whose access lines are JSON.
async fn two_keys(speaks: Speaks, hold_ms: u64) -> (Setup, Mock) {
    let setup = Setup::new().set("/log/format", json!("json"));
    let (setup, troll) = match speaks {
        Speaks::Http1 => {
            let troll = Mock::http().await.unwrap();
            (setup.troll(&troll), troll)
        }
        Speaks::Http2 => {
            let authority = Authority::new();
            let troll = Mock::https(authority.server(&[TROLL_PLACE], true)).await.unwrap();
            let setup = setup.troll(&troll);
            (setup.at_host("troll", &format!("https://{TROLL_PLACE}"), &troll, &authority.ca_pem), troll)
        }
    };
    let setup = setup
        .secret_env("TROLL_SECOND", SECOND_KEY)
        .set("/upstreams/troll/keys/-", json!({ "id": "k2", "key": "${TROLL_SECOND}" }))
        .set("/retry/hold_first_event_ms", json!(hold_ms))
        // Every request of these tests needs a second attempt.
        .set("/retry/max_share_percent", json!(100));
    (setup, troll)
}

fn ask_troll(path: &str) -> Request {
    ask(path, TROLL_MODEL, true)
}

fn texts(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(|piece| (*piece).to_owned()).collect()
}

/// By API: a stream that fails before it begins, and one that does not.
fn streams() -> [(&'static str, Vec<String>, Vec<String>); 3] {
    [
        (
            MESSAGES,
            texts(&[COMMENT, PING, OVERLOADED]),
            texts(&[
                PING,
                START,
                "event: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3}}\r\n\r\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ]),
        ),
        (
            CHAT,
            texts(&[
                COMMENT,
                "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":\"server_is_overloaded\"}}\n\n",
                "data: [DONE]\n\n",
            ]),
            texts(&[
                COMMENT,
                "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"na\u{ef}ve \u{1f9cc}\"}}]}\n\n",
                "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n",
                "data: [DONE]\n\n",
            ]),
        ),
        (
            RESPONSES,
            texts(&[
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\",\"error\":null}}\n\n",
                "event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"id\":\"r1\"}}\n\n",
                "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"r1\",\"error\":{\"code\":\"server_is_overloaded\"}}}\n\n",
            ]),
            texts(&[
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r2\",\"usage\":null}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":3}}}\n\n",
            ]),
        ),
    ]
}

/// T9: the other key's answer is all that the client sees, byte for byte, and its connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn t9_a_stream_that_fails_with_its_first_event_goes_to_another_key() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, FOR_EVER_MS).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for (path, failing, good) in streams() {
                for split in [Split::Events, Split::EveryByte, Split::Every(1000)] {
                    let place = format!("{path} {up:?} {down:?} {split:?}");
                    troll.forget_requests();
                    troll.push(Reply::events(failing.clone()).split(split.clone()));
                    troll.push(Reply::events(good.clone()).split(split));
                    let answer = client.send(ask_troll(path)).await.expect(200);
                    assert_eq!(answer.text(), good.concat(), "{place}");
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!(
                        (&line["attempts"], &line["key"], &line["end"], &line["input_tokens"], &line["output_tokens"]),
                        (&2.into(), &"k2".into(), &"ok".into(), &9.into(), &3.into()),
                        "{place}: {line}"
                    );
                    let requests = troll.requests();
                    let keys: Vec<_> = requests.iter().flat_map(|request| request.header("authorization")).collect();
                    assert_eq!(keys, [format!("Bearer {TROLL_KEY}"), format!("Bearer {SECOND_KEY}")], "{place}");
                    assert_eq!(requests[0].body, requests[1].body, "{place}");
                    assert!(client.is_reusable().await, "{place}");
                }
            }
        }
    }
}

/// T11: a rate limit within the stream rests the key as one by status does: the next request does not try it.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_rate_limit_as_the_first_event_rests_the_key() {
    let (setup, troll) = two_keys(Speaks::Http1, FOR_EVER_MS).await;
    let gateway = setup.start().await;
    let [_, (path, _, good), _] = streams();
    let limited = "data: {\"error\":{\"message\":\"m\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}\n\n";
    troll.push(Reply::events(texts(&[limited])));
    for attempts in [2, 1] {
        troll.push(Reply::events(good.clone()));
        let answer = gateway.send(ask_troll(path)).await.expect(200);
        assert_eq!(answer.text(), good.concat());
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["key"]), (&attempts.into(), &"k2".into()), "{line}");
    }
}

/// O1: the first event that is none of these ends the hold at once, on every pair of protocols. The interlock would hang if it did not.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_good_first_event_ends_the_hold() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, FOR_EVER_MS).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let gate = Gate::closed();
            let (path, _, good) = &streams()[0];
            troll.push(Reply::events(good.clone()).gated(&gate));
            let mut client = client_that(&gateway, down).await;
            gate.let_out(2);
            let mut arriving = client.open(ask_troll(path)).await.unwrap();
            arriving.until_bytes(good[..2].concat().as_bytes()).await;
            gate.let_out(1);
            arriving.until_bytes(good[..3].concat().as_bytes()).await;
            gate.let_out(1);
            assert_eq!(arriving.finish().await.expect(200).text(), good.concat());
        }
    }
}

/// T9: what failed later, what no key could better, and what nobody asked to be held is the client's, as it came.
#[tokio::test(flavor = "multi_thread")]
async fn t9_an_error_event_that_no_other_key_may_answer_passes_unchanged() {
    let later = texts(&[START, OVERLOADED]);
    let at_once = texts(&[PING, OVERLOADED]);
    let everybodys = texts(&["event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\"}}\n\n"]);
    let one_attempt: fn(Setup) -> Setup = |setup| setup.set("/retry/max_attempts", json!(1));
    let one_key: fn(Setup) -> Setup =
        |setup| setup.set("/upstreams/troll/keys", json!([{ "id": "k2", "key": "${TROLL_SECOND}" }]));
    for (case, hold_ms, change, events) in [
        ("second event", FOR_EVER_MS, None, &later),
        ("hold off", 0, None, &at_once),
        ("everybody's error", FOR_EVER_MS, None, &everybodys),
        ("one attempt", FOR_EVER_MS, Some(one_attempt), &at_once),
        ("one key", FOR_EVER_MS, Some(one_key), &at_once),
    ] {
        let (setup, troll) = two_keys(Speaks::Http1, hold_ms).await;
        let gateway = match change {
            Some(change) => change(setup).start().await,
            None => setup.start().await,
        };
        for down in BOTH {
            troll.forget_requests();
            troll.push(Reply::events(events.clone()));
            let answer = client_that(&gateway, down).await.send(ask_troll(MESSAGES)).await;
            assert_eq!(answer.status, 200, "{case} {down:?}");
            assert!(answer.text().starts_with(&events.concat()), "{case} {down:?}: {}", answer.text());
            let line = access_line(&gateway, &answer).await;
            assert_eq!(line["attempts"], 1, "{case} {down:?}: {line}");
            assert_eq!(troll.requests().len(), 1, "{case} {down:?}");
        }
    }
}

/// T9: when the last key fails in the same way, the client sees its event.
#[tokio::test(flavor = "multi_thread")]
async fn t9_the_last_keys_failure_reaches_the_client() {
    let (setup, troll) = two_keys(Speaks::Http1, FOR_EVER_MS).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let last = [PING, OVERLOADED];
        troll.push(Reply::events([OVERLOADED]));
        troll.push(Reply::events(last));
        let answer = client_that(&gateway, down).await.send(ask_troll(MESSAGES)).await;
        assert!(answer.text().starts_with(&last.concat()), "{}", answer.text());
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["status"]), (&2.into(), &200.into()), "{line}");
    }
}

/// O1: when the time is up, what is held goes out before any event came, and then all that follows, failure or not.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_first_event_that_is_late_ends_the_hold_by_the_clock() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, 50).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let gate = Gate::closed();
            let events = [PING, COMMENT, START, OVERLOADED];
            troll.forget_requests();
            troll.push(Reply::events(events).gated(&gate));
            let mut client = client_that(&gateway, down).await;
            gate.let_out(1);
            let mut arriving = client.open(ask_troll(MESSAGES)).await.unwrap();
            for seen in 1..=events.len() {
                arriving.until_bytes(events[..seen].concat().as_bytes()).await;
                gate.let_out(1);
            }
            let answer = arriving.finish().await;
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["attempts"], &line["input_tokens"]), (&1.into(), &9.into()), "{up:?} {down:?}: {line}");
            assert_eq!(troll.requests().len(), 1, "{up:?} {down:?}");
        }
    }
}

/// O1: a failure that comes after the hold is not hidden any more.
#[tokio::test(flavor = "multi_thread")]
async fn t9_a_failure_after_the_hold_passes() {
    let (setup, troll) = two_keys(Speaks::Http1, 1).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let gate = Gate::closed();
        troll.push(Reply::events([PING, OVERLOADED]).gated(&gate));
        let mut client = client_that(&gateway, down).await;
        gate.let_out(1);
        let mut arriving = client.open(ask_troll(MESSAGES)).await.unwrap();
        arriving.until_bytes(PING.as_bytes()).await;
        gate.let_out(1);
        let answer = arriving.finish().await;
        assert!(answer.text().starts_with(&[PING, OVERLOADED].concat()), "{}", answer.text());
        assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);
    }
}

/// O2: JSON is not held; its beginning is at the client while the provider keeps the rest.
#[tokio::test(flavor = "multi_thread")]
async fn o2_a_json_answer_is_not_held() {
    let (setup, troll) = two_keys(Speaks::Http1, FOR_EVER_MS).await;
    let gateway = setup.start().await;
    for down in BOTH {
        let gate = Gate::closed();
        let body = json!({ "error": { "type": "overloaded_error", "message": "x".repeat(4000) } });
        troll.forget_requests();
        troll.push(Reply::json(body.clone()).split(Split::At(vec![2000])).framed(Framing::Chunked).gated(&gate));
        let mut client = client_that(&gateway, down).await;
        gate.let_out(1);
        let mut arriving = client.open(ask(MESSAGES, TROLL_MODEL, false)).await.unwrap();
        arriving.until("xxxx").await;
        gate.let_out(1);
        assert_eq!(arriving.finish().await.expect(200).json(), body);
        assert_eq!(troll.requests().len(), 1);
    }
}

/// T12: a client that leaves during the hold ends the request; no other key is asked.
#[tokio::test(flavor = "multi_thread")]
async fn t12_a_client_that_leaves_during_the_hold_ends_the_request() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, FOR_EVER_MS).await;
        let gateway = setup.start().await;
        for (so_far, down) in BOTH.into_iter().enumerate() {
            let before = troll.counts();
            troll.push(Reply::events([PING, OVERLOADED]).cut(After::Events(1), How::Stall));
            let mut client = client_that(&gateway, down).await;
            {
                let opening = client.open(ask_troll(MESSAGES));
                tokio::pin!(opening);
                tokio::select! {
                    _ = &mut opening => panic!("an answer that should be held"),
                    _ = troll.wait_for(before.requests + 1) => {}
                }
            }
            client.abort();
            soon("the cancellation", troll.wait_until(|counts| counts.cancelled > before.cancelled)).await;
            let line = next_line(&gateway, so_far).await;
            assert_eq!((&line["end"], &line["attempts"]), (&"client_gone".into(), &1.into()), "{up:?} {down:?}: {line}");
            assert_eq!(troll.counts().requests, before.requests + 1, "{up:?} {down:?}");
        }
    }
}

/// O6: an upstream that dies while its answer is held leaves a client that can be told by a status.
#[tokio::test(flavor = "multi_thread")]
async fn o6_an_upstream_that_dies_during_the_hold_is_an_error_with_a_status() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, FOR_EVER_MS).await;
        let gateway = setup.set("/timeouts/idle_s", json!(1)).start().await;
        for down in BOTH {
            for how in [How::Close, How::Reset, How::Clean, How::Stall] {
                let place = format!("{up:?} {down:?} {how:?}");
                troll.forget_requests();
                troll.push(Reply::events([PING, &START[..40]]).cut(After::Events(2), how));
                let answer = client_that(&gateway, down).await.send(ask_troll(MESSAGES)).await.expect(502);
                assert_eq!(answer.json()["error"]["type"], "api_error", "{place}");
                let line = access_line(&gateway, &answer).await;
                // An end that the connection says, with nothing of an answer before it, is no cut (P6).
                let end = if how == How::Clean { "upstream_error" } else { "upstream_cut" };
                assert_eq!((&line["end"], &line["status"]), (&end.into(), &502.into()), "{place}: {line}");
                assert_eq!(troll.requests().len(), 1, "{place}");
            }
        }
    }
}

/// O6: after the hold a stream ends as one that was never held.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_that_is_cut_after_the_hold_ends_in_an_error_event() {
    let (setup, troll) = two_keys(Speaks::Http1, FOR_EVER_MS).await;
    let gateway = setup.start().await;
    for down in BOTH {
        for how in [How::Close, How::Clean] {
            troll.push(Reply::events([PING, START]).cut(After::Events(2), how));
            let answer = client_that(&gateway, down).await.send(ask_troll(MESSAGES)).await.expect(200);
            assert!(answer.text().starts_with(&[PING, START].concat()), "{}", answer.text());
            assert_eq!(answer.events().last().unwrap().json()["type"], "error");
            assert_eq!(access_line(&gateway, &answer).await["end"], "upstream_cut");
        }
    }
}

/// O6: a stream without any event is an error, held or not.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_held_stream_without_an_event_is_an_error() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, FOR_EVER_MS).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for framing in [Framing::Usual, Framing::ContentLength] {
                troll.push(Reply::events(Vec::<String>::new()).framed(framing));
                let answer = client_that(&gateway, down).await.send(ask_troll(MESSAGES)).await;
                assert!(answer.text().contains("api_error"), "{up:?} {down:?} {framing:?}: {}", answer.text());
                assert_eq!(access_line(&gateway, &answer).await["end"], "upstream_error", "{up:?} {down:?} {framing:?}");
            }
        }
    }
}

/// T9: the interim answer before a held one is no beginning of it.
#[tokio::test(flavor = "multi_thread")]
async fn t9_a_client_that_expects_100_continue_gets_the_other_keys_stream() {
    let (setup, troll) = two_keys(Speaks::Http1, FOR_EVER_MS).await;
    let gateway = setup.start().await;
    troll.push(Reply::events([PING, OVERLOADED]));
    let body: Value =
        json!({ "model": TROLL_MODEL, "max_tokens": 9, "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let text = body.to_string();
    let mut client = gateway.raw().await;
    client
        .send(format!(
            "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {CLIENT_KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            text.len()
        ))
        .await;
    client.read_until("100 Continue\r\n\r\n").await;
    client.send(text).await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status, 200);
    let seen = String::from_utf8(answer.body).unwrap();
    assert!(seen.contains("message_stop") && !seen.contains("overloaded_error"), "{seen}");
}

/// T8: a body beyond every buffer is sent again in full after a held failure.
#[tokio::test(flavor = "multi_thread")]
async fn t8_a_large_body_is_sent_again_after_a_held_failure() {
    for up in BOTH {
        let (setup, troll) = two_keys(up, FOR_EVER_MS).await;
        let gateway = setup.start().await;
        troll.push(Reply::events([PING, OVERLOADED]));
        let body = json!({ "model": TROLL_MODEL, "max_tokens": 9, "stream": true,
                           "messages": [{ "role": "user", "content": "long ".repeat(1_000_000) }] });
        let answer = gateway.send(Request::post(MESSAGES, &body)).await.expect(200);
        assert!(answer.text().contains("message_stop"), "{up:?}");
        let requests = troll.requests();
        assert_eq!(requests.len(), 2, "{up:?}");
        assert!(requests[0].body == requests[1].body && requests[0].body.len() > 5_000_000, "{up:?}");
    }
}
