//! The golden corpus of bills: answers as providers send them, and what each costs, computed by hand.
//!
//! `tests/golden_bills` holds one file for each shape: a price as the configuration writes it, the five token classes, the source, the
//! cost with its arithmetic, and below `answer:` the answer's bytes. No number in there is from our code. [`sums`] adds up
//! 100 000 requests of these shapes.

mod bill;
mod random;
mod sums;

use trollbridge::domain::usage::{Framing, sample};

use bill::{Bill, Billed};
use random::Random;

#[test]
fn u2_u3_u4_every_golden_bill_is_what_was_computed_by_hand() {
    let bills = Bill::all();
    assert!(bills.len() >= 59, "{} bills: one is missing", bills.len());
    for bill in bills {
        assert_eq!(bill.of_chunks([bill.answer()]), bill.expected, "{}", bill.name);
    }
}

#[test]
fn u5_every_cut_of_an_answer_gives_the_same_bill() {
    for bill in Bill::all() {
        let answer = bill.answer();
        assert_eq!(bill.of_chunks(answer.chunks(1)), bill.expected, "{} byte by byte", bill.name);
        for cut in 0..=answer.len() {
            let (head, tail) = answer.split_at(cut);
            assert_eq!(bill.of_chunks([head, tail]), bill.expected, "{} cut at {cut}", bill.name);
        }
    }
}

#[test]
fn u5_a_stream_cut_at_random_places_gives_the_same_bill() {
    let mut random = Random::new(7);
    for bill in Bill::all().iter().filter(|bill| bill.framing == Framing::Sse) {
        for _ in 0..200 {
            let chunks = random.cut(bill.answer(), 60);
            let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
            assert_eq!(bill.of_chunks(chunks), bill.expected, "{} in pieces of {sizes:?}", bill.name);
        }
    }
}

/// U2: what `trollbridge price` reads out of a recorded answer, whose path it doesn't know.
#[test]
fn u2_a_recorded_answer_is_priced_as_it_was_billed() {
    for bill in Bill::all() {
        let report = sample::read(bill.answer()).unwrap_or_else(|why| panic!("{}: {why}", bill.name));
        assert_eq!(Billed::of(&report, &bill.price), bill.expected, "{}", bill.name);
    }
}
