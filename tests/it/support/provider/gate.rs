//! Lets the pieces of a body out when the test says so, in place of a clock.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Holds every piece of the answers that are gated by it, see [`Shorthand::gated`](super::Shorthand::gated).
#[derive(Clone, Debug)]
pub struct Gate(pub(super) Arc<Semaphore>);

impl Gate {
    /// A gate that lets nothing out.
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets this many more pieces out.
    pub fn let_out(&self, pieces: usize) {
        self.0.add_permits(pieces);
    }
}
