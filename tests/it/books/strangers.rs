//! Pipes, devices and folders where the state has its files: the gateway serves, folds and ends, and the commands answer.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::setup::MAIN_MODEL;
use crate::support::{Mock, Request, Setup, process};

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn good() -> Request {
    Request::post("/v1/messages", &json!({ "model": MAIN_MODEL, "max_tokens": 9, "messages": [] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_among_the_segments_stops_neither_the_gateway_nor_a_command_nor_the_end() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    gateway.send(good()).await.expect(200);
    let ledger = gateway.dir().join("state/ledger");
    fifo(&ledger.join("20251130T135443.505Z-1-000001.jsonl"));
    symlink("/dev/zero", ledger.join("20251130T135443.505Z-2-000001.jsonl")).unwrap();
    std::fs::create_dir(ledger.join("20251130T135443.505Z-3-000001.jsonl")).unwrap();
    fifo(&ledger.join("20251130T135443.505Z-4.lock"));
    gateway.wait_for_log(|line| line.contains("no regular file is passed over") && line.contains("Z-1-000001.jsonl")).await;
    gateway.send(good()).await.expect(200);

    let command = async |args: &[&str], code| process::run(gateway.dir(), args, &gateway.env()).await.expect(code);
    let verified = command(&["ledger", "verify"], 70).await;
    assert!(verified.out.contains("Z-2-000001.jsonl: is no regular file"), "{}", verified.out);
    let exported = command(&["ledger", "export"], 70).await;
    assert_eq!(exported.out.lines().count(), 2, "{}", exported.out);
    assert!(command(&["usage"], 0).await.err.contains("Z-3-000001.jsonl is no regular file"));

    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_lock_or_the_database_is_named_by_the_start() {
    for place in ["ledger/start.lock", "trollbridge.db", "trollbridge.db-journal"] {
        let main = Mock::http().await.unwrap();
        let setup = Setup::new().main(&main);
        let state = setup.file("state-for-the-pipe", "").with_file_name("piped");
        std::fs::create_dir_all(state.join("ledger")).unwrap();
        fifo(&state.join(place));
        let (code, said) = setup.set("/state_dir", json!(state)).start_refused().await;
        let name = place.rsplit('/').next().unwrap();
        assert!(code != 0 && said.contains(name) && said.contains("no regular file"), "{code}: {said}");
    }
}
