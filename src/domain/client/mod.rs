//! Who calls us: clients, what they may use and until when.
//!
//! A client has one key, known here by its hash alone. Its name is its identity in logs and in the ledger: unique, never reused,
//! never changed. What it may spend is its [`Account`]; one without an account is not limited.

mod expiry;
mod held;
mod key;
mod models;

use std::fmt;
use std::sync::Arc;

use crate::domain::answer::Refusal;
use crate::domain::credit::Account;

pub use expiry::{date_time, parse_expiry};
pub use held::HeldBytes;
pub use key::{ClientKey, KeyHash};
pub use models::Models;

/// The names that the gateway gives to callers without an entry.
const RESERVED: &[&str] = &[Caller::STATIC, Caller::ANONYMOUS];
const MAX_NAME_CHARS: usize = 64;
/// Longer notes belong elsewhere.
pub const MAX_NOTE_BYTES: usize = 1_000;

/// A client as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `c-` and 16 hexadecimal digits.
    pub id: Arc<str>,
    pub name: ClientName,
    pub key: KeyHash,
    pub models: Models,
    pub created_at_unix_s: u64,
    pub expires_at_unix_s: Option<u64>,
    pub revoked_at_unix_s: Option<u64>,
    pub note: String,
    /// Requests per minute: kept and shown, not enforced yet.
    pub rpm: Option<u64>,
    /// Tokens per minute: kept and shown, not enforced yet.
    pub tpm: Option<u64>,
    /// The sum of its grants in nano-dollars; `None`: it has no balance and is not limited.
    pub granted_nano_usd: Option<i64>,
}

/// A client's name: what operators type and logs show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientName(Arc<str>);

/// Why a text names no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a client's name must not be empty")]
    Empty,
    #[error("a client's name has at most {MAX_NAME_CHARS} characters")]
    TooLong,
    #[error("a client's name is made of letters, digits and . _ - @ + and begins with a letter or a digit")]
    BadCharacter,
    #[error("this name means callers without an entry of their own; choose another one")]
    Reserved,
    #[error("this looks like a client's id (c- and 16 hexadecimal digits); choose another name")]
    LooksLikeId,
}

/// A client in memory, with what it may spend.
#[derive(Debug)]
pub struct Known {
    pub client: Client,
    /// `None`: not limited.
    pub account: Option<Arc<Account>>,
    /// What its requests' bodies take of the memory at this moment (A4).
    pub bodies: Arc<HeldBytes>,
}

/// Who sent a request, once authentication is over.
#[derive(Clone, Debug)]
pub enum Caller {
    /// `auth.mode` is `none`.
    Anonymous,
    /// The holder of `auth.static_key`.
    StaticKey,
    Client(Arc<Known>),
}

impl ClientName {
    /// # Errors
    ///
    /// What can't be typed, or could be taken for something else.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.chars().count() > MAX_NAME_CHARS {
            return Err(NameError::TooLong);
        }
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
        if !text.chars().all(fits) || !text.starts_with(char::is_alphanumeric) {
            return Err(NameError::BadCharacter);
        }
        if RESERVED.contains(&text) {
            return Err(NameError::Reserved);
        }
        if text.strip_prefix("c-").is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(NameError::LooksLikeId);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Client {
    /// Makes an id of eight random bytes.
    pub fn new_id(random: [u8; 8]) -> Arc<str> {
        format!("c-{:016x}", u64::from_be_bytes(random)).into()
    }

    /// Whether its key is still good (H5).
    ///
    /// # Errors
    ///
    /// [`Refusal::KeyRevoked`] and [`Refusal::KeyExpired`].
    pub fn admit(&self, now_unix_ms: u64) -> Result<(), Refusal> {
        match self.standing(now_unix_ms / 1_000) {
            Standing::Active => Ok(()),
            Standing::Revoked => Err(Refusal::KeyRevoked),
            Standing::Expired => Err(Refusal::KeyExpired),
        }
    }

    pub fn standing(&self, now_unix_s: u64) -> Standing {
        if self.revoked_at_unix_s.is_some() {
            Standing::Revoked
        } else if self.expires_at_unix_s.is_some_and(|expires| expires <= now_unix_s) {
            Standing::Expired
        } else {
            Standing::Active
        }
    }
}

/// Whether a client may use its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    Revoked,
    Expired,
}

impl Standing {
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl Caller {
    pub const STATIC: &'static str = "static";
    pub const ANONYMOUS: &'static str = "anonymous";

    /// The name in logs and in the ledger.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => Self::ANONYMOUS,
            Self::StaticKey => Self::STATIC,
            Self::Client(known) => known.client.name.as_str(),
        }
    }

    /// Its entry in the store, if it has one.
    pub fn client(&self) -> Option<&Client> {
        match self {
            Self::Client(known) => Some(&known.client),
            Self::Anonymous | Self::StaticKey => None,
        }
    }

    /// What it may spend; `None`: not limited.
    pub fn account(&self) -> Option<&Arc<Account>> {
        match self {
            Self::Client(known) => known.account.as_ref(),
            Self::Anonymous | Self::StaticKey => None,
        }
    }

    /// Whether it has a balance or may use some models only.
    pub fn is_limited(&self) -> bool {
        self.account().is_some() || self.client().is_some_and(|client| client.models != Models::All)
    }

    /// Whether it may use a model that goes by any of these names.
    pub fn may_use<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> bool {
        self.client().is_none_or(|client| client.models.allow(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(expires: Option<u64>, revoked: Option<u64>) -> Client {
        Client {
            id: Client::new_id([0xab; 8]),
            name: ClientName::parse("alice").unwrap(),
            key: KeyHash::of(b"k"),
            models: Models::All,
            created_at_unix_s: 0,
            expires_at_unix_s: expires,
            revoked_at_unix_s: revoked,
            note: String::new(),
            rpm: None,
            tpm: None,
            granted_nano_usd: None,
        }
    }

    #[test]
    fn h5_a_key_ends_at_its_second_and_revoked_counts_first() {
        assert_eq!(client(None, None).admit(u64::MAX), Ok(()));
        assert_eq!(client(Some(10), None).admit(9_999), Ok(()));
        assert_eq!(client(Some(10), None).admit(10_000), Err(Refusal::KeyExpired));
        assert_eq!(client(Some(10), Some(5)).admit(9_999), Err(Refusal::KeyRevoked));
    }

    #[test]
    fn names_are_what_an_operator_can_type_and_nothing_else_is_called() {
        for good in ["alice", "alice@example.com", "team-7_b.c+d", "Größe", "7"] {
            assert_eq!(ClientName::parse(good).unwrap().as_str(), good);
        }
        for (bad, error) in [
            ("", NameError::Empty),
            ("a b", NameError::BadCharacter),
            ("a\n", NameError::BadCharacter),
            ("-a", NameError::BadCharacter),
            ("a/b", NameError::BadCharacter),
            ("static", NameError::Reserved),
            ("anonymous", NameError::Reserved),
            ("c-00112233aabbccdd", NameError::LooksLikeId),
        ] {
            assert_eq!(ClientName::parse(bad), Err(error), "{bad:?}");
        }
        assert_eq!(ClientName::parse(&"a".repeat(65)), Err(NameError::TooLong));
        assert!(ClientName::parse(&"ä".repeat(64)).is_ok());
    }

    #[test]
    fn an_id_is_sixteen_digits_whatever_the_random_bytes() {
        assert_eq!(&*Client::new_id([0; 8]), "c-0000000000000000");
        assert_eq!(&*Client::new_id([0xff; 8]), "c-ffffffffffffffff");
    }

    #[test]
    fn callers_without_an_entry_may_use_everything_and_are_not_limited() {
        for caller in [Caller::Anonymous, Caller::StaticKey] {
            assert!(caller.may_use(["m"]) && caller.may_use([]) && caller.account().is_none());
        }
    }
}
