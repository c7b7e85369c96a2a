//! The time of day, a clock that never steps, and the randomness of request ids: what the domain takes as arguments.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::id::RequestId;
use crate::domain::moment::{Moment, Now};

/// Milliseconds since the Unix epoch; 0 on a clock that stands before it.
pub fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// This moment, by the clock that cooldowns are counted in.
pub fn now() -> Moment {
    static START: LazyLock<(Instant, Moment)> = LazyLock::new(|| (Instant::now(), Moment::from_millis(now_unix_ms())));
    let (began, at) = *START;
    at.after(began.elapsed())
}

/// This moment, by both clocks: what a step of a request is given.
pub fn step() -> Now {
    Now { moment: now(), unix_ms: now_unix_ms() }
}

/// Makes the id of a request that arrives now.
pub fn new_request_id() -> RequestId {
    RequestId::new(now_unix_ms(), random_bytes())
}

thread_local! {
    static KEY: RandomState = RandomState::new();
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Ten bytes that differ from every other ten, without a system call.
///
/// A counter under a keyed SipHash: the standard library takes the 128-bit key of each thread from the operating system once, so two
/// threads, or two processes of an upgrade, share no sequence. 74 of the 80 bits end up in the id: a million ids in one millisecond
/// meet with probability 2⁻³⁵. Ids are unique, not secret: nothing is authenticated by one.
fn random_bytes() -> [u8; 10] {
    let count = NEXT.replace(NEXT.get().wrapping_add(1));
    let (high, low) = KEY.with(|key| (key.hash_one((count, 0u8)), key.hash_one((count, 1u8))));
    let mut bytes = [0; 10];
    for (byte, random) in bytes.iter_mut().zip(high.to_le_bytes().into_iter().chain(low.to_le_bytes())) {
        *byte = random;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_many_threads_never_meet() {
        let ids: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..20_000).map(|_| random_bytes()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 160_000);
    }

    #[test]
    fn every_bit_of_the_random_part_moves() {
        let (mut ever, mut always) = ([0u8; 10], [0xffu8; 10]);
        for _ in 0..1_000 {
            for ((ever, always), byte) in ever.iter_mut().zip(&mut always).zip(random_bytes()) {
                *ever |= byte;
                *always &= byte;
            }
        }
        assert_eq!((ever, always), ([0xff; 10], [0; 10]));
    }

    #[test]
    fn the_id_carries_the_time_of_day() {
        let before = now_unix_ms();
        let id = new_request_id();
        let stamp = u64::from_str_radix(&id.as_str().replace('-', "")[..12], 16).unwrap();
        assert!((before..=now_unix_ms()).contains(&stamp));
        assert!(before > 1_700_000_000_000, "milliseconds, not seconds");
    }
}
