//! What a start takes from the file and the environment, and what it refuses.

use serde_json::{Value, json};

use crate::support::setup::{MAIN_KEY, MAIN_MODEL, NAMED_MODEL, OHMYGPT_KEY, TROLL_KEY, TROLL_MODEL};
use crate::support::{Mock, Request, Setup};

fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": model, "messages": [] }))
}

async fn refused(pointer: &str, value: Value) -> String {
    let (code, said) = Setup::new().set(pointer, value).start_refused().await;
    assert_eq!(code, 64, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_an_unknown_upstream_names_the_model_the_value_and_the_nearest_name() {
    let said = refused("/models/0/upstream", json!("mian")).await;
    assert!(
        said.contains(&format!(
            r#"models[0].upstream: model "{MAIN_MODEL}": no upstream is called "mian"; did you mean "main"?"#
        )),
        "{said}"
    );
    let own = Setup::new()
        .set("/upstreams/openai", json!({ "base_url": "https://api.openai.com/v1" }))
        .set("/models/0/upstream", json!("opnai"))
        .start_refused()
        .await;
    assert!(own.0 == 64 && own.1.contains(r#"did you mean "openai"?"#), "{}", own.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_a_model_may_name_an_upstream_of_ones_own() {
    let named = Mock::http().await.unwrap();
    let gateway = Setup::new().named(&named).start().await;
    gateway.send(chat(NAMED_MODEL)).await.expect(200);
    assert_eq!(named.counts().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn k5_without_model_routing_url_routing_is_off() {
    let gateway = Setup::new().start().await;
    let health = gateway.health().await;
    assert_eq!(
        (&health["enabled"], &health["default_target"], &health["models_configured"]),
        (&json!(false), &Value::Null, &json!(4))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn k6_all_faults_are_listed_at_once_with_file_line_column_and_path() {
    let (code, said) = Setup::new()
        .set("/upstreams/main/base_url", json!("ftp://h"))
        .set("/upstreams/one", json!({ "base_url": "https://user:canary-password@h" }))
        .set("/upstreams/two", json!({ "base_url": "https://h/#fragment" }))
        .set("/upstreams/three", json!({ "base_url": "https://" }))
        .set("/model_routing", json!({ "default_target": "nonsense://x", "models": { "a": "https:///x", "b": "no-such-name" } }))
        .set("/models/1/upstream", json!("mian"))
        .set("/limits/max_body_bytes", json!(0))
        .set("/routng", json!({}))
        .planted("canary-password")
        .start_refused()
        .await;
    assert_eq!(code, 64, "{said}");
    for path in [
        "upstreams.main.base_url",
        "upstreams.one.base_url",
        "upstreams.two.base_url",
        "upstreams.three.base_url",
        "model_routing.default_target",
        "model_routing.models.a",
        "model_routing.models.b",
        "models[1].upstream",
        "limits.max_body_bytes",
        "routng",
    ] {
        let line = said.lines().find(|line| line.contains(&format!(": {path}: "))).unwrap_or_else(|| panic!("{path}\n{said}"));
        let place = line.split(": ").next().unwrap();
        let (rest, column) = place.rsplit_once(':').unwrap();
        let (file, number) = rest.rsplit_once(':').unwrap();
        assert!(file.ends_with("config.json"), "{line}");
        assert!(number.parse::<u32>().unwrap() > 1 && column.parse::<u32>().unwrap() > 1, "{line}");
    }
    assert_eq!(said.lines().filter(|line| line.contains("config.json:") && !line.contains(" WARN ")).count(), 10, "{said}");
}

/// K8: the file says one thing, the environment another.
#[tokio::test(flavor = "multi_thread")]
async fn k8_the_environment_wins_over_the_file() {
    let (in_file, main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap(), Mock::http().await.unwrap());
    main.expect_key(MAIN_KEY);
    troll.expect_key(TROLL_KEY);
    let gateway = Setup::new()
        .set("/upstreams/main", json!({ "base_url": in_file.base_url(), "key": "key-that-stands-in-the-file" }))
        .set(
            "/upstreams/troll",
            json!({ "base_url": troll.base_url(), "keys": [{ "id": "k1", "key": "key-that-stands-in-the-file" }] }),
        )
        .planted("key-that-stands-in-the-file")
        .env("MAIN_TARGET_SERVER", &main.base_url())
        .secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
        .secret_env("OHMYGPT_API_KEY", OHMYGPT_KEY)
        .secret_env("TROLL_API_KEY", TROLL_KEY)
        .start()
        .await;
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    gateway.send(chat(TROLL_MODEL)).await.expect(200);
    assert_eq!((in_file.counts().connections, main.counts().requests, troll.counts().requests), (0, 1, 1));
}

/// K8, K9: empty is unset; a key that stands in the file works, with a warning that does not repeat it.
#[tokio::test(flavor = "multi_thread")]
async fn k8_k9_an_empty_variable_is_unset_and_a_key_in_plain_text_is_warned_about() {
    let main = Mock::http().await.unwrap();
    let key = "key-that-stands-in-the-file";
    main.expect_key(key);
    let gateway = Setup::new()
        .set("/upstreams/main", json!({ "base_url": main.base_url(), "key": key }))
        .planted(key)
        .env("MAIN_TARGET_SERVER", "")
        .env("MAIN_UPSTREAM_KEY", "")
        .start()
        .await;
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    gateway.wait_for_log(|line| line.contains("upstreams.main.key") && line.contains("plain text")).await;
}

/// K9: `${VAR}`, `${VAR:-default}` and a file, each at its place.
#[tokio::test(flavor = "multi_thread")]
async fn k9_secrets_come_from_variables_defaults_and_files() {
    let key = "sk-from-a-file-planted-31";
    for (written, variable) in [
        (json!("${SOME_KEY}"), Some(("SOME_KEY", key))),
        (json!(format!("${{SOME_KEY:-{key}}}")), None),
        (json!({ "file": "?" }), None),
    ] {
        let main = Mock::http().await.unwrap();
        main.expect_key(key);
        let mut setup = Setup::new().set("/upstreams/main", json!({ "base_url": main.base_url(), "key": written })).planted(key);
        if let Some((name, value)) = variable {
            setup = setup.env(name, value);
        }
        if written.is_object() {
            let file = setup.file("key.txt", &format!("{key}\n"));
            setup = setup.set("/upstreams/main/key/file", json!(file));
        }
        let gateway = setup.start().await;
        gateway.send(chat(MAIN_MODEL)).await.expect(200);
    }
    let said = refused("/upstreams/main/key", json!({ "file": "/nowhere/at/all" })).await;
    assert!(said.contains("upstreams.main.key") && said.contains("/nowhere/at/all can't be read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn k10_a_trailing_slash_never_doubles() {
    let main = Mock::http().await.unwrap();
    for (base, path) in [("/", "/v1/messages"), ("/v1/", "/v1/messages"), ("/a//", "/a/v1/messages"), ("//", "/v1/messages")] {
        let gateway = Setup::new().main(&main).env("MAIN_TARGET_SERVER", &format!("{}{base}", main.base_url())).start().await;
        let request = Request::post("/v1/messages", &json!({ "model": MAIN_MODEL, "max_tokens": 1, "messages": [] }));
        gateway.send(request).await.expect(200);
        assert_eq!(main.requests().pop().unwrap().target, path, "{base}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k11_no_variable_and_no_key_of_the_file_moves_ohmygpts_endpoint() {
    let said = refused("/upstreams/ohmygpt/base_url", json!("https://elsewhere.example")).await;
    assert!(said.contains("upstreams.ohmygpt.base_url: the endpoint of ohmygpt is fixed"), "{said}");
    let gateway = Setup::new()
        .secret_env("OHMYGPT_API_KEY", OHMYGPT_KEY)
        .env("OHMYGPT_BASE_URL", "http://127.0.0.1:1")
        .env("OHMYGPT_TARGET_SERVER", "http://127.0.0.1:1")
        .start()
        .await;
    gateway
        .wait_for_log(|line| {
            line.contains("upstream ohmygpt: configured, https://apic1.ohmycdn.com/api/v1/ai/openai/cc-omg, 1 key")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k12_the_start_logs_a_line_for_each_upstream_and_the_number_of_models() {
    let (main, named) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new()
        .main(&main)
        .named(&named)
        .set("/model_routing", json!({ "enabled": true, "models": { "gpt-4": "https://api.openai.com/v1", "x-*": "named" } }))
        .start()
        .await;
    gateway.wait_for_log(|line| line.ends_with("model routing: 7 models configured")).await;
    let lines = gateway.log_lines();
    for said in [
        format!("upstream main: configured, {}, 1 key", main.base_url()),
        "upstream troll: not configured (no base_url), no key".to_owned(),
        "upstream ohmygpt: not configured (no key), https://apic1.ohmycdn.com/api/v1/ai/openai/cc-omg, no key".to_owned(),
        format!("upstream named: configured, {}, 1 key", named.base_url()),
        "upstream api.openai.com: configured, https://api.openai.com/v1, no key".to_owned(),
    ] {
        assert_eq!(lines.iter().filter(|line| line.ends_with(&said)).count(), 1, "{said}\n{lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k13_an_unknown_key_is_refused_with_what_was_meant() {
    for (pointer, path, meant) in [
        ("/upstreams/main/base_ulr", "upstreams.main.base_ulr", "base_url"),
        ("/timeouts/idle", "timeouts.idle", "idle_s"),
        ("/modles", "modles", "models"),
        ("/models/0/upstraem", "models[0].upstraem", "upstream"),
    ] {
        let said = refused(pointer, json!("x")).await;
        assert!(said.contains(&format!(": {path}: ")) && said.contains(&format!("did you mean `{meant}`?")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k15_a_file_whose_own_test_fails_is_refused() {
    let said = refused("/tests", json!([{ "model": MAIN_MODEL, "expect": { "upstream": "troll" } }])).await;
    assert!(
        said.contains(&format!(r#"tests[0].expect.upstream: the test fails: model "{MAIN_MODEL}" goes to "main" (rule model)"#)),
        "{said}"
    );
    Setup::new().set("/tests", json!([{ "model": MAIN_MODEL, "expect": { "upstream": "main" } }])).start().await;
}

/// H6: anybody who can connect may send, so nobody else may connect.
#[tokio::test(flavor = "multi_thread")]
async fn h6_auth_none_starts_on_the_loopback_only() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let (code, said) = Setup::new()
            .set("/auth", json!({ "mode": "none" }))
            .set("/listen", json!([{ "addr": "127.0.0.1:0" }, { "addr": addr }]))
            .start_refused()
            .await;
        assert_eq!(code, 64, "{said}");
        assert!(said.contains("auth.mode: `none` lets everybody in"), "{said}");
    }
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/auth", json!({ "mode": "none" })).start().await;
    gateway.send(chat(MAIN_MODEL).without("authorization")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_no_listener_could_use_refuses_the_start() {
    let setup = Setup::new();
    let pem = setup.file("bad.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let key = setup.file("bad-key.pem", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    let (code, said) =
        setup.set("/listen", json!([{ "addr": "127.0.0.1:0", "tls": { "cert": pem, "key": key } }])).start_refused().await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("bad.pem") && !said.contains("panicked"), "{said}");
}
