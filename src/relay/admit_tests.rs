//! Head and body → admitted, with what goes out, or an answer of the gateway's own.

use super::*;
use crate::relay::testing::{House, ONE_KEY, headers};

const KEYS: &str = r#"{"auth":{"mode":"keys","static_key":"canary-static-key"},
  "models":[{"id":"m","upstream":"main","input_price_per_mtok":1,"output_price_per_mtok":2,"id_aliases":["alias"]},
            {"id":"renamed","upstream":"main","upstream_model_id":"their-name"},
            {"id":"on-ohmygpt","upstream":"ohmygpt"},{"id":"on-troll","upstream":"troll"}],
  "routing":{"unknown_model":"reject"},
  "host_routes":[{"host":"files.example.com","upstream":"main"}],
  "limits":{"max_body_bytes":1000},
  "upstreams":{"main":{"base_url":"https://main.example.com/v1","key":"canary-main-key"}}}"#;
const BEARER: (&str, &str) = ("authorization", "Bearer canary-static-key");
const CHAT: &str = "/v1/chat/completions";

/// What becomes of a POST, in words.
fn admitted(config: &str, path: &str, pairs: &[(&str, &str)], body: &str) -> String {
    let house = House::new(config);
    let told = match house.admit(path, &headers(pairs), body) {
        Ok((admitted, chunks)) => {
            let Admitted { way, ask, .. } = &admitted;
            let sent = String::from_utf8(chunks.concat()).unwrap();
            let changed = if sent == body { "as it is" } else { &*sent };
            let length = way.length.map_or("unread".to_owned(), |length| length.to_string());
            assert!(way.length.is_none_or(|length| length == sent.len()));
            let model = ask.model.as_deref().unwrap_or("-");
            format!("{} by {}, {model}, {length}, {changed}", way.route.upstream.name, way.route.reason())
        }
        Err(local) => said(&local),
    };
    assert!(house.ledger_lines().iter().all(|line| line["record"] == "segment"), "nothing is opened before the dispatch");
    told
}

fn said(local: &Local) -> String {
    match local.says() {
        Says::Json(body) => format!("200 {}", String::from_utf8_lossy(body)),
        Says::Refusal(refusal) => {
            format!("{} {}{}", refusal.answer().status, refusal.label(), if local.closes() { ", closes" } else { "" })
        }
        Says::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn h5_h7_who_calls_is_asked_before_anything_else() {
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[], "401 no_key"),
        (&[("authorization", "Bearer wrong")], "401 wrong_key"),
        (&[("authorization", "Basic canary-static-key")], "401 wrong_key"),
        (&[("x-api-key", "wrong")], "401 wrong_key"),
        (&[BEARER], "404 unknown_path"),
        (&[("x-api-key", "canary-static-key")], "404 unknown_path"),
        (&[BEARER, ("x-api-key", "canary-static-key")], "404 unknown_path"),
        (&[BEARER, ("x-api-key", "another")], "400 two_credentials"),
    ];
    for (pairs, expected) in rows {
        assert_eq!(admitted(KEYS, "/nowhere", pairs, "{}"), *expected, "{pairs:?}");
    }
}

#[test]
fn m_a_json_request_goes_by_its_model() {
    let rows: &[(&str, &str, &str)] = &[
        (CHAT, r#"{"model":"m"}"#, "main by model, m, 13, as it is"),
        (CHAT, r#"{"model":"alias"}"#, "main by alias:m, alias, 17, as it is"),
        ("/v1/embeddings", r#"{"model":"m"}"#, "main by model, m, 13, as it is"),
        ("/v1/anything", r#"{"model":"m"}"#, "main by model, m, 13, as it is"),
        (CHAT, r#"{"model":"renamed"}"#, r#"main by model, renamed, 22, {"model":"their-name"}"#),
        (
            CHAT,
            r#"{"model":"m","stream":true}"#,
            r#"main by model, m, 67, {"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        ("/v1/messages", r#"{"model":"m","stream":true}"#, "main by model, m, 27, as it is"),
        (CHAT, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#, "main by model, m, 67, as it is"),
        (CHAT, r#"{"model":"on-ohmygpt"}"#, "500 not_configured"),
        (CHAT, r#"{"model":"on-troll"}"#, "500 not_configured"),
        (CHAT, r#"{"model":"unknown"}"#, "404 unknown_model"),
        (CHAT, "{}", "404 unknown_model"),
        (CHAT, r#"{"model":7}"#, "404 unknown_model"),
        (CHAT, "", "400 bad_body"),
        (CHAT, "[]", "400 bad_body"),
        (CHAT, r#"{"model":"m""#, "400 bad_body"),
        (CHAT, r#"{"model":"m","model":"renamed"}"#, "400 bad_body"),
    ];
    for (path, body, expected) in rows {
        assert_eq!(admitted(KEYS, path, &[BEARER], body), *expected, "{path} {body}");
    }
}

#[test]
fn m7_what_is_no_json_goes_by_its_host_or_nowhere() {
    let text = ("content-type", "text/plain");
    let by_host = |host, pairs: &[(&str, &str)]| {
        let house = House::new(KEYS);
        let (head_map, path) = (headers(&[&[BEARER, text], pairs].concat()), "/v1/files");
        let head = Head { method: &Method::POST, path, host: Some(host), headers: &head_map };
        match house.arrived(Method::POST, path).enter(head, false, &house.directory) {
            Ok(Entry::Through(admitted)) => format!("through to {}, {:?}", admitted.upstream().name, admitted.way.length),
            Ok(Entry::Read(_)) => "read".to_owned(),
            Err(local) => said(&local),
        }
    };
    assert_eq!(by_host("files.example.com", &[]), "through to main, None");
    assert_eq!(by_host("files.example.com", &[("content-length", "1000")]), "through to main, None");
    assert_eq!(by_host("files.example.com", &[("content-length", "1001")]), "413 body_too_large");
    assert_eq!(by_host("elsewhere.example.com", &[]), "404 not_json");
    assert_eq!(admitted(KEYS, CHAT, &[BEARER, text], "{}"), "404 not_json");
    assert_eq!(admitted(KEYS, CHAT, &[BEARER, ("content-encoding", "gzip")], "{}"), "415 compressed_body");
}

#[test]
fn h8_m14_the_gateway_answers_for_itself() {
    let ask = |method: Method, path: &str, is_upgrade| {
        let house = House::new(ONE_KEY);
        let none = HeaderMap::new();
        let head = Head { method: &method, path, host: None, headers: &none };
        match house.arrived(method.clone(), path).enter(head, is_upgrade, &house.directory) {
            Ok(_) => "goes on".to_owned(),
            Err(local) => said(&local),
        }
    };
    let alive = r#"200 {"name":"trollbridge","status":"ok"}"#;
    assert_eq!((ask(Method::GET, "/", false), ask(Method::HEAD, "/", false)), (alive.to_owned(), alive.to_owned()));
    assert_eq!(ask(Method::POST, "/", false), "405 wrong_method");
    assert_eq!(ask(Method::POST, CHAT, true), "400 upgrade_requested, closes");
    assert!(ask(Method::GET, "/v1/models", false).contains(r#""object":"list""#));
    assert!(ask(Method::GET, "/v1/models/m", false).contains(r#""id":"m""#));
    assert_eq!(ask(Method::GET, "/v1/models/none", false), "404 model_not_listed");
    assert_eq!(ask(Method::DELETE, "/v1/models", false), "405 wrong_method");
    assert_eq!(ask(Method::GET, CHAT, false), "405 wrong_method");
    assert_eq!(ask(Method::POST, CHAT, false), "goes on");
}

#[test]
fn l2_a_route_is_counted_where_it_is_decided() {
    let counted = |body: &str| {
        let house = House::new(KEYS);
        let _ = house.admit(CHAT, &headers(&[BEARER]), body);
        let seen = house.records.counters.snapshot();
        (seen.routing_attempts, seen.routing_success, seen.routing_fallback, seen.parsing_errors)
    };
    assert_eq!(counted(r#"{"model":"m"}"#), (1, 1, 0, 0));
    assert_eq!(counted(r#"{"model":"unknown"}"#), (1, 0, 0, 0));
    assert_eq!(counted("no json"), (1, 0, 0, 1));
}

#[test]
fn m_asked_and_spoken_are_the_same_for_todays_upstreams() {
    let house = House::new(ONE_KEY);
    for path in [CHAT, "/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings"] {
        let (admitted, _) = house.admit(path, &HeaderMap::new(), r#"{"model":"m"}"#).unwrap_or_else(|_| panic!("{path}"));
        assert_eq!((admitted.arrived.asked, admitted.way.spoken), (Api::of(path), Api::of(path)));
    }
}
