//! Client keys: made of 256 random bits, shown once, kept as a SHA-256.
//!
//! A slow hash protects what people choose and others can guess. Nobody guesses 256 random bits, so one fast hash is enough; and since
//! a key is looked up by its hash, the time of a lookup tells nothing about the bytes of any key.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::domain::secret::Secret;

const PREFIX: &str = "tb-";
/// The prefix and 32 bytes in hexadecimal.
const KEY_BYTES: usize = PREFIX.len() + 64;

/// A new key's text, on its way to the one person who may see it.
#[derive(Clone, Debug)]
pub struct ClientKey(Secret);

/// What is kept of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl ClientKey {
    /// Makes a key of 32 bytes from the operating system's randomness; `None` never happens, a key's text is not empty.
    pub fn new(random: [u8; 32]) -> Option<Self> {
        Secret::new(format!("{PREFIX}{}", Hex(&random))).map(Self)
    }

    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.expose().as_bytes())
    }

    /// The text, for the one print.
    pub fn reveal(&self) -> &str {
        self.0.expose()
    }

    /// Whether a text could be a key of ours at all; its length is no secret.
    pub fn has_length_of(presented: &[u8]) -> bool {
        presented.len() == KEY_BYTES
    }
}

impl KeyHash {
    pub fn of(presented: &[u8]) -> Self {
        Self(Sha256::digest(presented).into())
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Eight digits that tell keys apart in lists and in the ledger, and say nothing about the key.
    pub fn fingerprint(&self) -> String {
        Hex(self.0.get(..4).unwrap_or_default()).to_string()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", self.fingerprint())
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h5_a_key_carries_every_random_bit_and_never_prints_itself() {
        let mut random = [0x11; 32];
        random[0] = 0xca;
        random[31] = 0x07;
        let key = ClientKey::new(random).unwrap();
        assert!(key.reveal().starts_with("tb-ca11") && key.reveal().ends_with("1107"));
        assert!(ClientKey::has_length_of(key.reveal().as_bytes()) && !ClientKey::has_length_of(b"tb-"));
        assert!(!format!("{key:?}").contains("ca11"));
    }

    #[test]
    fn a_hash_is_sha_256_of_the_whole_text() {
        let hash = KeyHash::of(b"abc");
        assert_eq!(hash.fingerprint(), "ba7816bf", "FIPS 180-4's first example");
        assert_ne!(hash, KeyHash::of(b"abd"));
        assert_eq!(KeyHash::from_bytes(*hash.as_bytes()), hash);
        assert_eq!(format!("{hash:?}"), "KeyHash(ba7816bf…)");
    }
}
