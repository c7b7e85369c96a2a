//! What the steps said, as one JSON object with stable names; secrets are masked.

use serde_json::{Map, Value, json};

use crate::cli::explain::question::{Body, Question};
use crate::cli::explain::upstream::{self, attempts, candidates, dropped};
use crate::cli::explain::way::{Reached, Walked};
use crate::domain::admission;
use crate::domain::billing::{Price, signed_usd};
use crate::domain::client::Caller;
use crate::domain::dialect::Api;
use crate::domain::guard::mask::mask_identifiers;
use crate::domain::headers::request::KeptBack;
use crate::domain::json::{IncludeUsage, Peeked};
use crate::domain::route::Route;
use crate::domain::route::considered::{Considered, Fate};
use crate::domain::route::join::join;
use crate::domain::settings::Settings;
use crate::ops::books::clients::operations;

/// Tells all that is known; what the request did not come to is left out.
pub fn document(question: &Question<'_>, way: &Walked) -> Value {
    let mut told = Map::new();
    let mut tell = |name: &str, value: Value| drop(told.insert(name.to_owned(), value));
    tell("method", question.method.as_str().into());
    tell("path", question.path.into());
    tell("client", question.caller.map(Caller::name).into());
    tell("model", way.model().into());
    tell("rules", way.considered.iter().map(rule).collect());
    let decided = way.considered.iter().find(|one| matches!(one.fate, Fate::Matched | Fate::Refused));
    if let Some(decided) = decided {
        tell("why", decided.why.as_str().into());
    }
    match &way.outcome {
        Ok(Reached::Upstream) => {}
        Ok(Reached::Gateway) => tell("why", "the gateway itself answers this path; no upstream hears of it".into()),
        Err(refusal) => {
            let answer = refusal.answer();
            tell("refused", json!({ "status": answer.status, "code": answer.code, "message": answer.message }));
        }
    }
    if let Some(client) = question.caller.and_then(Caller::client) {
        tell("client_limits", client_limits(question, client));
    }
    let body = body(question, way);
    if let Some(route) = &way.route {
        of_route(question, way, route, &mut tell);
        tell("limits", limits(question.settings, route));
    }
    if !body.is_null() {
        tell("body", body);
    }
    Value::Object(told)
}

fn rule(one: &Considered) -> Value {
    json!({ "rule": one.rule, "fate": one.fate.label(), "why": one.why })
}

fn of_route(question: &Question<'_>, way: &Walked, route: &Route, tell: &mut impl FnMut(&str, Value)) {
    let Question { settings, path, query, headers, .. } = question;
    let upstream = &*route.upstream;
    let attempts = attempts(settings, upstream);
    let first = attempts.first().copied().unwrap_or_default();
    tell("rule", route.reason().into());
    tell("upstream", (&*upstream.name).into());
    tell("not_configured", upstream.missing().map(|missing| format!("no {missing}")).into());
    let url = upstream.endpoint.as_ref().map(|endpoint| {
        let query = query.map(mask_identifiers);
        let target = join(endpoint.base_path(), path, query.as_deref());
        format!("{}://{}{target}", endpoint.scheme().as_str(), endpoint.authority())
    });
    tell("url", url.into());
    tell("connect_to", upstream.connect_to.map(|address| address.to_string()).into());
    tell("upstream_model", way.model().map(|model| route.upstream_model(model)).into());
    tell("key", upstream.credential(first).map(|credential| &*credential.id).into());
    if upstream.rotates() {
        tell("candidates", candidates(settings, upstream, &attempts));
    }
    let length = match &question.body {
        Body::Whole(body) if way.peeked.is_some() || way.fault.is_some() => Some(way.sent_bytes(body)),
        Body::Whole(_) | Body::OfModel(_) | Body::None => None,
    };
    tell("headers", upstream::headers(upstream, headers, first, length));
    tell("dropped_headers", dropped(headers).into());
    let never = KeptBack::ALL.map(|kept| format!("{}: {}", kept.label(), kept.examples()));
    tell("never_forwarded", never.as_slice().into());
    tell("price", price(settings.price_of(route), !route.has_price()));
    if let Body::Whole(body) = &question.body {
        tell("reservation", reservation(question, way, route, body));
    }
}

fn price(price: &Price, is_default: bool) -> Value {
    let rates = price.rates();
    json!({
        "text": price.to_string(),
        "is_default": is_default,
        "input_usd_per_mtok": rates.input.to_string(),
        "output_usd_per_mtok": rates.output.to_string(),
        "cache_write_usd_per_mtok": rates.cache_write.to_string(),
        "cache_write_1h_usd_per_mtok": rates.cache_write_1h.to_string(),
        "cache_read_usd_per_mtok": rates.cache_read.to_string(),
        "multiplier": price.multiplier().to_string(),
        "conditions": price.rows().iter().map(|row| row.to_string()).collect::<Vec<_>>(),
    })
}

/// What a client with a balance would be held to.
fn reservation(question: &Question<'_>, way: &Walked, route: &Route, body: &[u8]) -> Value {
    let api = Api::of(question.path);
    let amount = question.settings.reservation(route, api, body.len(), way.asked_output(api, body));
    let is_taken = question.caller.map(|caller| caller.account().is_some());
    json!({ "usd": amount.to_string(), "nano_usd": amount.nanos(), "is_taken": is_taken })
}

fn limits(settings: &Settings, route: &Route) -> Value {
    let (limits, retry, timeouts) = (&settings.limits, &settings.retry, &route.upstream.timeouts);
    let of_model = route.model.as_ref().and_then(|model| model.max_output_tokens);
    json!({
        "max_body_bytes": limits.max_body_bytes,
        "header_read_s": limits.header_read.as_secs(),
        "body_read_s": limits.body_read.as_secs(),
        "write_stall_s": limits.write_stall.as_secs(),
        "write_bytes_per_s": limits.write_bytes_per_s,
        "hold_answer_ms": limits.hold_answer.as_millis(),
        "read_on_s": limits.read_on.time.as_secs(),
        "read_on_bytes": limits.read_on.bytes,
        "connect_ms": timeouts.connect.as_millis(),
        "first_byte_s": timeouts.first_byte.as_secs(),
        "idle_s": timeouts.idle.as_secs(),
        "max_attempts": retry.max_attempts,
        "retry_budget_ms": retry.budget.as_millis(),
        "max_input_tokens": settings.billing.most_tokens.input,
        "max_output_tokens": of_model.unwrap_or(settings.billing.most_tokens.output),
    })
}

fn client_limits(question: &Question<'_>, client: &crate::domain::client::Client) -> Value {
    let account = question.caller.and_then(Caller::account);
    let shown = operations::as_json(client, None);
    let field = |name: &str| shown.get(name).cloned().unwrap_or_default();
    json!({
        "status": field("status"),
        "models": field("models"),
        "expires_at": field("expires_at"),
        "granted_usd": client.granted_nano_usd.map(signed_usd),
        // As far as the roll-ups know: what ended in the last moments, or is under way, is in the gateway's memory alone.
        "balance_usd": account.map(|account| signed_usd(account.balance_nano_usd())),
    })
}

/// What is read out of the body, and what changes in it; null where there is none.
fn body(question: &Question<'_>, way: &Walked) -> Value {
    let mut told = Map::new();
    let mut tell = |name: &str, value: Value| drop(told.insert(name.to_owned(), value));
    if let Body::Whole(body) = &question.body {
        tell("bytes", body.len().into());
        if way.peeked.is_some() {
            tell("sent_bytes", way.sent_bytes(body).into());
        }
        if let Some(fault) = &way.fault {
            let (line, column) = line_and_column(body, fault.offset().unwrap_or(0));
            tell("fault", json!({ "code": fault.code(), "line": line, "column": column }));
        }
    }
    if let (Some(peeked), Some(route)) = (&way.peeked, &way.route) {
        let mut changes = Vec::new();
        if let (true, Some(model)) = (way.rewrite.is_renamed, way.model()) {
            changes.push(json!({ "what": "model", "from": model, "to": route.upstream_model(model) }));
        }
        if way.rewrite.asks_for_usage {
            changes.push(json!({ "what": "stream_options.include_usage", "to": true }));
        }
        tell("changes", changes.into());
        tell("usage_asked_by_us", way.rewrite.asks_for_usage.into());
        tell("usage", usage(question, peeked).into());
        if matches!(question.body, Body::Whole(_)) {
            tell("stream", peeked.stream.into());
        }
    }
    if told.is_empty() { Value::Null } else { Value::Object(told) }
}

/// Who asks for the usage of the answer, and why.
fn usage(question: &Question<'_>, peeked: &Peeked) -> &'static str {
    let api = Api::of(question.path);
    match &question.body {
        _ if !admission::leaves_usage_out_of_streams(api) => "the answers of this path carry it unasked",
        Body::Whole(_) if !peeked.stream => "no stream is asked for: the answer carries it unasked",
        _ if peeked.include_usage == IncludeUsage::True => "the client asks for it",
        _ if !question.settings.inject_include_usage => "nobody asks for it: inject_include_usage is off",
        Body::Whole(_) => "the gateway asks for it, and takes the extra chunk out of the answer",
        Body::OfModel(_) | Body::None => "of a stream the gateway asks for it where the client does not",
    }
}

/// The place of a byte as editors count: from 1, in characters.
pub fn line_and_column(body: &[u8], offset: usize) -> (usize, usize) {
    let before = body.get(..offset).unwrap_or(body);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() + 1;
    (line, column)
}
