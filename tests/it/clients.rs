//! Clients of the store, by the command and by the admin listener, while the gateway runs: who is let in, to what, and until when.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::process::{self, Ended};
use crate::support::request::{Answer, CLIENT_KEY};
use crate::support::setup::{ADMIN_TOKEN, MAIN_MODEL, SECOND_MAIN_MODEL, TROLL_MODEL};
use crate::support::{Client, Distrust, Gateway, Mock, Request, Setup, soon};

/// Between two looks at what must change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs `trollbridge client …` on the gateway's own configuration, as its operator would.
async fn client(gateway: &Gateway, args: &[&str]) -> Ended {
    let env: Vec<(&str, &str)> = gateway.env();
    process::run(gateway.dir(), &[&["client"][..], args].concat(), &env).await
}

/// Adds a client; gives its key.
async fn add(gateway: &Gateway, args: &[&str]) -> String {
    let added = client(gateway, &[&["add"][..], args, &["--json"]].concat()).await.expect(0).json();
    let fields: Vec<&String> = added.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "key", "name"]);
    added["key"].as_str().unwrap().to_owned()
}

fn ask(key: &str, model: &str) -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": model, "messages": [] })).bearer(key)
}

/// Asks until the answer has this status.
async fn until(gateway: &Gateway, status: u16, request: impl Fn() -> Request) -> Answer {
    let answered = async {
        loop {
            let answer = gateway.send(request()).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    soon(&format!("the status {status}"), answered).await
}

/// One call to the admin listener, whose answers have headers that clients never see.
async fn admin(gateway: &Gateway, method: Method, target: &str, token: Option<&str>, body: &Value) -> Answer {
    let request = Request::post(target, body).without("authorization");
    let request = match token {
        Some(token) => request.bearer(token),
        None => request,
    };
    Client::http1(gateway.admin_addr(), Distrust::nothing()).await.send(Request { method, ..request }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_a_key_made_by_the_command_works_at_once_and_a_revoked_one_is_told_so() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let key = add(&gateway, &["alice", "--note", "a friend"]).await;
    gateway.plant(&key);
    until(&gateway, 200, || ask(&key, MAIN_MODEL)).await;
    gateway.send(Request::get("/v1/models").without("authorization").header("x-api-key", &key)).await.expect(200);
    gateway.wait_for_log(|line| line.contains("client=alice") && line.contains("status=200")).await;
    gateway.send(ask(CLIENT_KEY, MAIN_MODEL)).await.expect(200);
    assert_eq!(main.requests().last().unwrap().header("authorization").len(), 1);

    let revoked = client(&gateway, &["revoke", "alice"]).await.expect(0);
    assert_eq!(revoked.out, "client alice is revoked\n");
    let refused = until(&gateway, 403, || ask(&key, MAIN_MODEL)).await.json();
    assert_eq!((&refused["error"]["code"], &refused["error"]["type"]), (&json!("api_key_revoked"), &json!("permission_error")));
    let anthropic =
        Request::post("/v1/messages", &json!({ "model": MAIN_MODEL })).without("authorization").header("x-api-key", &key);
    let refused = gateway.send(anthropic).await.expect(403).json();
    assert_eq!(refused["error"]["type"], "permission_error");
    gateway.wait_for_log(|line| line.contains("client=alice") && line.contains("refusal=key_revoked")).await;
    gateway.send(ask(CLIENT_KEY, MAIN_MODEL)).await.expect(200);

    client(&gateway, &["revoke", "alice", "--undo"]).await.expect(0);
    until(&gateway, 200, || ask(&key, MAIN_MODEL)).await;
    let mut wrong = key.clone();
    wrong.replace_range(10..11, if &key[10..11] == "0" { "1" } else { "0" });
    let refused = gateway.send(ask(&wrong, MAIN_MODEL)).await.expect(401).json();
    assert_eq!(refused["error"]["code"], "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_an_expired_key_is_told_so() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let soon_over = std::time::SystemTime::now() + Duration::from_secs(2);
    let at = soon_over.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let moment = trollbridge::domain::client::date_time(at);
    let key = add(&gateway, &["brief", "--expires", &moment]).await;
    let refused = until(&gateway, 403, || ask(&key, MAIN_MODEL)).await.json();
    assert_eq!(refused["error"]["code"], "api_key_expired");
    let past = client(&gateway, &["add", "late", "--expires", "2020-01-01"]).await.expect(64);
    assert!(past.err.contains("past") && past.out.is_empty(), "{past:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m14_a_client_sees_and_uses_its_own_models_only() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .main(&main)
        .set("/models/0/id_aliases", json!(["sonnet"]))
        .set("/models/1/id_aliases", json!(["haiku"]))
        .set("/model_routing", json!({ "enabled": true, "models": { "gpt-*": "main" } }))
        .set("/host_routes", json!([{ "host": "files.test", "upstream": "main" }]))
        .start()
        .await;
    // One by its alias, one by its id, one by a prefix that the URL map has.
    let key = add(&gateway, &["some", "--models", &format!("sonnet,{SECOND_MAIN_MODEL},gpt-4*")]).await;
    let list = until(&gateway, 200, || Request::get("/v1/models").bearer(&key)).await.json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [MAIN_MODEL, SECOND_MAIN_MODEL]);
    for (model, status) in [
        (MAIN_MODEL, 200),
        ("sonnet", 200),
        (SECOND_MAIN_MODEL, 200),
        ("haiku", 200),
        ("gpt-4o", 200),
        ("gpt-3", 403),
        (TROLL_MODEL, 403),
        ("stranger", 403),
        ("sonnet2", 403),
    ] {
        let answer = gateway.send(ask(&key, model)).await;
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
        if status == 403 {
            let error = &answer.json()["error"];
            assert_eq!((&error["code"], &error["param"]), (&json!("model_not_allowed"), &json!("model")), "{model}");
        }
    }
    let seen = main.counts().requests;
    let nameless = Request::post("/v1/chat/completions", &json!({ "messages": [] })).bearer(&key);
    gateway.send(nameless).await.expect(403);
    // What names no model can't be checked.
    let upload = Request::new(Method::GET, "/v1/files").bearer(&key).header("host", "files.test");
    gateway.send(upload).await.expect(403);
    gateway.send(Request::get(&format!("/v1/models/{TROLL_MODEL}")).bearer(&key)).await.expect(404);
    gateway.send(Request::get("/v1/models/haiku").bearer(&key)).await.expect(200);
    assert_eq!(main.counts().requests, seen, "nothing refused was sent");
    let all = gateway.send(Request::get("/v1/models")).await.expect(200).json();
    assert!(all["data"].as_array().unwrap().len() > 2, "the static key sees every model");
}

#[tokio::test(flavor = "multi_thread")]
async fn u1_a_model_without_a_price_is_not_served_where_prices_are_required() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new()
        .main(&main)
        .set("/model_routing", json!({ "enabled": true, "default_target": "main", "models": { "gpt-4": "main" } }))
        .set("/billing", json!({ "require_price": true }))
        .start()
        .await;
    gateway.send(ask(CLIENT_KEY, MAIN_MODEL)).await.expect(200);
    for model in ["gpt-4", "anything"] {
        let refused = gateway.send(ask(CLIENT_KEY, model)).await.expect(404).json();
        assert_eq!(refused["error"]["code"], "model_without_price", "{model}");
    }
    assert_eq!(main.counts().requests, 1);
    assert!(!gateway.send(Request::get("/v1/models")).await.expect(200).text().contains("gpt-4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_without_a_balance_nobody_is_served_where_one_is_required() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/billing", json!({ "require_credits": true })).start().await;
    let free = add(&gateway, &["free"]).await;
    let limited = add(&gateway, &["limited", "--credits", "1.50"]).await;
    until(&gateway, 200, || ask(&limited, MAIN_MODEL)).await;
    for key in [&free, CLIENT_KEY] {
        let refused = gateway.send(ask(key, MAIN_MODEL)).await.expect(402);
        assert_eq!(refused.header("x-should-retry"), "false");
        assert_eq!(refused.json()["error"]["type"], "insufficient_quota");
        let messages = Request::post("/v1/messages", &json!({ "model": MAIN_MODEL })).bearer(key);
        assert_eq!(gateway.send(messages).await.expect(402).json()["error"]["type"], "billing_error");
        gateway.send(Request::get("/v1/models").bearer(key)).await.expect(200);
    }
    assert_eq!(main.counts().requests, 1);
}

/// An answer of 100 tokens costs 0.0015 USD, the input of such a body less than 0.0005.
#[tokio::test(flavor = "multi_thread")]
async fn g4_a_credit_for_three_answers_does_not_reach_for_ten_nor_for_one_without_a_limit() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let key = add(&gateway, &["three", "--credits", "0.005"]).await;
    let ask = |target: &str, more: Value| {
        let mut body = json!({ "model": MAIN_MODEL, "messages": [], "prompt": "" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Request::post(target, &body).bearer(&key)
    };
    let (chat, text) = ("/v1/chat/completions", "/v1/completions");
    until(&gateway, 200, || ask(chat, json!({ "max_tokens": 1 }))).await;
    let seen = main.counts().requests;
    for (target, more) in [
        (chat, json!({ "max_tokens": 100, "n": 10 })),
        (text, json!({ "max_tokens": 100, "n": 10 })),
        (text, json!({ "max_tokens": 100, "best_of": 10 })),
        (text, json!({ "max_tokens": 100, "prompt": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] })),
        (text, json!({ "max_tokens": 100, "prompt": [[1], [2], [3], [4], [5], [6], [7], [8], [9], [10]] })),
        (chat, json!({ "max_output_tokens": 1 })),
        (text, json!({ "max_completion_tokens": 1 })),
        ("/v1/messages", json!({ "max_output_tokens": 1 })),
        ("/v1/responses", json!({ "max_tokens": 1 })),
    ] {
        let refused = gateway.send(ask(target, more.clone())).await;
        assert_eq!(refused.status, 402, "{target} {more}: {}", refused.text());
    }
    assert_eq!(main.counts().requests, seen, "nothing refused was sent");
    gateway.send(ask(chat, json!({ "max_tokens": 100, "n": 3 }))).await.expect(200);
    // The numbers of one prompt's tokens.
    gateway.send(ask(text, json!({ "max_tokens": 100, "prompt": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }))).await.expect(200);
    assert_eq!(main.counts().requests, seen + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_commands_print_what_they_did() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), r#"{"models": [], "state_dir": "here"}"#).unwrap();
    let run = async |args: &[&str]| process::run(dir.path(), &[&["client"][..], args].concat(), &[]).await;
    let nowhere = run(&["list"]).await.expect(64);
    assert!(nowhere.err.contains("There is no here/trollbridge.db") && !dir.path().join("here").exists(), "{nowhere:?}");

    let said =
        run(&["add", "alice", "--credits", "1.50", "--models", "a,b*", "--expires", "2030-12-31", "--rpm", "5"]).await.expect(0);
    assert!(said.err.contains("made a new database in here"), "{said:?}");
    let said = said.out;
    let key = said.lines().nth(1).unwrap();
    assert!(key.starts_with("tb-") && key.len() == 67 && said.starts_with("client alice (c-"), "{said}");
    let again = run(&["add", "alice"]).await.expect(64);
    assert!(again.err.contains("already") && again.out.is_empty());

    assert_eq!(run(&["credit", "alice", "-0.25"]).await.expect(0).out, "client alice was granted 1.25 USD in all\n");
    assert_eq!(run(&["credit", "alice", "+1"]).await.expect(0).out, "client alice was granted 2.25 USD in all\n");
    for (wrong, part) in [
        (&["credit", "alice", "-5"][..], "below zero"),
        (&["credit", "alice", "much"], "much"),
        (&["credit", "bob", "1"], "no client \"bob\""),
        (&["show", "bob"], "bob"),
        (&["revoke", "bob"], "bob"),
        (&["add", "a b"], "name"),
        (&["add", "b", "--credits", "1,5"], "1,5"),
        (&["add", "b", "--models", "a*b"], "a*b"),
        (&["list", "--config", "nowhere.json"], "--state-dir"),
    ] {
        let ended = run(wrong).await.expect(64);
        assert!(ended.err.contains(part) && ended.out.is_empty(), "{wrong:?}: {ended:?}");
    }
    run(&["revoke", "alice"]).await.expect(0);
    let shown = run(&["show", "alice", "--json", "--state-dir", "here"]).await.expect(0).json();
    assert_eq!((&shown["status"], &shown["models"], &shown["rpm"]), (&json!("revoked"), &json!(["a", "b*"]), &json!(5)));
    assert_eq!((&shown["expires_at"], &shown["credits"]["granted"]), (&json!("2031-01-01T00:00:00Z"), &json!("2.25")));
    let amounts: Vec<&Value> = shown["credits"]["grants"].as_array().unwrap().iter().map(|grant| &grant["amount"]).collect();
    assert_eq!(amounts, ["1.5", "-0.25", "1"]);
    let listed = run(&["list", "--json"]).await.expect(0);
    assert_eq!(listed.json()["clients"][0]["name"], "alice");
    let (table, page) = (run(&["list"]).await.expect(0).out, run(&["show", "alice"]).await.expect(0).out);
    assert!(table.contains("alice") && table.contains("revoked") && page.contains("-0.25 USD on"), "{table}\n{page}");
    let secret = key.trim_start_matches("tb-");
    for text in [&listed.out, &table, &page] {
        assert!(!text.contains(secret));
    }
    for file in std::fs::read_dir(dir.path().join("here")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_clients_on_the_admin_listener_need_its_token() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let asked = json!({ "name": "alice", "credits": "1", "models": [MAIN_MODEL] });
    for token in [None, Some("wrong"), Some(CLIENT_KEY)] {
        for (method, target) in [(Method::GET, "/clients"), (Method::POST, "/clients"), (Method::DELETE, "/clients/alice")] {
            admin(&gateway, method, target, token, &asked).await.expect(401);
        }
    }
    let added = admin(&gateway, Method::POST, "/clients", Some(ADMIN_TOKEN), &asked).await.expect(201);
    assert_eq!(added.header("cache-control"), "no-store");
    let (id, key) = (added.json()["id"].as_str().unwrap().to_owned(), added.json()["key"].as_str().unwrap().to_owned());
    gateway.plant(&key);
    gateway.send(ask(&key, MAIN_MODEL)).await.expect(200);
    gateway.send(ask(&key, SECOND_MAIN_MODEL)).await.expect(403);
    let shown = admin(&gateway, Method::GET, &format!("/clients/{id}"), Some(ADMIN_TOKEN), &json!({})).await.expect(200).json();
    assert_eq!((&shown["name"], &shown["credits"]["granted"]), (&json!("alice"), &json!("1")));
    let credited = admin(&gateway, Method::POST, "/clients/alice/credit", Some(ADMIN_TOKEN), &json!({ "amount": "+1" }))
        .await
        .expect(200)
        .json();
    assert_eq!(credited["credits"]["granted"], "2");
    admin(&gateway, Method::DELETE, "/clients/alice", Some(ADMIN_TOKEN), &json!({})).await.expect(200);
    gateway.send(ask(&key, MAIN_MODEL)).await.expect(403);
    let list = admin(&gateway, Method::GET, "/clients", Some(ADMIN_TOKEN), &json!({})).await.expect(200);
    gateway.distrust().check_body(list.text().as_bytes());
    let list = list.json();
    assert_eq!((&list["clients"][0]["status"], list["clients"].as_array().unwrap().len()), (&json!("revoked"), 1));

    let large = json!({ "name": "b", "note": "x".repeat(70_000) });
    admin(&gateway, Method::POST, "/clients", Some(ADMIN_TOKEN), &large).await.expect(413);
    let chunked = Request::post("/clients", &large).bearer(ADMIN_TOKEN).chunked(1_000);
    Client::http1(gateway.admin_addr(), gateway.distrust()).await.send(chunked).await.expect(413);
    admin(&gateway, Method::PUT, "/clients", Some(ADMIN_TOKEN), &json!({})).await.expect(405);
    admin(&gateway, Method::GET, "/clients/nobody", Some(ADMIN_TOKEN), &json!({})).await.expect(404);
    assert!(gateway.health().await["status"].is_string(), "the listener still answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_without_an_admin_token_clients_are_refused() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/admin/token", Value::Null).start().await;
    for token in [None, Some(ADMIN_TOKEN)] {
        admin(&gateway, Method::POST, "/clients", token, &json!({ "name": "a" })).await.expect(403);
    }
    assert_eq!(client(&gateway, &["list", "--json"]).await.expect(0).json()["clients"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_can_t_be_used_stops_the_start() {
    let main = Mock::http().await.unwrap();
    let setup = Setup::new().main(&main);
    let file = setup.file("no-directory", "");
    let (code, said) = setup.set("/state_dir", json!(file.join("state"))).start_refused().await;
    assert!(code == 64 && said.contains("must exist or be creatable"), "{code} {said}");

    let setup = Setup::new().main(&main);
    let state = setup.file("placeholder", "").with_file_name("newer");
    let store = trollbridge::ops::books::store::Store::open(&state).unwrap();
    store.with(|conn| conn.pragma_update(None, "user_version", 1_000)).unwrap();
    drop(store);
    let (code, said) = setup.set("/state_dir", json!(state)).start_refused().await;
    assert!(code == 64 && said.contains("newer trollbridge"), "{code} {said}");
}
