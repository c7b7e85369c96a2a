//! Each kind of Pingora's errors → what the relay hears.

use pingora_core::Error;

use super::*;
use crate::relay::failure::Offer;

fn broke(error: &Error, reused: bool) -> Broke {
    match failure(error, reused) {
        Failure::Broke(broke) => broke,
        other => panic!("{other:?}"),
    }
}

#[test]
fn our_own_words_come_first_wherever_they_come_from() {
    let rows = [
        (Error::explain(STOPPING, "x").into_in(), Failure::Stopping),
        (Error::explain(STOPPING, "x").into_down(), Failure::Stopping),
        (Error::explain(BODY_TOO_SLOW, "x").into_down(), Failure::BodyTooSlow),
        (Error::explain(UPSTREAM_TOO_LATE, "x").into_up(), Failure::TooLate),
    ];
    for (error, expected) in rows {
        assert_eq!(failure(&error, false), expected, "{error}");
    }
}

#[test]
fn q4_a_client_that_broke_off_is_gone_and_any_other_fault_of_its_is_answered() {
    use ErrorType::*;
    for etype in [ConnectionClosed, ReadError, WriteError, WriteTimedout, ConnectError, ReadTimedout, H2Error, H1Error] {
        let error = Error::explain(etype, "x").into_down();
        assert_eq!(failure(&error, false), Failure::ClientGone, "{error}");
    }
    for etype in [InvalidHTTPHeader, ErrorType::Custom("InvalidChunk"), HTTPStatus(413)] {
        let error = Error::explain(etype, "x").into_down();
        assert_eq!(failure(&error, false), Failure::Unreadable, "{error}");
    }
}

#[test]
fn t9_t10_what_broke_at_the_upstream_and_whether_it_may_be_sent_again() {
    use ErrorType::*;
    let rows = [
        (WriteError, true, false),
        (ReadError, true, false),
        (ConnectionClosed, true, false),
        (ReadTimedout, false, true),
        (InvalidHTTPHeader, false, false),
        (H2Error, false, false),
        (H2Downgrade, false, false),
        (ErrorType::Custom("UpstreamCut"), false, false),
    ];
    for (etype, is_lost, timed_out) in rows {
        for reused in [false, true] {
            let error = Error::explain(etype.clone(), "x").into_up();
            let seen = broke(&error, reused);
            let expected = (is_lost, timed_out, reused, Offer::No);
            assert_eq!((seen.is_lost, seen.timed_out, seen.was_kept, seen.offer), expected, "{error}");
        }
    }
    let offers = [
        (H2Error, RetryType::Decided(true), Offer::Unread),
        (WriteError, RetryType::Decided(true), Offer::Unread),
        (H2Downgrade, RetryType::Decided(true), Offer::OtherProtocol),
        (InvalidH2, RetryType::Decided(true), Offer::OtherProtocol),
        (ConnectionClosed, RetryType::Decided(false), Offer::No),
        (ConnectionClosed, RetryType::ReusedOnly, Offer::IfStale),
    ];
    for (etype, retry, offer) in offers {
        let mut error = Error::explain(etype, "x").into_up();
        error.retry = retry;
        assert_eq!(broke(&error, true).offer, offer);
    }
}

#[test]
fn a6_why_a_connection_did_not_come_about() {
    let way = |error: &Error, on_its_own| match of_connecting(error, on_its_own) {
        Failure::NoConnection { why, .. } => Some(why),
        Failure::Broke(broke) => {
            assert_eq!((broke.was_kept, broke.is_lost, broke.offer), (true, false, Offer::Unread));
            None
        }
        other => panic!("{other:?}"),
    };
    let distrust = "TLS connect() failed: invalid peer certificate: UnknownIssuer, SNI: h";
    let login: Box<Error> = TunnelFailure::AuthRefused("x").into();
    let garbage: Box<Error> = TunnelFailure::Garbage("invalid peer certificate: UnknownIssuer").into();
    let rows = [
        (Error::explain(ErrorType::ConnectRefused, "x"), Some(NoWay::Now)),
        (Error::explain(ErrorType::TLSHandshakeFailure, "tls handshake eof"), Some(NoWay::Now)),
        (Error::explain(ErrorType::TLSHandshakeFailure, distrust), Some(NoWay::Tls)),
        (login, Some(NoWay::Login)),
        (garbage, Some(NoWay::Now)),
    ];
    for (error, why) in rows {
        assert_eq!((way(&error, false), way(&error, true)), (why, why), "{error}");
    }
    // A kept connection of HTTP/2 takes no stream; a new one that takes none is no kept one.
    let full = Error::explain(ErrorType::H2Error, "while creating new stream");
    assert_eq!((way(&full, false), way(&full, true)), (None, Some(NoWay::Now)));
}

#[test]
fn a_judged_attempt_asks_for_the_next_one() {
    let again = again(429, "another key is tried");
    assert!(again.retry());
    assert!(matches!(failure(&again, false), Failure::Judged { .. }));
}

#[test]
fn whatever_is_of_nobody_is_ours() {
    for error in [Error::explain(ErrorType::InternalError, "x"), Error::explain(ErrorType::ReadError, "x").into_in()] {
        assert!(matches!(failure(&error, false), Failure::Internal { .. }), "{error}");
    }
}

#[test]
fn o3_the_account_of_a_failure_is_short_and_quotes_no_head() {
    let error = Error::explain(ErrorType::InvalidHTTPHeader, format!("bad head buf: {}", "secret".repeat(100))).into_up();
    assert!(!cause(&error).contains("secret"), "{}", cause(&error));
    let long = Error::explain(ErrorType::InternalError, "é".repeat(1_000));
    assert!(cause(&long).chars().count() <= 300);
}
