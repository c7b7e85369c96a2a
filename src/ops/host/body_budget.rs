//! The memory that request bodies in flight may take together (Q3), and one client's share of it (A4): counts of bytes, taken as the bytes
//! arrive and given back on drop.
//!
//! What a client only announces costs nobody anything; what it really sends is its own share first, so that one client can't take the
//! room of the others. Never blocks and never queues: a body that does not fit is refused at once, so that its client can come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::client::HeldBytes;
use crate::domain::settings::Limits;

/// The budget of the whole process. A reload changes its limits, not its counts.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limit_bytes: AtomicUsize,
    client_limit_bytes: AtomicUsize,
    taken: HeldBytes,
}

/// Bytes of one body, taken from the budget and from its client's share; dropping it gives all of them back.
#[derive(Debug)]
pub struct BodyPermit {
    budget: Arc<Counts>,
    client: Option<Arc<HeldBytes>>,
    bytes: usize,
}

/// What a body does not fit in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The budget of all.
    Budget,
    /// Its own client's share.
    Share,
}

impl BodyBudget {
    pub fn new(limits: &Limits) -> Self {
        Self::of(limits.inflight_body_bytes, limits.client_body_bytes)
    }

    pub fn of(limit_bytes: usize, client_limit_bytes: usize) -> Self {
        let (limit_bytes, client_limit_bytes) = (AtomicUsize::new(limit_bytes), AtomicUsize::new(client_limit_bytes));
        Self(Arc::new(Counts { limit_bytes, client_limit_bytes, taken: HeldBytes::default() }))
    }

    /// A permit for a body of which nothing has arrived. `client`: where it is counted beside the budget, if it is.
    pub fn permit(&self, client: Option<Arc<HeldBytes>>) -> BodyPermit {
        BodyPermit { budget: self.0.clone(), client, bytes: 0 }
    }

    /// Bytes that permits hold at this moment.
    pub fn taken_bytes(&self) -> usize {
        self.0.taken.bytes()
    }

    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes.load(Ordering::Relaxed)
    }

    pub fn client_limit_bytes(&self) -> usize {
        self.0.client_limit_bytes.load(Ordering::Relaxed)
    }

    /// Sets other limits. Permits that are out stay valid, even beyond them.
    pub fn hold_to(&self, limits: &Limits) {
        self.0.limit_bytes.store(limits.inflight_body_bytes, Ordering::Relaxed);
        self.0.client_limit_bytes.store(limits.client_body_bytes, Ordering::Relaxed);
    }
}

impl BodyPermit {
    /// Takes `more` bytes.
    ///
    /// # Errors
    ///
    /// What they don't fit in; nothing is taken then.
    pub fn grow(&mut self, more: usize) -> Result<(), Full> {
        let Self { budget, client, bytes } = self;
        if let Some(client) = client
            && !client.take(more, budget.client_limit_bytes.load(Ordering::Relaxed))
        {
            return Err(Full::Share);
        }
        if !budget.taken.take(more, budget.limit_bytes.load(Ordering::Relaxed)) {
            if let Some(client) = client {
                client.give_back(more);
            }
            return Err(Full::Budget);
        }
        *bytes += more;
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.budget.taken.give_back(self.bytes);
        if let Some(client) = &self.client {
            client.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(budget: &BodyBudget, client: Option<&Arc<HeldBytes>>, bytes: usize) -> Result<BodyPermit, Full> {
        let mut permit = budget.permit(client.cloned());
        permit.grow(bytes).map(|()| permit)
    }

    #[test]
    fn q3_takes_up_to_the_limit_and_gives_back_on_drop() {
        let budget = BodyBudget::of(100, 100);
        let first = grown(&budget, None, 60).unwrap();
        assert_eq!(grown(&budget, None, 41).unwrap_err(), Full::Budget);
        let second = grown(&budget, None, 40).unwrap();
        assert_eq!(budget.taken_bytes(), 100);
        drop(first);
        assert_eq!(budget.taken_bytes(), 40);
        drop(second);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn q3_a_permit_grows_while_there_is_room() {
        let budget = BodyBudget::of(100, 100);
        let mut permit = budget.permit(None);
        permit.grow(99).unwrap();
        assert!(permit.grow(2).is_err() && permit.grow(usize::MAX).is_err());
        assert_eq!((permit.bytes(), budget.taken_bytes()), (99, 99));
        drop(permit);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn a4_a_permit_takes_nothing_before_its_bytes_arrive() {
        let (budget, client) = (BodyBudget::of(100, 50), Arc::default());
        let permits: Vec<_> = (0..1_000).map(|_| budget.permit(Some(Arc::clone(&client)))).collect();
        assert_eq!((budget.taken_bytes(), client.bytes()), (0, 0));
        drop(permits);
    }

    #[test]
    fn a4_one_client_takes_its_share_and_the_others_have_the_rest() {
        let budget = BodyBudget::of(100, 40);
        let (greedy, other) = (Arc::default(), Arc::default());
        let held = [grown(&budget, Some(&greedy), 30).unwrap(), grown(&budget, Some(&greedy), 10).unwrap()];
        assert_eq!(grown(&budget, Some(&greedy), 1).unwrap_err(), Full::Share);
        let more = [grown(&budget, Some(&other), 40).unwrap(), grown(&budget, None, 15).unwrap()];
        // Who is refused for all gives back its own.
        assert_eq!(grown(&budget, Some(&Arc::default()), 6).unwrap_err(), Full::Budget);
        drop(held);
        assert_eq!(greedy.bytes(), 0);
        assert_eq!(grown(&budget, Some(&greedy), 41).unwrap_err(), Full::Share);
        drop(grown(&budget, Some(&greedy), 40).unwrap());
        drop(more);
        assert_eq!((budget.taken_bytes(), other.bytes(), greedy.bytes()), (0, 0, 0));
    }

    #[test]
    fn a4_a_body_that_is_refused_for_all_gives_its_client_back_what_it_took() {
        let (budget, client) = (BodyBudget::of(10, 10), Arc::default());
        let other = grown(&budget, None, 8).unwrap();
        let mut permit = budget.permit(Some(Arc::clone(&client)));
        permit.grow(2).unwrap();
        assert_eq!(permit.grow(1), Err(Full::Budget));
        assert_eq!(client.bytes(), 2);
        drop((permit, other));
        assert_eq!((client.bytes(), budget.taken_bytes()), (0, 0));
    }

    #[test]
    fn another_limit_holds_from_the_next_byte_on() {
        let budget = BodyBudget::of(100, 100);
        let mut permit = grown(&budget, None, 80).unwrap();
        budget.0.limit_bytes.store(50, Ordering::Relaxed);
        assert!(permit.grow(1).is_err() && grown(&budget, None, 1).is_err());
        drop(permit);
        assert!(grown(&budget, None, 50).is_ok());
    }

    #[test]
    fn q3_many_threads_never_exceed_the_limits() {
        let (budget, client) = (BodyBudget::of(1_000, 600), Arc::<HeldBytes>::default());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for size in 0..5_000 {
                        let permit = grown(&budget, (size % 2 == 0).then_some(&client), size % 400);
                        assert!(budget.taken_bytes() <= 1_000 && client.bytes() <= 600);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!((budget.taken_bytes(), client.bytes()), (0, 0));
    }
}
