//! The request's id: a UUIDv7, made from a clock and randomness that are handed in, printed once and shown everywhere.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// Names one request in the log, in `x-request-id` and in error bodies.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Builds the id from milliseconds since the epoch and ten random bytes.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
        let uuid = uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid();
        Self(Arc::from(&*Uuid::hyphenated(uuid).encode_lower(&mut text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_version_7_uuid_that_sorts_by_time() {
        let early = RequestId::new(1_700_000_000_000, [0xff; 10]);
        let late = RequestId::new(1_700_000_000_001, [0; 10]);
        assert_eq!(early.as_str().len(), 36);
        assert_eq!(early.as_str().chars().nth(14), Some('7'));
        assert!(early.as_str() < late.as_str());
    }
}
