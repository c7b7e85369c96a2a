//! The grammar of numbers, one byte at a time (RFC 8259, section 6): no leading zero, no bare point, no plus sign.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    pub fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Integer),
            _ => None,
        }
    }

    /// Steps over all bytes that belong to the number; the first one of the rest does not.
    #[inline]
    pub fn run(self, bytes: &[u8]) -> (Self, &[u8]) {
        let mut number = self;
        let mut rest = bytes;
        if self == Self::Integer {
            // Most numbers are integers.
            while let [b'0'..=b'9', after @ ..] = rest {
                rest = after;
            }
            if let [b',' | b'}' | b']', ..] = rest {
                return (number, rest);
            }
        }
        while let Some((&byte, after)) = rest.split_first() {
            match number.next(byte) {
                Some(next) => number = next,
                None => break,
            }
            rest = after;
        }
        (number, rest)
    }

    /// Whether the bytes so far are a whole number.
    pub fn may_end(self) -> bool {
        match self {
            Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits => true,
            Self::Minus | Self::Point | Self::Exponent | Self::ExponentSign => false,
        }
    }

    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Integer, b'0'..=b'9') => Some(Self::Integer),
            (Self::Fraction | Self::Point, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Minus, _) => Self::begin(byte).filter(|next| *next != Self::Minus),
            (Self::Zero | Self::Integer, b'.') => Some(Self::Point),
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Some(Self::Exponent),
            (Self::Exponent, b'+' | b'-') => Some(Self::ExponentSign),
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Some(Self::ExponentDigits),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_grammar_has_and_nothing_else() {
        for (text, is_number) in [
            ("0", true),
            ("-0", true),
            ("10", true),
            ("-1.50e+07", true),
            ("0e0", true),
            ("1E-2", true),
            ("01", false),
            ("-", false),
            ("+1", false),
            (".5", false),
            ("1.", false),
            ("1.e1", false),
            ("1e", false),
            ("1e+", false),
            ("1e+-1", false),
            ("--1", false),
            ("0x1", false),
            ("1_0", false),
        ] {
            let whole = Number::begin(text.as_bytes()[0]).is_some_and(|number| {
                let (number, rest) = number.run(&text.as_bytes()[1..]);
                rest.is_empty() && number.may_end()
            });
            assert_eq!(whole, is_number, "{text}");
        }
    }
}
