//! Error bodies as the providers write them, with or without the private facts that real ones let slip.

use serde_json::json;

use super::content::Content;
use crate::provider_mock::ask::Dialect;

/// Private facts that an error of `leaking` tells; none of them may reach a client.
pub const CANARIES: [&str; 4] =
    ["org-Canary7Troll", "acct_canary_4711", "gpu-canary-12.internal.provider.example", "sk-canary-0123456789abcdef0123"];

/// An error with a message of the caller's.
pub fn error(dialect: Dialect, status: u16, message: &str) -> Content {
    let body = match dialect {
        Dialect::OpenAi => {
            let (kind, code) = openai(status);
            json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
        }
        Dialect::Anthropic => json!({
            "type": "error", "error": { "type": anthropic(status), "message": message }, "request_id": "req_mock_0001",
        }),
    };
    Content { status, ..Content::json(&body, None) }
}

/// An error whose message tells every one of the [`CANARIES`] and the key that came with the request.
pub fn leaking(dialect: Dialect, status: u16, key: &str) -> Content {
    let [org, account, host, other_key] = CANARIES;
    let message = format!(
        "{} (organization {org}, account {account}, served by {host}, request key {key}, billing key {other_key})",
        message(status)
    );
    error(dialect, status, &message)
}

/// The provider's usual words for a status.
pub fn message(status: u16) -> &'static str {
    match status {
        400 => "Invalid value: 'purple'. Supported values are: 'system', 'assistant', and 'user'.",
        401 => "Incorrect API key provided.",
        402 => "Your credit balance is too low.",
        403 => "Your key does not have permission to use this model.",
        404 => "The model does not exist or you do not have access to it.",
        413 => "Request exceeds the maximum size.",
        422 => "The request was well-formed but could not be processed.",
        429 => "Rate limit reached for requests.",
        503 | 529 => "Overloaded",
        _ => "The server had an error while processing your request.",
    }
}

/// <https://platform.openai.com/docs/guides/error-codes>
fn openai(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        402 => ("insufficient_quota", Some("insufficient_quota")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    }
}

/// <https://docs.anthropic.com/en/api/errors>
fn anthropic(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}
