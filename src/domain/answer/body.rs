//! The only file that writes error bodies: one JSON object per dialect, and the event that ends a broken stream.
//!
//! OpenAI: `{"error":{"message","type","param","code"},"request_id"}`. Anthropic: `{"type":"error","error":{"type","message"},"request_id"}`.
//! <https://docs.anthropic.com/en/api/errors>, <https://platform.openai.com/docs/guides/error-codes>.

use serde_json::json;

use crate::domain::answer::public::{Answer, Kind};
use crate::domain::dialect::{Api, Dialect};
use crate::domain::id::RequestId;

impl Kind {
    fn anthropic(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Billing => "billing_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Api => "api_error",
            Self::Overloaded => "overloaded_error",
        }
    }

    fn openai(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::NotFound | Self::TooLarge => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Billing => "insufficient_quota",
            Self::Permission => "permission_error",
            Self::RateLimit => "rate_limit_error",
            Self::Api => "api_error",
            Self::Overloaded => "overloaded_error",
        }
    }
}

/// The body of an error answer, in the caller's dialect.
pub fn error_body(dialect: Dialect, answer: &Answer, id: &RequestId) -> String {
    match dialect {
        Dialect::OpenAi => json!({
            "error": {
                "message": answer.message,
                "type": answer.kind.openai(),
                "param": answer.param,
                "code": answer.code,
            },
            "request_id": id.as_str(),
        }),
        Dialect::Anthropic => json!({
            "type": "error",
            "error": { "type": answer.kind.anthropic(), "message": answer.message },
            "request_id": id.as_str(),
        }),
    }
    .to_string()
}

/// The event that ends a stream which can't go on, in the form that clients of the API that was asked raise on.
///
/// Begins with a blank line, so that it stands alone even behind an event that was too long to be kept back until its end.
/// Responses clients get `response.failed` with `server_error` (Codex posts again up to six times on anything less definite).
pub fn error_event(asked: Api, answer: &Answer, id: &RequestId) -> String {
    match asked {
        Api::Messages => format!("\n\nevent: error\ndata: {}\n\n", error_body(Dialect::Anthropic, answer, id)),
        Api::Responses => {
            let code = match answer.kind {
                Kind::Overloaded => "server_is_overloaded",
                _ => "server_error",
            };
            let event = json!({
                "type": "response.failed",
                "response": {
                    "id": format!("resp_{}", id.as_str()),
                    "object": "response",
                    "status": "failed",
                    "error": { "code": code, "message": answer.message },
                    "output": [],
                },
            });
            format!("\n\nevent: response.failed\ndata: {event}\n\n")
        }
        _ => format!("\n\ndata: {}\n\n", error_body(Dialect::OpenAi, answer, id)),
    }
}
