//! The files that come with the program: config.json, conf/examples/, the unit's own settings.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::setup::{MAIN_KEY, OHMYGPT_HOST, TROLL_KEY};
use crate::support::{Authority, Mock, Request, Setup, process};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shipped config.json with nothing changed but where it listens.
fn shipped() -> Setup {
    let mut setup = Setup::new();
    setup.config = serde_json::from_slice(&std::fs::read(repository().join("config.json")).unwrap()).unwrap();
    setup.config.as_object_mut().unwrap().remove("listen");
    setup
}

/// K2, K8: four variables are all that it needs, besides a client key and, here, the addresses of the mocks.
#[tokio::test(flavor = "multi_thread")]
async fn k2_k8_the_shipped_file_sends_each_model_where_it_says() {
    let authority = Authority::new();
    let (main, troll) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let ohmygpt = Mock::https(authority.server(&[OHMYGPT_HOST], true)).await.unwrap();
    let gateway = shipped()
        .env("MAIN_TARGET_SERVER", &main.base_url())
        .secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
        .env("TROLL_BASE_URL", &troll.base_url())
        .secret_env("TROLL_API_KEY", TROLL_KEY)
        .ohmygpt(&ohmygpt, &authority.ca_pem)
        .start()
        .await;
    for (model, mock) in [
        ("claude-opus-4-5-20251101", &troll),
        ("claude-opus-4-5", &troll),
        ("claude-sonnet-4-5-20250929", &main),
        ("claude-sonnet-4-5", &main),
        ("claude-haiku-4-5-20251001", &main),
        ("claude-haiku-4-5", &main),
        ("gpt-4o", &ohmygpt),
        ("a-model-that-nothing-names", &troll),
    ] {
        let before = mock.counts().requests;
        let body = json!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "hello" }] });
        for path in ["/v1/messages", "/v1/chat/completions"] {
            gateway.send(Request::post(path, &body)).await.expect(200);
        }
        assert_eq!(mock.counts().requests, before + 2, "{model}");
    }
}

/// K2, M3: without any variable it starts, and says to each caller what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn k2_the_shipped_file_starts_with_nothing_set() {
    let gateway = shipped().start().await;
    for (model, message) in [
        ("claude-sonnet-4-5", "Main target not configured"),
        ("gpt-4o", "OhmyGPT not configured"),
        ("claude-opus-4-5", "The upstream of this model is not configured"),
    ] {
        let refused = gateway.send(Request::post("/v1/messages", &json!({ "model": model }))).await.expect(500);
        assert_eq!(refused.json()["error"]["message"], message);
    }
}

fn examples() -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(repository().join("conf/examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// K7: with a certificate that the test makes; `scripts/check-examples` has none, so tls.json is proven here alone.
#[tokio::test(flavor = "multi_thread")]
async fn k7_check_accepts_the_shipped_file_and_every_example() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Authority::new().server(&["localhost"], true);
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &tls.cert_pem).unwrap();
    std::fs::write(&key, &tls.key_pem).unwrap();
    let env = [
        ("MAIN_TARGET_SERVER", "https://main.example/v1"),
        ("MAIN_UPSTREAM_KEY", "placeholder-main"),
        ("OHMYGPT_API_KEY", "placeholder-ohmygpt"),
        ("TROLL_API_KEY", "placeholder-troll"),
        ("PROXY_API_KEY", "placeholder-client"),
        ("TLS_CERT", cert.to_str().unwrap()),
        ("TLS_KEY", key.to_str().unwrap()),
    ];
    let files = examples();
    assert!(files.len() >= 6, "{files:?}");
    for file in files.iter().chain([&repository().join("config.json")]) {
        let file = file.to_str().unwrap();
        let checked = process::run(dir.path(), &["check", "--json", "--config", file], &env).await.expect(0).json();
        assert_eq!((&checked["ok"], &checked["faults"], &checked["warnings"]), (&json!(true), &json!([]), &json!([])), "{file}");
        assert!(checked["tests_passed"].as_u64().unwrap() > 0, "{file} has no tests");
    }
}

/// K7: an example with a certificate that is none is refused by `check` already, not only by the start.
#[tokio::test(flavor = "multi_thread")]
async fn k6_k7_check_refuses_certificates_that_no_listener_could_use() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.server(&["localhost"], true), authority.server(&["localhost"], true));
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert.pem", &one.cert_pem), file("key.pem", &one.key_pem));
    let strange_key = file("other.pem", &other.key_pem);
    let garbage = file("garbage.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let tls = repository().join("conf/examples/tls.json");
    let tls = tls.to_str().unwrap();
    let missing = dir.path().join("missing.pem").to_str().unwrap().to_owned();
    for (cert, key, named) in
        [(&missing, &key, &missing), (&cert, &missing, &missing), (&cert, &strange_key, &strange_key), (&garbage, &key, &garbage)]
    {
        let env = [("TLS_CERT", cert.as_str()), ("TLS_KEY", key.as_str())];
        let refused = process::run(dir.path(), &["check", "--config", tls], &env).await.expect(64);
        assert!(refused.out.contains("listen[1].tls") && refused.out.contains(named.as_str()), "{}", refused.out);
    }
    let ca = json!({ "models": [], "upstreams": { "main": { "base_url": "https://h", "ca_file": garbage } } }).to_string();
    let config = file("config.json", &ca);
    let refused = process::run(dir.path(), &["check", "--json", "--config", &config], &[]).await.expect(64).json();
    let faults = refused["faults"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault["message"].as_str().unwrap().contains("garbage.pem")), "{refused}");
}

/// K7: the script that CI runs agrees, and fails when an example does.
#[tokio::test(flavor = "multi_thread")]
async fn k7_the_script_checks_the_examples_and_can_fail() {
    let script = |directory: &Path| {
        let directory = directory.to_owned();
        tokio::task::spawn_blocking(move || {
            std::process::Command::new("bash")
                .arg(directory.join("scripts/check-examples"))
                .arg(env!("CARGO_BIN_EXE_trollbridge"))
                .output()
                .unwrap()
        })
    };
    let good = script(repository()).await.unwrap();
    let said = String::from_utf8_lossy(&good.stdout).into_owned() + &String::from_utf8_lossy(&good.stderr);
    assert!(good.status.success(), "{said}");
    for file in examples() {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name), "{name}\n{said}");
    }

    let copy = tempfile::tempdir().unwrap();
    for directory in ["scripts", "conf/examples"] {
        std::fs::create_dir_all(copy.path().join(directory)).unwrap();
    }
    std::fs::copy(repository().join("scripts/check-examples"), copy.path().join("scripts/check-examples")).unwrap();
    std::fs::copy(repository().join("config.json"), copy.path().join("config.json")).unwrap();
    std::fs::write(copy.path().join("conf/examples/broken.json"), r#"{"modles": []}"#).unwrap();
    let bad = script(copy.path()).await.unwrap();
    let said = String::from_utf8_lossy(&bad.stdout).into_owned() + &String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success() && said.contains("did you mean `models`?"), "{said}");
}

/// The settings for Pingora that are shipped; what they say is tested beside `server_conf`.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_pingora_settings_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), r#"{"models": []}"#).unwrap();
    let shipped = repository().join("conf/pingora.yaml");
    process::run(dir.path(), &["-t", "--conf", shipped.to_str().unwrap()], &[]).await.expect(0);
}

#[test]
fn k7_the_url_map_example_holds_the_ten_sample_models() {
    let text = std::fs::read(repository().join("conf/examples/url-map.json")).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    for model in [
        "gpt-4",
        "gpt-4-turbo",
        "gpt-3.5-turbo",
        "claude-3-opus",
        "claude-3-sonnet",
        "claude-3-haiku",
        "gemini-pro",
        "zai-glm-4.6",
        "llama3-8b",
        "llama3-70b",
    ] {
        assert!(file["model_routing"]["models"][model].is_string(), "{model}");
    }
}
