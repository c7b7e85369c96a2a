//! The ledger on good disks and bad ones, with processes that live, die and start side by side.

mod company;
mod damage;
mod disks;
mod folding;
mod proofs;
mod starts;
mod strangers;
mod syncs;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::read::Scan;
use super::*;
use crate::domain::billing::{Decimal, NanoUsd};
use crate::domain::end::End;
use crate::domain::ledger::{Record, Sent};
use crate::domain::usage::{Source, Usage};

/// 2026-01-01T00:00:00Z
const NOW: u64 = 1_767_225_600_000;

const SETTINGS: LedgerSettings = LedgerSettings { sync: LedgerSync::Process, segment_bytes: 64 << 20, retention: None };

fn id(nth: u64) -> String {
    format!("019b7000-0000-7000-8000-{nth:012x}")
}

fn sent(nth: u64) -> Sent<'static> {
    Sent {
        id: id(nth).into(),
        opened_at_unix_ms: NOW,
        client: Some(["team-a", "team-b"][(nth % 2) as usize].into()),
        client_key: Some("ck_1".into()),
        model: Some(["claude-opus-4-5", "gpt-5", "tröll"][(nth % 3) as usize].into()),
        listed_as: None,
        upstream: "troll".into(),
        endpoint: Some("llm.example.com:443".into()),
        proxy: None,
        key: Some("k1".into()),
    }
}

fn opened(nth: u64) -> Open<'static> {
    Open { sent: sent(nth), reservation: NanoUsd::from_nanos(1_000_000) }
}

fn closed(nth: u64) -> Close<'static> {
    Close {
        sent: sent(nth),
        closed_at_unix_ms: NOW + 1_000,
        attempts: 1,
        status: 200,
        end: End::Ok,
        stream: nth.is_multiple_of(2),
        source: Source::Final,
        usage: Usage { input_tokens: 100 + nth, output_tokens: 7, ..Usage::default() },
        lines: (&[]).into(),
        conditions: Vec::new(),
        cost: NanoUsd::from_nanos(1_000 + nth),
        multiplier: Decimal::ONE,
        first_byte: Some(Duration::from_millis(12)),
        total: Duration::from_secs(1),
    }
}

fn start(state: &TempDir) -> Ledger {
    Ledger::start(state.path(), SETTINGS, false, NOW).unwrap().0
}

fn entry(ledger: &Ledger, nth: u64) {
    assert!(matches!(ledger.open(&opened(nth)).unwrap().close(&closed(nth)), Closed::Written));
}

/// What a killed process leaves: nothing is tidied up, the kernel lets go of its lock.
fn kill(ledger: Ledger, tickets: Vec<Ticket>) {
    let lock = ledger.files.lock.as_ref().unwrap();
    let left = lock.kept_name();
    for mut ticket in tickets {
        ticket.is_closed = true;
        drop(ticket);
    }
    drop(ledger);
    std::fs::write(left, b"").unwrap();
}

fn files(state: &TempDir) -> Vec<PathBuf> {
    let directory = directory(state.path());
    names::segments(&directory).unwrap().iter().map(|name| directory.join(name.to_string())).collect()
}

/// Every intact record of all segments: ids of the opens, and ends by id of the closes.
fn records(state: &TempDir) -> (Vec<String>, HashMap<String, Vec<End>>) {
    let (mut opens, mut closes) = (Vec::new(), HashMap::<String, Vec<End>>::new());
    for file in files(state) {
        let mut scan = Scan::open(&file, 0).unwrap();
        while let Some(raw) = scan.next_line().unwrap() {
            let _ = raw.each(|line| match line.record {
                Record::Open(open) => opens.push(open.sent.id.into_owned()),
                Record::Close(close) => closes.entry(close.sent.id.to_string()).or_default().push(close.end),
                Record::Segment(_) => {}
            });
        }
    }
    (opens, closes)
}
