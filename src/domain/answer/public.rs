//! The public half of a refusal: the status and the words that a client gets for it, whatever its dialect.

use std::time::Duration;

use crate::domain::answer::refusal::{NotConfigured, Refusal};

/// The public half: what the client is told, independent of the dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub kind: Kind,
    /// A short word for programs (`code` in OpenAI bodies).
    pub code: &'static str,
    pub message: String,
    /// The request's field that is at fault (`param` in OpenAI bodies).
    pub param: Option<&'static str>,
    pub retry_after: Option<Duration>,
    /// `false` stops the retries of the SDKs where a retry can't help (`x-should-retry: false`).
    pub retry_helps: bool,
    /// The methods that the path takes, for 405.
    pub allow: Option<&'static str>,
}

/// The class of an error; each dialect has its own word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    InvalidRequest,
    Authentication,
    Billing,
    Permission,
    NotFound,
    TooLarge,
    RateLimit,
    Api,
    Overloaded,
}

impl Refusal {
    /// The public half.
    pub fn answer(&self) -> Answer {
        use Kind as K;
        match self {
            Self::NoKey => Answer::of(
                401,
                K::Authentication,
                "missing_api_key",
                "No API key in the request. Send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`.",
            ),
            Self::WrongKey => Answer::of(
                401,
                K::Authentication,
                "invalid_api_key",
                "This API key is not known here. Use a key that the operator of this gateway gave you.",
            ),
            Self::KeyRevoked => Answer::of(
                403,
                K::Permission,
                "api_key_revoked",
                "This API key was revoked. Ask the operator of this gateway for another one.",
            ),
            Self::KeyExpired => Answer::of(
                403,
                K::Permission,
                "api_key_expired",
                "This API key has expired. Ask the operator of this gateway for another one.",
            ),
            Self::PathNotMetered => Answer::of(
                403,
                K::Permission,
                "path_not_metered",
                "What this path uses can't be metered here, so an API key with credit or with a list of models may not use it. The \
                 operator of this gateway can give you one without.",
            ),
            Self::ModelNotAllowed { model } => Answer {
                param: Some("model"),
                ..Answer::of(
                    403,
                    K::Permission,
                    "model_not_allowed",
                    match model {
                        Some(model) => {
                            format!("This API key may not use the model {}. GET /v1/models lists what it may use.", shown(model))
                        }
                        None => "This API key may use certain models only, and the request names none that can be checked. Set \
                                 `model`; GET /v1/models lists what it may use."
                            .to_owned(),
                    },
                )
            },
            Self::NoCredit { missing } => Answer::of(
                402,
                K::Billing,
                "insufficient_credit",
                format!(
                    "The credit of this API key does not cover the request: {missing} USD are missing. A lower limit of output tokens \
                     needs less; the operator of this gateway can add credit."
                ),
            )
            .retry_is_useless(),
            Self::NoBalance => Answer::of(
                402,
                K::Billing,
                "no_balance",
                "This gateway serves API keys with credit only, and this one has none. Ask the operator of this gateway.",
            )
            .retry_is_useless(),
            Self::NoPrice { model } => Answer {
                param: Some("model"),
                ..Answer::of(
                    404,
                    K::NotFound,
                    "model_without_price",
                    match model {
                        Some(model) => format!(
                            "The model {} is not served here: it has no price. GET /v1/models lists what is served.",
                            shown(model)
                        ),
                        None => "The request names no model that has a price here. Set `model`; GET /v1/models lists what is served."
                            .to_owned(),
                    },
                )
            },
            Self::ForeignHost { host } => Answer::of(
                403,
                K::Permission,
                "foreign_host",
                format!(
                    "Without API keys this gateway answers its own machine alone, and the request calls it {}. Call it localhost or \
                     127.0.0.1; the operator can name other hosts in auth.allowed_hosts.",
                    shown(host)
                ),
            ),
            Self::ForeignOrigin { origin } => Answer::of(
                403,
                K::Permission,
                "foreign_origin",
                format!(
                    "Without API keys this gateway answers no web page of another machine, and the request comes from {}. The operator \
                     can name its origin in auth.allowed_origins.",
                    shown(origin)
                ),
            ),
            Self::TwoCredentials => Answer::of(
                400,
                K::InvalidRequest,
                "conflicting_credentials",
                "The request carries more than one API key. Send exactly one, as `Authorization: Bearer KEY` or as `x-api-key: KEY`.",
            ),
            Self::UnknownPath { path } => Answer::of(
                404,
                K::NotFound,
                "unknown_path",
                format!(
                    "Nothing is served at {}. The API's paths begin with /v1/, for example /v1/chat/completions.",
                    shown(path)
                ),
            ),
            Self::NotJson => Answer::of(
                404,
                K::NotFound,
                "not_json",
                "Only JSON requests are routed by model here. Send a JSON body with `Content-Type: application/json`.",
            ),
            Self::WrongMethod { allow } => Answer {
                allow: Some(allow),
                ..Answer::of(405, K::InvalidRequest, "method_not_allowed", format!("This path takes {allow} only."))
            },
            Self::CompressedBody { encoding } => Answer::of(
                415,
                K::InvalidRequest,
                "unsupported_content_encoding",
                format!(
                    "Request bodies with `Content-Encoding: {}` are not read here. Send the JSON uncompressed.",
                    shown(encoding)
                ),
            ),
            Self::BodyTooLarge { limit_bytes } => Answer::of(
                413,
                K::TooLarge,
                "request_too_large",
                format!("The request's body is larger than {limit_bytes} bytes, the limit of this gateway. Send less."),
            ),
            Self::BodyTooSlow { limit } => Answer::of(
                408,
                K::InvalidRequest,
                "body_timeout",
                format!("The request's body did not arrive within {} seconds.", limit.as_secs()),
            ),
            Self::BadBody(error) => {
                Answer { param: error.param(), ..Answer::of(400, K::InvalidRequest, error.code(), error.public()) }
            }
            Self::BadHead { reason } => Answer::of(400, K::InvalidRequest, "bad_request_head", (*reason).to_owned()),
            Self::UpgradeRequested => Answer::of(
                400,
                K::InvalidRequest,
                "upgrade_not_supported",
                "Protocol upgrades (WebSocket, h2c upgrade) are not served here. Send a plain HTTP request.",
            ),
            Self::UnknownModel { model } => Answer {
                param: Some("model"),
                ..Answer::of(
                    404,
                    K::NotFound,
                    "model_not_found",
                    match model {
                        Some(model) => {
                            format!("The model {} is not served here. GET /v1/models lists what is.", shown(model))
                        }
                        None => "The request names no model. Set `model`; GET /v1/models lists what is served.".to_owned(),
                    },
                )
            },
            Self::ModelNotListed { model } => Answer {
                param: Some("model"),
                ..Answer::of(
                    404,
                    K::NotFound,
                    "model_not_found",
                    format!("The model {} is not listed here. GET /v1/models lists what is.", shown(model)),
                )
            },
            Self::NotConfigured { upstream } => Answer::of(
                500,
                K::Api,
                "upstream_not_configured",
                match upstream {
                    NotConfigured::Main => "Main target not configured".to_owned(),
                    NotConfigured::OhmyGpt => "OhmyGPT not configured".to_owned(),
                    NotConfigured::Other(_) => "The upstream of this model is not configured".to_owned(),
                },
            )
            .retry_is_useless(),
            Self::OutOfBodyMemory => Answer::of(
                503,
                K::Overloaded,
                "overloaded",
                "The gateway holds as many request bodies as it may. Try again in a moment.",
            )
            .after(Duration::from_secs(1)),
            Self::OutOfBodyShare => Answer::of(
                503,
                K::Overloaded,
                "body_share_used_up",
                "The requests of this API key hold as much memory as one key's may. Try again when some of them are answered.",
            )
            .after(Duration::from_secs(1)),
            Self::UpstreamFailed { .. } | Self::NoAnswer => {
                Answer::of(502, K::Api, "upstream_failed", "The model's provider could not be reached or gave no usable answer.")
            }
            Self::BeyondLimit => Answer::of(
                429,
                K::RateLimit,
                "request_beyond_limit",
                "This one request asks for more tokens than the model's provider lets anybody have at a time here, so sending it again can't \
                 help. Send a shorter prompt, or ask for fewer output tokens.",
            )
            .retry_is_useless(),
            Self::KeyRefused { .. } => {
                Answer::of(502, K::Api, "upstream_failed", "The model's provider did not accept the gateway's request.")
            }
            Self::FirstByteTooLate { limit } => Answer::of(
                504,
                K::Api,
                "upstream_timeout",
                format!("The model's provider did not begin to answer within {} seconds.", limit.as_secs().max(1)),
            ),
            Self::UpstreamStatus { status, message, retry_after } => {
                let kind = Kind::of_status(*status);
                Answer {
                    retry_after: *retry_after,
                    ..Answer::of(
                        *status,
                        kind,
                        kind.upstream_code(),
                        message.clone().unwrap_or_else(|| kind.upstream_message().to_owned()),
                    )
                }
            }
            Self::PoolOut { wait, .. } => Answer::of(
                503,
                K::Overloaded,
                "overloaded",
                "The model's provider takes no requests at the moment. Try again after the time that Retry-After gives.",
            )
            .after(*wait),
            Self::LedgerUnwritable { .. } => Answer::of(
                503,
                K::Overloaded,
                "overloaded",
                "The gateway can't keep its books at the moment, so it serves nothing that is to be billed. Try again in a moment.",
            )
            .after(Duration::from_secs(5)),
            Self::Stopping => Answer::of(
                503,
                K::Overloaded,
                "gateway_stopping",
                "The gateway is being stopped and could not wait any longer for this answer. Send the request again.",
            )
            .after(Duration::from_secs(1)),
            Self::Cut { .. } => {
                Answer::of(502, K::Api, "upstream_cut", "The model's provider ended the answer before it was complete.")
            }
            Self::LeakStopped => Answer::of(
                502,
                K::Api,
                "upstream_failed",
                "The answer of the model's provider was stopped: it must not be shown.",
            ),
            Self::Unreadable { .. } => Answer::of(
                502,
                K::Api,
                "upstream_failed",
                "The answer of the model's provider was stopped: it is encoded in a way that the gateway can't read.",
            ),
            Self::Internal { .. } => Answer::of(
                500,
                K::Api,
                "internal_error",
                "The gateway failed on this request. The operator finds it by its request id.",
            ),
        }
    }
}

impl Answer {
    fn of(status: u16, kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, message: message.into(), param: None, retry_after: None, retry_helps: true, allow: None }
    }

    fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    fn retry_is_useless(self) -> Self {
        Self { retry_helps: false, ..self }
    }
}

impl Kind {
    /// The class of a status that a provider answered with.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Authentication,
            402 => Self::Billing,
            403 => Self::Permission,
            404 => Self::NotFound,
            413 => Self::TooLarge,
            429 => Self::RateLimit,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::InvalidRequest,
            _ => Self::Api,
        }
    }

    fn upstream_code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::NotFound => "not_found",
            Self::TooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_exceeded",
            Self::Overloaded => "overloaded",
            Self::Authentication | Self::Billing | Self::Permission | Self::Api => "upstream_error",
        }
    }

    fn upstream_message(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The model's provider refused the request as invalid.",
            Self::NotFound => "The model's provider does not know what the request asks for.",
            Self::TooLarge => "The request is too large for the model's provider.",
            Self::RateLimit => "The model's provider limits the rate of requests. Try again later.",
            Self::Overloaded => "The model's provider is overloaded. Try again in a moment.",
            Self::Authentication | Self::Billing | Self::Permission | Self::Api => "The model's provider answered with an error.",
        }
    }
}

/// A client's own text as it may stand in a message: short and without control characters.
fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
    if text.chars().count() > MOST {
        out.push('…');
    }
    format!("`{out}`")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::answer::body::error_body;
    use crate::domain::answer::refusal::Fault;
    use crate::domain::billing::NanoUsd;
    use crate::domain::dialect::Dialect;
    use crate::domain::id::RequestId;

    fn body(refusal: &Refusal, dialect: Dialect) -> Value {
        let id = RequestId::new(1_700_000_000_000, [0; 10]);
        serde_json::from_str(&error_body(dialect, &refusal.answer(), &id)).unwrap()
    }

    /// G4: 402 in both dialects, with what is missing, and no retry.
    #[test]
    fn g4_missing_credit_is_told_in_both_dialects() {
        let refusal = Refusal::NoCredit { missing: NanoUsd::from_nanos(11_808_000) };
        let answer = refusal.answer();
        assert_eq!((answer.status, answer.retry_helps, refusal.fault()), (402, false, Fault::Client));
        let openai = &body(&refusal, Dialect::OpenAi)["error"];
        assert_eq!((&openai["type"], &openai["code"]), (&json!("insufficient_quota"), &json!("insufficient_credit")));
        assert!(openai["message"].as_str().unwrap().contains("0.011808 USD are missing"), "{openai}");
        let anthropic = &body(&refusal, Dialect::Anthropic)["error"];
        assert_eq!((&anthropic["type"], &anthropic["message"]), (&json!("billing_error"), &openai["message"]));
    }

    /// H5, M14, U1: each says what is wrong with whom.
    #[test]
    fn h5_a_key_that_has_ended_and_a_model_that_is_not_allowed_are_told_apart() {
        let model = || Some("gpt-4\n".to_owned());
        for (refusal, status, code, part) in [
            (Refusal::KeyRevoked, 403, "api_key_revoked", "revoked"),
            (Refusal::KeyExpired, 403, "api_key_expired", "expired"),
            (Refusal::ModelNotAllowed { model: model() }, 403, "model_not_allowed", "`gpt-4`"),
            (Refusal::PathNotMetered, 403, "path_not_metered", "operator"),
            (Refusal::ModelNotAllowed { model: None }, 403, "model_not_allowed", "Set `model`"),
            (Refusal::NoPrice { model: model() }, 404, "model_without_price", "`gpt-4`"),
            (Refusal::NoPrice { model: None }, 404, "model_without_price", "no model"),
            (Refusal::NoBalance, 402, "no_balance", "credit"),
        ] {
            let answer = refusal.answer();
            assert_eq!((answer.status, answer.code, refusal.fault()), (status, code, Fault::Client), "{refusal}");
            assert!(answer.message.contains(part), "{}", answer.message);
        }
    }
}
