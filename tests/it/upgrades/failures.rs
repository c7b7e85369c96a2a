//! An upgrade that goes wrong costs nothing: the old process serves as before, and the operator hears why.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::*;
use crate::support::{Gateway, process, soon};

async fn serves(gateway: &Gateway) {
    gateway.send(ask_messages(false)).await.expect(200);
    gateway.admin("/readyz").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_faults_ends_the_upgrade_before_it_begins() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    let before = pid_in(gateway.dir());
    gateway.rewrite_config(|config| config["models"][0]["upstream"] = "trol".into());
    let said = gateway.upgrade().await.expect(64);
    assert!(said.err.contains("did you mean \"troll\"") && said.err.contains("serves as before"), "{}", said.err);
    serves(&gateway).await;

    fs::write(gateway.dir().join("pingora.yaml"), "threads: many\n").unwrap();
    gateway.upgrade().await.expect(64);
    fs::remove_file(gateway.dir().join("config.json")).unwrap();
    fs::create_dir(gateway.dir().join("config.json")).unwrap();
    gateway.upgrade().await.expect(64);
    serves(&gateway).await;
    assert_eq!(pid_in(gateway.dir()), before);
}

/// What parsing can't tell: the new process finds it, and says it with its exit code.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_can_not_listen_ends_and_the_old_one_serves() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    gateway.rewrite_config(|config| config["listen"].as_array_mut().unwrap().push(json!({ "addr": addr })));
    let said = gateway.upgrade().await.expect(75);
    assert!(said.err.contains(&addr) && said.err.contains("serves as before"), "{}", said.err);
    serves(&gateway).await;
    drop(taken);
    gateway.upgrade().await.expect(0);
    serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_there_is_nothing_to_upgrade() {
    let (setup, _main) = with_main().await;
    let gateway = setup.start().await;
    let pid_file = gateway.dir().join("pid");
    let pid = fs::read_to_string(&pid_file).unwrap();
    for (text, word) in [(None, "there is no pid file"), (Some("999999999\n"), "has ended"), (Some("1\n"), "is another program")]
    {
        match text {
            None => fs::remove_file(&pid_file).unwrap(),
            Some(text) => fs::write(&pid_file, text).unwrap(),
        }
        let said = gateway.command("upgrade").await.expect(75);
        assert!(said.err.contains(word) && said.err.contains("trollbridge run"), "{}", said.err);
    }
    fs::write(&pid_file, pid).unwrap();
    serves(&gateway).await;
}

/// SIGQUIT without anybody who takes over: in Pingora a point of no return.
#[tokio::test(flavor = "multi_thread")]
async fn sigquit_alone_ends_nothing() {
    let (setup, _main) = with_main().await;
    let gateway = setup.start().await;
    gateway.signal("QUIT");
    gateway.wait_for_log(|line| line.contains("goes on serving") && line.contains("no new process waits")).await;
    serves(&gateway).await;
}

/// The new process has the sockets and dies with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_dies_with_the_sockets_in_hand_is_not_missed() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    let path = gateway.dir().join("upgrade.sock");
    let heir = UnixListener::bind(&path).unwrap();
    gateway.signal("QUIT");
    let (line, _) = tokio::task::spawn_blocking(move || heir.accept()).await.unwrap().unwrap();
    drop(line);
    serves(&gateway).await;
    gateway.wait_for_log(|line| line.contains("goes on serving")).await;
    serves(&gateway).await;
    // And a good one is taken afterwards.
    gateway.upgrade().await.expect(0);
    serves(&gateway).await;
}

/// It has the sockets, and never hears what the old process leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_does_not_hear_the_old_one_takes_nothing_of_its_place() {
    let (setup, _main) = with_main().await;
    let gateway = setup.start().await;
    let before = pid_in(gateway.dir());
    let args = ["run", "--upgrade", "--conf", "pingora.yaml", "--config", "config.json"];
    let heir = process::start(gateway.dir(), &args, &gateway.env());
    let (socket, state) = (gateway.dir().join("upgrade.sock"), gateway.dir().join("upgrade.sock.state"));
    let waits = async {
        while !(socket.exists() && state.exists()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the new process to wait", waits).await;
    fs::remove_file(state).unwrap();
    gateway.signal("QUIT");
    let said = heir.ended().await.expect(75);
    assert!(said.err.contains("did not hand over") && !said.err.contains("serving"), "{}", said.err);
    gateway.wait_for_log(|line| line.contains("goes on serving")).await;
    assert_eq!(pid_in(gateway.dir()), before);
    serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_upgrade_waits_for_the_first_ones_outcome() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    let args = ["run", "--upgrade", "--conf", "pingora.yaml", "--config", "config.json"];
    let first = process::start(gateway.dir(), &args, &gateway.env());
    let socket = gateway.dir().join("upgrade.sock");
    let waits = async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the first upgrade to wait", waits).await;
    let said = gateway.upgrade().await.expect(75);
    assert!(said.err.contains("another upgrade is under way"), "{}", said.err);
    // Nobody tells the old process, so the first one gives up.
    assert_ne!(first.ended().await.code, Some(0));
    serves(&gateway).await;
    gateway.upgrade().await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_sockets_place_is_not_removed() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    let path = gateway.dir().join("upgrade.sock");
    fs::write(&path, "precious").unwrap();
    let said = gateway.upgrade().await.expect(64);
    assert!(said.err.contains("is no socket") && said.err.contains("serves as before"), "{}", said.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    gateway.signal("QUIT");
    gateway.wait_for_log(|line| line.contains("goes on serving")).await;
    serves(&gateway).await;
}
