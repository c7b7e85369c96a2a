//! The golden corpus of bills: answers as providers send them, and what each costs, computed by hand.
//!
//! `tests/golden_bills` holds one file for each shape: a price as the configuration writes it, the five token classes, the source, the
//! cost with its arithmetic, and below `answer:` the answer's bytes. No number in there is from our code. [`sums`] adds up
//! 100 000 requests of these shapes.

mod bill;
pub mod random;
mod sums;

use serde_json::json;
use trollbridge::domain::usage::{Framing, sample};

use bill::{Bill, Billed};
use random::Random;

use crate::support::process;

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

#[tokio::test(flavor = "multi_thread")]
async fn u2_the_worked_example_of_the_readme_is_what_the_command_prints() {
    let vector = Bill::all().into_iter().find(|bill| bill.name == "messages_json_u2_vector").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let model = json!({ "id": "claude-example", "input_price_per_mtok": 3, "output_price_per_mtok": 15,
        "cache_write_price_per_mtok": 3.75, "cache_hit_price_per_mtok": 0.30, "billing_multiplier": 1.2 });
    std::fs::write(dir.path().join("config.json"), json!({ "models": [model] }).to_string()).unwrap();
    std::fs::write(dir.path().join("usage.json"), vector.answer()).unwrap();
    let args = ["price", "--model", "claude-example", "--usage", "usage.json"];
    let printed = process::run(dir.path(), &args, &[]).await.expect(0).out;
    assert!(printed.trim_end().ends_with(" 0.011808 USD"), "{printed}");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains(&format!("```text\n{printed}```\n")), "README.md has another example:\n{printed}");
}
