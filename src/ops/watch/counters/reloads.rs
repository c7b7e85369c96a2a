//! How often the configuration was reloaded, with which outcome, and when last.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts reloads by their outcome, and keeps when the last one was.
#[derive(Debug, Default)]
pub struct Reloads {
    ok: AtomicU64,
    refused: AtomicU64,
    last_ok_unix_ms: AtomicU64,
    /// Milliseconds times two, plus one where it came into force: one word, so that the two never disagree.
    last: AtomicU64,
}

/// The reloads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadsSeen {
    pub ok: u64,
    pub refused: u64,
    /// When the settings in force were read: the last reload that came into force, else the start.
    pub loaded_unix_ms: u64,
    /// When the last reload was asked for, and whether it came into force.
    pub last: Option<(u64, bool)>,
}

impl Reloads {
    pub fn count(&self, ok: bool, now_unix_ms: u64) {
        let count = if ok { &self.ok } else { &self.refused };
        if ok {
            self.last_ok_unix_ms.store(now_unix_ms, Ordering::Relaxed);
        }
        self.last.store((now_unix_ms << 1) | u64::from(ok), Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn seen(&self, started_unix_ms: u64) -> ReloadsSeen {
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let (last, last_ok) = (read(&self.last), read(&self.last_ok_unix_ms));
        ReloadsSeen {
            ok: read(&self.ok),
            refused: read(&self.refused),
            loaded_unix_ms: if last_ok > 0 { last_ok } else { started_unix_ms },
            last: (last > 0).then_some((last >> 1, last & 1 == 1)),
        }
    }
}
