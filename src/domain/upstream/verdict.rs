//! What an attempt's outcome means: one pure table, from what the upstream answered to what happens to the request, the key, the model on
//! that key, and the proxy. For people it stands in `docs/upstream-answers.md`, which a test makes out of the code.
//!
//! What every key is refused is the request's own fault, and no client may take a key from the others by asking for what nobody may: such a
//! refusal is held against a key only when another one serves the same request ([`Proof::Another`], A1). "Next" is where there is one:
//! `relay::rotation` looks for it, and [`refusal`] is what the client gets where there is none, unless `rotation` says that the whole pool is
//! out. A single key without a pool never rests. What the words of a body say: `words`.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::domain::answer::Refusal;
use crate::domain::upstream::advice::Cooldowns;
use crate::domain::upstream::standing::Cause;
use crate::domain::upstream::words::Words;

/// A refusal, or an answer, as far as its meaning goes.
#[derive(Clone, Copy, Debug)]
pub struct Said<'s> {
    /// A final one: not 1xx.
    pub status: u16,
    /// It comes from a reverse proxy that may speak for itself.
    pub from_proxy: bool,
    pub words: &'s Words,
    /// The model as the upstream was asked for it.
    pub model: Option<&'s str>,
    /// The headers tell of tokens that are left: what was refused is larger than that, and others need not be.
    pub has_room: bool,
}

/// What an answer says, and about whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Good,
    /// The key must rest, or is dead, for every model.
    Key(Cause, Proof),
    /// The key must rest for this model alone.
    Model(Cause, Proof),
    /// This one request is larger than what the key may have now, or ever.
    Size {
        ever: bool,
    },
    /// Something before the provider refused the way.
    Page,
    /// The provider, or all of it that this key reaches, has too much to do.
    Overloaded,
    /// The proxy did not pass the request on.
    Proxy,
    /// This request alone failed; another key or proxy would get the same answer, and maybe the same bill.
    Request,
    Unusable,
}

/// What it takes until a key is held to what was said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The provider's word.
    Word,
    /// That another key serves the very same request (A1).
    Another,
}

/// What a key is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Dead(Cause),
    Rests(Cause, Duration),
    RestsForModel(Cause, Duration),
}

impl Blame {
    /// What a refusal with these headers comes to; `None`: it is about no key.
    pub fn of(meaning: Meaning, cooldowns: &Cooldowns, headers: &HeaderMap, now: SystemTime) -> Option<(Self, Proof)> {
        let wait = |cause| cooldowns.rest_of(cause, headers, now);
        match meaning {
            Meaning::Key(cause @ (Cause::Unauthorized | Cause::Forbidden), proof) => Some((Self::Dead(cause), proof)),
            Meaning::Key(cause, proof) => Some((Self::Rests(cause, wait(cause)), proof)),
            Meaning::Model(cause, proof) => Some((Self::RestsForModel(cause, wait(cause)), proof)),
            Meaning::Good
            | Meaning::Size { .. }
            | Meaning::Page
            | Meaning::Overloaded
            | Meaning::Proxy
            | Meaning::Request
            | Meaning::Unusable => None,
        }
    }

    /// The access line's word for a key that was left for it.
    pub fn word(self) -> &'static str {
        match self {
            // The line has always said so.
            Self::Dead(Cause::Forbidden) => "refused",
            Self::Dead(cause) | Self::Rests(cause, _) | Self::RestsForModel(cause, _) => cause.label(),
        }
    }
}

/// Whether an answer with this status is to be read before it is known what it means.
pub fn needs_words(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 404 | 429)
}

/// Reads an answer.
pub fn meaning(said: &Said<'_>) -> Meaning {
    let Said { status, from_proxy, words, model, has_room } = *said;
    let is_about_model = || words.say_no_such_model() || model.is_some_and(|model| words.name(model));
    match status {
        200..=299 => Meaning::Good,
        401 | 403 if words.are_about_rights() => Meaning::Model(Cause::NoAccess, Proof::Another),
        401 => Meaning::Key(Cause::Unauthorized, Proof::Another),
        402 => Meaning::Key(Cause::Exhausted, Proof::Word),
        429 if words.are_about_money() => Meaning::Key(Cause::Exhausted, Proof::Word),
        429 if words.are_about_size() => Meaning::Size { ever: false },
        429 if has_room && words.speak_of_tokens() => Meaning::Size { ever: true },
        429 if is_about_model() => Meaning::Model(Cause::RateLimited, Proof::Word),
        429 => Meaning::Key(Cause::RateLimited, Proof::Word),
        400 | 403 if words.are_about_money() => Meaning::Key(Cause::Exhausted, Proof::Another),
        // Of a 400 only a code counts: its message may name the model for any reason.
        400 if words.say_no_such_model() => Meaning::Model(Cause::NoAccess, Proof::Another),
        403 | 404 if is_about_model() => Meaning::Model(Cause::NoAccess, Proof::Another),
        403 if words.are_a_page() => Meaning::Page,
        403 => Meaning::Key(Cause::Forbidden, Proof::Another),
        407 | 502 | 503 if from_proxy => Meaning::Proxy,
        503 | 529 => Meaning::Overloaded,
        400..=599 => Meaning::Request,
        _ => Meaning::Unusable,
    }
}

/// What the client is told when nothing else is tried.
///
/// What is about *our* key or *our* money is never the client's fault (O4); a redirect is not followed and not shown (M16); all else from 400
/// on keeps its status with a body of ours (O3).
pub fn refusal(status: u16, meaning: Meaning, retry_after: Option<Duration>) -> Refusal {
    match (meaning, status) {
        (Meaning::Key(Cause::Exhausted, _), _) => Refusal::KeyRefused { status: 402 },
        (Meaning::Size { ever: false }, _) => Refusal::BeyondLimit,
        (_, 401..=403) => Refusal::KeyRefused { status },
        (_, 400..=599) => Refusal::UpstreamStatus { status, message: None, retry_after },
        _ => Refusal::UpstreamFailed { detail: format!("status {status}") },
    }
}

/// Whether a provider's own message may be shown where `pass_client_faults` is on: the client must see why its request is invalid.
pub fn shows_message(status: u16, meaning: Meaning) -> bool {
    matches!(meaning, Meaning::Request | Meaning::Model(..)) && matches!(status, 400 | 404 | 413 | 422)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, from_proxy: bool) -> Meaning {
        meaning(&Said { status, from_proxy, words: &Words::default(), model: Some("big"), has_room: false })
    }

    fn read(status: u16, body: &str) -> Meaning {
        let words = Words::of(body.as_bytes());
        meaning(&Said { status, from_proxy: false, words: &words, model: Some("big"), has_room: false })
    }

    #[test]
    fn success_is_delivered() {
        for status in [200, 201, 204, 206, 299] {
            assert_eq!(of(status, true), Meaning::Good);
        }
    }

    #[test]
    fn t2_t10_four_statuses_are_about_the_key() {
        for from_proxy in [false, true] {
            assert_eq!(of(429, from_proxy), Meaning::Key(Cause::RateLimited, Proof::Word));
            assert_eq!(of(402, from_proxy), Meaning::Key(Cause::Exhausted, Proof::Word));
            assert_eq!(of(401, from_proxy), Meaning::Key(Cause::Unauthorized, Proof::Another));
            assert_eq!(of(403, from_proxy), Meaning::Key(Cause::Forbidden, Proof::Another));
        }
    }

    const MONEY: &str = r#"{"error":{"code":"insufficient_quota","message":"for big"}}"#;
    const NAMED: &str = r#"{"error":{"message":"Rate limit reached for big in organization org-x"}}"#;
    const CODED: &str = r#"{"error":{"code":"model_not_found","message":"m"}}"#;
    const SIZE: &str = r#"{"error":{"message":"Request too large for big on TPM: Limit 1, Requested 2."}}"#;
    const RIGHTS: &str =
        r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request"}}"#;
    const TOKENS: &str = r#"{"error":{"message":"This request would exceed your limit of 40,000 input tokens per minute"}}"#;
    const PAGE: &str = "<html><title>Attention Required!</title></html>";
    const NONE: &str = r#"{"error":{"message":"no"}}"#;

    /// Every status that is read × every kind of words.
    #[test]
    fn a1_a2_the_words_of_a_refusal_say_what_it_is_about() {
        use Meaning::{Key, Model, Page, Request, Size};
        use Proof::{Another, Word};
        let (spent, limited) = (Cause::Exhausted, Cause::RateLimited);
        for (status, body, expected) in [
            (429, MONEY, Key(spent, Word)),
            (429, SIZE, Size { ever: false }),
            (429, NAMED, Model(limited, Word)),
            (429, CODED, Model(limited, Word)),
            (429, PAGE, Key(limited, Word)),
            (429, NONE, Key(limited, Word)),
            (403, MONEY, Key(spent, Another)),
            (403, SIZE, Model(Cause::NoAccess, Another)),
            (403, NAMED, Model(Cause::NoAccess, Another)),
            (403, CODED, Model(Cause::NoAccess, Another)),
            (403, PAGE, Page),
            (403, NONE, Key(Cause::Forbidden, Another)),
            (404, MONEY, Model(Cause::NoAccess, Another)),
            (404, NAMED, Model(Cause::NoAccess, Another)),
            (404, CODED, Model(Cause::NoAccess, Another)),
            (404, PAGE, Request),
            (404, NONE, Request),
            (400, MONEY, Key(spent, Another)),
            (400, SIZE, Request),
            (400, NAMED, Request),
            (400, CODED, Model(Cause::NoAccess, Another)),
            (400, PAGE, Request),
            (400, NONE, Request),
            (401, RIGHTS, Model(Cause::NoAccess, Another)),
            (403, RIGHTS, Model(Cause::NoAccess, Another)),
            (401, MONEY, Key(Cause::Unauthorized, Another)),
            (401, NAMED, Key(Cause::Unauthorized, Another)),
            (401, CODED, Key(Cause::Unauthorized, Another)),
            (401, PAGE, Key(Cause::Unauthorized, Another)),
            (401, NONE, Key(Cause::Unauthorized, Another)),
        ] {
            assert_eq!(read(status, body), expected, "{status} {body}");
        }
        for status in [402, 405, 408, 409, 413, 415, 422, 500, 502, 503, 504, 529] {
            for body in [MONEY, SIZE, NAMED, CODED, PAGE] {
                assert_eq!(read(status, body), read(status, NONE), "{status} is not read for its words: {body}");
                assert!(!needs_words(status), "{status}");
            }
        }
    }

    /// The cells of a meaning: the request, the key, the model on that key, the proxy.
    fn cells(meaning: Meaning) -> [&'static str; 4] {
        let if_served = |proof, at_once, proven| if proof == Proof::Word { at_once } else { proven };
        match meaning {
            Meaning::Good => ["delivered", "", "", "well"],
            Meaning::Key(Cause::Exhausted, proof) => {
                ["next key", if_served(proof, "rests, exhausted", "rests, exhausted, if another serves it"), "", ""]
            }
            Meaning::Key(Cause::Unauthorized | Cause::Forbidden, _) => {
                ["next key", "dead until a reload, if another serves it", "", ""]
            }
            Meaning::Key(Cause::RateLimited | Cause::NoAccess, _) => ["next key", "rests", "", ""],
            Meaning::Model(_, proof) => ["next key", "", if_served(proof, "rests", "rests, if another key serves it"), ""],
            Meaning::Size { .. } | Meaning::Overloaded => ["next key", "", "", ""],
            Meaning::Page => ["next proxy, else next key", "", "", ""],
            Meaning::Proxy => ["next proxy", "", "", "failed, if another serves it"],
            Meaning::Request | Meaning::Unusable => ["refused, nothing else is tried", "", "", ""],
        }
    }

    /// The table for people, each row by an example of it.
    #[test]
    fn a1_a2_the_page_for_people_is_what_the_code_does() {
        let anything = "anything else";
        type Row = (&'static str, &'static str, &'static [u16], &'static str, bool, bool);
        let rows: [Row; 19] = [
            ("2xx", "", &[200, 201, 204], NONE, false, false),
            ("429", "money", &[429], MONEY, false, false),
            ("429", "the size of this request", &[429], SIZE, false, false),
            ("429", "tokens, and the headers say that some are left", &[429], TOKENS, false, true),
            ("429", "the model", &[429], NAMED, false, false),
            ("429", anything, &[429], NONE, false, false),
            ("402", "", &[402], NONE, false, false),
            ("400, 403", "money", &[400, 403], MONEY, false, false),
            ("403, 404", "the model", &[403, 404], NAMED, false, false),
            ("400, 403, 404", "a model's code", &[400, 403, 404], CODED, false, false),
            ("401, 403", "what the key may do", &[401, 403], RIGHTS, false, false),
            ("403", "a page for people, as what stands before a provider sends", &[403], PAGE, false, false),
            ("401, 403", anything, &[401, 403], NONE, false, false),
            ("503, 529", "", &[503, 529], NONE, false, false),
            ("407, 502, 503 by a reverse proxy", "", &[407, 502, 503], NONE, true, false),
            ("400, 404", anything, &[400, 404], NONE, false, false),
            ("other 4xx", "", &[405, 407, 408, 409, 413, 415, 422, 451], MONEY, false, false),
            ("other 5xx", "", &[500, 501, 502, 504], MONEY, false, false),
            ("1xx, 3xx, other", "", &[101, 301, 302, 304, 307, 600], MONEY, false, false),
        ];
        let mut table = String::new();
        for (status, about, examples, body, from_proxy, has_room) in rows {
            let words = Words::of(body.as_bytes());
            let of = |status| cells(meaning(&Said { status, from_proxy, words: &words, model: Some("big"), has_room }));
            let row = of(examples[0]);
            assert!(examples.iter().all(|status| of(*status) == row), "{status} is one row: {examples:?}");
            table += &format!("| {status} | {about} | {} |\n", row.join(" | "));
        }
        let page = include_str!("../../../docs/upstream-answers.md");
        assert!(page.contains(&table), "the table of docs/upstream-answers.md is to be\n{table}");
    }

    #[test]
    fn a2_tokens_that_are_left_say_that_this_request_was_too_large() {
        let words =
            Words::of(br#"{"error":{"message":"This request would exceed your limit of 40,000 input tokens per minute"}}"#);
        let said = Said { status: 429, from_proxy: false, words: &words, model: None, has_room: true };
        let of_requests = Words::of(br#"{"error":{"message":"Rate limit reached for requests"}}"#);
        assert_eq!(meaning(&Said { words: &of_requests, ..said }), Meaning::Key(Cause::RateLimited, Proof::Word));
        assert_eq!(meaning(&said), Meaning::Size { ever: true });
        for status in [400, 402, 403, 503] {
            let without = meaning(&Said { status, has_room: false, ..said });
            assert_eq!(meaning(&Said { status, ..said }), without, "{status}");
        }
    }

    #[test]
    fn an_overloaded_provider_is_nobodys_fault() {
        assert_eq!(of(503, false), Meaning::Overloaded);
        assert_eq!(of(529, false), Meaning::Overloaded);
        assert_eq!(of(529, true), Meaning::Overloaded, "a status that providers alone have");
    }

    #[test]
    fn only_a_reverse_proxy_speaks_for_itself() {
        for (status, direct) in [(407, Meaning::Request), (502, Meaning::Request), (503, Meaning::Overloaded)] {
            assert_eq!(of(status, true), Meaning::Proxy, "what a balancer says of a dead backend");
            assert_eq!(of(status, false), direct);
        }
    }

    #[test]
    fn a_clients_fault_never_costs_another_key() {
        for status in [400, 404, 405, 408, 409, 413, 415, 422, 451, 500, 501, 504] {
            assert_eq!(of(status, true), Meaning::Request, "{status}");
        }
    }

    #[test]
    fn m16_a_redirect_is_a_failure() {
        for status in [300, 301, 302, 304, 307, 308, 101, 600] {
            assert_eq!(of(status, false), Meaning::Unusable, "{status}");
            assert!(matches!(refusal(status, Meaning::Unusable, None), Refusal::UpstreamFailed { .. }), "{status}");
        }
    }

    #[test]
    fn o4_a_refused_key_is_our_fault_and_so_is_our_money() {
        for status in [401, 402, 403] {
            assert_eq!(refusal(status, of(status, false), None), Refusal::KeyRefused { status });
        }
        for status in [400, 403, 429] {
            let meaning = read(status, MONEY);
            assert_eq!(refusal(status, meaning, None), Refusal::KeyRefused { status: 402 }, "{status}");
            assert!(!shows_message(status, meaning), "{status}: the account's trouble is no client's business");
        }
    }

    #[test]
    fn o5_the_last_429_keeps_its_wait() {
        let wait = Some(Duration::from_secs(7));
        let told = Refusal::UpstreamStatus { status: 429, message: None, retry_after: wait };
        assert_eq!(refusal(429, read(429, NONE), wait), told);
        assert_eq!(refusal(429, Meaning::Size { ever: true }, wait), told);
        assert_eq!(refusal(429, read(429, SIZE), wait), Refusal::BeyondLimit);
    }
}
