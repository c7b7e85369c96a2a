//! No sequence of reservations, in any order and on any number of threads, spends what is not there, and nothing is lost.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;
use crate::domain::billing::{Decimal, Rates};

fn nano(nanos: u64) -> NanoUsd {
    NanoUsd::from_nanos(nanos)
}

fn price(input: &str, output: &str) -> Price {
    let decimal = |text| Decimal::parse(text).unwrap();
    Price::new(Rates::derive(decimal(input), decimal(output), None, None, None), Decimal::ONE)
}

#[test]
fn g4_a_reservation_is_whole_or_nothing_and_says_what_is_missing() {
    let account = Arc::new(Account::new(100));
    let held = account.reserve(nano(70)).unwrap();
    assert_eq!(account.reserve(nano(31)).unwrap_err(), Short { missing: nano(1) });
    assert_eq!((account.free_nano_usd(), account.reserved_nano_usd(), account.balance_nano_usd()), (30, 70, 100));
    held.settle(nano(20));
    assert_eq!((account.free_nano_usd(), account.reserved_nano_usd(), account.balance_nano_usd()), (80, 0, 80));
}

#[test]
fn g4_a_dropped_reservation_costs_nothing() {
    let account = Arc::new(Account::new(100));
    drop(account.reserve(nano(100)).unwrap());
    assert_eq!((account.free_nano_usd(), account.reserved_nano_usd()), (100, 0));
}

#[test]
fn g4_a_cost_beyond_the_reservation_shows_and_stops_the_next() {
    let account = Arc::new(Account::new(100));
    account.reserve(nano(100)).unwrap().settle(nano(130));
    assert_eq!(account.balance_nano_usd(), -30);
    assert_eq!(account.reserve(nano(5)).unwrap_err(), Short { missing: nano(35) });
    assert_eq!(account.reserve(NanoUsd::ZERO).unwrap_err(), Short { missing: nano(30) }, "below zero even free models stop");
    account.grant(30);
    assert!(account.reserve(NanoUsd::ZERO).is_ok());
}

#[test]
fn g4_costs_of_other_writers_and_grants_move_the_balance() {
    let account = Account::new(0);
    account.grant(1_000);
    account.settle(nano(400));
    account.grant(-100);
    assert_eq!(account.balance_nano_usd(), 500);
}

#[test]
fn g4_what_another_process_reserved_is_held_whether_it_is_free_or_not() {
    let account = Arc::new(Account::new(100));
    let (first, second) = (account.hold(nano(70)), account.hold(nano(50)));
    assert_eq!((account.free_nano_usd(), account.reserved_nano_usd(), account.balance_nano_usd()), (-20, 120, 100));
    assert_eq!(account.reserve(NanoUsd::ZERO).unwrap_err(), Short { missing: nano(20) });
    first.settle(nano(10));
    drop(second);
    assert_eq!((account.free_nano_usd(), account.reserved_nano_usd(), account.balance_nano_usd()), (90, 0, 90));
}

#[test]
fn absurd_amounts_saturate() {
    let account = Arc::new(Account::new(i64::MAX));
    account.grant(i64::MAX);
    assert_eq!(account.free_nano_usd(), i64::MAX);
    account.reserve(NanoUsd::MAX).unwrap().settle(NanoUsd::MAX);
    account.settle(NanoUsd::MAX);
    account.settle(NanoUsd::MAX);
    assert_eq!(account.reserve(NanoUsd::MAX).unwrap_err().missing, NanoUsd::MAX);
}

/// G4: 1 000 requests on 0.01 USD, each of which may cost 0.0003 USD: at most 33 at one time, never below zero.
#[test]
fn g4_parallel_requests_never_overspend() {
    const BALANCE: i64 = 10_000_000;
    const ESTIMATE: u64 = 300_000;
    let account = Arc::new(Account::new(BALANCE));
    let (served, spent) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (account, served, spent) = (&account, &served, &spent);
            scope.spawn(move || {
                for nth in 0..125 {
                    let Ok(held) = account.reserve(nano(ESTIMATE)) else { continue };
                    assert!(account.free_nano_usd() >= 0);
                    std::thread::yield_now();
                    // Some cost all of it, some a part, some are refused after all.
                    match (thread + nth) % 3 {
                        0 => drop(held),
                        part => {
                            let cost = ESTIMATE / part;
                            held.settle(nano(cost));
                            spent.fetch_add(cost, Ordering::Relaxed);
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let spent = i64::try_from(spent.into_inner()).unwrap();
    assert!(served.into_inner() >= 33 && spent <= BALANCE, "{spent}");
    assert_eq!((account.balance_nano_usd(), account.reserved_nano_usd()), (BALANCE - spent, 0), "exact to the last nano-dollar");
}

/// G4: money for ten answers serves ten of fifty.
#[test]
fn g4_fifty_at_once_on_credit_for_ten_are_served_ten_times() {
    let account = Arc::new(Account::new(10_000));
    let held: Vec<_> = (0..50).filter_map(|_| account.reserve(nano(1_000)).ok()).collect();
    assert_eq!(held.len(), 10);
    held.into_iter().for_each(|held| held.settle(nano(1_000)));
    assert_eq!(account.balance_nano_usd(), 0);
    assert!(account.reserve(nano(1)).is_err());
}

#[test]
fn g4_the_estimate_counts_bytes_at_the_dearest_input_class_and_the_output_that_is_allowed() {
    let price = price("3", "15");
    let most = MostTokens { input: 1_000, output: 500 };
    let of = |api, bytes, asked| estimate(&price, api, bytes, asked, most).nanos();
    // An hour's cache write costs 6 USD per million tokens: 6 000 nano-dollars a token.
    assert_eq!(of(Api::Messages, 300, limited(100)), 100 * 6_000 + 100 * 15_000);
    assert_eq!(of(Api::Messages, 301, limited(100)), 101 * 6_000 + 100 * 15_000);
    assert_eq!(of(Api::ChatCompletions, 0, AskedOutput::default()), 500 * 15_000, "without a limit of its own, the most");
    assert_eq!(of(Api::ChatCompletions, usize::MAX, limited(u64::MAX)), 1_000 * 6_000 + 500 * 15_000, "neither beyond the most");
    assert_eq!(of(Api::Embeddings, 300, AskedOutput::default()), 100 * 6_000);
    assert_eq!(of(Api::CountTokens, 300, limited(100)), 0);
}

/// G4: a field that the API does not know can't lower the reservation.
#[test]
fn g4_only_the_limits_that_the_api_knows_count() {
    let price = price("0", "1");
    let most = MostTokens { input: 0, output: 500 };
    let none = AskedOutput::default();
    let of_tokens = AskedOutput { max_tokens: Some(1), ..none };
    let of_completion = AskedOutput { max_completion_tokens: Some(2), ..none };
    let of_output = AskedOutput { max_output_tokens: Some(3), ..none };
    let all = AskedOutput { max_tokens: Some(1), max_completion_tokens: Some(2), max_output_tokens: Some(3), ..none };
    for (api, reserved) in [
        (Api::ChatCompletions, [1, 2, 500, 2]),
        (Api::Completions, [1, 500, 500, 1]),
        (Api::Messages, [1, 500, 500, 1]),
        (Api::Responses, [500, 500, 3, 3]),
        (Api::Other, [1, 2, 3, 3]),
        (Api::Unknown, [1, 2, 3, 3]),
    ] {
        let tokens =
            [of_tokens, of_completion, of_output, all].map(|asked| estimate(&price, api, 0, asked, most).nanos() / 1_000);
        assert_eq!(tokens, reserved, "{api:?}");
        let zero = AskedOutput { max_tokens: Some(0), max_completion_tokens: Some(0), max_output_tokens: Some(0), ..none };
        assert_eq!(estimate(&price, api, 0, zero, most).nanos(), 500_000, "{api:?}: a limit of 0 may be dropped on the way");
    }
}

/// G4: every answer that is asked for is reserved, where there can be several.
#[test]
fn g4_the_output_is_reserved_for_every_answer_that_is_asked_for() {
    let price = price("3", "1");
    let most = MostTokens { input: 1_000, output: 500 };
    let asked = |n, best_of| AskedOutput { n, best_of, ..limited(10) };
    let of = |api, asked| estimate(&price, api, 3, asked, most).nanos();
    for api in [Api::ChatCompletions, Api::Completions] {
        for (n, best_of, answers) in [
            (None, None, 1),
            (Some(0), None, 1),
            (Some(1), None, 1),
            (Some(10), None, 10),
            (None, Some(7), 7),
            (Some(3), Some(7), 7),
            (Some(7), Some(3), 7),
        ] {
            assert_eq!(of(api, asked(n, best_of)), 6_000 + answers * 10_000, "{api:?} {n:?} {best_of:?}");
        }
        assert_eq!(of(api, AskedOutput { n: Some(10), ..AskedOutput::default() }), 6_000 + 10 * 500_000, "each up to the most");
        assert_eq!(of(api, asked(Some(u64::MAX), Some(u64::MAX))), u64::MAX, "the dearest amount there is");
    }
    let prompts = |prompts| AskedOutput { prompts, ..asked(Some(2), None) };
    assert_eq!(of(Api::Completions, prompts(Some(30))), 6_000 + 2 * 30 * 10_000, "each prompt gets its answers");
    assert_eq!(of(Api::Completions, prompts(Some(0))), 6_000 + 2 * 10_000);
    assert_eq!(of(Api::ChatCompletions, prompts(Some(30))), 6_000 + 2 * 10_000, "a chat has no prompts");
    for api in [Api::Messages, Api::Responses, Api::Other] {
        assert_eq!(of(api, AskedOutput { max_output_tokens: Some(10), ..asked(Some(10), Some(10)) }), 6_000 + 10_000, "{api:?}");
    }
}

fn limited(output_tokens: u64) -> AskedOutput {
    AskedOutput { max_tokens: Some(output_tokens), ..AskedOutput::default() }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u64),
    Settle(u64),
    Drop,
    Grant(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..500).prop_map(Step::Reserve),
        (0u64..700).prop_map(Step::Settle),
        Just(Step::Drop),
        (-200i64..500).prop_map(Step::Grant),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn g4_the_account_agrees_with_a_book_kept_by_hand(start in -100i64..1_000, steps in steps()) {
        let account = Arc::new(Account::new(start));
        let mut balance = start;
        let mut open: Vec<Reservation> = Vec::new();
        for step in steps {
            let reserved: i64 = open.iter().map(|held| i64::try_from(held.amount().nanos()).unwrap()).sum();
            match step {
                Step::Reserve(amount) => {
                    let fits = balance - reserved >= i64::try_from(amount).unwrap();
                    let held = account.reserve(nano(amount));
                    prop_assert_eq!(held.is_ok(), fits);
                    open.extend(held.ok());
                }
                Step::Settle(cost) => {
                    if let Some(held) = open.pop() {
                        held.settle(nano(cost));
                        balance -= i64::try_from(cost).unwrap();
                    }
                }
                Step::Drop => drop(open.pop()),
                Step::Grant(difference) => {
                    account.grant(difference);
                    balance += difference;
                }
            }
            prop_assert_eq!(account.balance_nano_usd(), balance);
        }
    }

    /// G4: whatever is billed for such a request stays within its estimate.
    #[test]
    fn g4_no_usage_within_the_limits_costs_more_than_its_estimate(
        tokens in prop::array::uniform4(0u64..25),
        output in 0u64..200,
        bytes in 300usize..5_000,
    ) {
        use crate::domain::usage::Usage;
        let [input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens] = tokens;
        let usage = Usage { input_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, output_tokens: output, ..Usage::default() };
        let price = price("3", "15");
        let estimated = estimate(&price, Api::Messages, bytes, limited(200), MostTokens { input: 100_000, output: 100_000 });
        prop_assert!(price.cost(&usage) <= estimated);
    }
}
