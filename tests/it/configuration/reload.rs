//! SIGHUP: the new file is in force whole, or the old one stays whole; requests notice neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::Method;
use serde_json::json;

use crate::support::request::{Answer, CLIENT_KEY};
use crate::support::setup::{ADMIN_TOKEN, MAIN_MODEL, NAMED_MODEL, TROLL_MODEL};
use crate::support::{Client, Distrust, Gateway, Mock, Request, Setup};

fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] }))
}

/// A hangup before the gateway watches for it ends the process, as it does any other.
async fn ready(gateway: &Gateway) {
    while gateway.admin("/readyz").await.status != 200 {
        tokio::task::yield_now().await;
    }
}

/// Reloads, and waits until the gateway has said `nth` times in all that the new file is in force.
async fn reload(gateway: &Gateway, nth: usize) {
    ready(gateway).await;
    gateway.signal("HUP");
    gateway.wait_for_logs(nth, |line| line.contains("reload: ") && line.contains("is in force")).await;
}

/// Reloads by the admin listener.
async fn asked(gateway: &Gateway) -> Answer {
    let request = Request::new(Method::POST, "/reload").bearer(ADMIN_TOKEN);
    Client::http1(gateway.admin_addr(), gateway.distrust()).await.send(request).await
}

async fn reload_refused(gateway: &Gateway) {
    ready(gateway).await;
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line.contains("the old configuration stays in force")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k6_a_reload_takes_over_models_upstreams_keys_and_limits() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).named(&named).start().await;
    gateway.rewrite_config(|config| {
        config["models"][0]["upstream"] = json!("named");
        config["models"].as_array_mut().unwrap().push(json!({ "id": "new", "upstream": "main" }));
        config["limits"] = json!({ "max_body_bytes": 1000 });
        config["auth"]["static_key"] = json!("another-client-key");
    });
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    reload(&gateway, 1).await;
    gateway.send(chat(MAIN_MODEL)).await.expect(401);
    gateway.send(chat(MAIN_MODEL).bearer("another-client-key")).await.expect(200);
    gateway.send(chat("new").bearer("another-client-key")).await.expect(200);
    assert_eq!((main.counts().requests, named.counts().requests), (2, 1));
    let large = json!({ "model": "new", "x": "x".repeat(1000) });
    gateway.send(Request::post("/v1/chat/completions", &large).bearer("another-client-key")).await.expect(413);
}

/// K6, K13, K15: whatever is wrong with the file, requests go on as before and the log says all of it, a line for each fault.
#[tokio::test(flavor = "multi_thread")]
async fn k6_a_reload_that_is_refused_keeps_the_old_file_and_says_every_fault_on_a_line_of_its_own() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    gateway.rewrite_config(|config| {
        config["models"][0]["upstream"] = json!("mian");
        config["upstreams"]["openai"] = json!({ "base_url": "ftp://h" });
        config["modles"] = json!([]);
    });
    reload_refused(&gateway).await;
    for path in ["models[0].upstream", "upstreams.openai.base_url", "modles"] {
        let said = gateway.wait_for_log(|line| line.contains(&format!(": {path}: "))).await;
        assert!(said.contains("ERROR") && said.contains("config.json:"), "{said}");
        assert_eq!(said.matches("config.json:").count(), 1, "{said}");
    }
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    assert_eq!(main.counts().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn k6_k15_no_kind_of_bad_file_ends_the_process() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let mut refusals = 0;
    type Change = Box<dyn Fn(&mut serde_json::Value)>;
    let bad: Vec<Change> = vec![
        Box::new(|config| *config = json!([])),
        Box::new(|config| *config = json!({})),
        Box::new(|config| config["tests"] = json!([{ "model": MAIN_MODEL, "expect": { "upstream": "troll" } }])),
        Box::new(|config| config["upstreams"]["main"]["ca_file"] = json!("/nowhere.pem")),
        Box::new(|config| config["admin"]["token"] = json!({ "file": "/nowhere" })),
        Box::new(|config| config["listen"][0]["tls"] = json!({ "cert": "/nowhere", "key": "/nowhere" })),
        Box::new(|config| config["auth"] = json!({ "mode": "none" })),
    ];
    let good = std::cell::RefCell::new(None);
    gateway.rewrite_config(|config| *good.borrow_mut() = Some(config.clone()));
    for change in bad {
        gateway.rewrite_config(|config| {
            *config = good.borrow().clone().unwrap();
            config["listen"][0]["addr"] = json!("0.0.0.0:1");
            change(config);
        });
        refusals += 1;
        ready(&gateway).await;
        gateway.signal("HUP");
        gateway.wait_for_logs(refusals, |line| line.contains("reload refused")).await;
        gateway.send(chat(MAIN_MODEL)).await.expect(200);
    }
    gateway.rewrite_config(|config| *config = good.borrow().clone().unwrap());
    reload(&gateway, 1).await;
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
}

/// K8, K9: a secret that stands in a file is read again.
#[tokio::test(flavor = "multi_thread")]
async fn k8_k9_a_reload_reads_secret_files_again() {
    let main = Mock::http().await.unwrap();
    let (old, new) = ("sk-old-planted-0a1b2c3d", "sk-new-planted-4e5f6a7b");
    main.expect_key(old);
    let setup = Setup::new().planted(old).planted(new);
    let file = setup.file("key.txt", old);
    let gateway = setup.set("/upstreams/main", json!({ "base_url": main.base_url(), "key": { "file": &file } })).start().await;
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    std::fs::write(&file, format!("{new}\n")).unwrap();
    main.expect_key(new);
    gateway.send(chat(MAIN_MODEL)).await.expect(502);
    reload(&gateway, 1).await;
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
}

/// K14: off and on again while clients never stop asking.
#[tokio::test(flavor = "multi_thread")]
async fn k14_model_routing_is_switched_by_reload_under_live_requests() {
    let (main, troll, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).troll(&troll).named(&named).start().await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (addr, distrust, stop, answered) = (gateway.addr(), gateway.distrust(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut client = Client::http1(addr, distrust).await;
                while !stop.load(Ordering::Relaxed) {
                    client.send(chat(MAIN_MODEL)).await.expect(200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    main.wait_until(|counts| counts.requests >= 20).await;
    assert_eq!(troll.counts().requests, 0);

    for (nth, model_based) in [(1, false), (2, true), (3, false), (4, true)] {
        gateway.rewrite_config(|config| config["routing"]["model_based"] = json!(model_based));
        reload(&gateway, nth).await;
        let before = [&main, &named, &troll].map(|mock| mock.counts().requests);
        gateway.send(chat(NAMED_MODEL)).await.expect(200);
        gateway.send(chat(TROLL_MODEL)).await.expect(200);
        assert_eq!(named.counts().requests, before[1] + u64::from(model_based));
        let (busy, floor) = if model_based { (&main, before[0]) } else { (&troll, before[2]) };
        busy.wait_until(|counts| counts.requests >= floor + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let arrived: u64 = [&main, &troll, &named].iter().map(|mock| mock.counts().requests).sum();
    assert_eq!(arrived, answered.load(Ordering::Relaxed) + 8, "every request was answered, by one upstream each");
}

/// K14: with it off, nothing is read as an unknown model, and health is not called ill for what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn k14_with_model_routing_off_every_model_goes_to_troll() {
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new()
        .main(&main)
        .troll(&troll)
        .set("/routing", json!({ "model_based": false, "unknown_model": "reject" }))
        .set("/model_routing", json!({ "enabled": true, "default_target": "main", "models": { "gpt-4": "main" } }))
        .start()
        .await;
    for model in [MAIN_MODEL, TROLL_MODEL, "gpt-4", "unknown"] {
        gateway.send(chat(model)).await.expect(200);
    }
    gateway.send(Request::post("/v1/chat/completions", &json!({}))).await.expect(200);
    assert_eq!((main.counts().connections, troll.counts().requests), (0, 5));
}

/// What can't change without a restart says so, and the rest of the file is in force.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_what_needs_a_restart() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    gateway.rewrite_config(|config| {
        config["listen"][0]["addr"] = json!("127.0.0.1:1");
        config["models"].as_array_mut().unwrap().push(json!({ "id": "new", "upstream": "main" }));
    });
    reload(&gateway, 1).await;
    gateway.wait_for_log(|line| line.contains("WARN") && line.contains(" listen ") && line.contains("restart")).await;
    gateway.send(chat("new")).await.expect(200);
}

/// A file that is no file any more is a fault like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_became_a_directory_or_is_gone_or_empty_is_refused() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    let path = gateway.dir().join("config.json");
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let gone = asked(&gateway).await.expect(422).json();
    std::fs::create_dir(&path).unwrap();
    let directory = asked(&gateway).await.expect(422).json();
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let empty = asked(&gateway).await.expect(422).json();
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let no_text = asked(&gateway).await.expect(422).json();
    for (refused, words) in
        [(gone, "can't be read"), (directory, "Is a directory"), (empty, "the file is empty"), (no_text, "can't be read")]
    {
        let message = refused["faults"][0]["message"].as_str().unwrap();
        assert!(message.contains(words) && refused["reloaded"] == false, "{refused}");
    }
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    std::fs::write(&path, good).unwrap();
    assert_eq!(asked(&gateway).await.expect(200).json()["reloaded"], true);
}

/// K6 by the admin listener: the answer holds what the log says.
#[tokio::test(flavor = "multi_thread")]
async fn k6_a_reload_by_the_admin_listener_answers_with_its_outcome() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).start().await;
    assert_eq!(gateway.admin("/status.json").await.json()["config"]["last_reload"], json!(null));
    gateway.rewrite_config(|config| {
        config["models"].as_array_mut().unwrap().push(json!({ "id": "new", "upstream": "main" }));
        config["listen"][0]["addr"] = json!("127.0.0.1:1");
        config["ledger"] = json!({ "segment_bytes": 1_048_576 });
    });
    let yaml = gateway.dir().join("pingora.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap().replace("threads: 2", "threads: 3");
    std::fs::write(&yaml, text).unwrap();

    let reloaded = asked(&gateway).await.expect(200).json();
    assert_eq!(reloaded["reloaded"], true);
    let needs: Vec<_> = reloaded["needs_upgrade"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(&needs[..2], ["listen", "ledger"]);
    assert!(needs.len() == 3 && needs[2].starts_with("threads (") && needs[2].contains("pingora.yaml"), "{needs:?}");
    let warnings = reloaded["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning["path"] == "models"), "{warnings:?}");
    gateway.send(chat("new")).await.expect(200);
    // It still does, however often the same file is read.
    assert_eq!(asked(&gateway).await.expect(200).json()["needs_upgrade"], reloaded["needs_upgrade"]);
    assert_eq!(gateway.admin("/status.json").await.json()["config"]["last_reload"]["ok"], true);

    gateway.rewrite_config(|config| {
        config["models"][0]["upstream"] = json!("mian");
        config["modles"] = json!([]);
    });
    let refused = asked(&gateway).await.expect(422).json();
    let paths: Vec<_> = refused["faults"].as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["models[0].upstream", "modles"]);
    gateway.send(chat("new")).await.expect(200);
    let last = gateway.admin("/status.json").await.json()["config"]["last_reload"].clone();
    assert!(last["ok"] == false && last["words"].as_str().unwrap().contains("(and 1 more)"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_a_reload_by_the_admin_listener_needs_the_token() {
    let gateway = Setup::new().start().await;
    let mut client = Client::http1(gateway.admin_addr(), Distrust::nothing()).await;
    for key in [None, Some("wrong"), Some(CLIENT_KEY)] {
        let request = Request::new(Method::POST, "/reload");
        client.send(key.map_or(Request::new(Method::POST, "/reload"), |key| request.bearer(key))).await.expect(401);
    }
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        assert_eq!(client.send(Request::new(method, "/reload").bearer(ADMIN_TOKEN)).await.expect(405).header("allow"), "POST");
    }
    assert!(!gateway.log_lines().iter().any(|line| line.contains("reload:")));

    let without_token = Setup::new().env("TROLLBRIDGE_ADMIN_TOKEN", "").start().await;
    let mut client = Client::http1(without_token.admin_addr(), without_token.distrust()).await;
    client.send(Request::new(Method::POST, "/reload")).await.expect(403);
}
