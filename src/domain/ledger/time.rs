//! Times as every line has them: RFC 3339 in UTC with milliseconds, `2026-01-31T23:59:59.999Z`.

use crate::domain::digits::{date_of, padded};

const MS_PER_DAY: u64 = 86_400_000;
/// The last millisecond of the year 9999: no later one fits the format.
pub const LAST_UNIX_MS: u64 = 253_402_300_799_999;

/// The day since the epoch, in UTC.
pub fn day(unix_ms: u64) -> u64 {
    unix_ms / MS_PER_DAY
}

/// Appends a time; one beyond [`LAST_UNIX_MS`] is written as that.
pub fn write(out: &mut Vec<u8>, unix_ms: u64) {
    let unix_ms = unix_ms.min(LAST_UNIX_MS);
    write_second(out, unix_ms / 1_000);
    write_millisecond(out, unix_ms);
}

/// Appends what the times of one second have in common: `2026-01-31T23:59:59.`; for who writes many in a row.
pub fn write_second(out: &mut Vec<u8>, unix_s: u64) {
    let (year, month, date) = date_of(unix_s / 86_400);
    for (value, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (date, 2, b'T'),
        (unix_s / 3_600 % 24, 2, b':'),
        (unix_s / 60 % 60, 2, b':'),
        (unix_s % 60, 2, b'.'),
    ] {
        padded(out, value, width);
        out.push(after);
    }
}

/// Appends the rest of a time behind [`write_second`].
pub fn write_millisecond(out: &mut Vec<u8>, unix_ms: u64) {
    padded(out, unix_ms % 1_000, 3);
    out.push(b'Z');
}

/// The time as a text.
pub fn text(unix_ms: u64) -> String {
    let mut out = Vec::with_capacity(24);
    write(&mut out, unix_ms);
    String::from_utf8(out).unwrap_or_default()
}

/// Reads what [`write`] writes, and nothing else.
pub fn parse(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, date) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second, ms) = (part(11, 13)?, part(14, 16)?, part(17, 19)?, part(20, 23)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let unix_ms = days_of(year, month, date)? * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1_000 + ms;
    let mut again = Vec::with_capacity(24);
    write(&mut again, unix_ms);
    (again == text.as_bytes()).then_some(unix_ms)
}

/// The day since the epoch of a date; `None` before the epoch. A date that no calendar has gives that of another one.
pub fn days_of(year: u64, month: u64, date: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&date) || year < 1970 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + date - 1;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (year / 400 * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_know_the_calendar() {
        for (unix_ms, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (LAST_UNIX_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!((text(unix_ms).as_str(), parse(written)), (written, Some(unix_ms)));
        }
        assert_eq!(text(u64::MAX), text(LAST_UNIX_MS));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "2026-02-30T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:00:00.000",
            "2026-01-01T00:00:00.000+",
            "2026-01-01T00:00:00.0é",
            "1969-12-31T23:59:59.999Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_written_time_reads_back(unix_ms in 0..=LAST_UNIX_MS) {
            prop_assert_eq!(parse(&text(unix_ms)), Some(unix_ms));
        }
    }
}
