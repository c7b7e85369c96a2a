//! The commands that talk to the gateway that runs, and the socket by which they do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::support::process::{self, Ended};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Gateway, Mock, Request, Setup, soon};

const PLACES: [&str; 4] = ["--conf", "pingora.yaml", "--config", "config.json"];

async fn command(dir: &Path, name: &str) -> Ended {
    process::run(dir, &[&[name][..], &PLACES].concat(), &[]).await
}

/// The socket opens just after the listeners.
async fn open(gateway: &Gateway, name: &str) {
    let opened = async {
        while !gateway.dir().join(name).exists() {
            tokio::task::yield_now().await;
        }
    };
    soon("the control socket", opened).await;
}

fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": model, "messages": [] }))
}

/// Without a token in the configuration, and with none of its variables in the command's environment.
#[tokio::test(flavor = "multi_thread")]
async fn reload_prints_the_outcome_and_its_exit_code_tells() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).env("TROLLBRIDGE_ADMIN_TOKEN", "").start().await;
    open(&gateway, "pid.sock").await;
    let pid = gateway.pid();
    let said = command(gateway.dir(), "reload").await.expect(0).out;
    assert!(said.ends_with(&format!("config.json: in force in process {pid}\n")), "{said}");
    assert!(said.contains("warning: ") && !said.contains("note: "), "{said}");

    gateway.rewrite_config(|config| {
        config["listen"][0]["addr"] = json!("127.0.0.1:1");
        config["models"].as_array_mut().unwrap().push(json!({ "id": "new", "upstream": "main" }));
    });
    let said = command(gateway.dir(), "reload").await.expect(0).out;
    assert!(said.contains("note: what changed in listen comes into force with an upgrade or a restart only"), "{said}");
    gateway.send(chat("new")).await.expect(200);

    gateway.rewrite_config(|config| {
        config["models"][0]["upstream"] = json!("mian");
        config["modles"] = json!([]);
    });
    let said = command(gateway.dir(), "reload").await.expect(64).out;
    for words in [": models[0].upstream: ", ": modles: ", "refused, 2 faults: the old configuration stays in force"] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    std::fs::write(gateway.dir().join("config.json"), "{").unwrap();
    command(gateway.dir(), "reload").await.expect(64);
    gateway.send(chat("new")).await.expect(200);
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_the_process_that_runs() {
    let gateway = Setup::new().start().await;
    open(&gateway, "pid.sock").await;
    command(gateway.dir(), "reload").await.expect(0);
    let status = process::run(gateway.dir(), &[&["status", "--json"][..], &PLACES].concat(), &[]).await.expect(0).json();
    assert_eq!((&status["version"], &status["config"]["last_reload"]["ok"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(true)));
    let said = command(gateway.dir(), "status").await.expect(0).out;
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_gateway_runs_the_commands_say_why_and_end_with_75() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("run/t.pid");
    std::fs::write(dir.path().join("pingora.yaml"), format!("pid_file: {}\n", pid_file.display())).unwrap();
    for name in ["reload", "status"] {
        let said = command(dir.path(), name).await.expect(75).err;
        assert!(said.contains("No gateway runs: there is no pid file") && said.contains("t.pid"), "{said}");
    }
    std::fs::create_dir(dir.path().join("run")).unwrap();
    // No number, a number that no process has, and a process that is another program: this test.
    for (text, words) in [
        ("", "holds no process id"),
        ("4194305\n", "names process 4194305, which has ended"),
        (&std::process::id().to_string(), "or is another program"),
    ] {
        std::fs::write(&pid_file, text).unwrap();
        for name in ["reload", "status"] {
            let said = command(dir.path(), name).await.expect(75).err;
            assert!(said.contains("No gateway runs: ") && said.contains(words), "{said}");
        }
    }
    std::fs::write(dir.path().join("pingora.yaml"), "threads: 0\n").unwrap();
    command(dir.path(), "reload").await.expect(64);
}

/// The default places: nothing of it in a directory that everybody can write.
#[tokio::test(flavor = "multi_thread")]
async fn without_pingoras_file_the_pid_file_is_looked_for_in_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let said = process::run(dir.path(), &["reload"], &[]).await.expect(75).err;
    assert!(said.contains("./state/trollbridge.pid"), "{said}");
    // A file that is at fault elsewhere, with variables that this shell does not have.
    let config = json!({ "state_dir": "${HERE:-elsewhere}/s", "models": 7, "admin": { "token": "${TOKEN}" } });
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let said = process::run(dir.path(), &["reload"], &[]).await.expect(75).err;
    assert!(said.contains("elsewhere/s/trollbridge.pid"), "{said}");
    let said = process::run(dir.path(), &["reload"], &[("HERE", "/x")]).await.expect(75).err;
    assert!(said.contains(" /x/s/trollbridge.pid"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_for_the_services_user_alone() {
    let gateway = Setup::new().pid_file("run/t.pid").start().await;
    open(&gateway, "run/t.sock").await;
    let mode = |name: &str| std::fs::metadata(gateway.dir().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/t.sock")), (0o700, 0o600));
}

/// The gateway goes on, and the commands say what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_socket_can_not_be_opened_serves_on() {
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).pid_file(&format!("{}.pid", "x".repeat(90))).start().await;
    let said = gateway.wait_for_log(|line| line.contains("there is no control socket")).await;
    assert!(said.contains("WARN") && said.contains("xxx.sock") && said.contains("107 are the most"), "{said}");
    assert!(said.contains("trollbridge reload"), "{said}");
    gateway.send(chat(MAIN_MODEL)).await.expect(200);
    let said = command(gateway.dir(), "reload").await.expect(75).err;
    assert!(said.contains(&format!("Process {} can't be asked", gateway.pid())) && said.contains("SIGHUP"), "{said}");
}

/// What stands in the socket's place and is none is somebody's file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_sockets_place_is_left_alone() {
    let setup = Setup::new();
    let file = setup.file("pid.sock", "precious");
    let gateway = setup.start().await;
    gateway.wait_for_log(|line| line.contains("there is no control socket") && line.contains("pid.sock")).await;
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}

/// A killed gateway leaves both files; the next one takes their places.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_gateway_takes_the_place_of_one_that_was_killed() {
    let mut gateway = Setup::new().start().await;
    open(&gateway, "pid.sock").await;
    let first = gateway.pid();
    gateway.kill_and_restart().await;
    let answered = async {
        loop {
            let ended = command(gateway.dir(), "reload").await;
            match ended.code {
                Some(75) => {}
                _ => return ended.expect(0).out,
            }
        }
    };
    let said = soon("the new process to answer", answered).await;
    assert!(said.contains(&format!("in process {}", gateway.pid())) && gateway.pid() != first, "{said}");
}
