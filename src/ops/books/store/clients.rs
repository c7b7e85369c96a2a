//! Clients and their grants, as rows.
//!
//! A client is never deleted and its name never given away: the ledger speaks of it for years. A key stands here as its hash alone.
//! Every change raises `clients_version`, whoever makes it, so that a running gateway can tell cheaply that it has to look again.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::domain::client::{Client, ClientName, KeyHash, Models};

pub const SCHEMA: &str = "
CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_hash BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    models TEXT NOT NULL,                    -- a JSON list of names and prefixes; empty: all models
    created_at INTEGER NOT NULL,             -- seconds since 1970, like the next two
    expires_at INTEGER,
    revoked_at INTEGER,
    rpm INTEGER,
    tpm INTEGER,
    note TEXT NOT NULL,
    has_balance INTEGER NOT NULL CHECK (has_balance IN (0, 1))
) STRICT;

CREATE TABLE grants (
    id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL REFERENCES clients (id),
    at INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_of_client ON grants (client_id);

CREATE TABLE clients_version (version INTEGER NOT NULL) STRICT;
INSERT INTO clients_version VALUES (1);
CREATE TRIGGER clients_added AFTER INSERT ON clients BEGIN UPDATE clients_version SET version = version + 1; END;
CREATE TRIGGER clients_changed AFTER UPDATE ON clients BEGIN UPDATE clients_version SET version = version + 1; END;
CREATE TRIGGER clients_removed AFTER DELETE ON clients BEGIN UPDATE clients_version SET version = version + 1; END;
CREATE TRIGGER grants_added AFTER INSERT ON grants BEGIN UPDATE clients_version SET version = version + 1; END;
CREATE TRIGGER grants_changed AFTER UPDATE ON grants BEGIN UPDATE clients_version SET version = version + 1; END;
CREATE TRIGGER grants_removed AFTER DELETE ON grants BEGIN UPDATE clients_version SET version = version + 1; END;
";

/// No client is given more than a billion dollars; sums stay far from the end of 64 bits.
const MOST_GRANTED_NANO_USD: i64 = 1_000_000_000_000_000_000;

const COLUMNS: &str = "clients.id, name, key_hash, models, created_at, expires_at, revoked_at, rpm, tpm, note,
    CASE has_balance WHEN 1 THEN coalesce((SELECT sum(nano_usd) FROM grants WHERE client_id = clients.id), 0) END";

/// What became of a client that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    Yes,
    NameTaken,
}

/// What became of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The client as it is now.
    Yes(Client),
    /// It is not limited, so there is no balance to change.
    NoBalance,
    /// The sum of its grants would be below zero, or beyond a billion dollars.
    OutOfRange,
}

/// Adds a client, with its first grant where it has a balance.
pub fn add(conn: &mut Connection, client: &Client) -> rusqlite::Result<Added> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = transaction.prepare("SELECT 1 FROM clients WHERE name = ?1")?.exists([client.name.as_str()])?;
    if taken {
        return Ok(Added::NameTaken);
    }
    let models = serde_json::to_string(&client.models.entries()).unwrap_or_default();
    transaction.execute(
        "INSERT INTO clients VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            &*client.id,
            client.name.as_str(),
            client.key.as_bytes(),
            models,
            client.created_at_unix_s,
            client.expires_at_unix_s,
            client.revoked_at_unix_s,
            client.rpm,
            client.tpm,
            client.note,
            client.granted_nano_usd.is_some(),
        ],
    )?;
    if let Some(nano_usd) = client.granted_nano_usd.filter(|nano_usd| *nano_usd != 0) {
        grant_row(&transaction, &client.id, client.created_at_unix_s, nano_usd)?;
    }
    transaction.commit()?;
    Ok(Added::Yes)
}

/// Every client, the oldest first.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<Client>> {
    conn.prepare(&format!("SELECT {COLUMNS} FROM clients ORDER BY created_at, rowid"))?.query_map([], client)?.collect()
}

/// The client with this name or id.
pub fn find(conn: &Connection, name_or_id: &str) -> rusqlite::Result<Option<Client>> {
    conn.query_row(&format!("SELECT {COLUMNS} FROM clients WHERE name = ?1 OR clients.id = ?1"), [name_or_id], client).optional()
}

/// The grants of a client in their order: when (seconds since 1970), and how much.
pub fn grants(conn: &Connection, id: &str) -> rusqlite::Result<Vec<(u64, i64)>> {
    let mut rows = conn.prepare("SELECT at, nano_usd FROM grants WHERE client_id = ?1 ORDER BY id")?;
    rows.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Revokes a key (the first revocation's time stays), or with `None` makes it good again; gives the client as it is now.
pub fn set_revoked(conn: &mut Connection, name_or_id: &str, at_unix_s: Option<u64>) -> rusqlite::Result<Option<Client>> {
    conn.execute(
        "UPDATE clients SET revoked_at = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(revoked_at, ?2) END WHERE name = ?1 OR id = ?1",
        params![name_or_id, at_unix_s],
    )?;
    find(conn, name_or_id)
}

/// Changes a client's balance; `None` where there is no such client.
pub fn grant(conn: &mut Connection, name_or_id: &str, nano_usd: i64, at_unix_s: u64) -> rusqlite::Result<Option<Granted>> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(client) = find(&transaction, name_or_id)? else { return Ok(None) };
    let Some(granted) = client.granted_nano_usd else { return Ok(Some(Granted::NoBalance)) };
    let Some(granted) = granted.checked_add(nano_usd).filter(|sum| (0..=MOST_GRANTED_NANO_USD).contains(sum)) else {
        return Ok(Some(Granted::OutOfRange));
    };
    grant_row(&transaction, &client.id, at_unix_s, nano_usd)?;
    transaction.commit()?;
    Ok(Some(Granted::Yes(Client { granted_nano_usd: Some(granted), ..client })))
}

/// A number that every change raises.
pub fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT version FROM clients_version", [], |row| row.get(0))
}

/// A number that changes when *another* connection wrote to the database; far cheaper than a query.
pub fn changes_of_others(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

fn grant_row(conn: &Connection, id: &str, at_unix_s: u64, nano_usd: i64) -> rusqlite::Result<()> {
    conn.execute("INSERT INTO grants (client_id, at, nano_usd) VALUES (?1, ?2, ?3)", params![id, at_unix_s, nano_usd]).map(|_| ())
}

fn client(row: &Row<'_>) -> rusqlite::Result<Client> {
    let unreadable =
        |column, why: String| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why.into());
    let name = ClientName::parse(&row.get::<_, String>(1)?).map_err(|why| unreadable(1, why.to_string()))?;
    let entries: Vec<String> =
        serde_json::from_str(&row.get::<_, String>(3)?).map_err(|why| unreadable(3, format!("the models of {name}: {why}")))?;
    let models =
        Models::parse(entries.iter().map(String::as_str)).map_err(|why| unreadable(3, format!("client {name}: {why}")))?;
    Ok(Client {
        id: row.get::<_, String>(0)?.into(),
        name,
        key: KeyHash::from_bytes(row.get(2)?),
        models,
        created_at_unix_s: row.get(4)?,
        expires_at_unix_s: row.get(5)?,
        revoked_at_unix_s: row.get(6)?,
        rpm: row.get(7)?,
        tpm: row.get(8)?,
        note: row.get(9)?,
        granted_nano_usd: row.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::books::store::Store;

    fn client(name: &str, granted: Option<i64>) -> Client {
        Client {
            id: format!("c-{name}").into(),
            name: ClientName::parse(name).unwrap(),
            key: KeyHash::of(name.as_bytes()),
            models: Models::parse(["a", "b*"]).unwrap(),
            created_at_unix_s: 100,
            expires_at_unix_s: Some(200),
            revoked_at_unix_s: None,
            note: "a \"note\"".to_owned(),
            rpm: Some(5),
            tpm: None,
            granted_nano_usd: granted,
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn a_client_comes_back_as_it_was_added() {
        let (_dir, store) = store();
        let (limited, free) = (client("limited", Some(7)), client("free", None));
        let all = store.with(|conn| {
            assert_eq!((add(conn, &limited)?, add(conn, &free)?), (Added::Yes, Added::Yes));
            assert_eq!(find(conn, "limited")?, Some(limited.clone()));
            assert_eq!(find(conn, "c-free")?, Some(free.clone()));
            assert_eq!(find(conn, "nobody")?, None);
            all(conn)
        });
        assert_eq!(all.unwrap(), [limited, free]);
    }

    #[test]
    fn a_name_is_given_once_even_after_its_key_was_revoked() {
        let (_dir, store) = store();
        let again = Client { id: "c-other".into(), key: KeyHash::of(b"other"), ..client("a", None) };
        store
            .with(|conn| {
                add(conn, &client("a", None))?;
                set_revoked(conn, "a", Some(150))?;
                assert_eq!(add(conn, &again)?, Added::NameTaken);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn g4_grants_add_up_and_stay_within_their_range() {
        let (_dir, store) = store();
        store
            .with(|conn| {
                add(conn, &client("a", Some(10)))?;
                add(conn, &client("free", None))?;
                let Some(Granted::Yes(a)) = grant(conn, "a", -4, 110)? else { panic!("a grant") };
                assert_eq!((a.granted_nano_usd, find(conn, "a")?), (Some(6), Some(a.clone())));
                for out_of_range in [-7, i64::MIN, i64::MAX, MOST_GRANTED_NANO_USD] {
                    assert_eq!(grant(conn, "a", out_of_range, 120)?, Some(Granted::OutOfRange), "{out_of_range}");
                }
                assert_eq!(grant(conn, "free", 1, 120)?, Some(Granted::NoBalance));
                assert_eq!(grant(conn, "nobody", 1, 120)?, None);
                assert_eq!(grants(conn, "c-a")?, [(100, 10), (110, -4)]);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn h5_revoking_is_kept_and_can_be_taken_back() {
        let (_dir, store) = store();
        store
            .with(|conn| {
                add(conn, &client("a", None))?;
                let revoked = |client: Option<Client>| client.and_then(|client| client.revoked_at_unix_s);
                assert_eq!(revoked(set_revoked(conn, "c-a", Some(150))?), Some(150));
                assert_eq!(revoked(set_revoked(conn, "a", Some(160))?), Some(150), "the first time counts");
                assert_eq!(revoked(set_revoked(conn, "a", None)?), None);
                assert_eq!(set_revoked(conn, "nobody", Some(1))?, None);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn every_change_raises_the_version_and_is_seen_by_other_connections() {
        let (dir, store) = store();
        let watcher = Store::open(dir.path()).unwrap();
        let look = || watcher.with(|conn| Ok((changes_of_others(conn)?, version(conn)?))).unwrap();
        let mut before = look();
        assert_eq!(look(), before);
        type Change = fn(&mut Connection) -> rusqlite::Result<()>;
        let changes: [Change; 3] = [
            |conn| add(conn, &client("a", Some(1))).map(drop),
            |conn| grant(conn, "a", 5, 1).map(drop),
            |conn| set_revoked(conn, "a", Some(1)).map(drop),
        ];
        for change in changes {
            store.with(change).unwrap();
            let after = look();
            assert!(after.0 != before.0 && after.1 > before.1, "{before:?} {after:?}");
            before = after;
        }
        store.with(|conn| conn.execute_batch("CREATE TABLE other (x)")).unwrap();
        let after = look();
        assert!(after.0 != before.0 && after.1 == before.1, "what is not about clients leaves the version alone");
    }

    #[test]
    fn a_row_that_was_edited_into_nonsense_is_an_error_that_names_the_client() {
        let (_dir, store) = store();
        store.with(|conn| add(conn, &client("a", None))).unwrap();
        store.with(|conn| conn.execute("UPDATE clients SET models = '[7]'", [])).unwrap();
        assert!(store.with(|conn| all(conn)).unwrap_err().to_string().contains("the models of a"));
    }
}
