//! P5: a stream that had its last word is whole, with its terminator or without, and whatever the connection did then.

use serde_json::json;
use trollbridge::provider_mock::{After, Ending, How, Reply};

use super::{BOTH, CHAT, MESSAGES, RESPONSES, access_line, ask_main, client_that, main_that};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Request, Shorthand};

const COMPLETIONS: &str = "/v1/completions";

/// As the provider sends it to the last event but the terminator, and no byte more.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_complete_stream_without_its_terminator_passes_as_it_is() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for path in [CHAT, COMPLETIONS, MESSAGES] {
                let place = format!("{up:?} {down:?} {path}");
                main.push(Reply::usual().deltas(6).without_terminator());
                let answer = client_that(&gateway, down).await.send(ask_main(path, true)).await.expect(200);
                assert_eq!(answer.broken, None, "{place}");
                assert!(!answer.text().contains("error"), "{place}: {}", answer.text());
                let line = access_line(&gateway, &answer).await;
                assert_eq!((&line["end"], line.get("refusal")), (&"ok".into(), None), "{place}: {line}");
            }
        }
    }
}

fn chat(finish: &str, more: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"hello you\"}},\"finish_reason\":{finish}}}]{more}}}\n\n"
    )
}

/// The connection breaks behind the last word: the answer is whole, and costs what it was; before it, it was cut.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_reset_behind_the_last_word_takes_nothing_from_the_answer() {
    let usage = ",\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}";
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.set("/timeouts/idle_s", json!(1)).start().await;
        for down in BOTH {
            for how in [How::Close, How::Reset, How::Clean, How::Stall] {
                for (stop, end, source) in [
                    (chat("\"stop\"", usage), "ok", "final"),
                    (chat("\"stop\"", ""), "ok", "estimated"),
                    (chat("null", ""), "upstream_cut", "none"),
                ] {
                    let place = format!("{up:?} {down:?} {how:?} {end} {source}");
                    let ending = Ending::Cut { after: After::Events(2), how };
                    main.push(Reply { ending, ..Reply::events([chat("null", ""), stop, "data: never\n\n".to_owned()]) });
                    let answer = client_that(&gateway, down).await.send(ask_main(CHAT, true)).await.expect(200);
                    assert_eq!(answer.broken, None, "{place}");
                    assert_eq!(answer.text().contains("\"error\""), end != "ok", "{place}: {}", answer.text());
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!((&line["end"], &line["source"]), (&end.into(), &source.into()), "{place}: {line}");
                }
            }
        }
    }
}

/// Two choices were asked for: one of them at its end is half an answer.
#[tokio::test(flavor = "multi_thread")]
async fn p5_every_choice_that_was_asked_for_must_have_ended() {
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let gateway = setup.start().await;
    let second = chat("\"stop\"", "").replace("\"index\":0", "\"index\":1");
    for (events, end) in [(vec![chat("\"stop\"", "")], "upstream_cut"), (vec![chat("\"stop\"", ""), second], "ok")] {
        main.push(Reply::events(events));
        let request =
            json!({ "model": MAIN_MODEL, "stream": true, "n": 2, "messages": [{ "role": "user", "content": "well?" }] });
        let answer = gateway.send(Request::post(CHAT, &request)).await.expect(200);
        assert_eq!(access_line(&gateway, &answer).await["end"], end);
    }
}

/// A damaged last word costs nobody the good one behind it, in the same read or in a later one.
#[tokio::test(flavor = "multi_thread")]
async fn p5_the_bill_does_not_depend_on_how_the_network_cut_the_stream() {
    let damaged = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output\"}\n\n";
    let good =
        "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":500,\"output_tokens\":700}}}\n\n";
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let gateway = setup.start().await;
    for events in [vec![format!("{damaged}{good}")], vec![damaged.to_owned(), good.to_owned()]] {
        main.push(Reply { pause: std::time::Duration::from_millis(30), ..Reply::events(events) });
        let answer = gateway.send(ask_main(RESPONSES, true)).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        let counts = (&line["input_tokens"], &line["output_tokens"], &line["source"], &line["end"]);
        assert_eq!(counts, (&500.into(), &700.into(), &"final".into(), &"ok".into()), "{line}");
    }
}
