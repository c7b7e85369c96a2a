//! Status × pool × attempts × limits → what comes next, as walks (see `testing`): a word a head, and behind the bar who stands badly.

use crate::relay::testing::{NO_KEY, ONE_KEY, TWO_KEYS, check, troll_direct, troll_pool, troll_reverse};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn o3_o4_o5_a_single_key_has_nobody_beside_it() {
    check(
        ONE_KEY,
        CHAT,
        &[
            ("200", "pass"),
            ("201", "pass"),
            ("204", "pass"),
            ("299", "pass"),
            ("401", "502:upstream_failed"),
            ("402", "502:upstream_failed"),
            ("403", "502:upstream_failed"),
            ("429", "429:rate_limit_exceeded"),
            ("429;retry-after=7", "429:rate_limit_exceeded,7s"),
            ("429;retry-after-ms=1500", "429:rate_limit_exceeded,1s"),
            ("503", "503:overloaded"),
            ("503;retry-after=2", "503:overloaded,2s"),
            ("529", "529:overloaded"),
            ("502", "502:upstream_error"),
            ("500", "500:upstream_error"),
            ("501", "501:upstream_error"),
            ("504", "504:upstream_error"),
            ("400", "400:invalid_request"),
            ("404", "404:not_found"),
            ("405", "405:invalid_request"),
            ("408", "408:invalid_request"),
            ("409", "409:invalid_request"),
            ("413", "413:request_too_large"),
            ("415", "415:invalid_request"),
            ("422", "422:invalid_request"),
            ("451", "451:invalid_request"),
            ("407", "407:invalid_request"),
            ("300", "502:upstream_failed"),
            ("301", "502:upstream_failed"),
            ("302", "502:upstream_failed"),
            ("304", "502:upstream_failed"),
            ("307", "502:upstream_failed"),
            ("308", "502:upstream_failed"),
            ("600", "502:upstream_failed"),
        ],
    );
}

#[test]
fn o9_a_head_whose_body_has_no_sure_end_is_not_passed_on() {
    check(
        ONE_KEY,
        CHAT,
        &[
            ("101", "unusable"),
            ("200;transfer-encoding=gzip", "unusable"),
            ("200;transfer-encoding=chunked", "pass"),
            ("500;transfer-encoding=gzip", "unusable"),
            ("429;transfer-encoding=identity", "unusable"),
        ],
    );
    check(TWO_KEYS, CHAT, &[("429;transfer-encoding=gzip", "unusable")]);
}

#[test]
fn o5_a_target_without_a_key_has_nobody_else_either() {
    check(
        NO_KEY,
        CHAT,
        &[
            ("200", "pass"),
            ("401", "502:upstream_failed"),
            ("402", "502:upstream_failed"),
            ("403", "502:upstream_failed"),
            ("429", "429:rate_limit_exceeded"),
            ("429;retry-after=3", "429:rate_limit_exceeded,3s"),
            ("503", "503:overloaded"),
            ("529", "529:overloaded"),
            ("500", "500:upstream_error"),
            ("404", "404:not_found"),
        ],
    );
}

#[test]
fn t2_t10_t11_two_keys_of_an_upstream_that_shows_its_limits() {
    check(
        TWO_KEYS,
        CHAT,
        &[
            ("429 200", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("429 429", "again:direct/k2 429:rate_limit_exceeded | k1:rate_limited:60s k2:rate_limited:60s"),
            ("429;retry-after=7 429", "again:direct/k2 429:rate_limit_exceeded | k1:rate_limited:7s k2:rate_limited:60s"),
            (
                "429;retry-after=7 429;retry-after=3",
                "again:direct/k2 429:rate_limit_exceeded,3s | k1:rate_limited:7s k2:rate_limited:3s",
            ),
            ("402 200", "again:direct/k2 pass | k1:exhausted:3600s"),
            ("402 402", "again:direct/k2 502:upstream_failed | k1:exhausted:3600s k2:exhausted:3600s"),
            ("402 429", "again:direct/k2 429:rate_limit_exceeded | k1:exhausted:3600s k2:rate_limited:60s"),
            ("429 402", "again:direct/k2 502:upstream_failed | k1:rate_limited:60s k2:exhausted:3600s"),
            ("401 200", "again:direct/k2 pass | k1:dead:unauthorized"),
            ("401 401", "again:direct/k2 502:upstream_failed"),
            ("403 200", "again:direct/k2 pass | k1:dead:forbidden"),
            ("403 403", "again:direct/k2 502:upstream_failed"),
            ("401 403", "again:direct/k2 502:upstream_failed"),
            ("403 401", "again:direct/k2 502:upstream_failed"),
            ("503 200", "again:direct/k2 pass"),
            ("503 503", "again:direct/k2 503:overloaded"),
            ("529 200", "again:direct/k2 pass"),
            ("529 529", "again:direct/k2 529:overloaded"),
            ("500", "500:upstream_error"),
            ("400", "400:invalid_request"),
            ("404", "404:not_found"),
            ("502", "502:upstream_error"),
            ("407", "407:invalid_request"),
            ("429 500", "again:direct/k2 500:upstream_error | k1:rate_limited:60s"),
            ("429 404", "again:direct/k2 404:not_found | k1:rate_limited:60s"),
            ("429 503", "again:direct/k2 503:overloaded | k1:rate_limited:60s"),
            ("503 429", "again:direct/k2 429:rate_limit_exceeded | k2:rate_limited:60s"),
            ("429 302", "again:direct/k2 502:upstream_failed | k1:rate_limited:60s"),
        ],
    );
}

#[test]
fn t2_t3_t4_three_keys_of_a_pool_that_hides_its_limits() {
    check(
        &troll_direct(""),
        CHAT,
        &[
            ("200", "pass"),
            ("429 200", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("429 429 200", "again:direct/k2 again:direct/k3 pass | k1:rate_limited:60s k2:rate_limited:60s"),
            (
                "429 429 429",
                "again:direct/k2 again:direct/k3 503:overloaded,60s | k1:rate_limited:60s k2:rate_limited:60s k3:rate_limited:60s",
            ),
            (
                "429;retry-after=7 429;retry-after=9 429;retry-after=11",
                "again:direct/k2 again:direct/k3 503:overloaded,7s | k1:rate_limited:7s k2:rate_limited:9s k3:rate_limited:11s",
            ),
            (
                "402 402 402",
                "again:direct/k2 again:direct/k3 503:overloaded,3600s | k1:exhausted:3600s k2:exhausted:3600s k3:exhausted:3600s",
            ),
            ("429 402 401", "again:direct/k2 again:direct/k3 502:upstream_failed | k1:rate_limited:60s k2:exhausted:3600s"),
            ("401 401 401", "again:direct/k2 again:direct/k3 502:upstream_failed"),
            ("401 200", "again:direct/k2 pass | k1:dead:unauthorized"),
            ("403 403 403", "again:direct/k2 again:direct/k3 502:upstream_failed"),
            ("403 403 200", "again:direct/k2 again:direct/k3 pass | k1:dead:forbidden k2:dead:forbidden"),
            ("403 200", "again:direct/k2 pass | k1:dead:forbidden"),
            ("403 429 200", "again:direct/k2 again:direct/k3 pass | k1:dead:forbidden k2:rate_limited:60s"),
            ("429 403 403", "again:direct/k2 again:direct/k3 502:upstream_failed | k1:rate_limited:60s"),
            ("529 200", "again:direct/k2 pass"),
            ("529 429 200", "again:direct/k2 again:direct/k3 pass | k2:rate_limited:60s"),
            ("503 529 200", "again:direct/k2 again:direct/k3 pass"),
            ("529 529 529", "again:direct/k2 again:direct/k3 529:overloaded"),
            ("429 529 529", "again:direct/k2 again:direct/k3 529:overloaded | k1:rate_limited:60s"),
            ("500", "500:upstream_error"),
            ("400", "400:invalid_request"),
            ("404", "404:not_found"),
        ],
    );
}

#[test]
fn t12_attempts_time_and_share_end_the_walk() {
    check(
        &troll_direct(r#","retry":{"max_attempts":1}"#),
        CHAT,
        &[
            ("429", "503:overloaded,1s | k1:rate_limited:60s"),
            ("402", "502:upstream_failed | k1:exhausted:3600s"),
            ("401", "502:upstream_failed"),
            ("403", "502:upstream_failed"),
            ("529", "529:overloaded"),
            ("503", "503:overloaded"),
        ],
    );
    check(
        &troll_direct(r#","retry":{"max_attempts":2}"#),
        CHAT,
        &[
            ("429 200", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("429 429", "again:direct/k2 503:overloaded,1s | k1:rate_limited:60s k2:rate_limited:60s"),
            ("402 402", "again:direct/k2 502:upstream_failed | k1:exhausted:3600s k2:exhausted:3600s"),
            ("401 401", "again:direct/k2 502:upstream_failed"),
            ("403 403", "again:direct/k2 502:upstream_failed"),
            ("529 529", "again:direct/k2 529:overloaded"),
            ("429 529", "again:direct/k2 529:overloaded | k1:rate_limited:60s"),
            ("529 429", "again:direct/k2 503:overloaded,1s | k2:rate_limited:60s"),
        ],
    );
    check(
        &troll_direct(r#","retry":{"max_share_percent":0}"#),
        CHAT,
        &[
            ("429 200", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("401 200", "again:direct/k2 pass | k1:dead:unauthorized"),
            ("403 200", "again:direct/k2 pass | k1:dead:forbidden"),
            ("402 200", "again:direct/k2 pass | k1:exhausted:3600s"),
            ("503", "503:overloaded"),
            ("529", "529:overloaded"),
        ],
    );
    check(
        &troll_direct(r#","retry":{"budget_ms":1000}"#),
        CHAT,
        &[
            ("429 +999 429 200", "again:direct/k2 again:direct/k3 pass | k1:rate_limited:59s k2:rate_limited:60s"),
            ("sent +999 429 200", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("sent +1000 429", "503:overloaded,1s | k1:rate_limited:60s"),
            ("sent +1001 402", "502:upstream_failed | k1:exhausted:3600s"),
            ("sent +1000 529", "529:overloaded"),
        ],
    );
}

#[test]
fn t1_t2_t3_proxies_with_keys_of_their_own() {
    check(
        &troll_pool(""),
        CHAT,
        &[
            ("200", "pass"),
            ("429 200", "again:p1/k2 pass | k1:rate_limited:60s"),
            ("429 429 200", "again:p1/k2 again:p2/k3 pass | k1:rate_limited:60s k2:rate_limited:60s"),
            (
                "429 429 429",
                "again:p1/k2 again:p2/k3 503:overloaded,60s | k1:rate_limited:60s k2:rate_limited:60s k3:rate_limited:60s",
            ),
            (
                "402 402 402",
                "again:p1/k2 again:p2/k3 503:overloaded,3600s | k1:exhausted:3600s k2:exhausted:3600s k3:exhausted:3600s",
            ),
            ("401 401 401", "again:p1/k2 again:p2/k3 502:upstream_failed"),
            ("403 403 403", "again:p1/k2 again:p2/k3 502:upstream_failed"),
            ("403 403 200", "again:p1/k2 again:p2/k3 pass | k1:dead:forbidden k2:dead:forbidden"),
            ("503 200", "again:p1/k2 pass"),
            ("529 529 200", "again:p1/k2 again:p2/k3 pass"),
            ("529 529 529", "again:p1/k2 again:p2/k3 529:overloaded"),
            ("429 529 200", "again:p1/k2 again:p2/k3 pass | k1:rate_limited:60s"),
            ("502", "502:upstream_error"),
            ("407", "407:invalid_request"),
            ("500", "500:upstream_error"),
            ("404", "404:not_found"),
        ],
    );
}

#[test]
fn t10_a_reverse_proxy_may_speak_for_itself() {
    check(
        &troll_reverse(""),
        CHAT,
        &[
            ("502 200", "again:p2/k3 pass"),
            ("503 200", "again:p2/k3 pass"),
            ("407 200", "again:p2/k3 pass"),
            ("502 502", "again:p2/k3 503:overloaded,1s"),
            ("503 503", "again:p2/k3 503:overloaded,1s"),
            ("407 407", "again:p2/k3 503:overloaded,1s"),
            ("429 502 200", "again:p1/k2 again:p2/k3 pass | k1:rate_limited:60s"),
            ("502 429", "again:p2/k3 503:overloaded,1s | k3:rate_limited:60s"),
            ("403 502 200", "again:p1/k2 again:p2/k3 pass | k1:dead:forbidden"),
            ("502 403", "again:p2/k3 502:upstream_failed"),
            ("529 200", "again:p1/k2 pass"),
            ("504", "504:upstream_error"),
            ("500", "500:upstream_error"),
        ],
    );
}

#[test]
fn a2_what_is_about_one_model_rests_the_key_for_that_one_alone() {
    check(
        TWO_KEYS,
        CHAT,
        &[
            ("429;says=m 200", "again:direct/k2 pass | k1/m:rate_limited:60s"),
            ("429;says=m;retry-after=7 200", "again:direct/k2 pass | k1/m:rate_limited:7s"),
            ("429;says=m 429;says=m", "again:direct/k2 429:rate_limit_exceeded | k1/m:rate_limited:60s k2/m:rate_limited:60s"),
            ("403;says=m 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("403;says=big 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("404;says=m 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("404;says=big 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("400;says=big 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("401;says=rights 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("403;says=rights 200", "again:direct/k2 pass | k1/m:no_access:3600s"),
            ("400;says=m", "400:invalid_request"),
            ("500;says=m", "500:upstream_error"),
        ],
    );
}

#[test]
fn a1_what_every_key_is_refused_changes_none() {
    check(
        TWO_KEYS,
        CHAT,
        &[
            ("403;says=m 403;says=m", "again:direct/k2 502:upstream_failed"),
            ("404;says=m 404;says=m", "again:direct/k2 404:not_found"),
            ("400;says=big 400;says=big", "again:direct/k2 400:invalid_request"),
            ("404;says=m 500", "again:direct/k2 500:upstream_error"),
            ("403;says=page 403;says=page", "again:direct/k2 502:upstream_failed"),
            ("403;says=page 200", "again:direct/k2 pass"),
            ("400;says=money 400;says=money", "again:direct/k2 502:upstream_failed"),
            ("403;says=money 403;says=money", "again:direct/k2 502:upstream_failed"),
        ],
    );
    check(
        &troll_direct(""),
        CHAT,
        &[
            ("404;says=m 404;says=m 404;says=m", "again:direct/k2 again:direct/k3 404:not_found"),
            ("403;says=m 403;says=m 403;says=m", "again:direct/k2 again:direct/k3 502:upstream_failed"),
            ("404;says=m 429 200", "again:direct/k2 again:direct/k3 pass | k2:rate_limited:60s k1/m:no_access:3600s"),
        ],
    );
    check(
        &troll_pool(""),
        CHAT,
        &[("403;says=page 200", "again:p2/k3 pass"), ("403;says=page 403;says=page", "again:p2/k3 502:upstream_failed")],
    );
}

#[test]
fn a2_a_request_that_is_too_large_rests_nobody() {
    const ROOM: &str = "429;x-ratelimit-remaining-tokens=200;retry-after=7;says=tokens";
    check(
        &troll_direct(""),
        CHAT,
        &[
            ("429;says=size 429;says=size 429;says=size", "again:direct/k2 again:direct/k3 429:request_beyond_limit"),
            ("429;says=size 200", "again:direct/k2 pass"),
            (&format!("{ROOM} {ROOM} {ROOM}"), "again:direct/k2 again:direct/k3 429:rate_limit_exceeded,7s"),
            ("429;says=size 429 200", "again:direct/k2 again:direct/k3 pass | k2:rate_limited:60s"),
        ],
    );
    check(ONE_KEY, CHAT, &[("429;says=size", "429:request_beyond_limit"), (ROOM, "429:rate_limit_exceeded,7s")]);
}

#[test]
fn an_account_without_money_rests_as_exhausted_and_is_never_the_clients_fault() {
    check(
        TWO_KEYS,
        CHAT,
        &[
            ("429;says=money 200", "again:direct/k2 pass | k1:exhausted:3600s"),
            ("400;says=money 200", "again:direct/k2 pass | k1:exhausted:3600s"),
            ("403;says=money 200", "again:direct/k2 pass | k1:exhausted:3600s"),
            ("429;says=money 429;says=money", "again:direct/k2 502:upstream_failed | k1:exhausted:3600s k2:exhausted:3600s"),
        ],
    );
    check(ONE_KEY, CHAT, &[("429;says=money", "502:upstream_failed"), ("400;says=money", "502:upstream_failed")]);
}

#[test]
fn t9_an_error_without_a_body_is_judged_by_its_head() {
    check(
        TWO_KEYS,
        CHAT,
        &[
            ("429;content-length=0 200", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("403;content-length=0 200", "again:direct/k2 pass | k1:dead:forbidden"),
            ("400;content-length=0", "400:invalid_request"),
        ],
    );
}

/// A client that asks for what nobody may leaves the shared budget of retries to the others.
#[test]
fn a1_no_client_uses_up_the_retries_of_the_others() {
    check(
        &troll_direct(r#","retry":{"max_share_percent":0}"#),
        CHAT,
        &[
            ("404;says=m 404;says=m 404;says=m", "again:direct/k2 again:direct/k3 404:not_found"),
            ("429;says=size 200", "again:direct/k2 pass"),
            ("403;says=page 200", "again:direct/k2 pass"),
            ("503", "503:overloaded"),
        ],
    );
}
