//! Moments as an operator writes them: `24h` ago, `7d` ago, a date, a time.

use crate::domain::ledger::time;

/// Reads `90m`, `24h`, `7d`, `4w` (before now), `2026-01-31` (its first moment, UTC) or `2026-01-31T12:00:00Z`; gives milliseconds since
/// the epoch.
pub fn moment(text: &str, now_unix_ms: u64) -> Result<u64, String> {
    let wrong = || {
        format!("`{text}` is no time: write 90m, 24h, 7d or 4w for a span before now, 2026-01-31 or 2026-01-31T12:00:00Z (UTC)")
    };
    if let Some((unit, count)) = text.char_indices().next_back().and_then(|(at, unit)| Some((unit, text.get(..at)?))) {
        let minutes = match unit {
            'm' => Some(1),
            'h' => Some(60),
            'd' => Some(60 * 24),
            'w' => Some(60 * 24 * 7),
            _ => None,
        };
        if let Some(minutes) = minutes {
            let count: u64 = if count.bytes().all(|byte| byte.is_ascii_digit()) {
                count.parse().map_err(|_| wrong())?
            } else {
                return Err(wrong());
            };
            return Ok(now_unix_ms.saturating_sub(count.saturating_mul(minutes).saturating_mul(60_000)));
        }
    }
    let completed = match text.len() {
        10 => format!("{text}T00:00:00.000Z"),
        20 => format!("{}.000Z", text.strip_suffix('Z').ok_or_else(wrong)?),
        _ => text.to_owned(),
    };
    time::parse(&completed).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z
    const NOW: u64 = 1_767_225_600_000;

    #[test]
    fn spans_count_back_from_now_and_dates_do_not() {
        for (text, unix_ms) in [
            ("90m", NOW - 90 * 60_000),
            ("24h", NOW - 86_400_000),
            ("7d", NOW - 7 * 86_400_000),
            ("1w", NOW - 7 * 86_400_000),
            ("999999999999999999d", 0),
            ("2026-01-01", NOW),
            ("2026-01-01T00:00:01Z", NOW + 1_000),
            ("2026-01-01T00:00:00.001Z", NOW + 1),
        ] {
            assert_eq!(moment(text, NOW), Ok(unix_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_is() {
        for wrong in ["", "h", "-1h", "24", "24 h", "yesterday", "2026-02-30", "01.02.2026", "2026-01-01T00:00:00", "é", "+5d"] {
            assert!(moment(wrong, NOW).unwrap_err().contains("24h"), "{wrong}");
        }
    }
}
