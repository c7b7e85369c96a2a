//! A gateway that another process of this program starts in the background, and what it tells that process.
//!
//! The parent sees more than a fork would show it: not that a process lives, but that it serves. The child's standard input is the
//! line: it writes a word for each stage, and its end without one is its failure. A fork could not carry the threads and locks that the
//! gateway has by then; a new process has nothing to carry.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How far the child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its configuration and its books are good; it waits for the listening sockets of the old process.
    Waits,
    /// It has the sockets and is about to tell the old process to go: from here on that one may drain.
    Takes,
    /// It listens on every address and its pid is in the pid file.
    Serves,
}

/// Begins a line of an explanation.
const WHY: &str = "why: ";

impl Stage {
    const fn word(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Takes => "takes",
            Self::Serves => "serves",
        }
    }
}

/// The parent's side.
#[derive(Debug)]
pub struct Child {
    process: Process,
    line: BufReader<UnixStream>,
}

/// Why the child did not come as far as it should.
#[derive(Debug)]
pub enum Missed {
    /// It ended, and said why where it could.
    Ended {
        status: ExitStatus,
        why: String,
    },
    Late,
    Unreadable(io::Error),
}

/// Where the child's output goes.
#[derive(Debug)]
pub struct Output {
    pub stdout: Stdio,
    pub stderr: Stdio,
}

impl Child {
    /// Starts `program` with these arguments and these variables beside its parent's.
    ///
    /// # Errors
    ///
    /// When the program can't be executed.
    pub fn start(program: &Path, args: &[OsString], vars: &[(OsString, OsString)], output: Output) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = Command::new(program)
            .args(args)
            .envs(vars.iter().map(|(name, value)| (name, value)))
            .stdin(OwnedFd::from(theirs))
            .stdout(output.stdout)
            .stderr(output.stderr)
            .spawn()?;
        Ok(Self { process, line: BufReader::new(ours) })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the child is at `stage`.
    ///
    /// # Errors
    ///
    /// When it ends before, or takes longer.
    pub fn reaches(&mut self, stage: Stage, within: Duration) -> Result<(), Missed> {
        let until = Instant::now() + within;
        let mut why = String::new();
        loop {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Err(Missed::Late);
            };
            self.line.get_ref().set_read_timeout(Some(left)).map_err(Missed::Unreadable)?;
            let mut word = String::new();
            match self.line.read_line(&mut word) {
                Ok(0) => {
                    let ended = |status| Missed::Ended { status, why };
                    return Err(self.process.wait().map_or_else(Missed::Unreadable, ended));
                }
                Ok(_) if word.trim_end() == stage.word() => return Ok(()),
                Ok(_) => word.strip_prefix(WHY).into_iter().for_each(|line| why.push_str(line)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(Missed::Late),
                Err(error) => return Err(Missed::Unreadable(error)),
            }
        }
    }

    /// Ends a child that is of no use.
    pub fn end(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side: whoever waits for it.
#[derive(Debug)]
pub struct Parent(UnixStream);

impl Parent {
    /// Takes the line from the standard input, which is empty from there on, and leaves the parent's session, so that the end of a
    /// terminal is not the gateway's.
    ///
    /// # Errors
    ///
    /// When the standard input is no such line.
    pub fn on_stdin() -> io::Result<Self> {
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Fails where it is no socket, and says so.
        line.peer_addr()?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        // Fails only where it leads a session already.
        let _ = rustix::process::setsid();
        Ok(Self(line))
    }

    /// Says why this process ends before it serves, line by line.
    ///
    /// # Errors
    ///
    /// When nobody listens any more.
    pub fn explain(&self, why: &str) -> io::Result<()> {
        why.lines().try_for_each(|line| writeln!(&self.0, "{WHY}{line}"))
    }

    /// A parent that is gone does not matter.
    pub fn tell(&self, stage: Stage) {
        let _ = writeln!(&self.0, "{}", stage.word());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Child {
        let args = ["-c".into(), script.into()];
        Child::start(Path::new("/bin/sh"), &args, &[], Output { stdout: Stdio::null(), stderr: Stdio::null() }).unwrap()
    }

    #[test]
    fn the_parent_hears_each_stage_in_its_turn() {
        let mut child = shell("echo waits >&0; echo serves >&0; read never");
        child.reaches(Stage::Waits, SOON).unwrap();
        child.reaches(Stage::Serves, SOON).unwrap();
        child.end();
    }

    #[test]
    fn a_child_that_ends_first_says_why_and_gives_its_exit_code() {
        let mut child = shell("echo waits >&0; echo why: a >&0; echo why: b >&0; exit 64");
        child.reaches(Stage::Waits, SOON).unwrap();
        let Err(Missed::Ended { status, why }) = child.reaches(Stage::Serves, SOON) else { panic!("it served") };
        assert_eq!((status.code(), why.as_str()), (Some(64), "a\nb\n"));
    }

    #[test]
    fn a_child_that_says_nothing_is_late() {
        let mut child = shell("read never");
        assert!(matches!(child.reaches(Stage::Serves, Duration::from_millis(50)), Err(Missed::Late)));
        child.end();
    }
}
