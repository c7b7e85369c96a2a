//! `trollbridge explain`: where a request would go, by which rule, with which headers and at which price. Nothing is sent.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{EX_OK, EX_SOFTWARE, EX_USAGE};
use crate::config;
use crate::domain::answer::Refusal;
use crate::domain::dialect::Api;
use crate::domain::json::peek;
use crate::domain::route::join::{escapes, join};
use crate::domain::route::{Route, Rule};
use crate::domain::settings::Settings;
use crate::domain::upstream::registry::Registry;
use crate::domain::upstream::{AuthHeader, Upstream};

/// The request in question.
#[derive(clap::Args)]
pub struct Args {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
    /// The model that the request names
    #[arg(long, required_unless_present = "body")]
    model: Option<String>,
    /// The request's path, with its query
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// The client that asks
    #[arg(long)]
    client: Option<String>,
    /// A file with the request's body; its model is read as the gateway reads it
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    body: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Answers the question; gives the exit code: 0, 64 for a configuration that is refused, 70 for a body that can't be read.
pub fn run(args: &Args, out: &mut dyn Write) -> u8 {
    let settings = match config::load_from_machine(&args.config, &Registry::default()) {
        Ok(loaded) => loaded.settings,
        Err(faults) => {
            say(&faults.to_string());
            return EX_USAGE;
        }
    };
    let body = match args.body.as_ref().map(|file| (file, std::fs::read(file))) {
        None => None,
        Some((_, Ok(body))) => Some(body),
        Some((file, Err(error))) => {
            say(&format!("{}: {error}", file.display()));
            return EX_SOFTWARE;
        }
    };
    let explained = explain(&settings, args.model.as_deref(), &args.path, args.client.as_deref(), body.as_deref());
    let _ = if args.json { writeln!(out, "{explained:#}") } else { write_text(&explained, out) };
    EX_OK
}

fn say(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What the gateway would do, as one JSON object; secrets are masked.
pub fn explain(settings: &Settings, model: Option<&str>, path: &str, client: Option<&str>, body: Option<&[u8]>) -> Value {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if matches!(Api::of(path), Api::Root | Api::Models) && !escapes(path) {
        return json!({ "path": path, "client": client, "why": "the gateway itself answers this path; no upstream hears of it" });
    }
    let (model, routed) = match body.map(peek::peek) {
        None => (model.map(str::to_owned), settings.routing.by_model(model)),
        Some(Ok(peeked)) => {
            let model = peeked.model.map(|model| model.name);
            let routed = settings.routing.by_model(model.as_deref());
            (model, routed)
        }
        Some(Err(error)) => {
            let default = settings.routing.for_invalid_json().filter(|_| !error.is_ambiguous());
            (None, default.ok_or(Refusal::BadBody(error)))
        }
    };
    let served =
        if Api::of(path) == Api::Unknown || escapes(path) { Err(Refusal::UnknownPath { path: path.to_owned() }) } else { routed };
    let mut explained = json!({ "model": model, "path": path, "client": client });
    let more = match served {
        Ok(route) => of_route(settings, &route, model.as_deref(), path, query),
        Err(refusal) => {
            let answer = refusal.answer();
            json!({ "refused": { "status": answer.status, "code": answer.code, "message": answer.message } })
        }
    };
    if let (Value::Object(explained), Value::Object(more)) = (&mut explained, more) {
        explained.extend(more);
    }
    explained
}

fn of_route(settings: &Settings, route: &Route, model: Option<&str>, path: &str, query: Option<&str>) -> Value {
    let upstream = &*route.upstream;
    let url = upstream.endpoint.as_ref().map(|endpoint| {
        let target = join(endpoint.base_path(), path, query);
        format!("{}://{}{target}", endpoint.scheme().as_str(), endpoint.authority())
    });
    json!({
        "rule": route.rule.label(),
        "why": why(route),
        "upstream": &*upstream.name,
        "not_configured": upstream.missing().map(|missing| format!("no {missing}")),
        "url": url,
        "connect_to": upstream.connect_to.map(|address| address.to_string()),
        "upstream_model": model.map(|model| route.upstream_model(model)),
        "headers": headers(upstream),
        "key": upstream.credentials.first().map(|credential| &*credential.id),
        "price": settings.price_of(route).to_string(),
        "price_is_default": route.model.as_ref().is_none_or(|model| model.price.is_none()),
    })
}

fn why(route: &Route) -> String {
    match route.rule {
        Rule::Model => match &route.model {
            Some(model) => format!("models[] has \"{}\" by its id or an alias", model.id),
            None => "models[] has it".to_owned(),
        },
        Rule::Exact => "model_routing.models has exactly this name".to_owned(),
        Rule::Prefix => "model_routing.models has a prefix of this name, and no longer one".to_owned(),
        Rule::DefaultTarget => "nothing names this model, so model_routing.default_target takes it".to_owned(),
        Rule::UnknownToTroll => "nothing names this model, and routing.unknown_model is \"troll\"".to_owned(),
        Rule::ModelRoutingOff => "routing.model_based is false, so every model goes to troll".to_owned(),
        Rule::Host => "host_routes has its host".to_owned(),
    }
}

/// The headers that the gateway writes itself; the client's own credentials never pass.
fn headers(upstream: &Upstream) -> Value {
    let mut headers = json!({ "accept-encoding": "identity" });
    let Value::Object(written) = &mut headers else { return headers };
    if let Some(endpoint) = &upstream.endpoint {
        written.insert("host".to_owned(), endpoint.authority().into());
    }
    if let Some(credential) = upstream.credentials.first() {
        if matches!(upstream.auth_header, AuthHeader::Authorization | AuthHeader::Both) {
            written.insert("authorization".to_owned(), format!("Bearer {}", credential.key).into());
        }
        if matches!(upstream.auth_header, AuthHeader::XApiKey | AuthHeader::Both) {
            written.insert("x-api-key".to_owned(), credential.key.to_string().into());
        }
    }
    headers
}

fn write_text(explained: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let Value::Object(explained) = explained else { return Ok(()) };
    for name in [
        "model",
        "path",
        "client",
        "refused",
        "rule",
        "why",
        "upstream",
        "not_configured",
        "url",
        "connect_to",
        "upstream_model",
        "key",
        "headers",
        "price",
        "price_is_default",
    ] {
        match explained.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => writeln!(out, "{name:<17}{text}")?,
            Some(Value::Object(fields)) => {
                for (field, value) in fields {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    writeln!(out, "{name:<17}{field}: {value}")?;
                }
            }
            Some(other) => writeln!(out, "{name:<17}{other}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings() -> Settings {
        let text = r#"{"models": [{"id": "opus", "id_aliases": ["o"], "upstream_model_id": "opus-1",
              "input_price_per_mtok": 5, "output_price_per_mtok": 25}],
            "routing": {"unknown_model": "reject"},
            "upstreams": {"troll": {"base_url": "https://h/v1", "auth_header": "both", "keys": [{"id": "k1", "key": "${TROLL_API_KEY}"}]}}}"#;
        let variable = |name: &str| (name == "TROLL_API_KEY").then(|| "canary-key".to_owned());
        config::load(Path::new("f"), &variable, &|_| Ok(text.to_owned())).unwrap().settings
    }

    /// M2, M6, M13, H1
    #[test]
    fn tells_the_whole_way_of_a_request_without_its_key() {
        let told = explain(&settings(), Some("o"), "/v1/messages?beta=true", Some("me"), None);
        assert_eq!(
            told,
            json!({
                "model": "o", "path": "/v1/messages", "client": "me", "rule": "model",
                "why": "models[] has \"opus\" by its id or an alias", "upstream": "troll", "not_configured": null,
                "url": "https://h/v1/messages?beta=true", "connect_to": null, "upstream_model": "opus-1",
                "headers": {"accept-encoding": "identity", "host": "h", "authorization": "Bearer *****", "x-api-key": "*****"},
                "key": "k1", "price": "in 5, out 25, cache write 6.25 (1h 10), cache read 0.5 USD/Mtok", "price_is_default": false,
            })
        );
        let mut text = Vec::new();
        write_text(&told, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("url              https://h/v1/messages?beta=true\n"), "{text}");
        assert!(text.contains("headers          authorization: Bearer *****\n"), "{text}");
        assert!(!text.contains("canary"));
    }

    /// M9: the body is read as the gateway reads it.
    #[test]
    fn reads_the_model_out_of_a_body() {
        let told =
            explain(&settings(), None, "/v1/messages", None, Some(br#"{"messages": [{"model": "no"}], "mod\u0065l": "opus"}"#));
        assert_eq!((&told["model"], &told["upstream"]), (&json!("opus"), &json!("troll")));
        let told = explain(&settings(), None, "/v1/messages", None, Some(br#"{"model": "opus", "model": "o"}"#));
        assert_eq!(told["refused"]["status"], 400);
    }

    #[test]
    fn tells_a_refusal_as_the_client_would_see_it() {
        assert_eq!(explain(&settings(), Some("x"), "/v1/messages", None, None)["refused"]["code"], "model_not_found");
        for path in ["/admin", "/v1/../admin"] {
            assert_eq!(explain(&settings(), Some("o"), path, None, None)["refused"]["status"], 404, "{path}");
        }
    }
}
