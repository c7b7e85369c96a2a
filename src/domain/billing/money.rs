//! Amounts of money, in whole billionths of a US dollar.

use std::fmt;

use crate::domain::billing::decimal::{Decimal, DecimalError};

/// An amount of money: billionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(u64);

impl NanoUsd {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(u64::MAX);

    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The amount as the ledger's `cost_nano_usd`.
    pub fn nanos(self) -> u64 {
        self.0
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Prints US dollars as an exact decimal: `0.011808`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::from_nanos(self.0).fmt(f)
    }
}

/// Reads a difference of an amount, `+5`, `-0.25` or `1.50` US dollars, as nano-dollars.
///
/// # Errors
///
/// As [`Decimal::parse`], but for the sign.
pub fn parse_difference(text: &str) -> Result<i64, DecimalError> {
    let (is_less, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with('-') {
        return Err(DecimalError::NotPlain);
    }
    // At most a million dollars.
    let nanos = i64::try_from(Decimal::parse(digits)?.nanos()).map_err(|_| DecimalError::TooLarge)?;
    Ok(if is_less { -nanos } else { nanos })
}

/// Prints nano-dollars that may be below zero as US dollars: `-0.25`.
pub fn signed_usd(nano_usd: i64) -> String {
    let sign = if nano_usd < 0 { "-" } else { "" };
    format!("{sign}{}", NanoUsd(nano_usd.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_exact_dollars() {
        for (nanos, text) in
            [(0, "0"), (11_808_000, "0.011808"), (1, "0.000000001"), (1_500_000_000, "1.5"), (20_000_000_000, "20")]
        {
            assert_eq!(NanoUsd::from_nanos(nanos).to_string(), text);
        }
    }

    #[test]
    fn differences_keep_their_sign_and_every_digit() {
        for (text, nanos, shown) in [
            ("+5", 5_000_000_000, "5"),
            ("1.50", 1_500_000_000, "1.5"),
            ("-0.25", -250_000_000, "-0.25"),
            ("-0.000000001", -1, "-0.000000001"),
            ("-0", 0, "0"),
        ] {
            assert_eq!(parse_difference(text), Ok(nanos), "{text}");
            assert_eq!(signed_usd(nanos), shown);
        }
        for bad in ["", "+", "-", "--1", "+-1", "1e3", "1,5", "0.0000000001", "1000001"] {
            assert!(parse_difference(bad).is_err(), "{bad:?}");
        }
        assert_eq!(signed_usd(i64::MIN), "-9223372036.854775808");
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(NanoUsd::MAX.saturating_add(NanoUsd::from_nanos(1)), NanoUsd::MAX);
    }
}
