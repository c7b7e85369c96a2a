//! Whether new traffic should come here.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether new traffic should come here; shared by everything that starts and stops.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Listeners or configuration are not there yet.
    Starting,
    Yes,
    /// The ledger takes nothing, so nothing is served.
    NoLedger,
    /// Requests in flight are finished, new ones should go elsewhere.
    Draining,
}

impl Readiness {
    pub fn now(&self) -> Ready {
        match self.0.load(Ordering::Acquire) {
            0 => Ready::Starting,
            1 => Ready::Yes,
            _ => Ready::Draining,
        }
    }

    /// Everything is there. A process that drains does not become ready again.
    pub fn set_ready(&self) {
        // Fails only where the process is ready or drains already.
        let _ = self.0.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    }

    pub fn set_draining(&self) {
        self.0.store(2, Ordering::Release);
    }
}

impl Ready {
    /// The word of the status document.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NoLedger => "ledger_unwritable",
            Self::Yes => "ready",
            Self::Draining => "draining",
        }
    }

    /// The status and the body of the readiness probe.
    pub fn answer(self) -> (u16, &'static str) {
        match self {
            Self::Starting => (503, r#"{"status":"starting"}"#),
            Self::NoLedger => (503, r#"{"status":"ledger_unwritable"}"#),
            Self::Yes => (200, r#"{"status":"ready"}"#),
            Self::Draining => (503, r#"{"status":"draining"}"#),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l3_is_not_ready_while_starting_or_draining() {
        let readiness = Readiness::default();
        assert_eq!(readiness.now().answer(), (503, r#"{"status":"starting"}"#));
        readiness.set_ready();
        assert_eq!(readiness.now().answer(), (200, r#"{"status":"ready"}"#));
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.now().answer(), (503, r#"{"status":"draining"}"#));
    }
}
