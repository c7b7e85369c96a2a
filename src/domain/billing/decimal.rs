//! Exact decimals: prices and multipliers, read from their JSON text and never through a float.

use std::fmt;

/// An exact decimal ≥ 0 with at most nine places, held in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(u64);

/// Why a number's text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("must not be negative")]
    Negative,
    #[error("has more than nine decimal places")]
    TooFine,
    #[error("is larger than 1000000")]
    TooLarge,
    #[error("must be a plain decimal number such as 0.25, without an exponent")]
    NotPlain,
}

const PLACES: usize = 9;
pub(super) const NANOS_OF_ONE: u64 = 1_000_000_000;
const LARGEST: u64 = 1_000_000 * NANOS_OF_ONE;

impl Decimal {
    pub const ZERO: Self = Self(0);
    pub const ONE: Self = Self(NANOS_OF_ONE);

    /// Reads the text of a JSON number: `3`, `3.75`, `0.30`.
    ///
    /// # Errors
    ///
    /// Refuses a negative number, more than nine places, an exponent, and more than 1 000 000 (surely a slip).
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        if text.starts_with('-') {
            return Err(DecimalError::Negative);
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(DecimalError::NotPlain),
            Some((whole, fraction)) => (whole, fraction.trim_end_matches('0')),
            None => (text, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(DecimalError::NotPlain);
        }
        if fraction.len() > PLACES {
            return Err(DecimalError::TooFine);
        }
        let padding = std::iter::repeat_n(b'0', PLACES - fraction.len());
        whole
            .bytes()
            .chain(fraction.bytes())
            .chain(padding)
            .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
            .filter(|nanos| *nanos <= LARGEST)
            .map(Self)
            .ok_or(DecimalError::TooLarge)
    }

    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// This many billionths.
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// How many decimal places it needs.
    pub fn places(self) -> u32 {
        (0..=9).find(|places| self.0.is_multiple_of(10_u64.pow(9 - places))).unwrap_or(9)
    }

    /// Multiplies by a whole number of hundredths; a tenth place is rounded half up.
    pub(super) fn percent(self, percent: u64) -> Self {
        let nanos = (u128::from(self.0) * u128::from(percent) + 50) / 100;
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Prints the shortest exact decimal.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / NANOS_OF_ONE, self.0 % NANOS_OF_ONE);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:0PLACES$}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_places_that_a_decimal_needs() {
        for (text, places) in [("0", 0), ("12", 0), ("0.5", 1), ("1.10", 1), ("3.75", 2), ("0.000000001", 9), ("10.000000001", 9)]
        {
            assert_eq!(Decimal::parse(text).map(Decimal::places), Ok(places), "{text}");
        }
    }

    #[test]
    fn reads_exact_decimals_only() {
        for (text, nanos) in [
            ("0", 0),
            ("3", 3 * NANOS_OF_ONE),
            ("3.75", 3_750_000_000),
            ("0.30", 300_000_000),
            ("0.000000001", 1),
            ("1.0000000000", NANOS_OF_ONE),
        ] {
            assert_eq!(Decimal::parse(text), Ok(Decimal(nanos)), "{text}");
        }
        for (text, error) in [
            ("-1", DecimalError::Negative),
            ("-0.0", DecimalError::Negative),
            ("0.0000000001", DecimalError::TooFine),
            ("1000001", DecimalError::TooLarge),
            ("99999999999999999999", DecimalError::TooLarge),
            ("1e3", DecimalError::NotPlain),
            ("1.", DecimalError::NotPlain),
            (".5", DecimalError::NotPlain),
            ("", DecimalError::NotPlain),
            ("+1", DecimalError::NotPlain),
        ] {
            assert_eq!(Decimal::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_decimal_reads_back(nanos in 0..=LARGEST) {
            prop_assert_eq!(Decimal::parse(&Decimal(nanos).to_string()), Ok(Decimal(nanos)));
        }
    }
}
