//! `trollbridge upgrade`: replaces the running gateway by this program, step by step; until the new one serves, the old one does.
//!
//! The new process is a child of this command, which ends before it: under systemd it stays in the unit's control group and is the
//! manager's from then on.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use http::Method;
use pingora_core::server::configuration::ServerConf;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::exit::{EX_OK, EX_SOFTWARE, EX_TEMPFAIL};
use crate::cli::run::{gave_up, refuse, say, start};
use crate::cli::running::{ANSWERS_WITHIN, Running, RunningArgs};
use crate::cli::server_conf;
use crate::config;
use crate::domain::upstream::registry::Registry;
use crate::ops::host::child::{Child, Output, Stage};
use crate::ops::host::{handover, pid_file};
use crate::ops::watch::log as program_log;

/// Reading the configuration and the books of the new process.
const MOST_START: Duration = Duration::from_secs(600);
/// Pingora looks for the sockets once a second, and the old process has ten seconds for its part.
const MOST_HAND_OVER: Duration = Duration::from_secs(30);
const SOCKET_COMES: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Does the whole procedure and says its outcome; returns the exit code.
pub fn run(args: &RunningArgs, out: &mut dyn Write) -> u8 {
    program_log::start();
    let done = prove(args).and_then(|(conf, running)| replace(args, &conf, &running, out));
    done.err().unwrap_or(EX_OK)
}

/// Finds the gateway that runs, and proves the files of its successor; where something is wrong it is said, and the exit code is left.
fn prove(args: &RunningArgs) -> Result<(ServerConf, Running), u8> {
    let unchanged = |why: String| refuse(&format!("{why}\nNothing was changed: the running gateway serves as before."));
    let loaded = config::load_from_machine(&args.config, &Registry::default()).map_err(|faults| unchanged(faults.to_string()))?;
    let conf = server_conf::load(&args.conf, &loaded.settings.state_dir).map_err(unchanged)?;
    let running = args.find().map_err(|failure| failure.say())?;
    may_be_replaced(&running)?;
    Ok((conf, running))
}

fn may_be_replaced(running: &Running) -> Result<(), u8> {
    let old = running.pid;
    if let Some(unit) = unit_of_another(old) {
        return Err(refuse(&format!(
            "The running gateway (process {old}) belongs to the systemd unit {unit}, and a process that is started here would not. Use: \
             systemctl reload {unit}"
        )));
    }
    if let Some(owner) = another_user(old) {
        return Err(refuse(&format!(
            "Process {old} belongs to user {owner}. What a process of this user writes into its state that one could not read: do it as \
             that user, for example with sudo -u '#{owner}'."
        )));
    }
    if state_of(running) == State::Draining {
        say(&format!("Process {old} drains and gives nothing away: start the gateway anew when it has ended."));
        return Err(EX_TEMPFAIL);
    }
    Ok(())
}

/// Starts the new process and has the old one give its listeners away once the new one waits for them.
fn replace(args: &RunningArgs, conf: &ServerConf, running: &Running, out: &mut dyn Write) -> Result<(), u8> {
    let old = running.pid;
    let mut new = start(&args.conf, &args.config, true, &missing_vars(old), output_of(old))?;
    let _ = writeln!(out, "process {} starts; process {old} serves", new.pid());
    if let Err(missed) = new.reaches(Stage::Waits, MOST_START) {
        return Err(failed(running, gave_up(new, &missed)));
    }
    let (upgrade_sock, began) = (Path::new(&conf.upgrade_sock), Instant::now());
    while !handover::somebody_waits(upgrade_sock) && began.elapsed() < SOCKET_COMES {
        thread::park_timeout(LOOK_AGAIN);
    }
    if let Err(error) = signal(old, Signal::QUIT) {
        say(&format!("process {old} can't be told: {error}"));
        new.end();
        return Err(failed(running, EX_SOFTWARE));
    }
    take_over(new, conf, running, out)
}

/// Waits until the new process serves; the old one has been told.
fn take_over(mut new: Child, conf: &ServerConf, running: &Running, out: &mut dyn Write) -> Result<(), u8> {
    let old = running.pid;
    if let Err(missed) = new.reaches(Stage::Takes, MOST_HAND_OVER) {
        let code = gave_up(new, &missed);
        if !pid_file::is_ours(old) {
            say(&format!("Process {old} has ended as well: nobody serves. Start the gateway anew."));
            return Err(EX_SOFTWARE);
        }
        return Err(failed(running, code));
    }
    // From here on the old process may drain, so the new one is not ended whatever it does.
    if new.reaches(Stage::Serves, MOST_HAND_OVER).is_err() {
        say(&format!(
            "Process {} was about to take over and did not say that it has. Process {old} may drain already: look at the log, and start \
             the gateway anew if nobody serves.",
            new.pid()
        ));
        return Err(EX_SOFTWARE);
    }
    let limit = conf.grace_period_seconds.unwrap_or_default();
    let _ = writeln!(
        out,
        "process {} serves; process {old} finishes what is open there, for at most {limit} seconds, and ends",
        new.pid()
    );
    Ok(())
}

/// Says how the old process is after an upgrade that failed; hands the exit code on.
fn failed(running: &Running, code: u8) -> u8 {
    let how = match state_of(running) {
        State::Serves => "serves as before",
        State::Draining => "drains, and takes no new connections",
        State::Silent => "runs and does not answer its control socket: look at its log",
    };
    say(&format!("The upgrade failed. Process {} {how}.", running.pid));
    code
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Serves,
    Draining,
    Silent,
}

/// How the running gateway is, by its own word.
fn state_of(running: &Running) -> State {
    match running.ask(Method::GET, "/health/ready", ANSWERS_WITHIN) {
        Ok(answer) if String::from_utf8_lossy(&answer.body).contains("draining") => State::Draining,
        Ok(_) => State::Serves,
        Err(_) => State::Silent,
    }
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("that is no process id")?;
    kill_process(pid, signal).map_err(|error| error.to_string())
}

/// Whose the running gateway is, where it is not this command's user.
fn another_user(pid: u32) -> Option<u32> {
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    (owner != rustix::process::geteuid().as_raw()).then_some(owner)
}

/// The unit of the running gateway, where this command is outside of it.
fn unit_of_another(pid: u32) -> Option<String> {
    let unit = unit_of(&pid.to_string())?;
    let is_ours = unit_of("self").as_ref() == Some(&unit);
    (!is_ours).then(|| unit.rsplit('/').next().unwrap_or_default().to_owned())
}

/// The control group of a process, where it is a service's.
fn unit_of(pid: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().last().filter(|group| group.ends_with(".service")).map(str::to_owned)
}

/// What the running gateway has in its environment and this command has not: keys that a shell's user does not have at hand. systemd
/// gives the whole environment to its `ExecReload=`, and says by `MAINPID` that it is the one who asks.
fn missing_vars(pid: u32) -> Vec<(OsString, OsString)> {
    if std::env::var("MAINPID").is_ok_and(|main| main == pid.to_string()) {
        return Vec::new();
    }
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let pairs = environ.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(at)?;
        Some((OsStr::from_bytes(name).to_owned(), OsString::from_vec(value.get(1..)?.to_vec())))
    });
    pairs.filter(|(name, _)| std::env::var_os(name).is_none_or(|value| value.is_empty())).collect()
}

/// Where the running gateway writes, so that its log goes on there. A journal's socket can't be opened again, but then this command
/// has one of its own.
fn output_of(pid: u32) -> Output {
    let is_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let same = |nth: u8| match open_again(&format!("/proc/{pid}/fd/{nth}")) {
        Ok(file) if !is_journal => file.into(),
        _ => Stdio::inherit(),
    };
    Output { stdout: same(1), stderr: same(2) }
}

/// A named pipe that nobody reads would keep a plain open waiting for ever.
fn open_again(path: &str) -> std::io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().append(true).custom_flags(nonblocking).open(path)?;
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}
