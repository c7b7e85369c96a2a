//! What an attempt's outcome means: one pure table from the upstream's status to what happens next.

use std::time::Duration;

use crate::domain::answer::Refusal;

/// What the gateway does with an answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The body goes to the client.
    Deliver,
    /// The client sees nothing of it: the next credential is tried.
    NextCredential,
    /// The client gets an answer of ours.
    Refuse(Refusal),
}

/// What the verdict depends on besides the status.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// A credential of this upstream that the request has not tried, and an attempt left to try it.
    pub another_credential: bool,
    pub retry_after: Option<Duration>,
}

/// Judges a final status (not 1xx).
///
/// 401, 402 and 403 are about *our* key, never about the client's (O4); a redirect is not followed and not shown (M16); all else
/// from 400 on keeps its status with a body of ours (O3).
pub fn judge(status: u16, circumstances: Circumstances) -> Verdict {
    match status {
        200..=299 => Verdict::Deliver,
        401..=403 | 429 if circumstances.another_credential => Verdict::NextCredential,
        401..=403 => Verdict::Refuse(Refusal::KeyRefused { status }),
        400..=599 => Verdict::Refuse(Refusal::UpstreamStatus { status, message: None, retry_after: circumstances.retry_after }),
        _ => Verdict::Refuse(Refusal::UpstreamFailed { detail: format!("status {status}") }),
    }
}

/// Whether a provider's own message may be shown where `pass_client_faults` is on: the client must see why its request is invalid.
pub fn is_client_fault(status: u16) -> bool {
    matches!(status, 400 | 404 | 413 | 422)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Circumstances = Circumstances { another_credential: false, retry_after: None };
    const WITH_ANOTHER: Circumstances = Circumstances { another_credential: true, retry_after: None };

    #[test]
    fn success_is_delivered() {
        assert_eq!(judge(200, ALONE), Verdict::Deliver);
        assert_eq!(judge(204, WITH_ANOTHER), Verdict::Deliver);
    }

    #[test]
    fn o4_a_refused_key_is_our_fault() {
        for status in [401, 402, 403] {
            assert_eq!(judge(status, ALONE), Verdict::Refuse(Refusal::KeyRefused { status }));
            assert_eq!(judge(status, WITH_ANOTHER), Verdict::NextCredential);
        }
    }

    #[test]
    fn o5_the_last_429_keeps_its_wait() {
        let wait = Some(Duration::from_secs(7));
        let verdict = judge(429, Circumstances { retry_after: wait, ..ALONE });
        assert_eq!(verdict, Verdict::Refuse(Refusal::UpstreamStatus { status: 429, message: None, retry_after: wait }));
        assert_eq!(judge(429, WITH_ANOTHER), Verdict::NextCredential);
    }

    #[test]
    fn a_clients_fault_never_costs_another_key() {
        for status in [400, 404, 413, 422, 500, 503, 529] {
            assert!(matches!(judge(status, WITH_ANOTHER), Verdict::Refuse(Refusal::UpstreamStatus { .. })), "{status}");
        }
    }

    #[test]
    fn m16_a_redirect_is_a_failure() {
        for status in [300, 301, 302, 304, 307, 308, 101, 600] {
            assert!(matches!(judge(status, ALONE), Verdict::Refuse(Refusal::UpstreamFailed { .. })), "{status}");
        }
    }
}
