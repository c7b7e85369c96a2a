//! Failure × pool × how far the answer got → another attempt or the last word, as walks (see `testing`).

use http::Method;

use crate::domain::client::Caller;
use crate::domain::end::End;
use crate::relay::failure::Failure;
use crate::relay::stage::Reading;
use crate::relay::testing::{
    HOLD, House, NO_KEY, ONE_KEY, TWO_KEYS, check, troll_direct, troll_pool, troll_reverse, walked, with,
};

const MESSAGES: &str = "/v1/messages";

#[test]
fn t10_one_way_and_no_other() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            // Without a proxy, the provider may have been paid for it.
            ("200;says=nothing nothing", "pass 502:upstream_failed,upstream_error"),
            ("conn 200", "again:direct/main pass"),
            ("conn conn 200", "again:direct/main again:direct/main pass"),
            ("conn conn conn conn", "again:direct/main again:direct/main again:direct/main 502:upstream_failed,upstream_error"),
            ("login 200", "again:direct/main pass"),
            ("noaddr", "502:upstream_failed,upstream_error"),
            ("lost", "502:upstream_failed,upstream_error"),
            ("kept 200", "again:direct/main pass"),
            // A6: what met a dead connection was no attempt, and four follow all the same.
            (
                "kept conn conn conn conn",
                "again:direct/main again:direct/main again:direct/main again:direct/main 502:upstream_failed,upstream_error",
            ),
            ("conn conn conn kept 200", "again:direct/main again:direct/main again:direct/main again:direct/main pass"),
            ("+20000 kept 200", "again:direct/main pass"),
            ("refused 200", "again:direct/main pass"),
            (
                "refused unread unread unread unread",
                "again:direct/main again:direct/main again:direct/main again:direct/main 502:upstream_failed,upstream_error",
            ),
            ("other 200", "again:direct/main pass"),
            (
                "other other other other",
                "again:direct/main again:direct/main again:direct/main 502:upstream_failed,upstream_error",
            ),
            // What a certificate can't do, it can't do a second later.
            ("cert", "502:upstream_failed,upstream_error"),
            ("conn cert", "again:direct/main 502:upstream_failed,upstream_error"),
            ("sent +999 kept", "again:direct/main"),
            ("sent +1000 kept", "502:upstream_failed,upstream_error"),
            ("unread 200", "again:direct/main pass"),
            (
                "unread unread unread unread",
                "again:direct/main again:direct/main again:direct/main 502:upstream_failed,upstream_error",
            ),
            ("garbage", "502:upstream_failed,upstream_error"),
            ("silent", "504:upstream_timeout,upstream_error"),
            ("late", "504:upstream_timeout,upstream_error"),
            ("gone", "nothing,-"),
            ("slow", "408:body_timeout,refused"),
            ("unreadable", "400:bad_request_head,refused"),
            ("stopping", "503:gateway_stopping,1s,interrupted"),
            ("internal", "500:internal_error,refused"),
            ("judged", "502:upstream_failed,upstream_error"),
        ],
    );
    check(
        NO_KEY,
        MESSAGES,
        &[
            ("conn 200", "again:direct/none pass"),
            ("lost", "502:upstream_failed,upstream_error"),
            ("kept 200", "again:direct/none pass"),
            ("late", "504:upstream_timeout,upstream_error"),
        ],
    );
}

#[test]
fn o6_an_answer_that_has_begun_ends_in_a_protocol_correct_error() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("sse begun lost", "pass event,upstream_cut"),
            ("sse begun kept", "pass event,upstream_cut"),
            ("sse begun unread", "pass event,upstream_cut"),
            ("sse begun silent", "pass event,upstream_cut"),
            ("sse begun garbage", "pass event,upstream_cut"),
            ("sse begun late", "pass event,upstream_cut"),
            ("sse begun gone", "pass nothing,-"),
            ("sse begun stopping", "pass event,interrupted"),
            ("sse begun internal", "pass event,refused"),
            ("200 begun lost", "pass cut,upstream_cut"),
            ("200 begun late", "pass cut,upstream_cut"),
            ("200 begun gone", "pass nothing,-"),
            ("200 begun stopping", "pass cut,interrupted"),
        ],
    );
}

#[test]
fn o3_a_providers_error_that_breaks_off_is_ours_already() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("500;says=half lost", "hear 500:upstream_error,upstream_error"),
            ("500;says=half gone", "hear nothing,-"),
            ("500;says=half late", "hear 500:upstream_error,upstream_error"),
            ("500;says=half garbage", "hear 500:upstream_error,upstream_error"),
            ("500;says=half stopping", "hear 503:gateway_stopping,1s,interrupted"),
            ("500;says=endless garbage", "too_long 500:upstream_error,upstream_error"),
            ("404;says=half late", "hear 404:not_found,upstream_error"),
            ("429;says=half lost", "hear 429:rate_limit_exceeded,upstream_error"),
            ("403;says=half silent", "hear 502:upstream_failed,upstream_error"),
        ],
    );
    check(
        TWO_KEYS,
        MESSAGES,
        &[
            ("429;says=half lost 200", "hear again:direct/k2 pass | k1:rate_limited:60s"),
            ("429;says=half late 200", "hear again:direct/k2 pass | k1:rate_limited:60s"),
            ("403;says=half garbage 200", "hear again:direct/k2 pass | k1:dead:forbidden"),
            ("429;says=endless garbage 200", "too_long again:direct/k2 pass | k1:rate_limited:60s"),
            ("429;says=half gone", "hear nothing,-"),
            ("400;says=half lost", "hear 400:invalid_request,upstream_error"),
        ],
    );
}

#[test]
fn t9_an_answer_of_which_nothing_went_out_is_a_status() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("sse lost", "pass 502:upstream_cut,upstream_cut"),
            ("sse late", "pass 502:upstream_cut,upstream_cut"),
            ("sse gone", "pass nothing,-"),
            ("sse stopping", "pass 503:gateway_stopping,1s,interrupted"),
            ("200 lost", "pass 502:upstream_cut,upstream_cut"),
            ("200 gone", "pass nothing,-"),
            ("200 late", "pass 502:upstream_cut,upstream_cut"),
        ],
    );
    check(
        &with(TWO_KEYS, HOLD),
        MESSAGES,
        &[
            ("sse lost", "held 502:upstream_cut,upstream_cut"),
            ("sse late", "held 502:upstream_cut,upstream_cut"),
            ("sse gone", "held nothing,-"),
            ("sse ev:ping lost", "held keep 502:upstream_cut,upstream_cut"),
            ("sse ev:good begun lost", "held release event,upstream_cut"),
            ("sse ev:good begun gone", "held release nothing,-"),
        ],
    );
}

#[test]
fn t10_two_keys_share_one_way() {
    check(
        TWO_KEYS,
        MESSAGES,
        &[
            ("conn 200", "again:direct/k1 pass"),
            ("conn 429 200", "again:direct/k1 again:direct/k2 pass | k1:rate_limited:60s"),
            ("kept 200", "again:direct/k1 pass"),
            ("lost", "502:upstream_failed,upstream_error"),
            ("429 lost", "again:direct/k2 502:upstream_failed,upstream_error | k1:rate_limited:60s"),
            ("429 conn 200", "again:direct/k2 again:direct/k2 pass | k1:rate_limited:60s"),
            ("429 kept 200", "again:direct/k2 again:direct/k2 pass | k1:rate_limited:60s"),
            ("429 late", "again:direct/k2 504:upstream_timeout,upstream_error | k1:rate_limited:60s"),
            ("429 gone", "again:direct/k2 nothing,- | k1:rate_limited:60s"),
        ],
    );
    check(
        &troll_direct(""),
        MESSAGES,
        &[
            ("conn 200", "again:direct/k1 pass"),
            ("conn conn conn conn", "again:direct/k1 again:direct/k1 again:direct/k1 502:upstream_failed,upstream_error"),
            ("lost", "502:upstream_failed,upstream_error"),
            ("noaddr", "502:upstream_failed,upstream_error"),
            ("429 kept 200", "again:direct/k2 again:direct/k2 pass | k1:rate_limited:60s"),
            ("429 unread 200", "again:direct/k2 again:direct/k2 pass | k1:rate_limited:60s"),
        ],
    );
}

#[test]
fn t10_a_proxy_that_fails_is_left() {
    check(
        &troll_pool(""),
        MESSAGES,
        &[
            ("conn 200", "again:p2/k3 pass"),
            ("conn conn", "again:p2/k3 503:overloaded,1s,upstream_error"),
            ("login 200", "again:p2/k3 pass | p1:down"),
            ("login login", "again:p2/k3 503:overloaded,30s,upstream_error | p1:down p2:down"),
            ("noaddr 200", "again:p2/k3 pass"),
            ("noaddr noaddr", "again:p2/k3 503:overloaded,1s,upstream_error"),
            ("lost 200", "again:p2/k3 pass"),
            ("lost lost", "again:p2/k3 502:upstream_failed,upstream_error"),
            ("lost conn", "again:p2/k3 503:overloaded,1s,upstream_error"),
            ("conn lost", "again:p2/k3 503:overloaded,1s,upstream_error"),
            ("kept 200", "again:p2/k3 pass"),
            // The second one was new, whatever is said of it.
            ("kept kept 200", "again:p2/k3 again:p1/k1 pass"),
            ("kept kept kept", "again:p2/k3 again:p1/k1 502:upstream_failed,upstream_error"),
            ("refused 200", "again:p2/k3 pass"),
            // Behind a tunnel it may be the proxy that breaks TLS open: another one tells, once.
            ("cert 200", "again:p2/k3 pass"),
            ("cert cert", "again:p2/k3 502:upstream_failed,upstream_error"),
            ("lost cert", "again:p2/k3 502:upstream_failed,upstream_error"),
            ("sent +1000 kept 200", "again:p2/k3 pass"),
            ("kept lost", "again:p2/k3 again:p1/k1"),
            ("unread 200", "again:p1/k1 pass"),
            // What brings nothing has lost the request, for all we can see; once.
            ("200;says=nothing nothing 200", "pass again:p2/k3 pass"),
            ("200;says=nothing nothing 200;says=nothing nothing", "pass again:p2/k3 pass 502:upstream_failed,upstream_error"),
            ("200;says=nothing begun nothing", "pass cut,upstream_error"),
            ("sse begun nothing", "pass event,upstream_error"),
            ("lost 200;says=nothing nothing", "again:p2/k3 pass 502:upstream_failed,upstream_error"),
            ("late", "504:upstream_timeout,upstream_error"),
            ("silent", "504:upstream_timeout,upstream_error"),
            ("garbage", "502:upstream_failed,upstream_error"),
            ("gone", "nothing,-"),
            ("429 lost 200", "again:p1/k2 again:p2/k3 pass | k1:rate_limited:60s"),
            ("429 conn 200", "again:p1/k2 again:p2/k3 pass | k1:rate_limited:60s"),
            ("lost 429", "again:p2/k3 503:overloaded,1s | k3:rate_limited:60s"),
            ("lost 403", "again:p2/k3 502:upstream_failed"),
            ("lost 500", "again:p2/k3 500:upstream_error"),
            ("200 begun lost", "pass cut,upstream_cut"),
            ("sse begun lost", "pass event,upstream_cut"),
        ],
    );
    check(
        &troll_reverse(""),
        MESSAGES,
        &[
            ("conn 200", "again:p2/k3 pass"),
            ("lost 200", "again:p2/k3 pass"),
            ("502 lost", "again:p2/k3 502:upstream_failed,upstream_error"),
            ("lost 502", "again:p2/k3 503:overloaded,1s"),
            ("lost lost", "again:p2/k3 502:upstream_failed,upstream_error"),
            ("conn 502", "again:p2/k3 503:overloaded,1s"),
            // A connection of its own: it was no kept one.
            ("502 kept", "again:p2/k3 502:upstream_failed,upstream_error"),
            // The certificate is the proxy's own: it is down, and another one is asked.
            ("cert 200", "again:p2/k3 pass | p1:down"),
            ("cert cert", "again:p2/k3 503:overloaded,30s,upstream_error | p1:down p2:down"),
        ],
    );
}

#[test]
fn t12_limits_of_what_may_follow_a_failure() {
    check(
        &troll_pool(r#","retry":{"max_attempts":1}"#),
        MESSAGES,
        &[
            ("conn", "502:upstream_failed,upstream_error"),
            ("login", "502:upstream_failed,upstream_error | p1:down"),
            ("lost", "502:upstream_failed,upstream_error"),
            // A6: no second attempt, for the first one was none.
            ("kept 200", "again:p2/k3 pass"),
            ("kept kept", "again:p2/k3 502:upstream_failed,upstream_error"),
            ("unread", "502:upstream_failed,upstream_error"),
            ("noaddr", "502:upstream_failed,upstream_error"),
        ],
    );
    check(
        &troll_pool(r#","retry":{"max_share_percent":0}"#),
        MESSAGES,
        &[
            ("conn", "502:upstream_failed,upstream_error"),
            ("lost", "502:upstream_failed,upstream_error"),
            ("kept 200", "again:p2/k3 pass"),
            ("unread", "502:upstream_failed,upstream_error"),
            ("noaddr", "502:upstream_failed,upstream_error"),
        ],
    );
    check(
        &troll_pool(r#","retry":{"budget_ms":1000}"#),
        MESSAGES,
        &[
            ("sent +1000 conn", "502:upstream_failed,upstream_error"),
            ("sent +999 conn 200", "again:p2/k3 pass"),
            ("conn +1000 lost", "again:p2/k3 503:overloaded,1s,upstream_error"),
            ("sent +1000 lost", "502:upstream_failed,upstream_error"),
            ("sent +1000 unread", "502:upstream_failed,upstream_error"),
        ],
    );
}

#[test]
fn q4_a_request_that_fails_before_anything_is_decided_is_answered_by_us_or_by_nobody() {
    let house = House::new(ONE_KEY);
    let detail = || "it broke".to_owned();
    let rows = [
        (Failure::ClientGone, None, End::ClientGone),
        (Failure::BodyTooSlow, Some(408), End::Refused),
        (Failure::Unreadable, Some(400), End::Refused),
        (Failure::Stopping, Some(503), End::Refused),
        (Failure::Internal { detail: detail() }, Some(500), End::Refused),
    ];
    for (failure, status, end) in rows {
        let arrived = house.arrived(Method::POST, MESSAGES).failed(&failure);
        assert_eq!((arrived.status(), arrived.end()), (status, end), "{failure:?}");
        let reading = Reading { arrived: house.arrived(Method::POST, MESSAGES), caller: Caller::Anonymous };
        let reading = reading.failed(&failure);
        assert_eq!((reading.status(), reading.end()), (status, end), "{failure:?}, while the body was read");
    }
}

/// A6: what met a dead connection is in no count: not the ledger's, not its key's, not its proxy's.
#[test]
fn a6_an_attempt_that_met_a_dead_connection_is_counted_nowhere() {
    // What happens → attempts of the entry, of k1, of k3, of p1, of p2.
    let rows = [
        ("200", [1, 1, 0, 1, 0]),
        ("kept 200", [1, 0, 1, 0, 1]),
        ("refused 200", [1, 0, 1, 0, 1]),
        ("unread 200", [2, 2, 0, 2, 0]),
        ("conn kept 200", [2, 1, 1, 1, 1]),
        ("kept conn 200", [2, 1, 1, 1, 1]),
        ("lost 200", [2, 1, 1, 1, 1]),
        ("kept lost 200", [2, 1, 1, 1, 1]),
    ];
    for (words, expected) in rows {
        let (entry, upstream) = walked(&troll_pool(""), MESSAGES, words);
        let key = |nth: usize| upstream.credentials[nth].standing.attempts();
        let proxy = |nth: usize| upstream.proxies()[nth].health.attempts();
        let counted = [entry["attempts"].as_u64().unwrap(), key(0), key(2), proxy(0), proxy(1)];
        assert_eq!(counted, expected, "{words}: {entry}");
    }
    let (entry, upstream) = walked(ONE_KEY, MESSAGES, "kept gone");
    assert_eq!((&entry["attempts"], upstream.credentials[0].standing.attempts()), (&1.into(), 1), "{entry}");
}
