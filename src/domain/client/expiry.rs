//! When a key ends: `30d`, `12h`, `2w`, a day, or a moment; read and printed in UTC.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

const HOUR_S: u64 = 3_600;
/// A hundred years: more is surely a slip.
const MOST_S: u64 = 100 * 366 * 24 * HOUR_S;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryError {
    #[error("write a span (12h, 30d, 8w), a day (2027-01-31: valid to its end, UTC) or a moment (2027-01-31T12:00:00Z)")]
    Unreadable,
    #[error("lies in the past")]
    Past,
    #[error("lies more than a hundred years ahead")]
    TooFar,
}

/// Reads when a key ends, in seconds since the epoch.
///
/// # Errors
///
/// What is no time, lies in the past, or lies too far ahead.
pub fn parse_expiry(text: &str, now_unix_s: u64) -> Result<u64, ExpiryError> {
    let at = match span_s(text) {
        Some(span_s) => now_unix_s.checked_add(span_s?).ok_or(ExpiryError::TooFar)?,
        None => moment_unix_s(text).ok_or(ExpiryError::Unreadable)??,
    };
    if at <= now_unix_s {
        return Err(ExpiryError::Past);
    }
    if at - now_unix_s > MOST_S {
        return Err(ExpiryError::TooFar);
    }
    Ok(at)
}

/// Prints seconds since the epoch as `2027-01-31T12:00:00Z`.
pub fn date_time(unix_s: u64) -> String {
    let at = i64::try_from(unix_s).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map_or_else(|| format!("{unix_s} s after 1970"), |at| at.to_string())
}

/// A number and one of `h`, `d`, `w`; `None` where it is something else.
fn span_s(text: &str) -> Option<Result<u64, ExpiryError>> {
    let unit_s = match text.chars().last()? {
        'h' => HOUR_S,
        'd' => 24 * HOUR_S,
        'w' => 7 * 24 * HOUR_S,
        _ => return None,
    };
    let number = text.get(..text.len() - 1)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    Some(seconds.ok_or(ExpiryError::TooFar))
}

fn moment_unix_s(text: &str) -> Option<Result<u64, ExpiryError>> {
    let is_day = text.len() == "2027-01-31".len();
    let at = if is_day {
        let next = text.parse::<Date>().ok()?.checked_add(1.day()).ok()?;
        next.to_zoned(TimeZone::UTC).ok()?.timestamp()
    } else {
        text.parse::<Timestamp>().ok()?
    };
    Some(u64::try_from(at.as_second()).map_err(|_| ExpiryError::Past))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z
    const NOW: u64 = 1_767_225_600;

    #[test]
    fn h5_spans_days_and_moments_are_read() {
        for (text, at) in [
            ("12h", "2026-01-01T12:00:00Z"),
            ("30d", "2026-01-31T00:00:00Z"),
            ("2w", "2026-01-15T00:00:00Z"),
            ("2026-01-01", "2026-01-02T00:00:00Z"),
            ("2028-02-29", "2028-03-01T00:00:00Z"),
            ("2026-06-01T10:00:00Z", "2026-06-01T10:00:00Z"),
            ("2026-06-01T10:00:00+02:00", "2026-06-01T08:00:00Z"),
        ] {
            assert_eq!(parse_expiry(text, NOW).map(date_time).as_deref(), Ok(at), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_ahead_is_refused() {
        for (text, error) in [
            ("", ExpiryError::Unreadable),
            ("d", ExpiryError::Unreadable),
            ("30", ExpiryError::Unreadable),
            ("30m", ExpiryError::Unreadable),
            ("-1d", ExpiryError::Unreadable),
            ("2026-02-30", ExpiryError::Unreadable),
            ("tomorrow", ExpiryError::Unreadable),
            ("2026-06-01T10:00:00", ExpiryError::Unreadable),
            ("0d", ExpiryError::Past),
            ("2025-12-31", ExpiryError::Past),
            ("1969-12-30", ExpiryError::Past),
            ("99999999999999999999d", ExpiryError::TooFar),
            ("18446744073709551615h", ExpiryError::TooFar),
            ("40000d", ExpiryError::TooFar),
        ] {
            assert_eq!(parse_expiry(text, NOW), Err(error), "{text:?}");
        }
    }
}
