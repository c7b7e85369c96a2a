//! P6: a 200 that is no answer costs nothing, is the provider's failure, and a 502 where nothing has gone out.

use serde_json::json;
use trollbridge::provider_mock::{Body, Encoding, Framing, Reply};

use super::{BOTH, CHAT, MESSAGES, RESPONSES, access_line, ask_main, client_that, expect_error, main_that};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Request, Shorthand};

fn text(body: &str, content_type: &str) -> Reply {
    Reply { body: Body::Text(body.to_owned()), ..Reply::default() }.header("content-type", content_type)
}

/// What came in place of an answer, and whether it was asked for as a stream.
fn no_answers() -> Vec<(&'static str, Reply, bool)> {
    vec![
        ("empty", text("", "application/json"), false),
        ("empty chunked", text("", "application/json").framed(Framing::Chunked), false),
        ("blank", text(" \n ", "application/json"), false),
        ("no JSON", text("(upstream request failed)", "application/json"), false),
        ("another object", text(r#"{"code":500,"data":null,"msg":"busy"}"#, "application/json"), false),
        ("no object", text("[]", "application/json"), false),
        ("a page", text("<!doctype html><title>login</title>", "text/html"), false),
        ("no content", Reply { body: Body::Text(String::new()), ..Reply::status(204) }, false),
        ("a page for a stream", text("<html>login</html>", "text/html"), true),
        ("a page as events", text("<html>login</html>\n\n", "text/event-stream"), true),
        ("no events", Reply::events(Vec::<String>::new()), true),
        ("[DONE] alone", Reply::events(["data: [DONE]\n\n"]), true),
        ("heartbeats", Reply::events([": beat\n\n", "event: ping\ndata: {\"type\": \"ping\"}\n\n"]), true),
        ("no JSON in it", Reply::events(["data: upstream request failed\n\n"]), true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_200_that_is_no_answer_is_a_502_and_costs_nothing() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for path in [CHAT, MESSAGES, RESPONSES] {
                for (name, reply, stream) in no_answers() {
                    let place = format!("{up:?} {down:?} {path} {name}");
                    main.push(reply);
                    let answer = client_that(&gateway, down).await.send(ask_main(path, stream)).await;
                    assert_eq!(answer.status, 502, "{place}: {}", answer.text());
                    expect_error(path, &answer.json());
                    let line = access_line(&gateway, &answer).await;
                    assert_eq!(
                        (&line["end"], &line["refusal"]),
                        (&"upstream_error".into(), &"no_answer".into()),
                        "{place}: {line}"
                    );
                    assert_eq!((&line["source"], line.get("cost_nano_usd")), (&"none".into(), None), "{place}: {line}");
                }
            }
        }
    }
}

/// Where the head had to go out, what follows passes as it is, and still costs nothing, whatever the policy.
#[tokio::test(flavor = "multi_thread")]
async fn p6_what_could_not_be_held_costs_nothing_either() {
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let setup = setup.set("/limits/hold_answer_ms", json!(0)).set("/billing/on_upstream_cut", json!("estimate"));
    let gateway = setup.start().await;
    for (name, reply, stream) in no_answers() {
        main.push(reply);
        let answer = gateway.send(ask_main(CHAT, stream)).await;
        assert!(answer.status == 200 || answer.status == 204, "{name}: {}", answer.text());
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["end"], &line["source"]), (&"upstream_error".into(), &"none".into()), "{name}: {line}");
    }
}

/// JSON whose damage shows at its end has gone out by then: it costs what it counted, and nothing where it counted nothing.
#[tokio::test(flavor = "multi_thread")]
async fn p6_json_that_breaks_at_its_end_costs_what_it_counted() {
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let gateway = setup.start().await;
    for (body, source) in [
        (r#"{"choices":[{"message":{"content":"half of "#, "none"),
        (r#"{"usage":{"prompt_tokens":10,"completion_tokens":5},"choices":[{"message"#, "partial"),
    ] {
        main.push(text(body, "application/json"));
        let answer = gateway.send(ask_main(CHAT, false)).await.expect(200);
        assert_eq!(answer.text(), body, "every byte as it came");
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["end"], &line["source"]), (&"upstream_error".into(), &source.into()), "{line}");
    }
}

/// Nobody judges what an API answers that is no API of models, nor what nobody here can read.
#[tokio::test(flavor = "multi_thread")]
async fn p6_what_is_no_completion_passes_whatever_it_is() {
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let gateway = setup.start().await;
    for (body, content_type) in [("ID3 sound", "audio/mpeg"), ("", "application/octet-stream"), ("<html>", "text/html")] {
        main.push(text(body, content_type));
        let request = Request::post("/v1/audio/speech", &json!({ "model": MAIN_MODEL, "input": "say" }));
        let answer = gateway.send(request).await.expect(200);
        assert_eq!(answer.text(), body);
        assert_eq!(access_line(&gateway, &answer).await["end"], "ok");
    }
    main.push(text(r#"{"id":"c","choices":[]}"#, "application/json").compressed(Encoding::Gzip));
    gateway.send(ask_main(CHAT, false)).await.expect(200);
}

/// The head waits for the answer, not for ever: signs of life reach the client within the bound.
#[tokio::test(flavor = "multi_thread")]
async fn p6_a_head_is_held_within_its_bound() {
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let gateway = setup.set("/limits/hold_answer_ms", json!(50)).start().await;
    let gate = crate::support::Gate::closed();
    main.push(Reply::events([": beat\n\n", "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n"]).gated(&gate));
    gate.let_out(1);
    let mut client = gateway.client().await;
    let mut arriving = client.open(ask_main(CHAT, true)).await.unwrap();
    arriving.until("beat").await;
    gate.let_out(100);
    let answer = arriving.finish().await;
    assert_eq!(access_line(&gateway, &answer).await["end"], "ok");
}
