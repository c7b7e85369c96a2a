//! Pingora's errors in the relay's words: the one place where they are read.

use pingora_core::{Error, ErrorSource, ErrorType, RetryType};

use crate::edge::replay::{BODY_TOO_SLOW, UPSTREAM_TOO_LATE};
use crate::edge::tasks::NO_ANSWER;
use crate::edge::tls_fault::TlsFault;
use crate::edge::tunnel::TunnelFailure;
use crate::edge::waits::STOPPING;
use crate::relay::failure::{Broke, Failure, NoWay, Offer};

/// What `error` says went wrong; `reused`: it came over a connection that had served another request before.
pub fn failure(error: &Error, reused: bool) -> Failure {
    let etype = error.etype();
    if *etype == STOPPING {
        return Failure::Stopping;
    }
    if *etype == BODY_TOO_SLOW {
        return Failure::BodyTooSlow;
    }
    if *etype == UPSTREAM_TOO_LATE {
        return Failure::TooLate;
    }
    if *etype == NO_ANSWER {
        return Failure::NoAnswer;
    }
    match error.esource() {
        ErrorSource::Downstream => of_client(etype),
        ErrorSource::Upstream if matches!(etype, ErrorType::HTTPStatus(_)) => Failure::Judged { detail: cause(error) },
        ErrorSource::Upstream => Failure::Broke(Broke {
            is_lost: is_lost(etype),
            was_kept: reused,
            timed_out: *etype == ErrorType::ReadTimedout,
            offer: match error.retry {
                // Pingora remembers it for this way; everything else that it offers was not read (pingora-core, v2/client.rs).
                RetryType::Decided(true) if matches!(etype, ErrorType::H2Downgrade | ErrorType::InvalidH2) => {
                    Offer::OtherProtocol
                }
                RetryType::Decided(true) => Offer::Unread,
                RetryType::Decided(false) => Offer::No,
                RetryType::ReusedOnly => Offer::IfStale,
            },
            detail: cause(error),
        }),
        ErrorSource::Internal | ErrorSource::Unset => Failure::Internal { detail: cause(error) },
    }
}

/// What `error` says of a connection that did not come about; `on_its_own`: no kept one was looked for.
pub fn of_connecting(error: &Error, on_its_own: bool) -> Failure {
    let detail = cause(error);
    // HTTP/2 that takes no further stream, of a connection that was kept for all we know (pingora-core, `spawn_stream`): nothing went out.
    if *error.etype() == ErrorType::H2Error && !on_its_own {
        return Failure::Broke(Broke { is_lost: false, was_kept: true, timed_out: false, offer: Offer::Unread, detail });
    }
    let why = match TunnelFailure::of(error) {
        Some(TunnelFailure::AuthRefused(_)) => NoWay::Login,
        Some(_) => NoWay::Now,
        None if TlsFault::of(error).is_some() => NoWay::Tls,
        None => NoWay::Now,
    };
    Failure::NoConnection { why, detail }
}

/// An attempt that is over because the next one was decided; nothing of it reached the client.
pub fn again(status: u16, why: &'static str) -> Box<Error> {
    let mut again = Error::explain(ErrorType::HTTPStatus(status), why).into_up();
    again.set_retry(true);
    again
}

/// Pingora's account of a failure, fit for the log once keys are masked: it quotes a head that it could not read, raw and whole.
pub fn cause(error: &Error) -> String {
    const MOST_CHARS: usize = 300;
    let text = error.to_string();
    let unquoted = text.split(" buf: ").next().unwrap_or_default();
    unquoted.chars().take(MOST_CHARS).collect()
}

fn of_client(etype: &ErrorType) -> Failure {
    match etype {
        ErrorType::ConnectionClosed
        | ErrorType::ReadError
        | ErrorType::WriteError
        | ErrorType::WriteTimedout
        | ErrorType::ConnectError
        | ErrorType::ReadTimedout
        | ErrorType::H2Error
        | ErrorType::H1Error => Failure::ClientGone,
        _ => Failure::Unreadable,
    }
}

/// Whether the upstream's connection broke. Pingora marks this as worth a retry while the head is sent or awaited, but not while the
/// body is written, which is where a closed connection shows first when the body is large.
fn is_lost(etype: &ErrorType) -> bool {
    matches!(etype, ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed)
}

#[cfg(test)]
#[path = "pingora_errors_tests.rs"]
mod tests;
