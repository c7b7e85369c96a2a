//! The roll-ups: what entries add up to, by hour and by everything that a report asks for, and how far each segment was read.
//!
//! An entry is added once: its bytes lie behind the segment's mark, which moves in the same transaction, and its id is remembered, so that
//! a copy in another segment counts as a duplicate.

use std::collections::HashMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter};
use uuid::Uuid;

use crate::domain::billing::NanoUsd;
use crate::domain::ledger::{Close, Sums};
use crate::domain::usage::{CLASSES, Calls, Tool, Usage};

pub const SCHEMA: &str = "
    CREATE TABLE ledger_segments (
        name TEXT PRIMARY KEY,
        bytes INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        cost_nano_usd INTEGER NOT NULL,
        duplicates INTEGER NOT NULL,
        duplicate_tokens INTEGER NOT NULL,
        duplicate_cost_nano_usd INTEGER NOT NULL,
        damaged INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE ledger_ids (id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE usage (
        hour INTEGER NOT NULL,
        client TEXT NOT NULL,
        model TEXT NOT NULL,
        upstream TEXT NOT NULL,
        key TEXT NOT NULL,
        end TEXT NOT NULL,
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        cache_write_1h_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cost_nano_usd INTEGER NOT NULL,
        PRIMARY KEY (hour, client, model, upstream, key, end)
    ) WITHOUT ROWID;
";

/// Which segments were removed for their age: any other one that is gone was lost.
pub const REMOVED_SCHEMA: &str = "ALTER TABLE ledger_segments ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;";

/// What few answers have, and calls of the provider's tools.
pub const APART_SCHEMA: &str = "
    ALTER TABLE usage ADD COLUMN audio_input_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN audio_output_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN image_output_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN web_search_calls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN web_fetch_calls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN code_execution_calls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN file_search_calls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN image_generation_calls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN other_calls INTEGER NOT NULL DEFAULT 0;
";

pub const MS_PER_HOUR: u64 = 3_600_000;

/// Entries of one segment that were read together.
pub struct Batch {
    /// Where the first of them begins.
    pub from: u64,
    /// Where the last of them ends.
    pub to: u64,
    pub closes: Vec<Close<'static>>,
    /// Lines between the two that can't be read.
    pub damaged: u64,
}

/// What was added of one segment, copies included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub bytes: u64,
    pub requests: u64,
    pub tokens: u64,
    pub cost: NanoUsd,
    pub damaged: u64,
    /// For its age, by the gateway itself.
    pub is_removed: bool,
}

/// What the lines of a report stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Model,
    Client,
    Upstream,
    /// The upstream's credential.
    Key,
    Day,
}

/// All roll-ups together, and all segments together without their duplicates: two ways to the same requests, tokens and cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    pub rolled_up: (u64, u64, NanoUsd),
    pub segments: (u64, u64, NanoUsd),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct RollUp<'c> {
    hour: i64,
    client: &'c str,
    model: &'c str,
    upstream: &'c str,
    key: &'c str,
    end: &'static str,
}

/// Adds a batch. `false`: somebody else has moved the segment's mark meanwhile, and nothing was added.
pub fn fold(conn: &mut Connection, segment: &str, batch: &Batch) -> rusqlite::Result<bool> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if integer(batch.from) != mark(&transaction, segment)? {
        return Ok(false);
    }
    let (mut seen, mut duplicates, mut roll_ups) = (Sums::default(), Sums::default(), HashMap::<RollUp<'_>, Sums>::new());
    let mut remember = transaction.prepare_cached("INSERT OR IGNORE INTO ledger_ids (id) VALUES (?1)")?;
    for close in &batch.closes {
        let sums = Sums::of(close);
        seen.add(&sums);
        if remember.execute([id_of(&close.sent.id)])? == 1 {
            roll_ups.entry(RollUp::of(close)).or_default().add(&sums);
        } else {
            duplicates.add(&sums);
        }
    }
    drop(remember);
    add_roll_ups(&transaction, &roll_ups)?;
    move_mark(&transaction, segment, batch, &seen, &duplicates)?;
    transaction.commit()?;
    Ok(true)
}

/// How far each segment was read.
pub fn progress(conn: &Connection) -> rusqlite::Result<HashMap<String, Progress>> {
    let mut select =
        conn.prepare_cached("SELECT name, bytes, requests, tokens, cost_nano_usd, damaged, removed FROM ledger_segments")?;
    let rows = select.query_map([], |row| {
        let progress = Progress {
            bytes: count(row, 1)?,
            requests: count(row, 2)?,
            tokens: count(row, 3)?,
            cost: NanoUsd::from_nanos(count(row, 4)?),
            damaged: count(row, 5)?,
            is_removed: row.get(6)?,
        };
        Ok((row.get(0)?, progress))
    })?;
    rows.collect()
}

/// What was used from one hour (since the epoch) until before another, the most expensive first; days in their order.
pub fn report(conn: &Connection, by: By, from_hour: u64, until_hour: u64) -> rusqlite::Result<Vec<(String, Sums)>> {
    let (column, order) = match by {
        By::Model => ("model", "3 DESC, 4 DESC, 1"),
        By::Client => ("client", "3 DESC, 4 DESC, 1"),
        By::Upstream => ("upstream", "3 DESC, 4 DESC, 1"),
        By::Key => ("key", "3 DESC, 4 DESC, 1"),
        By::Day => ("strftime('%Y-%m-%d', hour * 3600, 'unixepoch')", "1"),
    };
    let counts: String = counted().map(|column| format!(", SUM({column})")).collect();
    // Money is added up in two parts: no sum of them leaves 64 bits.
    let mut select = conn.prepare_cached(&format!(
        "SELECT {column}, SUM(requests), SUM(cost_nano_usd / 1000000000), SUM(cost_nano_usd % 1000000000){counts}
         FROM usage WHERE hour >= ?1 AND hour < ?2 GROUP BY 1 ORDER BY {order}"
    ))?;
    let rows = select.query_map([integer(from_hour), integer(until_hour)], |row| {
        let mut tokens = [0; CLASSES.len()];
        for (nth, slot) in tokens.iter_mut().enumerate() {
            *slot = count(row, 4 + nth)?;
        }
        let mut calls = Calls::default();
        for (nth, tool) in Tool::ALL.into_iter().enumerate() {
            calls.set(tool, count(row, 4 + CLASSES.len() + nth)?);
        }
        let usage = Usage::from_tokens(tokens, calls);
        Ok((row.get(0)?, Sums { requests: count(row, 1)?, usage, cost: money(count(row, 2)?, count(row, 3)?) }))
    })?;
    rows.collect()
}

/// What each client was billed, ever: the ledger's half of its balance.
pub fn spent(conn: &Connection) -> rusqlite::Result<HashMap<String, NanoUsd>> {
    let mut select = conn.prepare_cached(
        "SELECT client, SUM(cost_nano_usd / 1000000000), SUM(cost_nano_usd % 1000000000) FROM usage GROUP BY client",
    )?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, money(count(row, 1)?, count(row, 2)?))))?;
    rows.collect()
}

fn totals(conn: &Connection) -> rusqlite::Result<Totals> {
    let sums =
        |sql: &str| conn.query_row(sql, [], |row| Ok((count(row, 0)?, count(row, 1)?, money(count(row, 2)?, count(row, 3)?))));
    Ok(Totals {
        rolled_up: sums(&format!(
            "SELECT SUM(requests), SUM({}), SUM(cost_nano_usd / 1000000000), SUM(cost_nano_usd % 1000000000) FROM usage",
            CLASSES.map(|class| format!("{class}_tokens")).join(" + "),
        ))?,
        segments: sums(
            "SELECT SUM(requests - duplicates), SUM(tokens - duplicate_tokens),
                SUM((cost_nano_usd - duplicate_cost_nano_usd) / 1000000000),
                SUM((cost_nano_usd - duplicate_cost_nano_usd) % 1000000000) FROM ledger_segments",
        )?,
    })
}

/// The marks of all segments and the totals, as they stand at one moment: others may fold meanwhile.
pub fn snapshot(conn: &mut Connection) -> rusqlite::Result<(HashMap<String, Progress>, Totals)> {
    let transaction = conn.transaction()?;
    Ok((progress(&transaction)?, totals(&transaction)?))
}

/// Notes that a segment is about to be removed for its age.
pub fn set_removed(conn: &Connection, segment: &str) -> rusqlite::Result<usize> {
    conn.execute("UPDATE ledger_segments SET removed = 1 WHERE name = ?1", [segment])
}

/// Forgets the ids of requests that came before a time: the segments that could repeat them are gone.
pub fn forget_ids(conn: &Connection, before_unix_ms: u64) -> rusqlite::Result<usize> {
    let first = uuid::Builder::from_unix_timestamp_millis(before_unix_ms, &[0; 10]).into_uuid();
    conn.execute("DELETE FROM ledger_ids WHERE id < ?1", [Value::Blob(first.as_bytes().to_vec())])
}

fn mark(transaction: &Transaction<'_>, segment: &str) -> rusqlite::Result<i64> {
    let mut select = transaction.prepare_cached("SELECT bytes FROM ledger_segments WHERE name = ?1")?;
    Ok(select.query_row([segment], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn move_mark(
    transaction: &Transaction<'_>,
    segment: &str,
    batch: &Batch,
    seen: &Sums,
    duplicates: &Sums,
) -> rusqlite::Result<()> {
    let added = |column: &str| format!("{column} = {column} + MIN(excluded.{column}, {} - {column})", i64::MAX);
    let columns = ["requests", "tokens", "cost_nano_usd", "duplicates", "duplicate_tokens", "duplicate_cost_nano_usd", "damaged"];
    let mut upsert = transaction.prepare_cached(&format!(
        "INSERT INTO ledger_segments (name, bytes, {}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes, {}",
        columns.join(", "),
        columns.map(added).join(", ")
    ))?;
    upsert.execute(params![
        segment,
        integer(batch.to),
        integer(seen.requests),
        integer(seen.tokens()),
        integer(seen.cost.nanos()),
        integer(duplicates.requests),
        integer(duplicates.tokens()),
        integer(duplicates.cost.nanos()),
        integer(batch.damaged),
    ])?;
    Ok(())
}

fn add_roll_ups(transaction: &Transaction<'_>, roll_ups: &HashMap<RollUp<'_>, Sums>) -> rusqlite::Result<()> {
    let columns: Vec<String> = ["requests".to_owned(), "cost_nano_usd".to_owned()].into_iter().chain(counted()).collect();
    let added = |column: &String| format!("{column} = {column} + MIN(excluded.{column}, {} - {column})", i64::MAX);
    let places: Vec<String> = (1..=6 + columns.len()).map(|place| format!("?{place}")).collect();
    let mut upsert = transaction.prepare_cached(&format!(
        "INSERT INTO usage (hour, client, model, upstream, key, end, {}) VALUES ({})
         ON CONFLICT (hour, client, model, upstream, key, end) DO UPDATE SET {}",
        columns.join(", "),
        places.join(", "),
        columns.iter().map(added).collect::<Vec<_>>().join(", ")
    ))?;
    for (of, Sums { requests, usage, cost }) in roll_ups {
        let calls = Tool::ALL.map(|tool| usage.calls.of(tool));
        let counts = [*requests, cost.nanos()].into_iter().chain(usage.tokens()).chain(calls);
        let names = [of.client, of.model, of.upstream, of.key, of.end].map(|name| Value::Text(name.to_owned()));
        let values = [Value::Integer(of.hour)].into_iter().chain(names).chain(counts.map(|count| Value::Integer(integer(count))));
        upsert.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// The columns that count what is billed: the classes of tokens, then calls of tools.
fn counted() -> impl Iterator<Item = String> {
    let tokens = CLASSES.into_iter().map(|class| format!("{class}_tokens"));
    tokens.chain(Tool::ALL.into_iter().map(|tool| format!("{}_calls", tool.label())))
}

impl<'c> RollUp<'c> {
    fn of(close: &'c Close<'_>) -> Self {
        let sent = &close.sent;
        Self {
            hour: integer(close.closed_at_unix_ms / MS_PER_HOUR),
            client: sent.client.as_deref().unwrap_or_default(),
            model: sent.listed_as.as_deref().or(sent.model.as_deref()).unwrap_or_default(),
            upstream: &sent.upstream,
            key: sent.key.as_deref().unwrap_or_default(),
            end: close.end.label(),
        }
    }
}

/// Sixteen bytes for a UUID, whose order is that of time.
fn id_of(id: &str) -> Value {
    Value::Blob(Uuid::try_parse(id).map_or_else(|_| id.as_bytes().to_vec(), |uuid| uuid.as_bytes().to_vec()))
}

/// SQLite's integers are signed: what is beyond them stays at the largest.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, Option<i64>>(column)?.map_or(0, |count| u64::try_from(count).unwrap_or(0)))
}

fn money(whole: u64, nanos: u64) -> NanoUsd {
    NanoUsd::from_nanos(whole.saturating_mul(1_000_000_000).saturating_add(nanos))
}
