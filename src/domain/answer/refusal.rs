//! Why a request is refused: the variants with their internal texts, the words for metrics, and whose fault each is.

use std::time::Duration;

use crate::domain::billing::NanoUsd;
use crate::domain::json::PeekError;

/// Why a request gets an answer of ours. Never holds a secret, an upstream's host or an account's text in its public half.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no client key in the request")]
    NoKey,
    #[error("unknown client key")]
    WrongKey,
    #[error("the client's key is revoked")]
    KeyRevoked,
    #[error("the client's key has expired")]
    KeyExpired,
    #[error("model {model:?} is not among the client's models")]
    ModelNotAllowed { model: Option<String> },
    #[error("{missing} USD of credit missing")]
    NoCredit { missing: NanoUsd },
    #[error("a client with credit or a list of models asks for a path whose use can't be metered")]
    PathNotMetered,
    #[error("the client has no balance, and billing.require_credits asks for one")]
    NoBalance,
    #[error("model {model:?} has no price, and billing.require_price asks for one")]
    NoPrice { model: Option<String> },
    #[error("no key is asked for, and the request calls the host {host:?}")]
    ForeignHost { host: String },
    #[error("no key is asked for, and the request comes from a page of {origin:?}")]
    ForeignOrigin { origin: String },
    #[error("two credentials in one request")]
    TwoCredentials,
    #[error("path not served: {path}")]
    UnknownPath { path: String },
    #[error("a body that is not JSON matches no host route")]
    NotJson,
    #[error("method not allowed, the path takes {allow}")]
    WrongMethod { allow: &'static str },
    #[error("content-encoding {encoding:?} in a request")]
    CompressedBody { encoding: String },
    #[error("body beyond {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    #[error("body not complete within {limit:?}")]
    BodyTooSlow { limit: Duration },
    #[error("body refused: {0}")]
    BadBody(PeekError),
    #[error("request head refused: {reason}")]
    BadHead { reason: &'static str },
    #[error("the request asks for a protocol upgrade")]
    UpgradeRequested,
    #[error("unknown model {model:?}")]
    UnknownModel { model: Option<String> },
    #[error("model {model:?} is not in the list")]
    ModelNotListed { model: String },
    #[error("upstream {upstream} is not configured")]
    NotConfigured { upstream: NotConfigured },
    #[error("memory budget for bodies in flight is used up")]
    OutOfBodyMemory,
    #[error("the client's share of the memory for bodies in flight is used up")]
    OutOfBodyShare,
    #[error("upstream failed: {detail}")]
    UpstreamFailed { detail: String },
    #[error("upstream answered 200 and nothing of an answer")]
    NoAnswer,
    #[error("the request asks for more than the provider's limit ever allows")]
    BeyondLimit,
    #[error("upstream refused our key with {status}")]
    KeyRefused { status: u16 },
    #[error("upstream sent no complete response head within {limit:?}")]
    FirstByteTooLate { limit: Duration },
    #[error("upstream answered {status}")]
    UpstreamStatus { status: u16, message: Option<String>, retry_after: Option<Duration> },
    #[error("no key or proxy of upstream {upstream} is ready for another {wait:?}")]
    PoolOut { upstream: String, wait: Duration },
    #[error("{detail}")]
    LedgerUnwritable { detail: String },
    #[error("upstream ended the answer early: {detail}")]
    Cut { detail: String },
    #[error("an upstream sent our own key back")]
    LeakStopped,
    #[error("the upstream's answer can't be searched for our key: {detail}")]
    Unreadable { detail: String },
    #[error("the gateway stops, and this request was not over at the drain limit")]
    Stopping,
    #[error("internal: {detail}")]
    Internal { detail: String },
}

/// An upstream that exists by name only, with the message that clients are promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotConfigured {
    #[error("main")]
    Main,
    #[error("ohmygpt")]
    OhmyGpt,
    #[error("{0}")]
    Other(String),
}

/// Who has to act; sets the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Client,
    Gateway,
    Upstream,
}

impl Refusal {
    /// The metric's and the access line's word: few values, no request's data.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::WrongKey => "wrong_key",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::ModelNotAllowed { .. } => "model_not_allowed",
            Self::PathNotMetered => "path_not_metered",
            Self::NoCredit { .. } => "no_credit",
            Self::NoBalance => "no_balance",
            Self::NoPrice { .. } => "no_price",
            Self::ForeignHost { .. } => "foreign_host",
            Self::ForeignOrigin { .. } => "foreign_origin",
            Self::TwoCredentials => "two_credentials",
            Self::UnknownPath { .. } => "unknown_path",
            Self::NotJson => "not_json",
            Self::WrongMethod { .. } => "wrong_method",
            Self::CompressedBody { .. } => "compressed_body",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow { .. } => "body_too_slow",
            Self::BadBody(_) => "bad_body",
            Self::BadHead { .. } => "bad_head",
            Self::UpgradeRequested => "upgrade_requested",
            Self::UnknownModel { .. } => "unknown_model",
            Self::ModelNotListed { .. } => "model_not_listed",
            Self::NotConfigured { .. } => "not_configured",
            Self::OutOfBodyMemory => "out_of_body_memory",
            Self::OutOfBodyShare => "out_of_body_share",
            Self::UpstreamFailed { .. } => "upstream_failed",
            Self::NoAnswer => "no_answer",
            Self::BeyondLimit => "beyond_limit",
            Self::KeyRefused { .. } => "key_refused",
            Self::FirstByteTooLate { .. } => "first_byte_too_late",
            Self::UpstreamStatus { .. } => "upstream_status",
            Self::PoolOut { .. } => "pool_out",
            Self::LedgerUnwritable { .. } => "ledger_unwritable",
            Self::Cut { .. } => "upstream_cut",
            Self::LeakStopped => "leak_stopped",
            Self::Unreadable { .. } => "unreadable",
            Self::Stopping => "stopping",
            Self::Internal { .. } => "internal",
        }
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoKey
            | Self::WrongKey
            | Self::KeyRevoked
            | Self::KeyExpired
            | Self::ModelNotAllowed { .. }
            | Self::PathNotMetered
            | Self::NoCredit { .. }
            | Self::NoBalance
            | Self::NoPrice { .. }
            | Self::ForeignHost { .. }
            | Self::ForeignOrigin { .. }
            | Self::TwoCredentials
            | Self::UnknownPath { .. }
            | Self::NotJson
            | Self::WrongMethod { .. }
            | Self::CompressedBody { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyTooSlow { .. }
            | Self::BadBody(_)
            | Self::BadHead { .. }
            | Self::UpgradeRequested
            | Self::UnknownModel { .. }
            | Self::ModelNotListed { .. }
            | Self::OutOfBodyShare => Fault::Client,
            Self::NotConfigured { .. }
            | Self::LedgerUnwritable { .. }
            | Self::OutOfBodyMemory
            | Self::Stopping
            | Self::Internal { .. } => Fault::Gateway,
            Self::UpstreamFailed { .. }
            | Self::NoAnswer
            | Self::BeyondLimit
            | Self::KeyRefused { .. }
            | Self::FirstByteTooLate { .. }
            | Self::UpstreamStatus { .. }
            | Self::PoolOut { .. }
            | Self::Cut { .. }
            | Self::LeakStopped
            | Self::Unreadable { .. } => Fault::Upstream,
        }
    }
}
