//! Every fault with its place, all of them at once, and never a secret's text.

use super::*;

/// K6: one run names them all, in the file's order.
#[test]
fn all_faults_are_listed_at_once() {
    let text = r#"{
  "listen": [{ "addr": "localhost:80" }],
  "limits": { "max_body_bytes": 0, "body_read_s": "60" },
  "routng": {},
  "upstreams": {
    "main": { "base_url": "ftp://h" },
    "openai": { "base_ulr": "https://h" }
  },
  "models": [
    { "id": "a", "upstream": "opnai" },
    { "id": "a" },
    { "upstream": "main" }
  ],
  "model_routing": { "models": { "x": "https://u:canary@h/", "y*z": "openai" } }
}"#;
    let expected = "\
config.json:2:24: listen[0].addr: must be an IP address and a port: `127.0.0.1:8080` or `[::1]:8080`
config.json:3:33: limits.max_body_bytes: must be at least 1
config.json:3:51: limits.body_read_s: expected a whole number, found a string
config.json:4:3: routng: `routng` is not a key here; did you mean `routing`?
config.json:6:27: upstreams.main.base_url: the URL's scheme must be http or https
config.json:7:17: upstreams.openai.base_ulr: `base_ulr` is not a key here; did you mean `base_url`?
config.json:10:30: models[0].upstream: model \"a\": no upstream is called \"opnai\"; did you mean \"openai\"? Known names: main, troll, ohmygpt, openai
config.json:11:13: models[1].id: \"a\" is already taken by models[0].id
config.json:12:5: models[2]: the key `id` is missing
config.json:14:39: model_routing.models.x: model \"x\": the URL holds user information (`user:password@`); write secrets under `key`
config.json:14:69: model_routing.models[\"y*z\"]: `*` may stand once, at the end of a name (`gemini-*`)";
    assert_eq!(faults(text), expected);
}

/// K6, K13: each text has exactly this one fault.
#[test]
fn one_fault_each() {
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("[]", "1:1: expected an object {…}, found a list"),
        ("{}", "1:1: models: the file names no models: write `models` (it may be an empty list) or `model_routing`"),
        (r#"{"models": [], "models": []}"#, "1:16: models: this key stands here twice, first on line 1"),
        (r#"{"models": [], "auth": {"mode": "non"}}"#, "1:33: auth.mode: must be `keys` or `none`; did you mean `none`?"),
        (r#"{"models": [], "listen": []}"#, "1:26: listen: the list needs at least 1 item"),
        (r#"{"models": [], "retry": {"max_attempts": 4294967296}}"#, "1:42: retry.max_attempts: must be at most 100"),
        (r#"{"models": [], "retry": {"max_attempts": 1.5}}"#, "1:42: retry.max_attempts: expected a whole number"),
        (r#"{"models": [], "retry": {"hold_first_event_ms": 60001}}"#, "1:49: retry.hold_first_event_ms: must be at most 60000"),
        (r#"{"models": [], "timeouts": {"idle_s": -1}}"#, "1:39: timeouts.idle_s: must be at least 1"),
        (r#"{"models": [], "log": {"format": null}}"#, "1:34: log.format: expected a string, found null"),
        (
            r#"{"models": [], "upstreams": {"troll": {"key": "x"}}}"#,
            "1:40: upstreams.troll.key: `key` is not a key here; did you mean `keys`?",
        ),
        (r#"{"models": [], "upstreams": {"o": {}}}"#, "1:35: upstreams.o: the upstream \"o\" has no `base_url`"),
        (
            r#"{"models": [], "upstreams": {"a b": {"base_url": "https://h"}}}"#,
            "1:37: upstreams[\"a b\"]: an upstream's name is made of letters, digits, `_`, `-` and `.`; its URL goes under `base_url`",
        ),
        (
            r#"{"models": [], "upstreams": {"main": {"connect_to": "h:1"}}}"#,
            "1:53: upstreams.main.connect_to: must be an IP address and a port: `127.0.0.1:8080` or `[::1]:8080`",
        ),
        (
            r#"{"models": [], "upstreams": {"main": {"ca_file": "ca.pem"}}}"#,
            "1:50: upstreams.main.ca_file: ca.pem can't be read: entity not found",
        ),
        (r#"{"models": [{"id": ""}]}"#, "1:20: models[0].id: a model's name must not be empty"),
        (
            r#"{"models": [{"id": "a", "id_aliases": ["b", "a"]}]}"#,
            "1:45: models[0].id_aliases[1]: \"a\" is already taken by models[0].id",
        ),
        (
            r#"{"models": [{"id": "a", "id_aliases": ["b"]}, {"id": "b"}]}"#,
            "1:40: models[0].id_aliases[0]: \"b\" is already taken by models[1].id",
        ),
        (
            r#"{"models": [{"id": "a", "input_price_per_mtok": 0.0000000001, "output_price_per_mtok": 1}]}"#,
            "1:49: models[0].input_price_per_mtok: the number has more than nine decimal places",
        ),
        (
            r#"{"models": [{"id": "a", "input_price_per_mtok": -3, "output_price_per_mtok": 1}]}"#,
            "1:49: models[0].input_price_per_mtok: must be at least 0",
        ),
        (
            r#"{"models": [{"id": "a", "input_price_per_mtok": 3e0, "output_price_per_mtok": 1}]}"#,
            "1:49: models[0].input_price_per_mtok: the number must be a plain decimal number such as 0.25, without an exponent",
        ),
        (
            r#"{"models": [{"id": "a", "input_price_per_mtok": 3}]}"#,
            "1:13: models[0]: model \"a\" has a price but no `output_price_per_mtok`",
        ),
        (
            r#"{"models": [{"id": "a", "cache_hit_price_per_mtok": 3}]}"#,
            "1:13: models[0]: model \"a\" has a price but no `input_price_per_mtok`",
        ),
        (
            r#"{"model_routing": {"default_target": "opena"}}"#,
            "1:38: model_routing.default_target: the default target: no upstream is called \"opena\"; did you mean \"main\"? Known names: main, troll, ohmygpt",
        ),
        (
            r#"{"model_routing": {"models": {"a": "${UNSET}"}}}"#,
            "1:36: model_routing.models.a: the variable UNSET is not set, and a value is needed here",
        ),
        (r#"{"models": [], "state_dir": "${A"}"#, "1:29: state_dir: a `${` has no `}`; write `$${` for a plain `${`"),
        (
            r#"{"models": [], "host_routes": [{"host": "h:1", "upstream": "main"}]}"#,
            "1:41: host_routes[0].host: must be a host name without scheme, port or path, or `*.` and a suffix (`*.internal.example.com`)",
        ),
        (
            r#"{"models": [], "rate_limits": [{"domain": "h", "requests_per_second": 0}]}"#,
            "1:71: rate_limits[0].requests_per_second: must be more than 0",
        ),
        (
            r#"{"models": [], "limits": {"max_body_bytes": 2, "inflight_body_bytes": 1}}"#,
            "1:71: limits.inflight_body_bytes: must not be less than limits.max_body_bytes, or the largest body never fits",
        ),
        (r#"{"models": [], "limits": {"client_body_percent": 101}}"#, "1:50: limits.client_body_percent: must be at most 100"),
        (
            r#"{"models": [], "auth": {"allowed_hosts": ["http://a"]}}"#,
            "1:43: auth.allowed_hosts[0]: must be a host name without scheme, port or path, or `*.` and a suffix (`*.internal.example.com`)",
        ),
        (
            r#"{"models": [], "auth": {"allowed_origins": ["https://*"]}}"#,
            "1:45: auth.allowed_origins[0]: would let every page in; name each origin",
        ),
        (
            r#"{"models": [], "listen": [{"addr": "127.0.0.1:1"}, {"addr": "127.0.0.1:1"}]}"#,
            "1:61: listen[1].addr: 127.0.0.1:1 is already taken by listen[0].addr",
        ),
        (
            r#"{"models": [], "listen": [{"addr": "127.0.0.1:9090"}]}"#,
            "1:1: admin.addr: 127.0.0.1:9090 is already taken by a listener for clients",
        ),
        (
            r#"{"models": [], "listen": [{"addr": "127.0.0.1:1", "tls": {"cert": "c"}}]}"#,
            "1:58: listen[0].tls: the key `key` is missing",
        ),
    ] {
        wrong.extend(
            Some(faults(text)).filter(|found| *found != format!("config.json:{expected}")).map(|found| (text, expected, found)),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// K3: the model, the value and the nearest valid name, however far.
#[test]
fn an_unknown_upstream_is_answered_with_the_nearest_name() {
    for (written, meant) in [("maim", "main"), ("trolls", "troll"), ("ohmygtp", "ohmygpt"), ("Main", "main"), ("zzzzzz", "main")]
    {
        let text = faults(&format!(r#"{{"models": [{{"id": "m-1", "upstream": "{written}"}}]}}"#));
        for part in ["\"m-1\"", &format!("\"{written}\""), &format!("did you mean \"{meant}\"?")] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}

#[test]
fn a_model_names_its_upstream_and_no_url() {
    let text = faults(r#"{"models": [{"id": "m", "upstream": "https://h"}]}"#);
    assert!(text.contains("a name is expected, not a URL; write the URL under `upstreams`"), "{text}");
}

/// K6: an example of each kind of bad URL, wherever a URL may stand.
#[test]
fn every_url_is_parsed_at_load() {
    for url in ["ftp://h", "https://", "https://user:pw@h", "https://h/#f", "https://h/?q", "https://h:0"] {
        for text in [
            format!(r#"{{"models": [], "upstreams": {{"main": {{"base_url": "{url}"}}}}}}"#),
            format!(r#"{{"models": [], "upstreams": {{"troll": {{"base_url": "{url}"}}}}}}"#),
            format!(r#"{{"models": [], "upstreams": {{"named": {{"base_url": "{url}"}}}}}}"#),
            format!(r#"{{"model_routing": {{"default_target": "{url}"}}}}"#),
            format!(r#"{{"model_routing": {{"models": {{"a": "{url}"}}}}}}"#),
            format!(r#"{{"models": [], "host_routes": [{{"host": "h", "upstream": "{url}"}}]}}"#),
        ] {
            assert_eq!(faults(&text).lines().count(), 1, "{text}");
        }
        let faults = Machine::default().set("MAIN_TARGET_SERVER", url).load(r#"{"models": []}"#).unwrap_err().to_string();
        assert!(faults.starts_with("config.json:1:1: upstreams.main.base_url: the variable MAIN_TARGET_SERVER: "), "{faults}");
    }
}

/// H6
#[test]
fn no_authentication_means_loopback_only() {
    let open = |addr: &str| format!(r#"{{"models": [], "auth": {{"mode": "none"}}, "listen": [{{"addr": "{addr}"}}]}}"#);
    for addr in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        loaded(&open(addr));
    }
    for addr in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
        let text = faults(&open(addr));
        assert!(text.starts_with("config.json:1:33: auth.mode: `none` lets everybody in") && text.contains(addr), "{text}");
    }
}

/// Pingora's message takes no more, and without this every upgrade would fail.
#[test]
fn more_sockets_than_an_upgrade_can_hand_over_are_refused() {
    let text = |count: u16, admin: &str| {
        let listen: Vec<_> = (1..=count).map(|port| format!(r#"{{"addr": "127.0.0.1:{port}"}}"#)).collect();
        format!(r#"{{"models": [], "admin": {admin}, "listen": [{}]}}"#, listen.join(","))
    };
    let fault = "config.json:1:39: listen: makes 33 listening sockets with admin.addr, and an upgrade can hand over 32; ";
    assert!(faults(&text(32, "{}")).starts_with(fault), "{}", faults(&text(32, "{}")));
    assert!(Machine::default().load(&text(31, "{}")).is_ok());
    assert!(Machine::default().load(&text(32, r#"{"addr": null}"#)).is_ok());
}

#[test]
fn a_tls_listener_needs_files_that_are_there_and_hold_pem() {
    let text = r#"{"models": [], "listen": [{"addr": "127.0.0.1:1", "tls": {"cert": "c.pem", "key": "k.pem"}}]}"#;
    assert_eq!(faults(text).lines().count(), 2);
    let good = Machine::default().file("c.pem", CERT).file("k.pem", KEY).load(text).unwrap();
    assert_eq!(good.settings.listeners.first().unwrap().tls.as_ref().unwrap().cert, Path::new("c.pem"));
    let mixed_up = Machine::default().file("c.pem", KEY).file("k.pem", CERT).load(text).unwrap_err().to_string();
    assert!(
        mixed_up.contains("c.pem holds no PEM block of a certificate") && mixed_up.contains("k.pem holds no PEM block"),
        "{mixed_up}"
    );
}

/// K11: neither the file nor the environment moves ohmygpt.
#[test]
fn ohmygpt_takes_no_url() {
    let text = r#"{"models": [], "upstreams": {"ohmygpt": {"base_url": "https://h"}}}"#;
    assert_eq!(
        faults(text),
        "config.json:1:54: upstreams.ohmygpt.base_url: the endpoint of ohmygpt is fixed; name an upstream of your own, or use `connect_to`"
    );
}

#[test]
fn each_fault_of_a_proxy_is_named_with_its_place() {
    for (proxy, fault) in [
        (
            r#"{"id": "p1", "kind": "socks5", "addr": "h:1080", "keys": ["k3"]}"#,
            "keys[0]: no key of troll is called \"k3\"; did you mean",
        ),
        (
            r#"{"id": "p1", "kind": "socks5", "addr": "h:1080", "keys": ["k1", "k1"]}"#,
            "keys[1]: \"k1\" stands in this list already",
        ),
        (r#"{"id": "", "kind": "socks5", "addr": "h:1080"}"#, "id: a proxy's id must not be empty"),
        (r#"{"id": "p0", "kind": "socks5", "addr": "h:1080"}"#, "id: \"p0\" is already taken by upstreams.troll.proxies[0].id"),
        (r#"{"id": "p1", "kind": "connect", "addr": "h"}"#, "addr: must be a host and a port"),
        (r#"{"id": "p1", "kind": "connect", "addr": "http://h:1"}"#, "addr: must be a host and a port"),
        (r#"{"id": "p1", "kind": "connect", "addr": "::1:3128"}"#, "addr: must be a host and a port"),
        (r#"{"id": "p1", "kind": "connect", "addr": "h:0"}"#, "addr: must be a host and a port"),
        (r#"{"id": "p1", "kind": "connect", "addr": "h:1", "tls": {"server_name": "h"}}"#, "tls: belongs to a `reverse` proxy"),
        (r#"{"id": "p1", "kind": "reverse", "addr": "h:1", "tls": {"server_name": ""}}"#, "tls.server_name: must be the name"),
        (r#"{"id": "p1", "kind": "reverse", "addr": "h:1", "username": "u"}"#, "username: a reverse proxy takes no login"),
        (r#"{"id": "p1", "kind": "connect", "addr": "h:1", "username": "a:b"}"#, "username: the username has a colon"),
        (r#"{"id": "p1", "kind": "socks5", "addr": "h:1", "username": "a"}"#, "username: a SOCKS5 proxy needs a password"),
        (r#"{"id": "p1", "kind": "connect", "addr": "h:1", "password": "canary"}"#, "password: needs a `username`"),
    ] {
        let text = format!(
            r#"{{"models": [], "upstreams": {{"troll": {{"base_url": "https://llm.example.com", "keys": [{{"id": "k1", "key": "x"}}],
               "proxies": [{{"id": "p0", "kind": "reverse", "addr": "[::1]:8080"}}, {proxy}]}}}}}}"#
        );
        let found = faults(&text);
        assert!(found.contains(&format!("upstreams.troll.proxies[1].{fault}")), "{proxy}\n{found}");
        assert!(!found.contains("canary"), "{found}");
    }
}

#[test]
fn a_health_check_that_can_never_pass_is_refused() {
    let with = |check: &str| {
        format!(
            r#"{{"models": [], "upstreams": {{"troll": {{"base_url": "https://llm.example.com", "keys": [{{"id": "k1", "key": "x"}}],
               "health_check": {check}, "proxies": [{{"id": "p0", "kind": "reverse", "addr": "[::1]:8080"}}]}}}}}}"#
        )
    };
    loaded(&with(r#"{"path": "/health", "expected_status": 204}"#));
    assert!(faults(&with(r#"{"expected_status": 204}"#)).contains("expected_status: belongs to a `path`"));
    assert!(faults(&with(r#"{"path": "health"}"#)).contains("path: must begin with `/`"));
    for (key, value) in [("interval_s", 0), ("timeout_s", 0), ("failures", 0), ("successes", 0), ("expected_status", 99)] {
        assert!(faults(&with(&format!(r#"{{"{key}": {value}}}"#))).contains(key), "{key}");
    }
}

/// T5, M12: a URL target inherits the keys of its upstream, but never its proxies.
#[test]
fn a_url_that_would_go_past_the_proxies_is_refused() {
    let text = r#"{"models": [], "model_routing": {"enabled": true, "models": {"m": "https://llm.example.com"}}, "upstreams": {"troll": {
        "base_url": "https://llm.example.com", "keys": [{"id": "k1", "key": "x"}],
        "proxies": [{"id": "p0", "kind": "reverse", "addr": "[::1]:8080"}]}}}"#;
    let found = faults(text);
    assert!(found.contains("model_routing.models.m") && found.contains("go through the proxies of \"troll\""), "{found}");
}

#[test]
fn one_key_and_a_list_of_keys_contradict_each_other() {
    let text =
        r#"{"models": [], "upstreams": {"main": {"base_url": "https://h", "key": "x", "keys": [{"id": "a", "key": "y"}]}}}"#;
    assert!(faults(text).contains("upstreams.main.keys: \"main\" has both `key` and `keys`"));
}

/// K15
#[test]
fn a_test_of_the_file_that_fails_refuses_it() {
    let with = |tests: &str| {
        format!(
            r#"{{"models": [{{"id": "a", "upstream": "o", "upstream_model_id": "A"}}], "routing": {{"unknown_model": "reject"}},
"upstreams": {{"o": {{"base_url": "https://h/v1"}}}},
"tests": [{tests}]}}"#
        )
    };
    for good in [
        r#"{"model": "a", "expect": {"upstream": "o", "upstream_model": "A", "endpoint": "https://h/v1/"}}"#,
        r#"{"model": "a", "path": "/v1/messages", "client": "me", "expect": {"upstream": "o", "endpoint": "https://h/v1/messages"}}"#,
    ] {
        assert_eq!(loaded(&with(good)).tests_passed, 1);
    }
    for (bad, fault) in [
        (
            r#"{"model": "a", "expect": {"upstream": "main"}}"#,
            "3:49: tests[0].expect.upstream: the test fails: model \"a\" goes to \"o\" (rule model)",
        ),
        (
            r#"{"model": "a", "expect": {"upstream": "o", "upstream_model": "a"}}"#,
            "tests[0].expect.upstream_model: the test fails: the upstream is asked for \"A\"",
        ),
        (
            r#"{"model": "a", "expect": {"upstream": "o", "endpoint": "https://h/v2"}}"#,
            "tests[0].expect.endpoint: the test fails: the endpoint is https://h/v1",
        ),
        (r#"{"model": "a", "expect": {"upstream": "o", "endpoint": "http://h/v1"}}"#, "tests[0].expect.endpoint: the test fails"),
        (
            r#"{"model": "b", "expect": {"upstream": "o"}}"#,
            "tests[0].expect: the test fails: the request is refused (unknown model Some(\"b\"))",
        ),
        (r#"{"model": "a", "path": "/x", "expect": {"upstream": "o"}}"#, "tests[0].path: no JSON request is served at this path"),
    ] {
        let text = faults(&with(bad));
        assert!(text.contains(fault), "{fault}\n{text}");
    }
}

#[test]
fn a_file_that_is_not_there_says_where_one_is() {
    let faults = load(Path::new("nowhere.json"), &|_| None, &|_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
    assert!(faults.to_string().starts_with("nowhere.json: the file can't be read: "), "{faults}");
    assert!(faults.to_string().contains("conf/examples/"));
}

/// The shape is the only judge of form: whatever passes it can be read by the types.
#[test]
fn the_types_read_all_that_the_shape_lets_through() {
    let text = include_str!("every_key.json");
    for value in ["null", "true", "-1", "1.5", "1e3", "18446744073709551615", "4294967296", "\"x\"", "\"${UNSET}\"", "[]", "{}"] {
        // Each value of the sample in turn gives way to another kind of value.
        for (start, end) in leaves(text) {
            let changed = format!("{}{value}{}", &text[..start], &text[end..]);
            if let Err(faults) = sample_machine().load(&changed) {
                assert!(!faults.to_string().contains("the file can't be read"), "{faults}\n{changed}");
            }
        }
    }
}

proptest::proptest! {
    /// Whatever a slip of the editor makes of a file, it is read or refused with places; nothing panics.
    #[test]
    fn a_damaged_file_is_read_or_refused(at in 0usize..4_000, length in 0usize..40, put in "[\\[\\]{}\",:$0-9a-z ]{0,6}") {
        let text = include_str!("every_key.json");
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(faults) = sample_machine().load(&damaged) {
            proptest::prop_assert!(!faults.faults.is_empty());
            proptest::prop_assert!(faults.faults.iter().all(|fault| fault.line.is_some() && !fault.message.contains("the file can't be read")));
        }
    }
}

pub fn sample_machine() -> Machine {
    Machine::default()
        .file("/etc/trollbridge/cert.pem", CERT)
        .file("/etc/trollbridge/key.pem", KEY)
        .file("/etc/ssl/own-ca.pem", CERT)
        .file("/run/credentials/k2", "key-two-of-troll\n")
}

/// The spans of the scalar values of a text without escapes.
fn leaves(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (colon, _) in text.match_indices(": ") {
        let start = colon + 2;
        let rest = &text[start..];
        let length = match rest.strip_prefix('"') {
            Some(inside) => inside.find('"').map(|quote| quote + 2),
            None if rest.starts_with(['{', '[']) => None,
            None => rest.find([',', '}', ']', '\n', ' ']),
        };
        found.extend(length.map(|length| (start, start + length)));
    }
    assert!(found.len() > 80, "{}", found.len());
    found
}
