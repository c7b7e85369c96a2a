//! What is decided about a request before it goes out: whether its caller may call, which way it takes, and what changes in its body.
//!
//! ```text
//!   caller ─► may_call ─► way ─┬─ OwnList   the gateway's own list
//!                              ├─ Host       body unread ─► permitted ─► configured
//!                              └─ Model      peek ─► route_of ─► permitted ─► rewrite ─► configured
//! ```
//! `relay::gate` asks here, for requests and for `trollbridge explain`.

use std::sync::Arc;

use http::{HeaderMap, Method, header};

use crate::domain::answer::{NotConfigured, Refusal};
use crate::domain::client::Caller;
use crate::domain::dialect::Api;
use crate::domain::json::splice::Edit;
use crate::domain::json::{AskedOutput, PeekError, Peeked, prompts};
use crate::domain::route::{Route, RoutingTable, join};
use crate::domain::settings::Settings;
use crate::domain::upstream::{Endpoint, Upstream};

/// The head of a request, as far as it decides.
#[derive(Clone, Copy, Debug)]
pub struct Head<'r> {
    pub method: &'r Method,
    /// Without the query.
    pub path: &'r str,
    /// The target's host, else that of `Host`.
    pub host: Option<&'r str>,
    pub headers: &'r HeaderMap,
}

/// What a request is routed by.
#[derive(Debug)]
pub enum RouteBy {
    /// The gateway's own list answers.
    OwnList,
    /// Its JSON body names the model.
    Model,
    /// It has no JSON body, and its host has this route.
    Host(Route),
}

/// What changes in the body on its way out.
#[derive(Debug, Default)]
pub struct Rewrite {
    pub edits: Vec<Edit>,
    /// The model is asked for by another name than the client's: the answer has to say the client's.
    pub is_renamed: bool,
    /// `stream_options.include_usage` is put in.
    pub asks_for_usage: bool,
}

/// Refuses a caller whose key has ended, and one without a balance where one is required.
pub fn may_call(settings: &Settings, caller: &Caller, asked: Api, now_unix_ms: u64) -> Result<(), Refusal> {
    caller.client().map_or(Ok(()), |client| client.admit(now_unix_ms))?;
    if settings.billing.require_credits && caller.account().is_none() && asked != Api::Models {
        return Err(Refusal::NoBalance);
    }
    Ok(())
}

/// Reads the way out of the head; what no way covers is refused before the body is read.
pub fn way(settings: &Settings, asked: Api, head: Head<'_>) -> Result<RouteBy, Refusal> {
    let unknown_path = || Refusal::UnknownPath { path: head.path.to_owned() };
    if join::escapes(head.path) || (matches!(asked, Api::Other | Api::Unknown) && Api::is_disguised(head.path)) {
        return Err(unknown_path());
    }
    if asked == Api::Models {
        return Ok(RouteBy::OwnList);
    }
    let takes_method = !asked.is_post_only() || *head.method == Method::POST;
    if takes_method && carries_json(head.method, head.headers) && asked != Api::Unknown {
        return match content_encoding(head.headers) {
            Some(encoding) => Err(Refusal::CompressedBody { encoding }),
            None => Ok(RouteBy::Model),
        };
    }
    let route = head.host.and_then(|host| settings.routing.by_host(host));
    route.map(RouteBy::Host).ok_or_else(|| match asked {
        Api::Unknown => unknown_path(),
        _ if !takes_method => Refusal::WrongMethod { allow: "POST" },
        _ => Refusal::NotJson,
    })
}

/// Routes a body that was read: by its model, or, where it is not valid JSON, as the table says for such bodies.
pub fn route_of(routing: &RoutingTable, peeked: &Result<Peeked, PeekError>) -> Result<Route, Refusal> {
    match peeked {
        Ok(peeked) => routing.by_model(peeked.model.as_ref().map(|model| &*model.name)),
        Err(error) => match routing.for_invalid_json() {
            Some(route) if !error.is_ambiguous() => Ok(route),
            _ => Err(Refusal::BadBody(error.clone())),
        },
    }
}

/// What a body asks for, with the prompts of a text completion counted: each of them gets as many answers.
pub fn asked_output<'b>(asked: Api, peeked: &Peeked, body: impl IntoIterator<Item = &'b [u8]>) -> AskedOutput {
    let list = peeked.prompts.clone().filter(|_| asked == Api::Completions);
    AskedOutput { prompts: list.map(|list| prompts::count(body, list)), ..peeked.output }
}

/// Refuses a model that the caller may not use, or that has no price where one is required; `model` is the name in the request. Of no
/// caller in particular only the price is asked.
pub fn permitted(
    settings: &Settings,
    caller: Option<&Caller>,
    asked: Api,
    model: Option<&str>,
    route: &Route,
) -> Result<(), Refusal> {
    // A batch names its models where nobody looks, and its answer says nothing of what it will cost.
    if asked == Api::Other && caller.is_some_and(Caller::is_limited) {
        return Err(Refusal::PathNotMetered);
    }
    let names = || model.into_iter().chain(route.model.iter().flat_map(|model| model.names()));
    if !caller.is_none_or(|caller| caller.may_use(names())) {
        return Err(Refusal::ModelNotAllowed { model: model.map(str::to_owned) });
    }
    if settings.billing.require_price && !route.has_price() {
        return Err(Refusal::NoPrice { model: model.map(str::to_owned) });
    }
    Ok(())
}

/// Says what changes in the body: the model's name (M13), and the usage that a chat stream of the API
/// that the upstream speaks has to be asked for (U6).
pub fn rewrite(settings: &Settings, spoken: Api, peeked: &Peeked, route: &Route) -> Rewrite {
    let mut rewrite = Rewrite::default();
    let upstream_model = route.model.as_ref().and_then(|model| model.upstream_model_id.as_deref());
    if let Some(edit) = upstream_model.and_then(|to| peeked.rename_model(to)) {
        rewrite.is_renamed = true;
        rewrite.edits.push(edit);
    }
    if settings.inject_include_usage
        && peeked.stream
        && leaves_usage_out_of_streams(spoken)
        && let Some(edit) = peeked.ask_for_usage()
    {
        rewrite.asks_for_usage = true;
        rewrite.edits.push(edit);
    }
    rewrite
}

/// Proves that an upstream can be asked: an endpoint, and a key where it needs one. What exists by name only is known before any network
/// is touched; asked last, so that the access line names it.
pub fn configured(upstream: &Upstream) -> Result<Arc<Endpoint>, Refusal> {
    match &upstream.endpoint {
        Some(endpoint) if upstream.missing().is_none() => Ok(endpoint.clone()),
        _ => Err(Refusal::NotConfigured {
            upstream: match &*upstream.name {
                "main" => NotConfigured::Main,
                "ohmygpt" => NotConfigured::OhmyGpt,
                other => NotConfigured::Other(other.to_owned()),
            },
        }),
    }
}

/// Whether an upstream's stream of this API has its usage only when it is asked for.
pub fn leaves_usage_out_of_streams(spoken: Api) -> bool {
    matches!(spoken, Api::ChatCompletions | Api::Completions)
}

/// A request that is routed by its model: a method with a body, and a body that says it is JSON or says nothing.
fn carries_json(method: &Method, headers: &HeaderMap) -> bool {
    if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        return false;
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let ends_with = |end: &[u8]| {
        essence.len() > end.len() && essence.get(essence.len() - end.len()..).is_some_and(|e| e.eq_ignore_ascii_case(end))
    };
    ends_with(b"/json") || ends_with(b"+json")
}

fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(header::CONTENT_ENCODING)?.to_str().unwrap_or("?").trim().to_owned();
    (!encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity")).then_some(encoding)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn m7_what_says_json_or_nothing_is_routed_by_its_model() {
        let says = |method: Method, content_type: Option<&'static str>| {
            let types = content_type.map(|content_type| (header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
            carries_json(&method, &types.into_iter().collect())
        };
        for json in [None, Some("application/json"), Some("Application/JSON; charset=utf-8"), Some("application/vnd.api+json")] {
            assert!(says(Method::POST, json) && says(Method::PUT, json) && !says(Method::GET, json), "{json:?}");
        }
        for other in ["", "/json", "json", "text/plain", "multipart/form-data; boundary=/json", "application/json-seq"] {
            assert!(!says(Method::POST, Some(other)), "{other}");
        }
    }

    #[test]
    fn identity_is_no_encoding() {
        let encoded =
            |value| content_encoding(&[(header::CONTENT_ENCODING, HeaderValue::from_static(value))].into_iter().collect());
        assert_eq!((encoded(""), encoded(" Identity "), encoded("gzip")), (None, None, Some("gzip".to_owned())));
        assert_eq!(content_encoding(&HeaderMap::new()), None);
    }
}
