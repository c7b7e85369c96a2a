//! Failure × pool × how far the answer got → another attempt or the last word, as walks (see `testing`).

use crate::relay::testing::{HOLD, NO_KEY, ONE_KEY, TWO_KEYS, check, troll_direct, troll_pool, troll_reverse, with};

const MESSAGES: &str = "/v1/messages";

#[test]
fn t10_one_way_and_no_other() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("conn 200", "?"),
            ("conn conn 200", "?"),
            ("conn conn conn conn", "?"),
            ("login 200", "?"),
            ("noaddr", "?"),
            ("lost", "?"),
            ("kept 200", "?"),
            ("kept kept 200", "?"),
            ("sent +999 kept", "?"),
            ("sent +1000 kept", "?"),
            ("unread 200", "?"),
            ("unread unread unread unread", "?"),
            ("garbage", "?"),
            ("silent", "?"),
            ("late", "?"),
            ("gone", "?"),
            ("slow", "?"),
            ("unreadable", "?"),
            ("stopping", "?"),
            ("internal", "?"),
            ("judged", "?"),
        ],
    );
    check(NO_KEY, MESSAGES, &[("conn 200", "?"), ("lost", "?"), ("kept 200", "?"), ("late", "?")]);
}

#[test]
fn o6_an_answer_that_has_begun_ends_in_a_protocol_correct_error() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("sse begun lost", "?"),
            ("sse begun kept", "?"),
            ("sse begun unread", "?"),
            ("sse begun silent", "?"),
            ("sse begun garbage", "?"),
            ("sse begun late", "?"),
            ("sse begun gone", "?"),
            ("sse begun stopping", "?"),
            ("sse begun internal", "?"),
            ("200 begun lost", "?"),
            ("200 begun late", "?"),
            ("200 begun gone", "?"),
            ("200 begun stopping", "?"),
        ],
    );
}

#[test]
fn o3_a_providers_error_that_breaks_off_is_ours_already() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("500 begun lost", "?"),
            ("500 begun gone", "?"),
            ("500 begun late", "?"),
            ("404 begun late", "?"),
            ("429 begun lost", "?"),
            ("500 lost", "?"),
        ],
    );
}

#[test]
fn t9_an_answer_of_which_nothing_went_out_is_a_status() {
    check(
        ONE_KEY,
        MESSAGES,
        &[
            ("sse lost", "?"),
            ("sse late", "?"),
            ("sse gone", "?"),
            ("sse stopping", "?"),
            ("200 lost", "?"),
            ("200 gone", "?"),
            ("200 late", "?"),
        ],
    );
    check(
        &with(TWO_KEYS, HOLD),
        MESSAGES,
        &[
            ("sse lost", "?"),
            ("sse late", "?"),
            ("sse gone", "?"),
            ("sse ev:ping lost", "?"),
            ("sse ev:good begun lost", "?"),
            ("sse ev:good begun gone", "?"),
        ],
    );
}

#[test]
fn t10_two_keys_share_one_way() {
    check(
        TWO_KEYS,
        MESSAGES,
        &[
            ("conn 200", "?"),
            ("conn 429 200", "?"),
            ("kept 200", "?"),
            ("lost", "?"),
            ("429 lost", "?"),
            ("429 conn 200", "?"),
            ("429 kept 200", "?"),
            ("429 late", "?"),
            ("429 gone", "?"),
        ],
    );
    check(
        &troll_direct(""),
        MESSAGES,
        &[
            ("conn 200", "?"),
            ("conn conn conn conn", "?"),
            ("lost", "?"),
            ("noaddr", "?"),
            ("429 kept 200", "?"),
            ("429 unread 200", "?"),
        ],
    );
}

#[test]
fn t10_a_proxy_that_fails_is_left() {
    check(
        &troll_pool(""),
        MESSAGES,
        &[
            ("conn 200", "?"),
            ("conn conn", "?"),
            ("login 200", "?"),
            ("login login", "?"),
            ("noaddr 200", "?"),
            ("noaddr noaddr", "?"),
            ("lost 200", "?"),
            ("lost lost", "?"),
            ("lost conn", "?"),
            ("conn lost", "?"),
            ("kept 200", "?"),
            ("kept kept 200", "?"),
            ("sent +1000 kept 200", "?"),
            ("kept lost", "?"),
            ("unread 200", "?"),
            ("late", "?"),
            ("silent", "?"),
            ("garbage", "?"),
            ("gone", "?"),
            ("429 lost 200", "?"),
            ("429 conn 200", "?"),
            ("lost 429", "?"),
            ("lost 403", "?"),
            ("lost 500", "?"),
            ("200 begun lost", "?"),
            ("sse begun lost", "?"),
        ],
    );
    check(
        &troll_reverse(""),
        MESSAGES,
        &[
            ("conn 200", "?"),
            ("lost 200", "?"),
            ("502 lost", "?"),
            ("lost 502", "?"),
            ("lost lost", "?"),
            ("conn 502", "?"),
            ("502 kept 200", "?"),
        ],
    );
}

#[test]
fn t12_limits_of_what_may_follow_a_failure() {
    check(
        &troll_pool(r#","retry":{"max_attempts":1}"#),
        MESSAGES,
        &[("conn", "?"), ("login", "?"), ("lost", "?"), ("kept", "?"), ("unread", "?"), ("noaddr", "?")],
    );
    check(
        &troll_pool(r#","retry":{"max_share_percent":0}"#),
        MESSAGES,
        &[("conn", "?"), ("lost", "?"), ("kept 200", "?"), ("unread", "?"), ("noaddr", "?")],
    );
    check(
        &troll_pool(r#","retry":{"budget_ms":1000}"#),
        MESSAGES,
        &[
            ("sent +1000 conn", "?"),
            ("sent +999 conn 200", "?"),
            ("conn +1000 lost", "?"),
            ("sent +1000 lost", "?"),
            ("sent +1000 unread", "?"),
        ],
    );
}
