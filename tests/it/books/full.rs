//! G3: a disk that takes nothing. Nothing new is served unbilled, nothing of what was served is lost, and all goes on by itself.
//!
//! Two ways to such a disk, without being its owner: the kernel's limit on the size of files (`prlimit`), which makes every write fail at
//! once and at will (and comes with a signal that must not end the process), and a small tmpfs in a mount namespace of the gateway's own,
//! which really fills up, with the database on it too.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use trollbridge::provider_mock::Reply;

use super::{LOOK_AGAIN, entries, expect_whole, say, until_entries};
use crate::answers::{CHAT, MESSAGES, Speaks, ask_main, expect_error, main_that};
use crate::support::{Gate, Gateway, Request, Shorthand, soon};

const BOTH_DIALECTS: [(&str, bool); 4] = [(CHAT, false), (CHAT, true), (MESSAGES, false), (MESSAGES, true)];

/// Lets files of the gateway grow or not.
fn let_write(gateway: &Gateway, yes: bool) -> bool {
    let limit = if yes { "--fsize=unlimited:" } else { "--fsize=0:" };
    let set = Command::new("prlimit").arg("--pid").arg(gateway.pid().to_string()).arg(limit).status();
    set.is_ok_and(|status| status.success())
}

async fn expect_refused(gateway: &Gateway) {
    for (path, stream) in BOTH_DIALECTS {
        let answer = gateway.send(ask_main(path, stream)).await.expect(503);
        expect_error(path, &answer.json());
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_where_no_line_can_be_written_nothing_is_served_and_what_was_in_flight_is_not_lost() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    gateway.send(ask_main(CHAT, false)).await.expect(200);
    let gate = Gate::closed();
    main.push(Reply::usual().gated(&gate));
    main.push(Reply::usual().gated(&gate));
    let (mut streamed, mut whole) = (gateway.client().await, gateway.client().await);
    let in_flight = async { tokio::join!(streamed.send(ask_main(MESSAGES, true)), whole.send(ask_main(CHAT, false))) };
    let trouble = async {
        main.wait_for(3).await;
        if !let_write(&gateway, false) {
            gate.let_out(1_000);
            return false;
        }
        expect_refused(&gateway).await;
        gate.let_out(1_000);
        true
    };
    let (answers, is_possible) = tokio::join!(in_flight, trouble);
    // What was opened before is served to its end.
    let (streamed, whole) = (answers.0.expect(200), answers.1.expect(200));
    assert!(streamed.text().contains("message_stop"));
    if !is_possible {
        return say("skipped: there is no prlimit here that could forbid a process to write");
    }
    gateway.until_metric("ledger_entries_waiting", |waiting| waiting == 2).await;
    assert_eq!(gateway.metric("ledger_writable").await, 0);
    let status = gateway.admin("/status.json").await.expect(200).json();
    assert_eq!((&status["ledger"]["writable"], &status["ledger"]["entries_waiting"]), (&json!(false), &json!(2)), "{status}");
    assert!(status["ledger"]["trouble"].as_str().is_some_and(|trouble| trouble.contains("too large")), "{status}");
    gateway.wait_for_log(|line| line.contains("the ledger can't be written") && line.contains("503")).await;
    expect_refused(&gateway).await;
    assert_eq!(main.counts().requests, 3, "nothing refused was sent");
    // What is not billed is served.
    gateway.send(Request::get("/v1/models")).await.expect(200);
    let written: Vec<_> = entries(&gateway).await;
    assert_eq!(written.len(), 1);

    assert!(let_write(&gateway, true));
    gateway.until_metric("ledger_writable", |writable| writable == 1).await;
    gateway.wait_for_log(|line| line.contains("the ledger can be written again")).await;
    for (path, stream) in BOTH_DIALECTS {
        gateway.send(ask_main(path, stream)).await.expect(200);
    }
    let books = until_entries(&gateway, 7).await;
    for answer in [&streamed, &whole] {
        let of_it: Vec<_> = books.iter().filter(|entry| entry["id"] == answer.header("x-request-id")).collect();
        assert!(of_it.len() == 1 && of_it[0]["end"] == "ok" && of_it[0]["source"] == "final", "{of_it:?}");
    }
    assert_eq!(gateway.metric("ledger_entries_waiting").await, 0);
    expect_whole(&gateway).await;
}

/// A disk of two megabytes for the gateway at `state`, in a namespace of its own; `None` where that is not allowed.
fn small_disk() -> Option<&'static str> {
    let kinds = ["unshare --mount", "unshare --map-root-user --mount"];
    kinds.into_iter().find(|kind| {
        let tried = Command::new("/bin/sh").arg("-c").arg(format!("{kind} mount -t tmpfs -o size=4k none /mnt")).output();
        tried.is_ok_and(|ended| ended.status.success())
    })
}

/// What puts the gateway's state on a small disk, and does something to that before the gateway starts.
fn on_small_disk(unshare: &str, before: &str) -> String {
    format!(
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH; mkdir -p state; \
         exec {unshare} /bin/sh -c 'mount -t tmpfs -o size=2m,mode=700 none state; {before}; exec \"$0\" \"$@\"' \"$0\" \"$@\""
    )
}

/// What a command says that succeeds where the gateway's disk is.
fn inside(gateway: &Gateway, unshare: &str, args: &[&str]) -> String {
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &gateway.pid().to_string(), "--mount"]);
    if unshare.contains("user") {
        enter.args(["--user", "--preserve-credentials"]);
    }
    let state = gateway.dir().join("state");
    let ended = enter.arg(env!("CARGO_BIN_EXE_trollbridge")).args(args).arg("--state-dir").arg(state).output().unwrap();
    let (said, erred) = (String::from_utf8_lossy(&ended.stdout).into_owned(), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{args:?}: {said} {erred}");
    said
}

/// Writes until there is no space; `path` is on the disk.
fn fill(path: &Path) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    while file.write_all(&[b'x'; 4_096]).is_ok() {}
    while file.write_all(b"x").is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_disk_that_fills_up_stops_the_serving_until_there_is_space_again() {
    let Some(unshare) = small_disk() else {
        return say("skipped: no small disk can be mounted here");
    };
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.after_shell(&on_small_disk(unshare, "true")).start().await;
    // As the gateway sees it.
    let disk = PathBuf::from(format!("/proc/{}/root{}/state", gateway.pid(), gateway.dir().display()));
    gateway.send(ask_main(CHAT, false)).await.expect(200);
    assert!(disk.join("ledger").is_dir());

    let filler = disk.join("filler");
    let mut served = 1;
    for _ in 0..3 {
        fill(&filler);
        // A little goes into what the last page of the segment still has.
        let refused = async {
            loop {
                let answer = gateway.send(ask_main(CHAT, served % 2 == 0)).await;
                if answer.status == 503 {
                    return answer;
                }
                answer.expect(200);
                served += 1;
                fill(&filler);
            }
        };
        let refused = soon("the refusal", refused).await;
        expect_error(CHAT, &refused.json());
        assert_ne!(refused.header("retry-after"), "");
        assert_eq!(gateway.metric("ledger_writable").await, 0);
        let status = gateway.admin("/status.json").await.expect(200).json();
        assert!(status["ledger"]["trouble"].as_str().is_some_and(|trouble| trouble.contains("No space left")), "{status}");
        assert_eq!(main.counts().requests, served, "nothing refused was sent");

        std::fs::remove_file(&filler).unwrap();
        let resumed = async {
            while gateway.send(ask_main(MESSAGES, true)).await.status != 200 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        soon("the gateway to serve again", resumed).await;
        served += 1;
        assert_eq!(gateway.metric("ledger_writable").await, 1);
    }
    let exported = inside(&gateway, unshare, &["ledger", "export"]);
    assert_eq!(exported.lines().count() as u64, served, "each that was served is in the books, once");
    assert_eq!(exported.matches("\"end\":\"ok\"").count() as u64, served);
    let total: Value = serde_json::from_str(&inside(&gateway, unshare, &["usage", "--json"])).unwrap();
    assert_eq!(total["total"]["requests"], served, "{total}");
    let verified = inside(&gateway, unshare, &["ledger", "verify"]);
    assert!(verified.ends_with("the ledger is whole\n"), "{verified}");
    // All of it was on the small disk.
    assert_eq!(std::fs::read_dir(gateway.dir().join("state")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_gateway_that_could_bill_nothing_does_not_start() {
    let Some(unshare) = small_disk() else {
        return say("skipped: no small disk can be mounted here");
    };
    let (setup, _main) = main_that(Speaks::Http1).await;
    let (code, said) =
        setup.after_shell(&on_small_disk(unshare, "cat /dev/zero > state/filler 2>/dev/null")).start_refused().await;
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("No space left") && said.contains("state/ledger") && said.contains("make room"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
