//! A command of the real binary, run as a user runs it: in a directory, with an environment of its own, from its first line to its exit
//! code.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::soon;

/// Between two looks at a child that has not ended yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A command that runs; dropped, it is killed.
pub struct Process {
    child: Child,
    out: Stream,
    err: Stream,
}

/// What a command that has ended leaves behind.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

struct Stream {
    lines: Arc<Lines>,
    reader: Option<JoinHandle<()>>,
}

struct Lines {
    text: Mutex<String>,
    changes: watch::Sender<()>,
}

/// Starts a command in `dir` with nothing but these variables in its environment.
pub fn start(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trollbridge"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let out = Stream::follow(child.stdout.take().expect("stdout is piped"));
    let err = Stream::follow(child.stderr.take().expect("stderr is piped"));
    Process { child, out, err }
}

/// Runs a command to its end.
pub async fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    start(dir, args, env).ended().await
}

impl Process {
    /// Waits until the standard output holds `text`; returns all of it so far.
    pub async fn prints(&self, text: &str) -> String {
        self.out.wait_for(text).await
    }

    /// Waits until the standard error holds `text`; returns all of it so far.
    pub async fn says(&self, text: &str) -> String {
        self.err.wait_for(text).await
    }

    /// Sends a signal by its name, as in `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s {name} {}", self.child.id())).status().unwrap();
        assert!(sent.success(), "kill -s {name}: {sent}");
    }

    /// Waits until the command has ended by itself.
    pub async fn ended(mut self) -> Ended {
        let status = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                    return status;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let code = soon("the command to end", status).await.code();
        Ended { code, out: self.out.rest(), err: self.err.rest() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ended {
    /// Fails unless the exit code is this one, and if the command panicked on the way.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// The standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.out))
    }
}

impl Stream {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Lines { text: Mutex::new(String::new()), changes: watch::Sender::new(()) });
        let written = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let mut text = written.text.lock().unwrap();
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
                drop(text);
                written.changes.send_replace(());
            }
        });
        Self { lines, reader: Some(reader) }
    }

    async fn wait_for(&self, text: &str) -> String {
        let mut changes = self.lines.changes.subscribe();
        let found = async {
            loop {
                let so_far = self.lines.text.lock().unwrap().clone();
                if so_far.contains(text) {
                    return so_far;
                }
                changes.changed().await.expect("the lines outlive the wait");
            }
        };
        soon(text, found).await
    }

    fn rest(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        self.lines.text.lock().unwrap().clone()
    }
}
