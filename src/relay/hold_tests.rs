//! First events → kept, released, or another attempt, as walks (see `testing`).

use crate::relay::testing::{HOLD, NO_KEY, ONE_KEY, TWO_KEYS, check, troll_direct, troll_pool, with};

const MESSAGES: &str = "/v1/messages";

#[test]
fn t9_nothing_is_held_that_no_other_key_could_better() {
    check(&with(ONE_KEY, HOLD), MESSAGES, &[("sse", "pass"), ("200", "pass")]);
    check(&with(NO_KEY, HOLD), MESSAGES, &[("sse", "pass")]);
    check(
        &with(TWO_KEYS, HOLD),
        MESSAGES,
        &[
            ("sse", "held"),
            ("200", "pass"),
            ("200;content-type=application/json", "pass"),
            ("200;content-type=text/event-stream;content-encoding=gzip", "pass"),
            ("200;content-type=text/event-stream;content-encoding=identity", "held"),
            ("429 sse", "again:direct/k2 pass | k1:rate_limited:60s"),
            ("sent +14999 sse", "held"),
            ("sent +15000 sse", "pass"),
        ],
    );
    check(TWO_KEYS, MESSAGES, &[("sse", "pass")]);
    check(
        &troll_pool(HOLD),
        MESSAGES,
        &[("sse", "held"), ("429 429 sse", "again:p1/k2 again:p2/k3 pass | k1:rate_limited:60s k2:rate_limited:60s")],
    );
    check(&troll_direct(r#","retry":{"hold_first_event_ms":300,"max_attempts":1}"#), MESSAGES, &[("sse", "pass")]);
}

#[test]
fn o6_only_a_stream_with_an_end_of_its_own_is_held() {
    check(&with(TWO_KEYS, HOLD), "/v1/chat/completions", &[("sse", "held")]);
    check(&with(TWO_KEYS, HOLD), "/v1/completions", &[("sse", "held")]);
    check(&with(TWO_KEYS, HOLD), "/v1/responses", &[("sse", "held")]);
    check(&with(TWO_KEYS, HOLD), "/v1/embeddings", &[("sse", "pass")]);
    check(&with(TWO_KEYS, HOLD), "/v1/messages/count_tokens", &[("sse", "pass")]);
    check(&with(TWO_KEYS, HOLD), "/v1/rerank", &[("sse", "pass")]);
}

#[test]
fn t9_a_first_event_that_fails_is_tried_again_while_the_client_has_seen_nothing() {
    check(
        &with(TWO_KEYS, HOLD),
        MESSAGES,
        &[
            ("sse ev:good", "held release"),
            ("sse ev:ping", "held keep"),
            ("sse ev:ping ev:ping ev:good", "held keep keep release"),
            ("sse ev:bad", "held release"),
            ("sse ev:529 sse", "held again:direct/k2 pass"),
            ("sse ev:429 sse", "held again:direct/k2 pass | k1:rate_limited:60s"),
            ("sse ev:402 sse", "held again:direct/k2 pass | k1:exhausted:3600s"),
            ("sse ev:529 429", "held again:direct/k2 429:rate_limit_exceeded | k2:rate_limited:60s"),
            ("sse ev:529 500", "held again:direct/k2 500:upstream_error"),
            ("sse ev:ping ev:429 200", "held keep again:direct/k2 pass | k1:rate_limited:60s"),
            ("sse ev:429 lost", "held again:direct/k2 502:upstream_failed,upstream_error | k1:rate_limited:60s"),
            ("sse ev:429 gone", "held again:direct/k2 nothing,- | k1:rate_limited:60s"),
            ("sse ev:429 late", "held again:direct/k2 504:upstream_timeout,upstream_error | k1:rate_limited:60s"),
        ],
    );
    check(
        &troll_direct(HOLD),
        MESSAGES,
        &[
            ("sse ev:529 sse ev:529 sse", "held again:direct/k2 held again:direct/k3 pass"),
            (
                "sse ev:429 sse ev:429 sse",
                "held again:direct/k2 held again:direct/k3 pass | k1:rate_limited:60s k2:rate_limited:60s",
            ),
            ("429 sse ev:529 sse", "again:direct/k2 held again:direct/k3 pass | k1:rate_limited:60s"),
            ("sse ev:429 429 sse", "held again:direct/k2 again:direct/k3 pass | k1:rate_limited:60s k2:rate_limited:60s"),
        ],
    );
    check(
        &troll_pool(HOLD),
        MESSAGES,
        &[
            ("sse ev:529 sse ev:529 sse", "held again:p1/k2 held again:p2/k3 pass"),
            ("sse ev:429 sse", "held again:p1/k2 held | k1:rate_limited:60s"),
            ("sse ev:402 sse ev:402 sse", "held again:p1/k2 held again:p2/k3 pass | k1:exhausted:3600s k2:exhausted:3600s"),
        ],
    );
}

#[test]
fn t12_limits_bound_what_is_held_as_well() {
    check(
        &troll_direct(r#","retry":{"hold_first_event_ms":300,"max_attempts":2}"#),
        MESSAGES,
        &[("sse ev:529 sse", "held again:direct/k2 pass"), ("429 sse", "again:direct/k2 pass | k1:rate_limited:60s")],
    );
    check(
        &troll_direct(r#","retry":{"hold_first_event_ms":300,"max_share_percent":0}"#),
        MESSAGES,
        &[("sse ev:529", "held release"), ("sse ev:429 sse", "held again:direct/k2 held | k1:rate_limited:60s")],
    );
    check(
        &troll_direct(r#","retry":{"hold_first_event_ms":300,"budget_ms":1000}"#),
        MESSAGES,
        &[("sent +1000 sse", "pass"), ("sse +1000 ev:529", "held release"), ("sse +999 ev:529 sse", "held again:direct/k2 held")],
    );
}
