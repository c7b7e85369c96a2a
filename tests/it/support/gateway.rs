//! The real binary as a child process: started, listened to, and ended by its own handle.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::client::Client;
use super::distrust::Distrust;
use super::process::{self, Ended};
use super::request::{Answer, Request};
use super::setup::{ADMIN_TOKEN, Ports, Setup};
use super::{RawClient, soon};

/// The exit code of a busy port.
const TRY_AGAIN: i32 = 75;
const MOST_STARTS: usize = 5;
/// Between two looks at a port that is not open yet.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running gateway; dropped, it is killed and what it printed is searched for secrets.
pub struct Gateway {
    child: Child,
    /// The processes that upgrades have put in its place, the serving one last.
    successors: Vec<u32>,
    readers: Vec<JoinHandle<()>>,
    output: Arc<Output>,
    ports: Ports,
    setup: Setup,
}

/// What the child has printed so far, both streams together.
struct Output {
    lines: Mutex<Vec<String>>,
    changes: watch::Sender<()>,
}

pub(super) async fn start(setup: Setup) -> Gateway {
    let mut setup = setup;
    for _ in 0..MOST_STARTS {
        let mut gateway = Gateway::spawn(setup);
        match soon("the gateway to accept", gateway.accepts_or_exits()).await {
            None => return gateway,
            Some(status) if status.code() == Some(TRY_AGAIN) => setup = gateway.into_setup(),
            Some(status) => panic!("the gateway ended with {status}:\n{}", gateway.finished_output()),
        }
    }
    panic!("no free port in {MOST_STARTS} starts");
}

pub(super) async fn start_refused(setup: Setup) -> (i32, String) {
    let mut gateway = Gateway::spawn(setup);
    match soon("the gateway to refuse", gateway.accepts_or_exits()).await {
        None => panic!("the gateway started:\n{}", gateway.finished_output()),
        Some(status) => (status.code().expect("an exit code"), gateway.finished_output()),
    }
}

impl Gateway {
    fn spawn(setup: Setup) -> Self {
        let ports = setup.write();
        let output = Arc::new(Output { lines: Mutex::new(Vec::new()), changes: watch::Sender::new(()) });
        let (child, readers) = launch(&setup, &output);
        Self { child, successors: Vec::new(), readers, output, ports, setup }
    }

    /// Kills the gateway at once (SIGKILL) and starts it again on the same files and ports; returns the time from the new process's
    /// begin until it accepts.
    pub async fn kill_and_restart(&mut self) -> Duration {
        for _ in 0..MOST_STARTS {
            self.finished_output();
            let began = Instant::now();
            (self.child, self.readers) = launch(&self.setup, &self.output);
            match soon("the gateway to accept again", self.accepts_or_exits()).await {
                None => return began.elapsed(),
                Some(status) if status.code() == Some(TRY_AGAIN) => {}
                Some(status) => panic!("the gateway ended with {status}:\n{}", self.finished_output()),
            }
        }
        panic!("no start on the same ports in {MOST_STARTS} tries:\n{}", self.finished_output());
    }

    /// `None`: every listener accepts; else the status with which the gateway ended.
    ///
    /// An open port alone proves nothing: before it starts, the gateway binds each of its addresses for a moment to see whether they
    /// are free. Once it answers on one of them, that is over.
    async fn accepts_or_exits(&mut self) -> Option<ExitStatus> {
        let admin = self.ports.admin;
        let others: Vec<SocketAddr> = [self.ports.clients].into_iter().chain(self.ports.tls).collect();
        while !is_ready(admin).await {
            if let Some(status) = self.look_again().await {
                return Some(status);
            }
        }
        for addr in others {
            while TcpStream::connect(addr).await.is_err() {
                if let Some(status) = self.look_again().await {
                    return Some(status);
                }
            }
        }
        None
    }

    /// The status with which the gateway ended, if it did; else a moment passes.
    async fn look_again(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().expect("the child can be asked");
        if ended.is_none() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        ended
    }

    /// Where clients connect by http.
    pub fn addr(&self) -> SocketAddr {
        self.ports.clients
    }

    /// Where clients connect by https; needs [`Setup::tls_listener`].
    pub fn tls_addr(&self) -> SocketAddr {
        self.ports.tls.expect("a TLS listener")
    }

    pub fn admin_addr(&self) -> SocketAddr {
        self.ports.admin
    }

    /// Where its files are; the working directory of a command that works on them.
    pub fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// Its environment, for such a command.
    pub fn env(&self) -> Vec<(&str, &str)> {
        self.setup.env_vars().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Watches from now on for a text that may appear in no answer and no log line; the lines so far are searched too.
    pub fn plant(&mut self, text: &str) {
        self.setup.plant(text);
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.successors.last().copied().unwrap_or(self.child.id())
    }

    /// Runs one of the commands that talk to the running gateway, on its files.
    pub async fn command(&self, name: &str) -> Ended {
        process::run(self.dir(), &[name, "--conf", "pingora.yaml", "--config", "config.json"], &self.env()).await
    }

    /// Replaces the process; on success the new one is looked after from then on.
    pub async fn upgrade(&mut self) -> Ended {
        let ended = self.command("upgrade").await;
        if ended.code == Some(0) {
            let written = std::fs::read_to_string(self.dir().join("pid")).expect("a pid file");
            self.adopt(written.trim().parse().expect("a process id"));
        }
        ended
    }

    /// Looks after a process that was started beside this, as the one that serves.
    pub fn adopt(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// Whether a process, the first one or a successor, has ended.
    pub fn is_gone(&mut self, pid: u32) -> bool {
        if pid == self.child.id() {
            return self.child.try_wait().expect("the child can be asked").is_some();
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
    }

    pub async fn until_gone(&mut self, pid: u32) {
        let gone = async {
            while !self.is_gone(pid) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        soon("a process to end", gone).await;
    }

    /// The rules for this gateway's answers; clients of your own should follow them too.
    pub fn distrust(&self) -> Distrust {
        Distrust::gateway(self.setup.secrets())
    }

    /// A new HTTP/1.1 connection.
    pub async fn client(&self) -> Client {
        Client::http1(self.addr(), self.distrust()).await
    }

    /// A new HTTP/2 connection without TLS.
    pub async fn h2c_client(&self) -> Client {
        Client::h2c(self.addr(), self.distrust()).await
    }

    /// A new TCP connection for bytes by hand.
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.addr()).await
    }

    /// One request on a connection of its own.
    pub async fn send(&self, request: Request) -> Answer {
        self.client().await.send(request).await
    }

    /// One GET to the admin listener, with the token.
    pub async fn admin(&self, target: &str) -> Answer {
        Client::http1(self.admin_addr(), self.distrust()).await.send(Request::get(target).bearer(ADMIN_TOKEN)).await
    }

    /// The health JSON (L3).
    pub async fn health(&self) -> Value {
        self.admin("/health").await.json()
    }

    /// A number of the metrics page, by its name without the common prefix.
    pub async fn metric(&self, name: &str) -> u64 {
        let page = self.admin("/metrics").await.expect(200).text();
        let number = |line: &str| line.strip_prefix("trollbridge_")?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        page.lines().find_map(number).unwrap_or_else(|| panic!("no {name} in\n{page}"))
    }

    /// Asks for a number of the metrics page until it is what it must become.
    pub async fn until_metric(&self, name: &str, fits: impl Fn(u64) -> bool) {
        let fitting = async {
            while !fits(self.metric(name).await) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        soon(&format!("{name} to fit"), fitting).await;
    }

    /// Everything printed so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.output.lines.lock().unwrap().clone()
    }

    /// Waits for a line that fits, among those printed already too.
    pub async fn wait_for_log(&self, fits: impl Fn(&str) -> bool) -> String {
        self.wait_for_logs(1, fits).await.remove(0)
    }

    /// Waits for at least `count` lines that fit.
    pub async fn wait_for_logs(&self, count: usize, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let mut changes = self.output.changes.subscribe();
        let found = async {
            loop {
                let found: Vec<String> = self.log_lines().into_iter().filter(|line| fits(line)).collect();
                if found.len() >= count {
                    return found;
                }
                changes.changed().await.expect("the output outlives the wait");
            }
        };
        soon("a line of the log", found).await
    }

    /// The child's resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS line");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal by its name, as in `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s {name} {}", self.pid())).status().unwrap();
        assert!(sent.success(), "kill -s {name}: {sent}");
    }

    /// Rewrites config.json for a reload; the listeners stay as they are.
    pub fn rewrite_config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.setup.dir().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(path, serde_json::to_string_pretty(&config).unwrap()).unwrap();
    }

    /// Waits until the gateway has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                    return status;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        soon("the gateway to end", ended).await
    }

    /// Kills the gateway and returns all it has printed.
    pub fn stop(mut self) -> String {
        self.finished_output()
    }

    fn into_setup(mut self) -> Setup {
        self.finished_output();
        std::mem::replace(&mut self.setup, Setup::new())
    }

    fn finished_output(&mut self) -> String {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        for pid in self.successors.drain(..) {
            drop(Command::new("kill").arg("-9").arg(pid.to_string()).stderr(Stdio::null()).status());
        }
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        self.log_lines().join("\n")
    }
}

/// Starts the binary on the files that the setup has written; what it prints is added to `output`.
fn launch(setup: &Setup, output: &Arc<Output>) -> (Child, Vec<JoinHandle<()>>) {
    let binary = env!("CARGO_BIN_EXE_trollbridge");
    let mut command = match setup.shell_prelude() {
        None => Command::new(binary),
        Some(prelude) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(format!("{prelude}; exec \"$0\" \"$@\"")).arg(binary);
            shell
        }
    };
    let mut child = command
        .arg("run")
        .arg("--config")
        .arg(setup.dir().join("config.json"))
        .arg("--conf")
        .arg(setup.dir().join("pingora.yaml"))
        .current_dir(setup.dir())
        .env_clear()
        .envs(setup.env_vars())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let readers = vec![
        output.follow(child.stdout.take().expect("stdout is piped")),
        output.follow(child.stderr.take().expect("stderr is piped")),
    ];
    (child, readers)
}

/// Whether a gateway says on its admin listener that it is ready.
async fn is_ready(admin: SocketAddr) -> bool {
    let asked = async {
        let mut tcp = TcpStream::connect(admin).await?;
        tcp.write_all(b"GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.map(|_| answer)
    };
    asked.await.is_ok_and(|answer: Vec<u8>| answer.starts_with(b"HTTP/1.1 200 "))
}

impl Drop for Gateway {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the gateway said")]
    fn drop(&mut self) {
        let printed = self.finished_output();
        if std::thread::panicking() {
            eprintln!("--- the gateway printed:\n{printed}\n---");
        } else {
            self.distrust().check("the gateway's output", printed.as_bytes());
        }
    }
}

impl Output {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                output.lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                output.changes.send_replace(());
            }
        })
    }
}
