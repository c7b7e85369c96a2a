//! Finds the gateway that runs, and asks it: what `reload` and `status` have in common.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::cli::{CONF, CONFIG, EX_OK, EX_SOFTWARE, EX_TEMPFAIL, EX_USAGE, server_conf};
use crate::config;
use crate::ops::admin::control;
use crate::ops::admin::control::client::{Answer, AskError, ask};
use crate::ops::host::pid_file;
use crate::ops::watch::readiness::Ready;

/// A reload reads files, and may wait for another one's end.
pub const RELOADS_WITHIN: Duration = Duration::from_secs(60);
/// A page is there at once, or something is wrong.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Where the running gateway is looked for.
#[derive(clap::Args)]
pub struct RunningArgs {
    /// Pingora's own settings; the running process is found by their pid_file
    #[arg(short, long, value_name = "FILE", default_value = CONF)]
    pub conf: PathBuf,
    /// The gateway's configuration, for its state_dir: there is the pid file where the other file does not say
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

/// The gateway that runs.
pub struct Running {
    pub pid: u32,
    socket: PathBuf,
}

/// Why nobody was asked, or nobody answered: the exit code, and what to say.
pub type Missed = (u8, String);

impl RunningArgs {
    /// # Errors
    ///
    /// Settings that can't be read (64), a gateway that does not run or is another user's (75).
    pub fn find(&self) -> Result<Running, Missed> {
        let conf = server_conf::load(&self.conf, &config::state_dir_of(&self.config)).map_err(|why| (EX_USAGE, why))?;
        let pid_path = Path::new(&conf.pid_file);
        let shown = pid_path.display();
        let none_runs = |why: String| (EX_TEMPFAIL, format!("No gateway runs: {why}. Start one: trollbridge run"));
        match fs::symlink_metadata(pid_path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(forbidden(pid_path)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(none_runs(format!("there is no pid file {shown}"))),
            _ => {}
        }
        match pid_file::read(pid_path) {
            None => Err(none_runs(format!("{shown} holds no process id"))),
            Some(pid) if pid == std::process::id() || !pid_file::is_ours(pid) => {
                Err(none_runs(format!("{shown} names process {pid}, which has ended or is another program")))
            }
            Some(pid) => Ok(Running { pid, socket: control::path(pid_path) }),
        }
    }
}

impl Running {
    /// # Errors
    ///
    /// No answer: 75, with what to do.
    pub fn ask(&self, method: Method, page: &str, within: Duration) -> Result<Answer, Missed> {
        ask(&self.socket, method, page, within).map_err(|error| match &error {
            AskError::Forbidden { path } => forbidden(path),
            AskError::Unreachable { .. } => {
                (EX_TEMPFAIL, format!("Process {} can't be asked: {error}. Its log says why; SIGHUP reloads it", self.pid))
            }
            AskError::Late { .. } | AskError::Unreadable(_) => {
                (EX_TEMPFAIL, format!("Process {} can't be asked: {error}. Its log says what it does", self.pid))
            }
        })
    }
}

/// Prints the state of the running gateway; returns the exit code: 0 from one that is ready, 75 from one that is not.
pub fn status(args: &RunningArgs, json: bool, render: fn(&Value) -> String, out: &mut dyn Write) -> u8 {
    let answer = match args.find().and_then(|running| running.ask(Method::GET, "/status.json", ANSWERS_WITHIN)) {
        Ok(answer) => answer,
        Err(missed) => return give_up(&missed),
    };
    let document: Value = match serde_json::from_slice(&answer.body) {
        Ok(document) if answer.status == 200 => document,
        _ => return give_up(&unexpected(&answer)),
    };
    let text = if json { format!("{document:#}\n") } else { render(&document) };
    // A reader that left early has seen what it wanted.
    let _ = out.write_all(text.as_bytes());
    let is_ready = document.get("state").and_then(Value::as_str) == Some(Ready::Yes.label());
    if is_ready { EX_OK } else { EX_TEMPFAIL }
}

/// An answer that no gateway of this version gives.
pub fn unexpected(answer: &Answer) -> Missed {
    let body = String::from_utf8_lossy(&answer.body);
    (EX_SOFTWARE, format!("The gateway answered with {}: {}", answer.status, body.trim()))
}

/// Says why there is nothing to print.
pub fn give_up((code, why): &Missed) -> u8 {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{why}");
    *code
}

/// Whose the place is can be told from outside of it.
fn forbidden(path: &Path) -> Missed {
    let owner = path.ancestors().find_map(|place| fs::symlink_metadata(place).ok()).map(|place| place.uid());
    let users = match owner {
        Some(0) => "root".to_owned(),
        Some(uid) => format!("{}, or as root", name_of(uid)),
        None => "the gateway's own user, or as root".to_owned(),
    };
    (EX_TEMPFAIL, format!("{}: this user may not talk to the gateway. Do it as {users}", path.display()))
}

fn name_of(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    // A DynamicUser has no line there.
    names.unwrap_or_else(|| format!("user {uid}"))
}
