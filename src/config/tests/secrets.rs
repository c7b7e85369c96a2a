//! Where secrets come from, which source wins, and that none is ever repeated (K8, K9).

use super::*;

const CANARY: &str = "canary-secret-1234";

/// K8: the environment wins over the file, an empty variable does not.
#[test]
fn the_four_variables_win_over_the_file() {
    let text = r#"{"models": [], "upstreams": {
        "main": {"base_url": "https://file.example/v1", "key": "${IN_FILE}"},
        "ohmygpt": {"key": "${IN_FILE}"},
        "troll": {"base_url": "https://t", "keys": [{"id": "a", "key": "${IN_FILE}"}, {"id": "b", "key": "${SECOND}"}]}}}"#;
    let machine = || Machine::default().set("IN_FILE", "from-the-file").set("SECOND", "second-key");
    let of_file = machine()
        .set("MAIN_TARGET_SERVER", "")
        .set("MAIN_UPSTREAM_KEY", "")
        .set("TROLL_API_KEY", "")
        .load(text)
        .unwrap()
        .settings;
    let main = upstream(&of_file, "main");
    assert_eq!(main.endpoint.as_ref().unwrap().authority(), "file.example");
    assert_eq!(keys(main), [("main", "from-the-file")]);
    assert_eq!(keys(upstream(&of_file, "troll")), [("a", "from-the-file"), ("b", "second-key")]);

    let of_environment = machine()
        .set("MAIN_TARGET_SERVER", "https://env.example/")
        .set("MAIN_UPSTREAM_KEY", "main-env")
        .set("OHMYGPT_API_KEY", "ohmygpt-env")
        .set("TROLL_API_KEY", "troll-env")
        .load(text)
        .unwrap()
        .settings;
    let main = upstream(&of_environment, "main");
    assert_eq!(main.endpoint.as_ref().unwrap().to_string(), "https://env.example");
    assert_eq!(keys(main), [("main", "main-env")]);
    assert_eq!(keys(upstream(&of_environment, "ohmygpt")), [("ohmygpt", "ohmygpt-env")]);
    assert_eq!(keys(upstream(&of_environment, "troll")), [("a", "troll-env"), ("b", "second-key")]);
}

/// K8: nothing needs to be written.
#[test]
fn the_four_variables_work_without_an_upstreams_section() {
    let machine = Machine::default()
        .set("MAIN_TARGET_SERVER", "https://m")
        .set("MAIN_UPSTREAM_KEY", "main-env")
        .set("OHMYGPT_API_KEY", "ohmygpt-env")
        .set("TROLL_API_KEY", "troll-env");
    let settings = machine.load(r#"{"models": []}"#).unwrap().settings;
    assert_eq!(upstream(&settings, "main").missing(), None);
    assert_eq!(upstream(&settings, "ohmygpt").missing(), None);
    assert_eq!(
        (upstream(&settings, "troll").missing(), keys(upstream(&settings, "troll"))),
        (Some("base_url"), vec![("troll", "troll-env")])
    );
}

#[test]
fn a_key_that_stands_twice_is_tried_once() {
    let text = r#"{"models": [], "upstreams": {"troll": {"keys": [{"id": "a"}, {"id": "b", "key": "${TROLL_API_KEY}"}]}}}"#;
    let settings = Machine::default().set("TROLL_API_KEY", "troll-env").load(text).unwrap().settings;
    assert_eq!(keys(upstream(&settings, "troll")), [("a", "troll-env")]);
}

/// K9
#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let text = r#"{"models": [], "upstreams": {"main": {"base_url": "https://m", "key": {"file": "/run/key"}}}}"#;
    let loaded = Machine::default().file("/run/key", "key-of-main\r\n").load(text).unwrap();
    assert_eq!(keys(upstream(&loaded.settings, "main")), [("main", "key-of-main")]);
    assert!(!warnings(&loaded).contains("plain text"));
    assert_eq!(faults(text), "config.json:1:71: upstreams.main.key: /run/key can't be read: entity not found");
    let empty = Machine::default().file("/run/key", "\n").load(text).unwrap();
    assert!(warnings(&empty).contains("/run/key is empty") && keys(upstream(&empty.settings, "main")).is_empty());
    let two_lines = Machine::default().file("/run/key", &format!("{CANARY}\nx")).load(text).unwrap_err().to_string();
    assert!(two_lines.contains("the content of /run/key") && !two_lines.contains(CANARY), "{two_lines}");
}

/// K9: works, with one warning for each; a default inside the file is plain text as well.
#[test]
fn plain_text_is_warned_about_and_never_repeated() {
    let text = format!(
        r#"{{"models": [], "auth": {{"static_key": "{CANARY}"}}, "admin": {{"token": "{CANARY}"}}, "upstreams": {{
        "main": {{"base_url": "https://m", "key": "${{UNSET:-{CANARY}}}"}}, "troll": {{"keys": [{{"id": "k", "key": "{CANARY}"}}]}},
        "o": {{"base_url": "https://o", "key": "${{SET}}"}}}}}}"#
    );
    let loaded = Machine::default().set("SET", CANARY).load(&text).unwrap();
    let warned = warnings(&loaded);
    for path in ["auth.static_key", "admin.token", "upstreams.main.key", "upstreams.troll.keys[0].key"] {
        assert!(warned.contains(&format!("{path}: the secret stands in the file in plain text")), "{path}\n{warned}");
    }
    assert_eq!(warned.matches("plain text").count(), 4, "{warned}");
    let shown = format!("{warned}{:?}{}", loaded.settings, loaded.settings.startup_lines().join("\n"));
    assert!(!shown.contains(CANARY));
}

/// Whatever is wrong around a secret, its text stays out of the report.
#[test]
fn no_fault_repeats_a_secret() {
    for text in [
        format!(r#"{{"models": [], "auth": {{"static_key": "{CANARY} "}}}}"#),
        format!(r#"{{"models": [], "auth": {{"mode": "{CANARY}"}}}}"#),
        format!(r#"{{"models": [], "upstreams": {{"main": {{"key": {{"fil": "{CANARY}"}}}}}}}}"#),
        format!(r#"{{"models": [], "upstreams": {{"main": {{"key": ["{CANARY}"]}}}}}}"#),
        format!(r#"{{"models": [], "upstreams": {{"main": {{"base_url": "https://u:{CANARY}@h"}}}}}}"#),
        format!(r#"{{"models": [], "upstreams": {{"main": {{"key": "${{{CANARY}"}}}}}}"#),
        format!(r#"{{"models": [], "upstreams": {{"main": {{"key": "{CANARY}" "x"}}}}}}"#),
    ] {
        let faults = faults(&text);
        assert!(!faults.contains(CANARY), "{faults}");
    }
}

#[test]
fn the_client_key_comes_from_its_variable_or_is_missed() {
    let key = |loaded: &Loaded| match &loaded.settings.auth {
        crate::domain::settings::Auth::Keys { static_key } => static_key.as_ref().map(|key| key.expose().to_owned()),
        crate::domain::settings::Auth::None(_) => panic!("keys are the default"),
    };
    let without = loaded(r#"{"models": [], "auth": {"static_key": "${PROXY_API_KEY}"}}"#);
    assert!(key(&without).is_none() && warnings(&without).contains("set PROXY_API_KEY"));
    let store_alone = loaded(r#"{"models": []}"#);
    assert!(key(&store_alone).is_none() && !warnings(&store_alone).contains("PROXY_API_KEY"));
    let with = Machine::default().set("PROXY_API_KEY", "client-key").load(r#"{"models": []}"#).unwrap();
    assert_eq!(key(&with).as_deref(), Some("client-key"));
    assert!(!warnings(&with).contains("PROXY_API_KEY"));
}
