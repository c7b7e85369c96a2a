//! Why a tunnel did not come about: typed, and found again in the error that Pingora hands to `fail_to_connect`.
//!
//! No variant holds a credential: what a proxy says is cut, and blotted with the login in mind, before it gets in here.

use std::io;

use pingora_core::{Error, ErrorType};

use crate::domain::guard::mask::{MASK, mask_identifiers};

/// How much of a proxy's own words is kept.
const SAID_CHARS: usize = 120;

/// The proxy has no listener there, or the connection broke before the tunnel stood.
pub const PROXY_UNREACHABLE: ErrorType = ErrorType::Custom("ProxyUnreachable");
/// The tunnel did not stand within its deadline.
pub const PROXY_TIMED_OUT: ErrorType = ErrorType::Custom("ProxyTimedOut");
/// The proxy does not take our login: trying it again is no use.
pub const PROXY_AUTH_REFUSED: ErrorType = ErrorType::Custom("ProxyAuthRefused");
/// The proxy works, but can't or won't reach the target.
pub const PROXY_TARGET_REFUSED: ErrorType = ErrorType::Custom("ProxyTargetRefused");
/// What answers there does not speak the proxy's protocol.
pub const PROXY_GARBAGE: ErrorType = ErrorType::Custom("ProxyGarbage");

/// Why a tunnel did not come about. All count against the proxy; none says anything about a key (T10).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelFailure {
    #[error("the proxy can't be reached: {0}")]
    Unreachable(io::ErrorKind),
    #[error("the proxy gave no tunnel in time")]
    TimedOut,
    #[error("the proxy refused the login: {0}")]
    AuthRefused(&'static str),
    #[error("the proxy did not reach the target: {0}")]
    TargetRefused(String),
    #[error("the proxy does not speak its protocol: {0}")]
    Garbage(&'static str),
}

impl TunnelFailure {
    /// The failure within Pingora's error, however often Pingora wrapped it; `None`: the error is another one.
    pub fn of(error: &Error) -> Option<&Self> {
        error.root_cause().downcast_ref()
    }

    /// The word that metrics and the access line have for it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "proxy_unreachable",
            Self::TimedOut => "proxy_timed_out",
            Self::AuthRefused(_) => "proxy_auth_refused",
            Self::TargetRefused(_) => "proxy_target_refused",
            Self::Garbage(_) => "proxy_garbage",
        }
    }

    fn error_type(&self) -> ErrorType {
        match self {
            Self::Unreachable(_) => PROXY_UNREACHABLE,
            Self::TimedOut => PROXY_TIMED_OUT,
            Self::AuthRefused(_) => PROXY_AUTH_REFUSED,
            Self::TargetRefused(_) => PROXY_TARGET_REFUSED,
            Self::Garbage(_) => PROXY_GARBAGE,
        }
    }
}

impl From<io::Error> for TunnelFailure {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.kind())
    }
}

impl From<TunnelFailure> for Box<Error> {
    fn from(failure: TunnelFailure) -> Self {
        Error::because(failure.error_type(), "no tunnel", failure).into_up()
    }
}

/// A proxy's own words, fit for the log: none of `secrets`, nothing that looks like a secret, no control character, no length.
pub(super) fn said(words: &str, secrets: &[&str]) -> String {
    let mut text = words.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, MASK);
    }
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    mask_identifiers(&printable).chars().take(SAID_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> [TunnelFailure; 5] {
        [
            TunnelFailure::Unreachable(io::ErrorKind::ConnectionRefused),
            TunnelFailure::TimedOut,
            TunnelFailure::AuthRefused("it wants a password"),
            TunnelFailure::TargetRefused("502 Bad Gateway".to_owned()),
            TunnelFailure::Garbage("no status line"),
        ]
    }

    #[test]
    fn t10_a_failure_is_found_again_in_pingoras_error_and_under_more_context() {
        for failure in every() {
            let error: Box<Error> = failure.clone().into();
            assert_eq!(*error.etype(), failure.error_type());
            assert_eq!(TunnelFailure::of(&error), Some(&failure));
            let wrapped = error.more_context("while connecting").more_context("again");
            assert_eq!(TunnelFailure::of(&wrapped), Some(&failure));
            assert!(wrapped.to_string().contains(&failure.to_string()), "{wrapped}");
        }
        assert_eq!(TunnelFailure::of(&Error::explain(ErrorType::ConnectTimedout, "another")), None);
    }

    #[test]
    fn every_failure_has_a_label_and_a_type_of_its_own() {
        for (at, failure) in every().iter().enumerate() {
            for other in &every()[at + 1..] {
                assert_ne!(failure.label(), other.label());
                assert_ne!(failure.error_type(), other.error_type());
            }
        }
    }

    #[test]
    fn a_proxys_words_are_cut_and_hold_no_secret() {
        assert_eq!(said("502 Bad Gateway", &[]), "502 Bad Gateway");
        assert_eq!(said("403 no canary7 here\u{1b}[31m", &["canary7", ""]), "403 no ***** here [31m");
        assert_eq!(said("500 sk-abcdefgh1234", &[]), "500 *****");
        assert_eq!(said(&"e ".repeat(4000), &[]).chars().count(), SAID_CHARS);
    }
}
