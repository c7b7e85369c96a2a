//! `run --daemon`: the command returns when the gateway serves, and says so when it does not.

use std::fs::{self, File};
use std::process::{Command, ExitStatus, Stdio};

use super::*;
use crate::support::{Gateway, process};

/// Starts a gateway in the background where one has ended; its output goes on in a file.
async fn run_daemon(gateway: &Gateway) -> (ExitStatus, String) {
    let log = gateway.dir().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trollbridge"));
    command.args(["run", "--daemon", "--conf", "pingora.yaml", "--config", "config.json"]);
    command.current_dir(gateway.dir()).env_clear().envs(gateway.env());
    command.stdin(Stdio::null()).stdout(File::create(&log).unwrap()).stderr(File::options().append(true).open(&log).unwrap());
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    (status, fs::read_to_string(log).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_returns_once_the_gateway_serves() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    gateway.signal("TERM");
    gateway.ended().await;

    let (status, said) = run_daemon(&gateway).await;
    assert_eq!(status.code(), Some(0), "{said}");
    // At once, without a wait: that is what a service manager takes from it.
    gateway.adopt(pid_in(gateway.dir()));
    gateway.send(ask_messages(false)).await.expect(200);
    gateway.admin("/readyz").await.expect(200);

    // It is upgraded as any other.
    let before = gateway.pid();
    gateway.upgrade().await.expect(0);
    gateway.send(ask_messages(false)).await.expect(200);
    gateway.until_gone(before).await;
    let log = fs::read_to_string(gateway.dir().join("log")).unwrap();
    assert!(log.contains(&format!("process {} has taken over", gateway.pid())), "{log}");
    gateway.distrust().check("the log", log.as_bytes());
}

/// Keys in variables are with who started the gateway; who upgrades it has others, or none.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_from_another_shell_has_the_keys_of_the_running_process() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    // A deploy agent that is a unit itself, and whose variable is empty.
    let elsewhere = [("INVOCATION_ID", "0123456789abcdef0123456789abcdef"), ("MAIN_UPSTREAM_KEY", ""), ("MAINPID", "1")];
    let args = ["upgrade", "--conf", "pingora.yaml", "--config", "config.json"];
    process::run(gateway.dir(), &args, &elsewhere).await.expect(0);
    gateway.adopt(pid_in(gateway.dir()));
    gateway.send(ask_messages(false)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_said_with_its_exit_code() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.start().await;
    let (status, said) = run_daemon(&gateway).await;
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    gateway.send(ask_messages(false)).await.expect(200);
    gateway.signal("TERM");
    gateway.ended().await;

    gateway.rewrite_config(|config| config["models"][0]["upstream"] = "trol".into());
    let (status, said) = run_daemon(&gateway).await;
    assert_eq!(status.code(), Some(64), "{said}");
    assert!(said.contains("did you mean \"troll\""), "{said}");
    assert!(!gateway.dir().join("pid").exists());
}
