//! Usage and cost in the access line (U1 to U8), measured through the gateway.

use serde_json::{Value, json};
use trollbridge::provider_mock::{Encoding, Reply, Split, Usage};

use crate::answers::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask, ask_main, ask_plainly, client_that, main_that};
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, OHMYGPT_HOST, OHMYGPT_MODEL, TROLL_MODEL};
use crate::support::{Authority, Gateway, Mock, Request, Setup, Shorthand};

const ENCODINGS: [Option<Encoding>; 5] =
    [None, Some(Encoding::Gzip), Some(Encoding::Br), Some(Encoding::Zstd), Some(Encoding::Deflate)];

/// The classes as the access line names them.
fn classes(line: &Value) -> Usage {
    let count = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("no {name}: {line}"));
    Usage {
        input_tokens: count("input_tokens"),
        cache_read_tokens: count("cache_read_tokens"),
        cache_write_5m_tokens: count("cache_write_tokens"),
        cache_write_1h_tokens: count("cache_write_1h_tokens"),
        output_tokens: count("output_tokens"),
    }
}

/// A prompt whose tokens fall into every class that its API has.
fn cached(path: &str, stream: bool) -> Request {
    let text = "w ".repeat(72);
    let mut body = json!({ "model": MAIN_MODEL, "stream": stream, "max_tokens": 100 });
    match path {
        MESSAGES => {
            body["messages"] = json!([{ "role": "user", "content": [
                { "type": "text", "text": text, "cache_control": { "type": "ephemeral" } },
                { "type": "text", "text": "", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
            ] }]);
        }
        RESPONSES => {
            body["input"] = text.into();
            body["prompt_cache_key"] = "k".into();
        }
        _ => {
            body["messages"] = json!([{ "role": "user", "content": text }]);
            body["prompt_cache_key"] = "k".into();
        }
    }
    Request::post(path, &body)
}

/// U3, U4, U5, H4: the provider's own numbers, by class, for every shape, JSON and SSE, clear and compressed, whole and in crumbs.
#[tokio::test(flavor = "multi_thread")]
async fn u3_the_line_has_the_providers_numbers_for_every_shape_and_encoding() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for path in [CHAT, MESSAGES, RESPONSES] {
            for stream in [false, true] {
                for encoding in ENCODINGS {
                    for split in [Split::Events, Split::Every(13)] {
                        main.forget_requests();
                        main.push(Reply { encoding, ..Reply::usual().split(split) });
                        let answer = gateway.send(cached(path, stream)).await.expect(200);
                        let line = access_line(&gateway, &answer).await;
                        let told = main.requests()[0].usage.unwrap();
                        assert!(told.cache_read_tokens > 0 && told.output_tokens > 0);
                        let place = format!("{up:?} {path} {stream} {encoding:?}: {line}");
                        assert_eq!(classes(&line), told, "{place}");
                        assert_eq!((&line["source"], &line["end"]), (&"final".into(), &"ok".into()), "{place}");
                        assert_eq!(line["stream"], stream, "{place}");
                    }
                }
            }
        }
    }
}

/// U3: thinking and tool calls are output.
#[tokio::test(flavor = "multi_thread")]
async fn u3_thinking_is_output() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    main.push(Reply::usual().thinking());
    let answer = gateway.send(ask_main(MESSAGES, true)).await.expect(200);
    let told = main.requests()[0].usage.unwrap();
    assert_eq!(classes(&access_line(&gateway, &answer).await), told);
}

/// U3, M15: embeddings have input alone; counting tokens is never billed.
#[tokio::test(flavor = "multi_thread")]
async fn u3_embeddings_are_input_and_counting_is_free() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let answer = gateway.send(ask_main("/v1/embeddings", false)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    let told = main.requests()[0].usage.unwrap();
    assert_eq!(classes(&line), told, "{line}");
    assert_eq!((&line["source"], &line["output_tokens"]), (&"final".into(), &0.into()));

    let answer = gateway.send(ask_main("/v1/messages/count_tokens", false)).await.expect(200);
    assert!(answer.json()["input_tokens"].as_u64().unwrap() > 0);
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["source"], &line["end"]), (&"none".into(), &"ok".into()), "{line}");
    assert!(line.get("input_tokens").is_none() && line.get("cost_nano_usd").is_none(), "{line}");
}

/// U4: a zero that comes later erases nothing, totals are not added up.
#[tokio::test(flavor = "multi_thread")]
async fn u4_running_totals_are_not_added_and_zeros_erase_nothing() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let event = |json: Value| format!("event: {}\ndata: {json}\n\n", json["type"].as_str().unwrap());
    main.push(Reply::events([
        event(json!({ "type": "message_start", "message": { "usage": {
            "input_tokens": 500, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 300, "output_tokens": 1,
            "cache_creation": { "ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50 } } } })),
        event(json!({ "type": "message_delta", "usage": { "output_tokens": 100, "cache_creation_input_tokens": 200 } })),
        event(json!({ "type": "message_delta", "usage": { "input_tokens": 0, "output_tokens": 500, "cache_read_input_tokens": 0 } })),
        event(json!({ "type": "message_stop" })),
    ]));
    let answer = gateway.send(ask_main(MESSAGES, true)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    let expected = Usage {
        input_tokens: 500,
        cache_read_tokens: 300,
        cache_write_5m_tokens: 150,
        cache_write_1h_tokens: 50,
        output_tokens: 500,
    };
    assert_eq!(classes(&line), expected);
}

/// U7: how it ended and where its usage is from.
#[tokio::test(flavor = "multi_thread")]
async fn u7_the_line_says_how_the_request_ended() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let wrong_key = gateway.send(ask_main(CHAT, false).bearer("wrong")).await.expect(401);
    let line = access_line(&gateway, &wrong_key).await;
    assert_eq!((&line["end"], &line["source"], &line["attempts"]), (&"refused".into(), &"none".into(), &0.into()), "{line}");

    main.push(Reply::status(500));
    let failed = gateway.send(ask_main(CHAT, false)).await.expect(500);
    let line = access_line(&gateway, &failed).await;
    assert_eq!((&line["end"], &line["source"]), (&"upstream_error".into(), &"none".into()), "{line}");

    main.push(Reply::json(json!({ "id": "no usage at all", "choices": [] })));
    let silent = gateway.send(ask_main(CHAT, false)).await.expect(200);
    let line = access_line(&gateway, &silent).await;
    assert_eq!((&line["end"], &line["source"]), (&"ok".into(), &"estimated".into()), "never invented unmarked: {line}");
}

/// U7: a client that leaves within a stream, on both protocols; the upstream is given up.
#[tokio::test(flavor = "multi_thread")]
async fn u7_a_client_that_leaves_is_written_down_as_gone() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let cancelled = main.counts().cancelled;
            main.push(Reply::usual().cut(trollbridge::provider_mock::After::Events(4), trollbridge::provider_mock::How::Stall));
            let mut client = client_that(&gateway, down).await;
            let mut arriving = client.open(ask_main(MESSAGES, true)).await.unwrap();
            arriving.until("content_block_start").await;
            let id = arriving.headers["x-request-id"].to_str().unwrap().to_owned();
            drop(arriving);
            client.abort();
            let line = gateway.wait_for_log(|line| line.starts_with('{') && line.contains(&id)).await;
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["end"], &line["source"]), (&"client_gone".into(), &"partial".into()), "{up:?} {down:?} {line}");
            assert!(line["input_tokens"].as_u64().unwrap() > 0, "{line}");
            main.wait_until(|counts| counts.cancelled > cancelled).await;
        }
    }
}

async fn clamped(gateway: &Gateway) -> u64 {
    let page = gateway.admin("/metrics").await.text();
    let line = page.lines().find(|line| line.starts_with("trollbridge_usage_clamped_total ")).expect("the metric");
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// U8: lies about tokens never become money that nobody owes; each is counted.
#[tokio::test(flavor = "multi_thread")]
async fn u8_absurd_counts_are_clamped_and_counted() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for lie in
        ["-5", "1.5", "\"12\"", "1e309", "-1e309", "99999999999999999999999", "18446744073709551616", "true", "[]", "{\"a\":1}"]
    {
        for (path, field) in [(CHAT, "completion_tokens"), (MESSAGES, "output_tokens"), (RESPONSES, "output_tokens")] {
            for stream in [false, true] {
                let before = clamped(&gateway).await;
                main.push(Reply::usual().lie(field, lie));
                let answer = gateway.send(ask_main(path, stream)).await.expect(200);
                assert!(answer.text().contains(lie), "the bytes pass as they are");
                let line = access_line(&gateway, &answer).await;
                let output = line["output_tokens"].as_u64().unwrap_or(0);
                assert!(output <= 1_000_000_000_000, "{line}");
                if lie.starts_with('-') {
                    assert_eq!(output, 0, "{path} {stream} {lie}: {line}");
                }
                assert!(clamped(&gateway).await > before, "{path} {stream} {lie}: {line}");
                assert_eq!(line["end"], "ok", "{path} {stream} {lie}: {line}");
            }
        }
    }
    let before = clamped(&gateway).await;
    gateway.send(ask_main(MESSAGES, true)).await.expect(200);
    assert_eq!(clamped(&gateway).await, before, "the truth is not clamped");
}

/// U8: more cached tokens than tokens.
#[tokio::test(flavor = "multi_thread")]
async fn u8_counts_that_contradict_each_other_are_counted_and_never_negative() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let before = clamped(&gateway).await;
    main.push(Reply::json(json!({ "usage": { "prompt_tokens": 10, "completion_tokens": 1,
        "prompt_tokens_details": { "cached_tokens": 50 } } })));
    let answer = gateway.send(ask_main(CHAT, false)).await.expect(200);
    let line = access_line(&gateway, &answer).await;
    assert!(line["input_tokens"].as_u64().unwrap() + line["cache_read_tokens"].as_u64().unwrap() <= 50, "{line}");
    assert!(clamped(&gateway).await > before);
}

/// U6: the option is spliced in; not one other byte of the request changes.
#[tokio::test(flavor = "multi_thread")]
async fn u6_the_usage_option_is_put_in_and_every_other_byte_stays() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let model = MAIN_MODEL;
    // «» marks what may differ, with what must stand there.
    let cases = [
        (format!("{{ \"model\" :\"{model}\",\r\n\"stream\":true , \"messages\":[ ],\"t\":1.0e0,\"u\":\"\\u00e9\\/\"}}\n"), None),
        (format!(r#"{{"stream_options": {{ }}, "model":"{model}","stream":true,"messages":[]}}"#), None),
        (format!(r#"{{"stream_options":{{"x":[1, 2]}},"model":"{model}","stream":true,"messages":[]}}"#), None),
        (format!(r#"{{"stream_options":null,"model":"{model}","stream":true,"messages":[]}}"#), Some("null")),
        (
            format!(r#"{{"stream_options":{{"include_usage" : false, "x":1}},"model":"{model}","stream":true,"messages":[]}}"#),
            Some("false"),
        ),
    ];
    for (sent, replaced) in &cases {
        main.forget_requests();
        let answer = gateway.send(Request::post_bytes(CHAT, sent.clone())).await.expect(200);
        let arrived = main.requests().remove(0);
        let body = std::str::from_utf8(&arrived.body).unwrap();
        let parsed: Value = serde_json::from_str(body).unwrap();
        assert_eq!(parsed["stream_options"]["include_usage"], true, "{body}");
        assert_eq!(arrived.header("content-length"), [arrived.body.len().to_string()]);
        // What was sent, with one run of bytes put in or replaced.
        let shared_start = sent.bytes().zip(body.bytes()).take_while(|(a, b)| a == b).count();
        let shared_end = sent.bytes().rev().zip(body.bytes().rev()).take_while(|(a, b)| a == b).count();
        let missing = sent.len().saturating_sub(shared_start + shared_end);
        assert!(missing <= replaced.map_or(0, str::len), "{sent}\n{body}");

        let events = answer.events();
        assert_eq!(events.last().unwrap().data, "[DONE]");
        assert!(events.iter().all(|event| !event.data.contains(r#""choices":[]"#)), "{}", answer.text());
        let line = access_line(&gateway, &answer).await;
        assert_eq!(line["source"], "final", "{line}");
        assert_eq!(line["output_tokens"], arrived.usage.unwrap().output_tokens);
    }
}

/// U6: what a client asked for itself it gets, and its bytes are not touched.
#[tokio::test(flavor = "multi_thread")]
async fn u6_the_usage_chunk_stays_for_a_client_that_asked_for_it() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let sent = format!(r#"{{ "model":"{MAIN_MODEL}", "stream":true, "stream_options":{{"include_usage":true}}, "messages":[]}}"#);
    let answer = gateway.send(Request::post_bytes(CHAT, sent.clone())).await.expect(200);
    assert_eq!(main.requests()[0].body, sent);
    let events = answer.events();
    let usage = &events[events.len() - 2];
    assert_eq!(usage.json()["choices"], json!([]));
    assert!(usage.json()["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
}

/// U6: nothing else is touched: no other API, no JSON answer, and no chunk but the one of the totals.
#[tokio::test(flavor = "multi_thread")]
async fn u6_only_chat_streams_are_asked_for_usage() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for (path, stream) in
        [(CHAT, false), (MESSAGES, true), (RESPONSES, true), ("/v1/embeddings", false), ("/v1/completions", false)]
    {
        main.forget_requests();
        gateway.send(ask_plainly(path, stream)).await.expect(200);
        assert!(!String::from_utf8_lossy(&main.requests()[0].body).contains("include_usage"), "{path} {stream}");
    }
    main.push(Reply::events([
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    ]));
    let answer = gateway.send(ask_plainly(CHAT, true)).await.expect(200);
    assert_eq!(
        answer.text(),
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\ndata: [DONE]\n\n"
    );
}

/// U6: every cut of the stream takes out the same chunk.
#[tokio::test(flavor = "multi_thread")]
async fn u6_the_usage_chunk_is_taken_out_however_the_stream_is_cut() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let [first, usage, last] = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n",
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\r\n\r\n",
        "data: [DONE]\r\n\r\n",
    ];
    for split in [Split::Events, Split::EveryByte, Split::Every(3), Split::Every(50), Split::Every(10_000)] {
        main.push(Reply::events([first, usage, last]).split(split));
        let answer = gateway.send(ask_plainly(CHAT, true)).await.expect(200);
        assert_eq!(answer.text(), [first, last].concat());
        assert_eq!(access_line(&gateway, &answer).await["output_tokens"], 2);
    }
}

/// U6: switched off, the request stays as it is, and its bill is an estimate.
#[tokio::test(flavor = "multi_thread")]
async fn u6_the_switch_leaves_requests_alone() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.set("/inject_include_usage", json!(false)).start().await;
    let sent = format!(r#"{{"model":"{MAIN_MODEL}","stream":true,"messages":[]}}"#);
    let answer = gateway.send(Request::post_bytes(CHAT, sent.clone())).await.expect(200);
    assert_eq!(main.requests()[0].body, sent);
    let line = access_line(&gateway, &answer).await;
    assert_eq!((&line["source"], &line["end"]), (&"estimated".into(), &"ok".into()), "{line}");
}

/// U1, U2: the golden vector costs the same wherever the model is served.
#[tokio::test(flavor = "multi_thread")]
async fn u1_the_same_usage_costs_the_same_on_every_upstream() {
    let authority = Authority::new();
    let (main, troll, target) = (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    let price = json!({ "input_price_per_mtok": 3, "output_price_per_mtok": 15, "cache_write_price_per_mtok": 3.75,
                        "cache_hit_price_per_mtok": 0.3 });
    let mut setup = Setup::new()
        .main(&main)
        .troll(&troll)
        .ohmygpt(&ohmygpt, &authority.ca_pem)
        .set("/log/format", json!("json"))
        .set("/billing/default_price", price)
        .set("/model_routing", json!({ "enabled": true, "models": { "by-url": target.base_url() } }));
    for index in 0..4 {
        setup = setup.set(&format!("/models/{index}/billing_multiplier"), json!(1.2));
    }
    let gateway = setup.start().await;
    let usage =
        json!({ "input_tokens": 500, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 300, "output_tokens": 500 });
    for (model, mock, cost) in [
        (MAIN_MODEL, &main, 11_808_000),
        (TROLL_MODEL, &troll, 11_808_000),
        (OHMYGPT_MODEL, &ohmygpt, 11_808_000),
        ("by-url", &target, 9_840_000),
    ] {
        mock.push(Reply::json(json!({ "type": "message", "usage": usage })));
        let answer = gateway.send(ask(MESSAGES, model, false)).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        assert_eq!(line["cost_nano_usd"], cost, "{line}");
        // The same tokens in the other shape.
        mock.push(Reply::json(json!({ "usage": { "prompt_tokens": 800, "completion_tokens": 500,
            "prompt_tokens_details": { "cached_tokens": 300 } } })));
        let answer = gateway.send(ask(CHAT, model, false)).await.expect(200);
        let chat: i64 = if cost == 9_840_000 { 9_090_000 } else { 10_908_000 };
        assert_eq!(access_line(&gateway, &answer).await["cost_nano_usd"], chat);
    }
    assert_eq!(target.requests().len(), 2);
    assert!(target.requests().iter().all(|request| request.header("authorization").is_empty()), "{MAIN_KEY} is main's alone");
}
