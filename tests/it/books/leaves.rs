//! P8: a client that leaves between the last word and the usage pays as if it had stayed; within a bound.

use std::time::Duration;

use serde_json::{Value, json};
use trollbridge::provider_mock::{After, Ending, How, Reply};

use super::{INPUT, OUTPUT, expect_whole, until_entries};
use crate::answers::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, ask_main, client_that, main_that};
use crate::support::{Gate, Gateway, Mock, Shorthand};

/// A stream whose visible part is a few words and whose usage tells of a long thought; the text at which a client has all of it.
fn stream(path: &str) -> (Vec<String>, &'static str) {
    let data = |json: Value| format!("data: {json}\n\n");
    match path {
        CHAT => (
            vec![
                data(json!({ "choices": [{ "index": 0, "delta": { "content": "42" } }] })),
                data(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })),
                data(json!({ "choices": [], "usage": { "prompt_tokens": 5_000, "completion_tokens": 20_010 } })),
                "data: [DONE]\n\n".to_owned(),
            ],
            "\"stop\"",
        ),
        MESSAGES => (
            vec![
                data(json!({ "type": "message_start", "message": { "usage": { "input_tokens": 5_000, "output_tokens": 1 } } })),
                data(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "42" } })),
                data(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } })),
                data(json!({ "type": "message_delta", "delta": {}, "usage": { "output_tokens": 20_010 } })),
                data(json!({ "type": "message_stop" })),
            ],
            "end_turn",
        ),
        _ => (
            vec![
                data(json!({ "type": "response.output_text.delta", "delta": "42" })),
                data(json!({ "type": "response.output_text.done", "text": "42" })),
                data(
                    json!({ "type": "response.completed", "response": { "usage": { "input_tokens": 5_000, "output_tokens": 20_010 } } }),
                ),
            ],
            "output_text.done",
        ),
    }
}

/// Reads up to `mark` of what the provider lets out, and hangs up.
async fn leave_at(gateway: &Gateway, down: Speaks, path: &str, mark: &str) {
    let mut client = client_that(gateway, down).await;
    let mut arriving = client.open(ask_main(path, true)).await.unwrap();
    arriving.until(mark).await;
    drop(arriving);
    client.abort();
}

async fn last(gateway: &Gateway, count: usize) -> Value {
    until_entries(gateway, count).await.pop().unwrap()
}

fn told(entry: &Value) -> (&str, &str, u64, u64, u64) {
    let count = |name: &str| entry[name].as_u64().unwrap();
    let word = |name: &str| entry[name].as_str().unwrap();
    (word("end"), word("source"), count("input_tokens"), count("output_tokens"), count("cost_nano_usd"))
}

const WHOLE: (&str, &str, u64, u64, u64) = ("ok", "final", 5_000, 20_010, 5_000 * INPUT + 20_010 * OUTPUT);

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_client_that_leaves_at_the_last_word_pays_as_if_it_had_stayed() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        // Whatever is owed by who leaves earlier.
        let gateway = setup.set("/billing/on_client_gone", json!("free")).start().await;
        let mut ended = 0;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES] {
                let ((events, mark), gate) = (stream(path), Gate::closed());
                let visible = events.iter().position(|event| event.contains(mark)).unwrap() + 1;
                main.push(Reply::events(events).gated(&gate));
                gate.let_out(visible);
                gateway.until_metric("requests_in_flight", |count| count == 0).await;
                leave_at(&gateway, down, path, mark).await;
                assert_eq!(gateway.metric("requests_in_flight").await, 1, "it goes on for what it costs");
                gate.let_out(100);
                ended += 1;
                assert_eq!(told(&last(&gateway, ended).await), WHOLE, "{up:?} {down:?} {path}");
            }
        }
        expect_whole(&gateway).await;
    }
}

/// A gateway that reads on for a second and 2 000 bytes.
async fn bounded() -> (Gateway, Mock) {
    let (setup, main) = main_that(Speaks::Http1).await;
    (setup.set("/limits/read_on_s", json!(1)).set("/limits/read_on_bytes", json!(2_000)).start().await, main)
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_reading_on_ends_with_its_bound_and_the_client_has_left() {
    let (gateway, main) = bounded().await;
    let (events, mark) = stream(CHAT);
    let mut ended = 0;
    for down in BOTH {
        // Silence, a failure, and more than anybody waits for.
        let beats = |count| std::iter::repeat_n(format!(": {}\n\n", "x".repeat(97)), count);
        let behind =
            |more: Vec<String>| events[..2].iter().cloned().chain(more).chain(events[2..].iter().cloned()).collect::<Vec<_>>();
        let cut = |how| Ending::Cut { after: After::Events(2), how };
        for (reply, end) in [
            (Reply { ending: cut(How::Stall), ..Reply::events(events.clone()) }, "client_gone"),
            (Reply { ending: cut(How::Reset), ..Reply::events(events.clone()) }, "client_gone"),
            (Reply { pause: Duration::from_millis(20), ..Reply::events(behind(beats(40).collect())) }, "client_gone"),
            (Reply { pause: Duration::from_millis(20), ..Reply::events(behind(beats(5).collect())) }, "ok"),
            (Reply { pause: Duration::from_millis(20), ..Reply::events(events.clone()) }, "ok"),
        ] {
            let place = format!("{down:?} {:?} {end}", reply.ending);
            let gate = Gate::closed();
            main.push(reply.gated(&gate));
            gate.let_out(2);
            leave_at(&gateway, down, CHAT, mark).await;
            gate.let_out(1_000);
            ended += 1;
            let entry = last(&gateway, ended).await;
            let (is, source, _, output, _) = told(&entry);
            // Of the silent one, the two bytes that were seen.
            let owed = if end == "ok" { ("final", 20_010) } else { ("estimated", 1) };
            assert_eq!((is, (source, output)), (end, owed), "{place}: {entry}");
        }
    }
    expect_whole(&gateway).await;
}

/// Before the last word the policy decides, at once; and where the answer goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_client_that_leaves_before_the_last_word_ends_its_answer() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"word\"}\n\n".to_owned();
    let item = "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"message\"}}\n\n".to_owned();
    for (nth, (events, mark, seen)) in
        [(vec![delta.clone()], "word", 1), (vec![delta.clone(), item, delta.clone()], "item.done", 2)].into_iter().enumerate()
    {
        let cancelled = main.counts().cancelled;
        let gate = Gate::closed();
        let ending = Ending::Cut { after: After::Events(events.len()), how: How::Stall };
        main.push(Reply { ending, ..Reply::events(events) }.gated(&gate));
        gate.let_out(seen);
        leave_at(&gateway, Speaks::Http1, RESPONSES, mark).await;
        gate.let_out(100);
        main.wait_until(|counts| counts.cancelled > cancelled).await;
        assert_eq!(told(&last(&gateway, nth + 1).await).0, "client_gone");
    }
}

/// JSON was made whole before its first byte left: who hangs up before the usage at its end has read all of it.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_client_that_leaves_within_json_pays_for_all_of_it() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let body = json!({ "choices": [{ "message": { "content": "x".repeat(2_000) } }],
        "usage": { "prompt_tokens": 5_000, "completion_tokens": 20_010 } })
    .to_string();
    for (nth, down) in BOTH.into_iter().enumerate() {
        let gate = Gate::closed();
        main.push(Reply::raw_body(body.clone()).split(trollbridge::provider_mock::Split::At(vec![1_500])).gated(&gate));
        gate.let_out(1);
        let mut client = client_that(&gateway, down).await;
        let mut arriving = client.open(ask_main(CHAT, false)).await.unwrap();
        arriving.until("xxxx").await;
        drop(arriving);
        client.abort();
        gate.let_out(100);
        assert_eq!(told(&last(&gateway, nth + 1).await), WHOLE, "{down:?}");
    }
}

/// A process that is to end does not wait longer than its drain for what nobody reads any more.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_drain_ends_the_reading_on() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let mut gateway = setup.set("/limits/read_on_s", json!(600)).grace_seconds(1).start().await;
    let (events, mark) = stream(CHAT);
    main.push(Reply { ending: Ending::Cut { after: After::Events(2), how: How::Stall }, ..Reply::events(events) });
    leave_at(&gateway, Speaks::Http1, CHAT, mark).await;
    gateway.signal("TERM");
    gateway.ended().await;
    let entry = super::entries(&gateway).await.pop().unwrap();
    assert_eq!(told(&entry).1, "estimated", "{entry}");
}
