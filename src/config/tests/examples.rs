//! The files that are shipped: config.json, conf/examples/ and the schema.

use super::*;
use crate::domain::route::Rule;

const FOUR: [&str; 4] = ["MAIN_TARGET_SERVER", "MAIN_UPSTREAM_KEY", "OHMYGPT_API_KEY", "TROLL_API_KEY"];

fn four_variables() -> Machine {
    FOUR.into_iter().fold(Machine::default(), |machine, name| {
        let value = if name == "MAIN_TARGET_SERVER" { "https://main.example/v1".to_owned() } else { format!("value-of-{name}") };
        machine.set(name, &value)
    })
}

/// K2
#[test]
fn the_shipped_file_routes_the_promised_models() {
    let loaded = Machine::default().load_shipped("config.json").unwrap_or_else(|faults| panic!("{faults}"));
    let went = |model| loaded.settings.routing.by_model(Some(model)).unwrap();
    for (model, name) in
        [("claude-opus-4-5-20251101", "troll"), ("claude-sonnet-4-5-20250929", "main"), ("claude-haiku-4-5-20251001", "main")]
    {
        assert_eq!((&*went(model).upstream.name, went(model).rule), (name, Rule::Model), "{model}");
        assert!(went(model).model.unwrap().price.is_some(), "{model}");
    }
    assert!(loaded.settings.routing.listed().any(|model| &*model.upstream.name == "ohmygpt"));
    assert_eq!(loaded.tests_passed, 5);
}

/// K8: four variables are all that it needs, besides a client key.
#[test]
fn the_shipped_file_works_with_the_four_variables() {
    let loaded = four_variables().set("PROXY_API_KEY", "client-key").load_shipped("config.json").unwrap();
    assert_eq!(warnings(&loaded), "");
    for upstream in &loaded.settings.upstreams {
        assert_eq!(upstream.missing(), None, "{}", upstream.name);
    }
    assert_eq!(keys(upstream(&loaded.settings, "main")), [("main", "value-of-MAIN_UPSTREAM_KEY")]);
    assert_eq!(keys(upstream(&loaded.settings, "troll")), [("k1", "value-of-TROLL_API_KEY")]);
    assert_eq!(keys(upstream(&loaded.settings, "ohmygpt")), [("ohmygpt", "value-of-OHMYGPT_API_KEY")]);
}

#[test]
fn the_shipped_file_starts_without_any_variable_and_says_what_is_missing() {
    let loaded = Machine::default().load_shipped("config.json").unwrap();
    let text = warnings(&loaded);
    for name in FOUR.into_iter().skip(2).chain(["MAIN_TARGET_SERVER", "PROXY_API_KEY"]) {
        assert!(text.contains(name), "{name}\n{text}");
    }
}

/// K7
#[test]
fn every_example_is_accepted_and_tests_itself() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples");
    let machine = four_variables()
        .set("PROXY_API_KEY", "client-key")
        .file("/etc/trollbridge/cert.pem", CERT)
        .file("/etc/trollbridge/key.pem", KEY);
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        ["local.json", "main.json", "ohmygpt.json", "tls.json", "troll-direct.json", "troll-pool.json", "url-map.json"]
    );
    for name in names {
        let loaded = machine.load_shipped(&format!("conf/examples/{name}")).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(loaded.tests_passed > 0, "{name} has no tests");
        assert_eq!(warnings(&loaded), "", "{name}");
    }
}

/// K7, M5
#[test]
fn the_url_map_holds_the_ten_sample_models() {
    let loaded = Machine::default().set("OPENAI_API_KEY", "key-of-openai").load_shipped("conf/examples/url-map.json").unwrap();
    let settings = &loaded.settings;
    for (model, authority) in [
        ("gpt-4", "api.openai.com"),
        ("gpt-4-turbo", "api.openai.com"),
        ("gpt-3.5-turbo", "api.openai.com"),
        ("claude-3-opus", "api.anthropic.com"),
        ("claude-3-sonnet", "api.anthropic.com"),
        ("claude-3-haiku", "api.anthropic.com"),
        ("gemini-pro", "generativelanguage.googleapis.com"),
        ("zai-glm-4.6", "api.z.ai"),
        ("llama3-8b", "api.groq.com"),
        ("llama3-70b", "api.groq.com"),
    ] {
        let route = settings.routing.by_model(Some(model)).unwrap();
        assert_eq!((route.rule, route.upstream.endpoint.as_ref().unwrap().authority()), (Rule::Exact, authority), "{model}");
        assert!(settings.routing.listed().any(|listed| &*listed.id == model), "{model}");
    }
    for unknown in [Some("something-new"), None] {
        let route = settings.routing.by_model(unknown).unwrap();
        assert_eq!((route.rule, &*route.upstream.name), (Rule::DefaultTarget, "api.openai.com"));
        assert_eq!(keys(&route.upstream), [("openai", "key-of-openai")], "a URL inherits the key of the upstream that it equals");
    }
}

/// K13. To write the file anew: `UPDATE_SCHEMA=1 cargo test schema`
#[test]
fn the_shipped_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/config.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, schema()).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap_or_default();
    assert!(shipped == schema(), "conf/config.schema.json is old; write it anew: UPDATE_SCHEMA=1 cargo test schema");
}

/// K13: the walk over the schema knows every word in it, so none of its rules is passed over.
#[test]
fn the_schema_holds_only_rules_that_are_enforced() {
    fn words(schema: &serde_json::Value, is_rule: bool, found: &mut std::collections::BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(members) => {
                for (key, value) in members {
                    if is_rule {
                        found.insert(key.clone());
                    }
                    let holds_names = is_rule && matches!(key.as_str(), "properties" | "$defs");
                    if !matches!(key.as_str(), "default" | "enum" | "required" | "type") || !is_rule {
                        words(value, !holds_names, found);
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| words(item, true, found)),
            _ => {}
        }
    }
    let mut found = std::collections::BTreeSet::new();
    words(&serde_json::from_str(&schema()).unwrap(), true, &mut found);
    let notes = ["$schema", "title", "description", "default", "$defs"];
    let enforced = [
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "enum",
        "exclusiveMinimum",
        "format",
        "items",
        "maximum",
        "minItems",
        "minimum",
        "oneOf",
        "properties",
        "required",
        "type",
    ];
    let strange: Vec<_> =
        found.iter().filter(|word| !notes.contains(&word.as_str()) && !enforced.contains(&word.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
}
