//! What a provider's answer says about when to come back: `Retry-After` first, then the reset of the limit that was hit.
//!
//! | header | form |
//! |---|---|
//! | `retry-after-ms` | milliseconds |
//! | `retry-after` | seconds, also with a fraction, or an HTTP date (RFC 9110 §10.2.3) |
//! | `anthropic-ratelimit-*-reset` | RFC 3339, seconds since the epoch for the unified limits |
//! | `x-ratelimit-reset-*` | `1s`, `6m0s`, `20ms`: OpenAI's durations |
//!
//! Of several limits those count whose `remaining` is 0, or that have none; the last of them to reset. A limit with something left is
//! not the one that was hit.
//! <https://docs.anthropic.com/en/api/rate-limits#response-headers>,
//! <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::domain::upstream::standing::Cause;

/// How long a key rests after an answer that does not say it, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldowns {
    pub rate_limited: Duration,
    pub exhausted: Duration,
    /// Of a model that the key may not use: nobody tells when it may.
    pub no_access: Duration,
    /// No provider's word makes a key rest for longer: a slip of theirs must not cost us a key for a year.
    pub longest: Duration,
}

impl Default for Cooldowns {
    fn default() -> Self {
        Self {
            rate_limited: Duration::from_secs(60),
            exhausted: Duration::from_secs(3_600),
            no_access: Duration::from_secs(3_600),
            longest: Duration::from_secs(24 * 3_600),
        }
    }
}

impl Cooldowns {
    /// How long the key of an answer with these headers rests (T11).
    pub fn rest_of(&self, cause: Cause, headers: &HeaderMap, now: SystemTime) -> Duration {
        let default = match cause {
            Cause::RateLimited => self.rate_limited,
            Cause::Exhausted | Cause::Unauthorized | Cause::Forbidden => self.exhausted,
            Cause::NoAccess => self.no_access,
        };
        let told = retry_after(headers, now).or_else(|| match cause {
            // A quota that is spent is not the limit whose reset the headers tell.
            Cause::RateLimited => limit_reset(headers, now),
            Cause::Exhausted | Cause::Unauthorized | Cause::Forbidden | Cause::NoAccess => None,
        });
        told.unwrap_or(default).min(self.longest)
    }
}

/// `retry-after-ms`, or `Retry-After` in seconds or as a date. Fractions are what some providers send.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok();
    if let Some(ms) = text("retry-after-ms").and_then(number) {
        return seconds(ms / 1000.0);
    }
    let wait = text("retry-after")?;
    match number(wait) {
        Some(wait) => seconds(wait),
        None => httpdate::parse_http_date(wait).ok()?.duration_since(now).ok(),
    }
}

/// Whether something is left of every limit that the headers tell, tokens among them: then the refused request asked for more than that, and
/// a smaller one may pass.
pub fn has_room(headers: &HeaderMap) -> bool {
    let mut has_tokens = false;
    let mut remaining = headers.iter().filter_map(|(name, value)| {
        let limit = name.as_str();
        let limit = limit
            .strip_prefix("x-ratelimit-remaining-")
            .or_else(|| limit.strip_prefix("anthropic-ratelimit-").and_then(|rest| rest.strip_suffix("-remaining")))?;
        has_tokens |= limit.contains("tokens");
        value.to_str().ok().map(str::trim)
    });
    let all_left = remaining.all(|left| left.parse::<f64>().is_ok_and(|left| left >= 1.0));
    all_left && has_tokens
}

/// A wait beyond all time is a long one, a negative one is none.
fn seconds(seconds: f64) -> Option<Duration> {
    if seconds > 1e15 { Some(Duration::MAX) } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// Until the limit that was hit resets.
fn limit_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut longest: Option<Duration> = None;
    for (name, value) in headers {
        let Some((limit, parse)) = limit_of(name.as_str()) else { continue };
        let Some(wait) = value.to_str().ok().and_then(|text| parse(text.trim(), now)) else { continue };
        let remaining = headers.get(limit).and_then(|value| value.to_str().ok()).map(str::trim);
        if remaining.is_none_or(|left| left == "0") {
            longest = longest.max(Some(wait));
        }
    }
    longest
}

type Parse = fn(&str, SystemTime) -> Option<Duration>;

/// Of a reset's header: the header that says what remains, and how the reset is written.
fn limit_of(name: &str) -> Option<(String, Parse)> {
    if let Some(limit) = name.strip_prefix("anthropic-ratelimit-").and_then(|rest| rest.strip_suffix("-reset")) {
        return Some((format!("anthropic-ratelimit-{limit}-remaining"), until_instant));
    }
    let limit = name.strip_prefix("x-ratelimit-reset-")?;
    Some((format!("x-ratelimit-remaining-{limit}"), |text, _| duration(text)))
}

fn until_instant(text: &str, now: SystemTime) -> Option<Duration> {
    let at = match text.parse::<u64>() {
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
        Err(_) => SystemTime::from(text.parse::<jiff::Timestamp>().ok()?),
    };
    at.duration_since(now).ok()
}

/// `1h2m3.5s`, `20ms`; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// 2026-11-21T12:00:00Z
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn rest(cause: Cause, headers: &[(&'static str, &'static str)]) -> Duration {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        Cooldowns::default().rest_of(cause, &headers, now())
    }

    #[test]
    fn t11_retry_after_in_each_of_its_forms() {
        for (name, value, wait) in [
            ("retry-after", "7", Duration::from_secs(7)),
            ("retry-after", "0.5", Duration::from_millis(500)),
            ("retry-after", "0", Duration::ZERO),
            ("retry-after-ms", "1500", Duration::from_millis(1_500)),
            ("retry-after", "Sat, 21 Nov 2026 12:01:30 GMT", Duration::from_secs(90)),
        ] {
            assert_eq!(rest(Cause::RateLimited, &[(name, value)]), wait, "{name}: {value}");
            assert_eq!(rest(Cause::Exhausted, &[(name, value)]), wait, "{name}: {value}");
        }
    }

    #[test]
    fn t11_the_defaults_are_a_minute_for_429_and_an_hour_for_402() {
        assert_eq!(rest(Cause::RateLimited, &[]), Duration::from_secs(60));
        assert_eq!(rest(Cause::Exhausted, &[]), Duration::from_secs(3_600));
    }

    #[test]
    fn t11_what_nobody_can_read_counts_as_unsaid() {
        for value in ["soon", "-3", "NaN", "", "Sat, 21 Nov 2026 11:00:00 GMT"] {
            assert_eq!(rest(Cause::RateLimited, &[("retry-after", value)]), Duration::from_secs(60), "{value}");
        }
        assert_eq!(rest(Cause::RateLimited, &[("x-ratelimit-reset-tokens", "5 minutes")]), Duration::from_secs(60));
    }

    #[test]
    fn t11_resets_of_anthropic() {
        let reset = ("anthropic-ratelimit-tokens-reset", "2026-11-21T12:00:20Z");
        assert_eq!(rest(Cause::RateLimited, &[reset]), Duration::from_secs(20));
        assert_eq!(rest(Cause::RateLimited, &[("anthropic-ratelimit-unified-reset", "1795262445")]), Duration::from_secs(45));
        // The limit that is spent counts, not the one that resets sooner.
        let both = [
            reset,
            ("anthropic-ratelimit-tokens-remaining", "1000"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T12:00:50Z"),
            ("anthropic-ratelimit-requests-remaining", "0"),
        ];
        assert_eq!(rest(Cause::RateLimited, &both), Duration::from_secs(50));
        assert_eq!(rest(Cause::RateLimited, &[both[0], both[2]]), Duration::from_secs(50));
        assert_eq!(rest(Cause::RateLimited, &both[..2]), Duration::from_secs(60), "what has something left was not hit");
    }

    #[test]
    fn t11_resets_of_openai() {
        for (text, millis) in [("1s", 1_000), ("6m0s", 360_000), ("20ms", 20), ("1h2m3.5s", 3_723_500), ("12", 12_000)] {
            assert_eq!(
                rest(Cause::RateLimited, &[("x-ratelimit-reset-requests", text)]),
                Duration::from_millis(millis),
                "{text}"
            );
        }
    }

    #[test]
    fn t11_retry_after_wins_over_the_resets() {
        let both = [("retry-after", "3"), ("x-ratelimit-reset-requests", "6m0s")];
        assert_eq!(rest(Cause::RateLimited, &both), Duration::from_secs(3));
    }

    #[test]
    fn a_spent_quota_is_not_back_when_a_rate_resets() {
        assert_eq!(rest(Cause::Exhausted, &[("x-ratelimit-reset-requests", "1s")]), Duration::from_secs(3_600));
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        for value in ["99999999999", "18446744073709551616", "1e400"] {
            assert_eq!(rest(Cause::RateLimited, &[("retry-after", value)]), Duration::from_secs(86_400), "{value}");
        }
    }

    #[test]
    fn a2_a_key_has_room_where_something_is_left_of_each_limit_and_of_tokens_too() {
        for (headers, has) in [
            (&[("x-ratelimit-remaining-tokens", "200")][..], true),
            (&[("x-ratelimit-remaining-tokens", "200"), ("x-ratelimit-remaining-requests", "9")], true),
            (&[("anthropic-ratelimit-input-tokens-remaining", "40000"), ("anthropic-ratelimit-requests-remaining", "1")], true),
            (&[("x-ratelimit-remaining-tokens", "200"), ("x-ratelimit-remaining-requests", "0")], false),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-remaining-requests", "9")], false),
            (&[("x-ratelimit-remaining-requests", "9")], false),
            (&[("anthropic-ratelimit-tokens-remaining", "many")], false),
            (&[("x-ratelimit-reset-tokens", "9s")], false),
            (&[], false),
        ] {
            let map: HeaderMap =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
            assert_eq!(has_room(&map), has, "{headers:?}");
        }
    }
}
