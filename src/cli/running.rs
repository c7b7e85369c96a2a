//! Finds the gateway that runs, and asks it: what `reload`, `upgrade` and `status` have in common.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;

use crate::cli::exit::Failure;
use crate::cli::files::{CONF, CONFIG};
use crate::cli::server_conf;
use crate::config;
use crate::ops::admin::control;
use crate::ops::admin::control::client::{Answer, AskError, ask};
use crate::ops::host::pid_file;

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

impl RunningArgs {
    /// # Errors
    ///
    /// Settings that can't be read (64), a gateway that does not run or is another user's (75).
    pub fn find(&self) -> Result<Running, Failure> {
        let conf = server_conf::load(&self.conf, &config::state_dir_of(&self.config)).map_err(Failure::usage)?;
        let pid_path = Path::new(&conf.pid_file);
        let shown = pid_path.display();
        let none_runs = |why: String| Failure::try_again(format!("No gateway runs: {why}. Start one: trollbridge run"));
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
    pub fn ask(&self, method: Method, page: &str, within: Duration) -> Result<Answer, Failure> {
        ask(&self.socket, method, page, within).map_err(|error| match &error {
            AskError::Forbidden { path } => forbidden(path),
            AskError::Unreachable { .. } => {
                Failure::try_again(format!("Process {} can't be asked: {error}. Its log says why; SIGHUP reloads it", self.pid))
            }
            AskError::Late { .. } | AskError::Unreadable(_) => {
                Failure::try_again(format!("Process {} can't be asked: {error}. Its log says what it does", self.pid))
            }
        })
    }
}

/// An answer that no gateway of this version gives.
pub fn unexpected(answer: &Answer) -> Failure {
    let body = String::from_utf8_lossy(&answer.body);
    Failure::software(format!("The gateway answered with {}: {}", answer.status, body.trim()))
}

/// Whose the place is can be told from outside of it.
fn forbidden(path: &Path) -> Failure {
    let owner = path.ancestors().find_map(|place| fs::symlink_metadata(place).ok()).map(|place| place.uid());
    let users = match owner {
        Some(0) => "root".to_owned(),
        Some(uid) => format!("{}, or as root", name_of(uid)),
        None => "the gateway's own user, or as root".to_owned(),
    };
    Failure::try_again(format!("{}: this user may not talk to the gateway. Do it as {users}", path.display()))
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
