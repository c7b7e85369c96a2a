//! The commands as a user types them: what they print, what they refuse, and how they end.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use trollbridge::provider_mock::Reply;

use crate::support::process::{self, Ended};
use crate::support::setup::{MAIN_KEY, MAIN_MODEL, OHMYGPT_MODEL, TROLL_KEY, TROLL_MODEL};
use crate::support::{Client, Distrust, Mock, Request, Setup, Shorthand};

/// A directory with this config.json and nothing else.
fn directory(config: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

async fn trollbridge(dir: &Path, args: &[&str]) -> Ended {
    process::run(dir, args, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_file_it_says_what_to_create_and_names_the_demo() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&[][..], &["run"], &["--config", "config.json"]] {
        let said = trollbridge(dir.path(), args).await.expect(64).err;
        for part in ["There is no config.json", "conf/examples/", "trollbridge demo"] {
            assert!(said.contains(part), "{part}\n{said}");
        }
    }
    for command in [&["check"][..], &["explain", "--model", "x"], &["-t"]] {
        let ended = trollbridge(dir.path(), command).await.expect(64);
        let said = ended.out + &ended.err;
        assert!(said.contains("config.json") && said.contains("conf/examples/"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_answers_and_a_wrong_word_is_64() {
    let dir = tempfile::tempdir().unwrap();
    let help = trollbridge(dir.path(), &["--help"]).await.expect(0).out;
    for word in
        ["run", "check", "explain", "usage", "ledger", "demo", "mock", "--config", "--conf", "--test", "--upgrade", "--daemon"]
    {
        assert!(help.contains(word), "{word}\n{help}");
    }
    let page = trollbridge(dir.path(), &["man"]).await.expect(0).out;
    assert!(page.contains(".TH trollbridge 1"), "{page}");
    let script = trollbridge(dir.path(), &["completions", "bash"]).await.expect(0).out;
    assert!(script.contains("complete -F _trollbridge"), "{script}");
    for command in ["run", "check", "explain", "usage", "ledger", "demo", "mock"] {
        assert!(trollbridge(dir.path(), &[command, "--help"]).await.expect(0).out.contains("Usage: trollbridge"));
    }
    for flag in ["--version", "-V"] {
        assert_eq!(trollbridge(dir.path(), &[flag]).await.expect(0).out, format!("trollbridge {}\n", env!("CARGO_PKG_VERSION")));
    }
    for wrong in
        [&["--wrong"][..], &["chekc"], &["check", "--wrong"], &["demo", "--listen", "nonsense"], &["explain"], &["run", "extra"]]
    {
        let ended = trollbridge(dir.path(), wrong).await.expect(64);
        assert!(ended.out.is_empty() && ended.err.contains("--help"), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_answers_programs_in_json() {
    let dir = directory(&json!({ "models": [{ "id": "a", "upstream": "mian" }], "routng": {} }));
    let refused = trollbridge(dir.path(), &["check", "--json"]).await.expect(64).json();
    assert_eq!(refused["ok"], false);
    let faults = refused["faults"].as_array().unwrap();
    let paths: Vec<_> = faults.iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["models[0].upstream", "routng"]);
    assert!(faults.iter().all(|fault| fault["line"] == 1 && fault["column"].is_u64() && fault["file"] == "config.json"));
    let text = trollbridge(dir.path(), &["check"]).await.expect(64).out;
    assert!(text.ends_with("config.json: refused, 2 faults\n"), "{text}");

    let dir = directory(&json!({ "models": [{ "id": "a" }] }));
    let accepted = trollbridge(dir.path(), &["check", "--json"]).await.expect(0).json();
    assert_eq!((&accepted["ok"], &accepted["models"][0]["upstream"]), (&json!(true), &json!("troll")));
    trollbridge(dir.path(), &["-t"]).await.expect(0);
}

/// The answers of `explain` and what the gateway then does, for each way to a route.
#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_the_gateway_does() {
    let (main, troll, url) = (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    for mock in [&main, &troll, &url] {
        mock.always(Reply::json(json!({ "ok": true })));
    }
    let based = format!("{}/relay/v1", url.base_url());
    let setup = Setup::new()
        .main(&main)
        .troll(&troll)
        .set("/log/format", json!("json"))
        .set("/models/-", json!({ "id": "fast", "id_aliases": ["quick"], "upstream": "main", "upstream_model_id": "real-fast" }))
        .set("/model_routing", json!({ "enabled": true, "models": { "gpt-4": based, "gpt-*": based } }));
    let dir = directory(&setup.config);
    let env = [("MAIN_UPSTREAM_KEY", MAIN_KEY), ("TROLL_API_KEY", TROLL_KEY)];
    let gateway = setup.start().await;

    for (model, path) in [
        (MAIN_MODEL, "/v1/chat/completions"),
        (MAIN_MODEL, "/v1/messages?beta=true"),
        (TROLL_MODEL, "/v1/messages"),
        ("fast", "/v1/responses"),
        ("quick", "/v1/embeddings"),
        ("gpt-4", "/v1/chat/completions"),
        ("gpt-5", "/chat/completions?x=%20"),
        ("never-heard-of", "/v1/completions"),
        (OHMYGPT_MODEL, "/v1/chat/completions"),
        (MAIN_MODEL, "/admin"),
        (MAIN_MODEL, "/v1/../admin"),
        (MAIN_MODEL, "/v1/rerank"),
        (MAIN_MODEL, "/v1/messages/count_tokens"),
    ] {
        let told =
            process::run(dir.path(), &["explain", "--json", "--model", model, "--path", path], &env).await.expect(0).json();
        let answer = gateway.send(Request::post(path, &json!({ "model": model }))).await;
        let id = answer.header("x-request-id").to_owned();
        let line: Value =
            serde_json::from_str(&gateway.wait_for_log(|line| line.contains(&id) && line.starts_with('{')).await).unwrap();
        let arrived = [&main, &troll, &url].into_iter().find_map(|mock| Some((mock, mock.requests().pop()?)));
        [&main, &troll, &url].into_iter().for_each(Mock::forget_requests);
        if let Some(refused) = told.get("refused") {
            assert_eq!((refused["status"].as_u64().unwrap(), arrived.is_none()), (answer.status.as_u16().into(), true), "{told}");
            continue;
        }
        assert_eq!((&told["rule"], &told["upstream"]), (&line["rule"], &line["upstream"]), "{told}\n{line}");
        let Some((mock, arrived)) = arrived else {
            assert_eq!((answer.status.as_u16(), told["not_configured"].is_string()), (500, true), "{told}");
            continue;
        };
        assert_eq!(told["url"], format!("{}{}", mock.base_url(), arrived.target), "{told}");
        assert_eq!(told["headers"]["host"], arrived.header("host")[0]);
        assert_eq!(told["headers"].get("authorization").is_some(), !arrived.header("authorization").is_empty(), "{told}");
        let body: Value = serde_json::from_slice(&arrived.body).unwrap();
        assert_eq!(told["upstream_model"], body["model"]);
        assert_eq!(told["key"], line.get("key").cloned().unwrap_or_default(), "{told}\n{line}");
        assert!(!told.to_string().contains("planted"), "{told}");
    }
}

/// Paths that the gateway answers itself go nowhere, whatever model is named.
#[tokio::test(flavor = "multi_thread")]
async fn explain_knows_what_the_gateway_answers_itself() {
    let dir = directory(&json!({ "models": [] }));
    for path in ["/", "/v1/models", "/v1/models/gpt-4"] {
        let told = trollbridge(dir.path(), &["explain", "--json", "--model", "x", "--path", path]).await.expect(0).json();
        assert!(told.get("upstream").is_none() && told.get("url").is_none(), "{told}");
        assert!(told["why"].as_str().unwrap().contains("the gateway itself"), "{told}");
    }
    let said = trollbridge(dir.path(), &["explain", "--model", "x", "--path", "no-slash"]).await.expect(0).out;
    assert!(said.contains("404"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_reads_a_body_as_the_gateway_does() {
    let dir = directory(&json!({ "models": [{ "id": "gpt-4", "upstream": "main" }] }));
    std::fs::write(dir.path().join("body.json"), r#"{"x":{"model":"no"},"mod\u0065l":"gpt\u002d4"}"#).unwrap();
    let told = trollbridge(dir.path(), &["explain", "--json", "--body", "body.json"]).await.expect(0).json();
    assert_eq!((&told["model"], &told["upstream"]), (&json!("gpt-4"), &json!("main")));
    std::fs::write(dir.path().join("body.json"), "{\"model\":\"a\",\n \"model\":\"b\"}").unwrap();
    let refused = trollbridge(dir.path(), &["explain", "--json", "--body", "body.json"]).await.expect(64);
    assert!(refused.err.starts_with("body.json:2:2: "), "{}", refused.err);
    assert_eq!(refused.json()["refused"]["status"], 400);
    let missing = trollbridge(dir.path(), &["explain", "--body", "nowhere.json"]).await.expect(64);
    assert!(missing.err.contains("nowhere.json") && missing.out.is_empty(), "{missing:?}");
    let stranger = trollbridge(dir.path(), &["explain", "--model", "gpt-4", "--client", "bob"]).await.expect(64);
    assert!(stranger.err.contains("trollbridge.db") && stranger.out.is_empty(), "{stranger:?}");
    assert!(!dir.path().join("state").exists(), "a question makes nothing");
}

/// What a client may use and spend is read from the state directory.
#[tokio::test(flavor = "multi_thread")]
async fn explain_knows_the_clients() {
    let dir = directory(
        &json!({ "models": [{ "id": "gpt-4", "input_price_per_mtok": 3, "output_price_per_mtok": 15 }, { "id": "o3" }] }),
    );
    let env = [("TROLL_API_KEY", TROLL_KEY)];
    let run = |args: &'static [&'static str]| process::run(dir.path(), args, &env);
    run(&["client", "add", "alice", "--credits", "0.001", "--models", "gpt-*"]).await.expect(0);
    std::fs::write(dir.path().join("body.json"), r#"{"model":"gpt-4","max_tokens":1000}"#).unwrap();
    let poor = run(&["explain", "--json", "--body", "body.json", "--client", "alice"]).await.expect(0).json();
    assert_eq!((&poor["client_limits"]["balance_usd"], &poor["reservation"]["is_taken"]), (&json!("0.001"), &json!(true)));
    let other = run(&["explain", "--json", "--model", "o3", "--client", "alice"]).await.expect(0).json();
    assert_eq!((&other["refused"]["status"], &other["client"]), (&json!(403), &json!("alice")));
    let stranger = run(&["explain", "--model", "o3", "--client", "bob"]).await.expect(64);
    assert_eq!((stranger.err.trim(), &*stranger.out), ("there is no client \"bob\"", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_is_75_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    for config in [
        json!({ "models": [], "listen": [{ "addr": busy }], "admin": { "addr": null } }),
        json!({ "models": [], "listen": [{ "addr": "127.0.0.1:0" }], "admin": { "addr": busy } }),
    ] {
        let dir = directory(&config);
        let said = trollbridge(dir.path(), &[]).await.expect(75).err;
        assert!(said.contains(&format!("{busy} is in use")), "{said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mock = trollbridge(dir.path(), &["mock", "--listen", &busy.to_string()]).await.expect(75);
    assert!(mock.err.contains(&busy.to_string()), "{mock:?}");
}

/// Lines that do not work must not be printed for anybody to copy.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_on_a_busy_port_prints_no_lines_to_copy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ended = trollbridge(dir.path(), &["demo", "--listen", &busy.to_string()]).await.expect(75);
    assert_eq!(ended.out, "");
    assert!(ended.err.contains(&format!("{busy} is in use")) && ended.err.contains("--listen"), "{}", ended.err);
    assert!(!ended.err.contains("--upgrade"), "{}", ended.err);
}

/// The demo leaves nothing behind and needs nothing; port 0 shows the port that it got.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_the_requests_that_it_prints() {
    let dir = tempfile::tempdir().unwrap();
    let demo = process::start(dir.path(), &["demo", "--listen", "127.0.0.1:0"], &[]);
    let printed = demo.prints("Ctrl-C").await;
    let line = |word: &str| printed.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}\n{printed}"));
    let authority = |line: &str| line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let (clients, admin): (std::net::SocketAddr, std::net::SocketAddr) =
        (authority(line("/v1/chat/completions")), authority(line("/health")));
    assert_ne!(clients.port(), 0);
    // The lines stand there before the listener does.
    while tokio::net::TcpStream::connect(clients).await.is_err() {
        tokio::task::yield_now().await;
    }
    let mut client = Client::http1(clients, Distrust::nothing()).await;
    for curl in printed.lines().filter(|line| line.trim_start().starts_with("curl ") && line.contains(" -d ")) {
        let target = curl.split("http://").nth(1).unwrap().split(' ').next().unwrap();
        let target = &target[target.find('/').unwrap()..];
        let body = curl.split(" -d '").nth(1).unwrap().trim_end_matches('\'').to_owned();
        let mut request = Request::post_bytes(target, body).without("authorization").without("content-type");
        for header in curl.split(" -H '").skip(1) {
            let (name, value) = header.split('\'').next().unwrap().split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let answer = client.send(request).await;
        assert_eq!(answer.status, if curl.contains("wrong") { 401 } else { 200 }, "{curl}\n{}", answer.text());
    }
    let mut client = Client::http1(admin, Distrust::nothing()).await;
    client.send(Request::get("/health")).await.expect(200);
    demo.signal("INT");
    demo.ended().await.expect(0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_alone_answers_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let mock = process::start(dir.path(), &["mock", "--listen", "127.0.0.1:0"], &[]);
        let printed = mock.prints("mock provider on http://").await;
        let addr = printed.trim().rsplit("http://").next().unwrap().parse().unwrap();
        let request = Request::post("/v1/chat/completions", &json!({ "model": "m", "messages": [] }));
        Client::http1(addr, Distrust::nothing()).await.send(request).await.expect(200);
        mock.signal(signal);
        mock.ended().await.expect(0);
    }
    let script = dir.path().join("script.json");
    std::fs::write(&script, r#"{"rulse": []}"#).unwrap();
    let said = trollbridge(dir.path(), &["mock", "--script", "script.json"]).await.expect(64).err;
    assert!(said.contains("script.json") && said.contains("rulse"), "{said}");
}

/// Pingora's settings: whatever is wrong with them is said, by the start and by `-t`, and nothing panics.
#[tokio::test(flavor = "multi_thread")]
async fn bad_pingora_settings_are_refused_with_a_reason() {
    let dir = directory(&json!({ "models": [], "listen": [{ "addr": "127.0.0.1:0" }], "admin": { "addr": null } }));
    for (text, reason) in [
        ("threads: [1\n", "line"),
        ("threads: many\n", "threads"),
        ("- a\n- b\n", "pingora.yaml"),
        ("threads: 0\n", "threads"),
        ("listener_tasks_per_fd: 0\n", "listener_tasks_per_fd"),
        ("thraeds: 2\n", "did you mean `threads`?"),
        (r#"{"listen": [], "models": []}"#, "--config"),
        ("\u{0}", "pingora.yaml"),
    ] {
        std::fs::write(dir.path().join("pingora.yaml"), text).unwrap();
        for args in [&["--conf", "pingora.yaml"][..], &["-t", "-c", "pingora.yaml"]] {
            let ended = trollbridge(dir.path(), args).await.expect(64);
            let said = ended.out + &ended.err;
            assert!(said.contains("pingora.yaml") && said.contains(reason), "{text:?}: {said}");
        }
    }
    for missing in ["nowhere.yaml", "."] {
        let ended = trollbridge(dir.path(), &["-c", missing]).await.expect(64);
        assert!(ended.err.contains(missing), "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_ends_at_once_whatever_the_grace_period_is() {
    let mut gateway = Setup::new().grace_seconds(3600).start().await;
    // Whoever answers has its signals in hand.
    gateway.send(Request::get("/")).await.expect(200);
    gateway.signal("INT");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_an_open_request_finish_and_then_ends() {
    let main = Mock::http().await.unwrap();
    main.always(Reply::usual().delayed(Duration::from_millis(500)));
    let mut gateway = Setup::new().main(&main).grace_seconds(3).start().await;
    let mut client = gateway.client().await;
    let asking = tokio::spawn(async move {
        client.send(Request::post("/v1/chat/completions", &json!({ "model": MAIN_MODEL, "messages": [] }))).await
    });
    main.wait_for(1).await;
    gateway.signal("TERM");
    let id = asking.await.unwrap().expect(200).header("x-request-id").to_owned();
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(gateway.stop().contains(&id), "the line of the last request is written before the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_on_sigterm_without_a_wait() {
    let dir = tempfile::tempdir().unwrap();
    let demo = process::start(dir.path(), &["demo", "--listen", "127.0.0.1:0"], &[]);
    demo.prints("Ctrl-C").await;
    // Before Pingora watches for it, the signal ends the process by itself; either way nothing is left running.
    demo.signal("TERM");
    demo.ended().await;
}
