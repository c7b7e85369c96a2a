//! What operators do with clients, the same for the commands and for the admin listener.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::billing::{Decimal, parse_difference, signed_usd};
use crate::domain::client::{Client, ClientKey, ClientName, Known, MAX_NOTE_BYTES, Models, date_time, parse_expiry};
use crate::domain::credit::Account;
use crate::ops::books::store::clients::{self as rows, Added, Granted};
use crate::ops::books::store::{Store, StoreError, usage};
use crate::ops::host::clock::now_unix_ms;

/// A client that is asked for, as it was typed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    pub name: String,
    /// US dollars; absent: not limited.
    pub credits: Option<String>,
    /// Names and prefixes with `*`; empty: all models.
    #[serde(default)]
    pub models: Vec<String>,
    /// A span, a day or a moment.
    pub expires: Option<String>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    #[serde(default)]
    pub note: String,
}

/// Why an operation was not done; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error("{0}")]
    Invalid(String),
    #[error("there is no client \"{0}\"")]
    Unknown(String),
    #[error(
        "there is a client \"{0}\" already. Names are never given twice, because the ledger speaks of them; choose another one"
    )]
    NameTaken(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds a client and makes its key: the only time that the key is seen.
///
/// # Errors
///
/// What can't be meant, a name that is taken, and what the store says.
pub fn add(store: &Store, asked: &NewClient) -> Result<(Client, ClientKey), OperationError> {
    let (client, key) = make(asked, now_unix_s()).map_err(OperationError::Invalid)?;
    match store.with(|conn| rows::add(conn, &client))? {
        Added::Yes => Ok((client, key)),
        Added::NameTaken => Err(OperationError::NameTaken(asked.name.clone())),
    }
}

/// # Errors
///
/// What the store says.
pub fn list(store: &Store) -> Result<Vec<Client>, OperationError> {
    Ok(store.with(|conn| rows::all(conn))?)
}

/// One client, by its name or id.
///
/// # Errors
///
/// A stranger's name, and what the store says.
pub fn show(store: &Store, name_or_id: &str) -> Result<Client, OperationError> {
    on_one(store, name_or_id, |conn| rows::find(conn, name_or_id))
}

/// One client and what it may spend as far as the roll-ups know, for a question that must change nothing.
///
/// # Errors
///
/// As [`show`], and a database that is not there.
pub fn look_up(state_dir: &Path, name_or_id: &str) -> Result<Known, OperationError> {
    let store = Store::open_for_reading(state_dir)?;
    let client = show(&store, name_or_id)?;
    let account = match client.granted_nano_usd {
        Some(granted) => {
            let account = Account::new(granted);
            if let Some(spent) = store.with(|conn| usage::spent(conn))?.get(client.name.as_str()) {
                account.settle(*spent);
            }
            Some(Arc::new(account))
        }
        None => None,
    };
    Ok(Known { client, account, bodies: Arc::default() })
}

/// Revokes a key. Requests that are under way go on.
///
/// # Errors
///
/// As [`show`].
pub fn revoke(store: &Store, name_or_id: &str) -> Result<Client, OperationError> {
    on_one(store, name_or_id, |conn| rows::set_revoked(conn, name_or_id, Some(now_unix_s())))
}

/// Takes a revocation back.
///
/// # Errors
///
/// As [`show`].
pub fn restore(store: &Store, name_or_id: &str) -> Result<Client, OperationError> {
    on_one(store, name_or_id, |conn| rows::set_revoked(conn, name_or_id, None))
}

/// Adds an amount such as `+5` or `-0.25` to a client's balance.
///
/// # Errors
///
/// An amount that is none, or that the balance can't take; a client that is not limited; and as [`show`].
pub fn credit(store: &Store, name_or_id: &str, amount: &str) -> Result<Client, OperationError> {
    let invalid = |why: String| OperationError::Invalid(why);
    let nano_usd = parse_difference(amount).map_err(|why| invalid(format!("the amount {amount:?} {why}")))?;
    match on_one(store, name_or_id, |conn| rows::grant(conn, name_or_id, nano_usd, now_unix_s()))? {
        Granted::Yes(client) => Ok(client),
        Granted::NoBalance => Err(invalid(format!(
            "\"{name_or_id}\" is not limited. A client has a balance when it is added with one (--credits), because what it spent before \
             would count against it; add another client"
        ))),
        Granted::OutOfRange => Err(invalid(format!(
            "with {amount}, the sum of the grants of \"{name_or_id}\" would be below zero or beyond a billion"
        ))),
    }
}

/// A client for programs; `account` is its live balance where the caller runs in the gateway.
pub fn as_json(client: &Client, account: Option<&Account>) -> Value {
    let credits = client.granted_nano_usd.map(|granted| {
        let mut credits = json!({ "granted": signed_usd(granted) });
        if let (Value::Object(credits), Some(account)) = (&mut credits, account) {
            credits.insert("balance".to_owned(), signed_usd(account.balance_nano_usd()).into());
            credits.insert("reserved".to_owned(), signed_usd(account.reserved_nano_usd()).into());
        }
        credits
    });
    json!({
        "id": &*client.id,
        "name": client.name.as_str(),
        "status": client.standing(now_unix_s()).label(),
        "key_fingerprint": client.key.fingerprint(),
        "models": client.models.entries(),
        "created_at": date_time(client.created_at_unix_s),
        "expires_at": client.expires_at_unix_s.map(date_time),
        "revoked_at": client.revoked_at_unix_s.map(date_time),
        "rpm": client.rpm,
        "tpm": client.tpm,
        "credits": credits,
        "note": client.note,
    })
}

/// What the one who added a client gets: `{"id","name","key"}`.
pub fn new_as_json(client: &Client, key: &ClientKey) -> Value {
    json!({ "id": &*client.id, "name": client.name.as_str(), "key": key.reveal() })
}

pub fn now_unix_s() -> u64 {
    now_unix_ms() / 1_000
}

fn make(asked: &NewClient, now_unix_s: u64) -> Result<(Client, ClientKey), String> {
    let name = ClientName::parse(&asked.name).map_err(|why| why.to_string())?;
    let models = Models::parse(asked.models.iter().map(String::as_str))?;
    let expires =
        asked.expires.as_deref().map(|text| parse_expiry(text, now_unix_s).map_err(|why| format!("expires \"{text}\": {why}")));
    let credits = asked.credits.as_deref().map(|text| match Decimal::parse(text) {
        Ok(decimal) => i64::try_from(decimal.nanos()).map_err(|why| why.to_string()),
        Err(why) => Err(format!("credits \"{text}\": the amount {why}")),
    });
    if asked.note.len() > MAX_NOTE_BYTES {
        return Err(format!("the note is longer than {MAX_NOTE_BYTES} bytes"));
    }
    if asked.note.chars().any(char::is_control) {
        return Err("the note holds control characters".to_owned());
    }
    for (what, limit) in [("rpm", asked.rpm), ("tpm", asked.tpm)] {
        if limit.is_some_and(|limit| limit == 0 || i64::try_from(limit).is_err()) {
            return Err(format!("{what} must be a number from 1; revoke a client that may send nothing"));
        }
    }
    let no_randomness = |why: getrandom::Error| format!("the operating system gives no randomness: {why}");
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    getrandom::fill(&mut id).map_err(no_randomness)?;
    getrandom::fill(&mut secret).map_err(no_randomness)?;
    let key = ClientKey::new(secret).ok_or("a key came out empty")?;
    let client = Client {
        id: Client::new_id(id),
        name,
        key: key.hash(),
        models,
        created_at_unix_s: now_unix_s,
        expires_at_unix_s: expires.transpose()?,
        revoked_at_unix_s: None,
        note: asked.note.clone(),
        rpm: asked.rpm,
        tpm: asked.tpm,
        granted_nano_usd: credits.transpose()?,
    };
    Ok((client, key))
}

fn on_one<T>(
    store: &Store,
    name_or_id: &str,
    run: impl FnOnce(&mut Connection) -> rusqlite::Result<Option<T>>,
) -> Result<T, OperationError> {
    store.with(run)?.ok_or_else(|| OperationError::Unknown(name_or_id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut NewClient)) -> NewClient {
        let mut asked = NewClient { name: "alice".to_owned(), ..NewClient::default() };
        change(&mut asked);
        asked
    }

    #[test]
    fn every_client_gets_a_key_of_its_own() {
        let (one, first) = make(&asked(|_| {}), 100).unwrap();
        let (two, second) = make(&asked(|_| {}), 100).unwrap();
        assert!(first.reveal() != second.reveal() && one.id != two.id);
        assert_eq!((one.key, one.granted_nano_usd, one.models), (first.hash(), None, Models::All));
    }

    #[test]
    fn amounts_are_exact() {
        let (client, _) = make(&asked(|asked| asked.credits = Some("1.500000001".to_owned())), 100).unwrap();
        assert_eq!(client.granted_nano_usd, Some(1_500_000_001));
        assert_eq!(
            as_json(&client, Some(&Account::new(-5)))["credits"],
            json!({"granted": "1.500000001", "balance": "-0.000000005", "reserved": "0"})
        );
        assert_eq!(as_json(&client, None)["credits"], json!({"granted": "1.500000001"}));
    }

    #[test]
    fn what_can_t_be_meant_is_refused_with_its_reason() {
        type Change = fn(&mut NewClient);
        let cases: [(Change, &str); 9] = [
            (|asked| asked.name = "a b".to_owned(), "name"),
            (|asked| asked.credits = Some("-1".to_owned()), "must not be negative"),
            (|asked| asked.credits = Some("1e3".to_owned()), "plain decimal"),
            (|asked| asked.models = vec!["a*b".to_owned()], "a*b"),
            (|asked| asked.expires = Some("soon".to_owned()), "soon"),
            (|asked| asked.rpm = Some(0), "rpm"),
            (|asked| asked.tpm = Some(u64::MAX), "tpm"),
            (|asked| asked.note = "x".repeat(MAX_NOTE_BYTES + 1), "longer than 1000 bytes"),
            (|asked| asked.note = "a\nb".to_owned(), "control"),
        ];
        for (change, part) in cases {
            let why = make(&asked(change), 100).unwrap_err();
            assert!(why.contains(part), "{part}: {why}");
        }
        assert!(make(&asked(|asked| asked.note = "x".repeat(MAX_NOTE_BYTES)), 100).is_ok());
    }
}
