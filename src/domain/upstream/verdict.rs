//! What an attempt's outcome means: one pure table, from the upstream's status to what happens to the key and to the request.
//!
//! | status | what it is about | what follows |
//! |---|---|---|
//! | 2xx | | delivered |
//! | 429 | our key's rate | the key cools, the next key is tried |
//! | 402 | our key's quota | the key cools, the next key is tried |
//! | 401, 403 | our key, or this request | the next key is tried; if that one serves the request, the first is dead until a reload |
//! | 503, 529 | the provider's load | the next key is tried, nothing cools |
//! | 407, 502 and 503 by way of a reverse proxy | the proxy, for all we can see | the next proxy is tried |
//! | other 4xx, 5xx | this request, or the provider | refused, nothing else is tried |
//! | 1xx, 3xx, other | nothing that we can use | refused |
//!
//! "Next" where there is one: `relay::rotation` looks for it, and the refusal below is what the client gets where there is none, unless
//! `rotation` says that the whole pool is out. A single key without a pool never rests.

use std::time::Duration;

use crate::domain::answer::Refusal;
use crate::domain::upstream::standing::Cause;

/// What a status says, and about whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Good,
    /// The key must rest, or is dead if another one serves the request (401, 403).
    Key(Cause),
    /// The provider, or all of it that this key reaches, has too much to do.
    Overloaded,
    /// The proxy did not pass the request on.
    Proxy,
    /// This request alone failed; another key or proxy would get the same answer, and maybe the same bill.
    Request,
    Unusable,
}

/// Reads a final status (not 1xx); `from_proxy`: it comes from a reverse proxy that may speak for itself.
pub fn meaning(status: u16, from_proxy: bool) -> Meaning {
    match status {
        200..=299 => Meaning::Good,
        401 => Meaning::Key(Cause::Unauthorized),
        402 => Meaning::Key(Cause::Exhausted),
        403 => Meaning::Key(Cause::Forbidden),
        429 => Meaning::Key(Cause::RateLimited),
        407 | 502 | 503 if from_proxy => Meaning::Proxy,
        503 | 529 => Meaning::Overloaded,
        400..=599 => Meaning::Request,
        _ => Meaning::Unusable,
    }
}

/// What the client is told when nothing else is tried.
///
/// 401, 402 and 403 are about *our* key, never about the client's (O4); a redirect is not followed and not shown (M16); all else
/// from 400 on keeps its status with a body of ours (O3).
pub fn refusal(status: u16, retry_after: Option<Duration>) -> Refusal {
    match status {
        401..=403 => Refusal::KeyRefused { status },
        400..=599 => Refusal::UpstreamStatus { status, message: None, retry_after },
        _ => Refusal::UpstreamFailed { detail: format!("status {status}") },
    }
}

/// Whether a provider's own message may be shown where `pass_client_faults` is on: the client must see why its request is invalid.
pub fn is_client_fault(status: u16) -> bool {
    matches!(status, 400 | 404 | 413 | 422)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_delivered() {
        for status in [200, 201, 204, 206, 299] {
            assert_eq!(meaning(status, true), Meaning::Good);
        }
    }

    #[test]
    fn t2_t10_four_statuses_are_about_the_key() {
        for from_proxy in [false, true] {
            assert_eq!(meaning(429, from_proxy), Meaning::Key(Cause::RateLimited));
            assert_eq!(meaning(402, from_proxy), Meaning::Key(Cause::Exhausted));
            assert_eq!(meaning(401, from_proxy), Meaning::Key(Cause::Unauthorized));
            assert_eq!(meaning(403, from_proxy), Meaning::Key(Cause::Forbidden));
        }
    }

    #[test]
    fn an_overloaded_provider_is_nobodys_fault() {
        assert_eq!(meaning(503, false), Meaning::Overloaded);
        assert_eq!(meaning(529, false), Meaning::Overloaded);
        assert_eq!(meaning(529, true), Meaning::Overloaded, "a status that providers alone have");
    }

    #[test]
    fn only_a_reverse_proxy_speaks_for_itself() {
        for (status, direct) in [(407, Meaning::Request), (502, Meaning::Request), (503, Meaning::Overloaded)] {
            assert_eq!(meaning(status, true), Meaning::Proxy, "what a balancer says of a dead backend");
            assert_eq!(meaning(status, false), direct);
        }
    }

    #[test]
    fn a_clients_fault_never_costs_another_key() {
        for status in [400, 404, 405, 408, 409, 413, 415, 422, 451, 500, 501, 504] {
            assert_eq!(meaning(status, true), Meaning::Request, "{status}");
        }
    }

    #[test]
    fn m16_a_redirect_is_a_failure() {
        for status in [300, 301, 302, 304, 307, 308, 101, 600] {
            assert_eq!(meaning(status, false), Meaning::Unusable, "{status}");
            assert!(matches!(refusal(status, None), Refusal::UpstreamFailed { .. }), "{status}");
        }
    }

    #[test]
    fn o4_a_refused_key_is_our_fault() {
        for status in [401, 402, 403] {
            assert_eq!(refusal(status, None), Refusal::KeyRefused { status });
        }
    }

    #[test]
    fn o5_the_last_429_keeps_its_wait() {
        let wait = Some(Duration::from_secs(7));
        assert_eq!(refusal(429, wait), Refusal::UpstreamStatus { status: 429, message: None, retry_after: wait });
    }
}
