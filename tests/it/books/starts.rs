//! State directories that a gateway must not or can't write, and files that change behind its back.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::{command, entries, expect_whole};
use crate::answers::{BOTH, CHAT, MESSAGES, ask_main, client_that};
use crate::support::{Gateway, Mock, Setup};

/// The gateway's segments, oldest first.
fn segments(gateway: &Gateway) -> Vec<PathBuf> {
    let files = fs::read_dir(gateway.dir().join("state/ledger")).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    segments.sort();
    segments
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_second_process_on_the_same_state_is_refused_and_told_whose_it_is() {
    let main = Mock::http().await.unwrap();
    let mut first = Setup::new().main(&main).start().await;
    first.send(ask_main(CHAT, false)).await.expect(200);
    let state = first.dir().join("state");
    for _ in 0..2 {
        let (code, said) = Setup::new().main(&main).set("/state_dir", json!(state)).start_refused().await;
        assert_eq!(code, 75, "{said}");
        assert!(said.contains(&format!("another trollbridge (process {}) uses the state directory", first.pid())), "{said}");
        assert!(said.contains(state.to_str().unwrap()) && said.contains("state_dir of its own"), "{said}");
    }
    first.send(ask_main(MESSAGES, true)).await.expect(200);
    assert_eq!(entries(&first).await.len(), 2);
    expect_whole(&first).await;

    // A killed one is in nobody's way.
    first.kill_and_restart().await;
    first.send(ask_main(CHAT, true)).await.expect(200);
    assert_eq!(entries(&first).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_state_directory_that_is_read_only_or_can_t_be_made_stops_the_start() {
    let main = Mock::http().await.unwrap();
    let read_only = tempfile::tempdir().unwrap();
    let mut locked = fs::metadata(read_only.path()).unwrap().permissions();
    locked.set_readonly(true);
    fs::set_permissions(read_only.path(), locked).unwrap();
    // Nobody makes a directory there, root included, whom permissions do not bind.
    let mut places = vec![PathBuf::from("/proc/trollbridge-state")];
    if fs::create_dir(read_only.path().join("probe")).is_err() {
        places.push(read_only.path().to_owned());
        places.push(read_only.path().join("below"));
    }
    for place in places {
        let (code, said) = Setup::new().main(&main).set("/state_dir", json!(place)).start_refused().await;
        assert_eq!(code, 64, "{said}");
        assert!(said.contains(place.to_str().unwrap()) && said.contains("must exist or be creatable, and be writable"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_verify_finds_a_flipped_bit_in_an_old_segment_of_a_gateway_that_serves() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/ledger", json!({ "segment_bytes": 4_096 })).start().await;
    while segments(&gateway).len() < 4 {
        gateway.send(ask_main(CHAT, false)).await.expect(200);
    }
    expect_whole(&gateway).await;
    let count = entries(&gateway).await.len();
    let old = segments(&gateway)[1].clone();
    let name = old.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&old).unwrap();
    for (place, bit) in [(700, 0), (1_500, 3), (2_222, 6)] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << bit;
        fs::write(&old, &bytes).unwrap();
        let found = command(&gateway, &["ledger", "verify"]).await.expect(70).out;
        assert!(found.contains(&name) && found.contains("the ledger is damaged"), "{place} {bit}: {found}");
        let told = command(&gateway, &["ledger", "verify", "--json"]).await.expect(70).json();
        let at = told["findings"].as_array().unwrap().iter().find_map(|finding| finding["byte"].as_u64()).unwrap();
        assert!(at <= place as u64 && place as u64 - at < 1_000, "{told}");
        gateway.send(ask_main(MESSAGES, true)).await.expect(200);
    }
    fs::write(&old, &whole).unwrap();
    expect_whole(&gateway).await;
    assert_eq!(entries(&gateway).await.len(), count + 3);
}

/// With the entry on the disk before the last byte, all answers still come to their end, and the books are the same.
#[tokio::test(flavor = "multi_thread")]
async fn g2_each_entry_is_flushed_before_the_last_byte_on_both_protocols() {
    for sync in [json!({ "sync": "each" }), json!({ "sync": "interval", "interval_ms": 5 })] {
        let main = Mock::http().await.unwrap();
        let gateway = Setup::new().main(&main).set("/ledger", sync.clone()).start().await;
        let mut served = 0;
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for (path, stream) in [(CHAT, false), (CHAT, true), (MESSAGES, false), (MESSAGES, true)] {
                for _ in 0..5 {
                    let answer = client.send(ask_main(path, stream)).await.expect(200);
                    served += 1;
                    match (path, stream) {
                        (_, false) => assert!(answer.json()["usage"].is_object()),
                        (CHAT, _) => assert_eq!(answer.events().last().unwrap().data, "[DONE]"),
                        _ => assert_eq!(answer.events().last().unwrap().name.as_deref(), Some("message_stop")),
                    }
                    let of_it = entries(&gateway).await.into_iter().filter(|entry| entry["id"] == answer.header("x-request-id"));
                    assert_eq!(of_it.map(|entry| entry["end"].clone()).collect::<Vec<_>>(), [json!("ok")], "{sync} {down:?}");
                }
            }
        }
        assert_eq!(entries(&gateway).await.len(), served);
        expect_whole(&gateway).await;
    }
}
