//! The gateway's side of the control socket.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::sleep;

use crate::ops::admin::answer::{AdminAnswer, MAX_BODY_BYTES};
use crate::ops::admin::pages::{Pages, Via};

/// What this file's lines in the log are called, wherever it lies.
const LOG: &str = "trollbridge::ops::control::serve";

/// `sun_path` of Linux, without the zero at its end.
const MAX_PATH_BYTES: usize = 107;
const BACKLOG: u32 = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// After a failure to accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers at `path` until `stop`, in place of the process that did so far. Where that can't be, one line of the log says what will not
/// work, and the gateway goes on.
pub async fn serve(path: &Path, pages: Arc<Pages>, stop: impl Future<Output = ()>) {
    let control = match Control::bind(path) {
        Ok(control) => control,
        Err(error) => {
            log::warn!(
                target: LOG,
                "{}: there is no control socket, so `trollbridge reload` and `trollbridge status` won't reach this process: {error}. SIGHUP \
                 reloads as well",
                path.display()
            );
            return;
        }
    };
    warn_of_others(path);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = control.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if control.trusts(&stream) => {
                tokio::spawn(answer(stream, pages.clone()));
            }
            Ok(_) => log::warn!(target: LOG, "{}: a connection of another user was closed", path.display()),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The open socket; dropped, its file goes where no successor has put its own there.
struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
    owner: u32,
}

impl Control {
    /// Opens the socket under a name of its own, and takes the place when it is ready.
    fn bind(path: &Path) -> io::Result<Self> {
        let fresh = fresh_name(path);
        if fresh.as_os_str().len() > MAX_PATH_BYTES {
            let message = format!(
                "with the process id the path would have {} bytes, and {MAX_PATH_BYTES} are the most for a socket; choose a shorter pid_file",
                fresh.as_os_str().len()
            );
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(ErrorKind::AlreadyExists, "something that is no socket is in its place"));
            }
            _ => {}
        }
        // Of a process with this id that was killed on the way.
        let _ = fs::remove_file(&fresh);
        Self::bind_fresh(&fresh, path).inspect_err(|_| {
            let _ = fs::remove_file(&fresh);
        })
    }

    fn bind_fresh(fresh: &Path, path: &Path) -> io::Result<Self> {
        let socket = UnixSocket::new_stream()?;
        socket.bind(fresh)?;
        // Before it listens, nobody can have connected.
        fs::set_permissions(fresh, Permissions::from_mode(0o600))?;
        let listener = socket.listen(BACKLOG)?;
        let metadata = fs::symlink_metadata(fresh)?;
        fs::rename(fresh, path)?;
        Ok(Self { listener, path: path.to_owned(), file: (metadata.dev(), metadata.ino()), owner: metadata.uid() })
    }

    /// The file's mode says the same; this holds where a directory lets others in before it is set.
    fn trusts(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.owner)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Pingora's upgrade socket is usually there too, and its mode lets everybody in.
fn warn_of_others(path: &Path) {
    let Some(directory) = path.parent() else { return };
    if fs::metadata(directory).is_ok_and(|there| there.mode() & 0o022 != 0) {
        log::warn!(
            target: LOG,
            "{}: other users can write this directory; keep pid_file and upgrade_sock in one of mode 0700",
            directory.display()
        );
    }
}

fn fresh_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

async fn answer(stream: UnixStream, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = pages.clone();
        async move {
            let (head, body) = request.into_parts();
            let answer = pages.answer(&head, Via::ControlSocket, read_body(body)).await;
            let response: Response<Full<Bytes>> = answer.into_response(&head.method).map(|body| Full::new(Bytes::from(body)));
            Ok::<_, Infallible>(response)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
    // Who asked and left has no use for the answer.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn read_body(body: Incoming) -> Result<Vec<u8>, AdminAnswer> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(AdminAnswer::body_too_large()),
        Err(_) => Err(AdminAnswer::body_unreadable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_successor_takes_the_place_and_keeps_it_when_the_first_one_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.sock");
        let first = Control::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = Control::bind(&path).unwrap();
        drop(first);
        let (mine, theirs) = tokio::join!(UnixStream::connect(&path), second.listener.accept());
        assert!(mine.is_ok() && second.trusts(&theirs.unwrap().0));
        drop(second);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn what_can_not_be_a_socket_is_said_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "precious").unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        for (name, words) in [
            ("file", "no socket"),
            ("folder", "no socket"),
            ("missing/t.sock", "No such file"),
            (&"x".repeat(90), "107 are the most"),
        ] {
            let error = Control::bind(&dir.path().join(name)).err().unwrap().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
