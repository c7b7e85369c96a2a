//! First events → kept, released, or another attempt, as walks (see `testing`).

use crate::relay::testing::{HOLD, NO_KEY, ONE_KEY, TWO_KEYS, check, troll_direct, troll_pool, with};

const MESSAGES: &str = "/v1/messages";

#[test]
fn t9_nothing_is_held_that_no_other_key_could_better() {
    check(&with(ONE_KEY, HOLD), MESSAGES, &[("sse", "?"), ("200", "?")]);
    check(&with(NO_KEY, HOLD), MESSAGES, &[("sse", "?")]);
    check(
        &with(TWO_KEYS, HOLD),
        MESSAGES,
        &[
            ("sse", "?"),
            ("200", "?"),
            ("200;content-type=application/json", "?"),
            ("200;content-type=text/event-stream;content-encoding=gzip", "?"),
            ("200;content-type=text/event-stream;content-encoding=identity", "?"),
            ("429 sse", "?"),
            ("sent +14999 sse", "?"),
            ("sent +15000 sse", "?"),
        ],
    );
    check(TWO_KEYS, MESSAGES, &[("sse", "?")]);
    check(&troll_pool(HOLD), MESSAGES, &[("sse", "?"), ("429 429 sse", "?")]);
    check(&troll_direct(r#","retry":{"hold_first_event_ms":300,"max_attempts":1}"#), MESSAGES, &[("sse", "?")]);
}

#[test]
fn o6_only_a_stream_with_an_end_of_its_own_is_held() {
    check(&with(TWO_KEYS, HOLD), "/v1/chat/completions", &[("sse", "?")]);
    check(&with(TWO_KEYS, HOLD), "/v1/completions", &[("sse", "?")]);
    check(&with(TWO_KEYS, HOLD), "/v1/responses", &[("sse", "?")]);
    check(&with(TWO_KEYS, HOLD), "/v1/embeddings", &[("sse", "?")]);
    check(&with(TWO_KEYS, HOLD), "/v1/messages/count_tokens", &[("sse", "?")]);
    check(&with(TWO_KEYS, HOLD), "/v1/rerank", &[("sse", "?")]);
}

#[test]
fn t9_a_first_event_that_fails_is_tried_again_while_the_client_has_seen_nothing() {
    check(
        &with(TWO_KEYS, HOLD),
        MESSAGES,
        &[
            ("sse ev:good", "?"),
            ("sse ev:ping", "?"),
            ("sse ev:ping ev:ping ev:good", "?"),
            ("sse ev:bad", "?"),
            ("sse ev:529 sse", "?"),
            ("sse ev:429 sse", "?"),
            ("sse ev:402 sse", "?"),
            ("sse ev:529 429", "?"),
            ("sse ev:529 500", "?"),
            ("sse ev:ping ev:429 200", "?"),
            ("sse ev:429 lost", "?"),
            ("sse ev:429 gone", "?"),
            ("sse ev:429 late", "?"),
        ],
    );
    check(
        &troll_direct(HOLD),
        MESSAGES,
        &[
            ("sse ev:529 sse ev:529 sse", "?"),
            ("sse ev:429 sse ev:429 sse", "?"),
            ("429 sse ev:529 sse", "?"),
            ("sse ev:429 429 sse", "?"),
        ],
    );
    check(
        &troll_pool(HOLD),
        MESSAGES,
        &[("sse ev:529 sse ev:529 sse", "?"), ("sse ev:429 sse", "?"), ("sse ev:402 sse ev:402 sse", "?")],
    );
}

#[test]
fn t12_limits_bound_what_is_held_as_well() {
    check(
        &troll_direct(r#","retry":{"hold_first_event_ms":300,"max_attempts":2}"#),
        MESSAGES,
        &[("sse ev:529 sse", "?"), ("429 sse", "?")],
    );
    check(
        &troll_direct(r#","retry":{"hold_first_event_ms":300,"max_share_percent":0}"#),
        MESSAGES,
        &[("sse ev:529", "?"), ("sse ev:429 sse", "?")],
    );
    check(
        &troll_direct(r#","retry":{"hold_first_event_ms":300,"budget_ms":1000}"#),
        MESSAGES,
        &[("sent +1000 sse", "?"), ("sse +1000 ev:529", "?"), ("sse +999 ev:529 sse", "?")],
    );
}
