//! Opens files of ours by their names: what is there instead of a file is refused at once, never waited for.
//!
//! The open of a pipe waits for its other end, and a device may never stop or may act by being opened; either would take the process that
//! serves with it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// # Errors
///
/// What the system says, and for everything that is there and is no regular file. A link counts as what it leads to.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(not_regular()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // Who must not make it is told by the open.
        Ok(_) | Err(_) => {}
    }
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.custom_flags(nonblocking).open(path)?;
    // Put into its place meanwhile.
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// Opens what is there already, for reading.
///
/// # Errors
///
/// As [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Whether a regular file is there, or a link to one.
pub fn is_there(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file())
}

/// What a path is told that is something else.
pub fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once_however_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("fifo", at("link")).unwrap();
        for name in ["fifo", "socket", "folder", "zero", "link"] {
            let append = open(&at(name), OpenOptions::new().append(true).create(true)).unwrap_err();
            let truncate = open(&at(name), OpenOptions::new().write(true).truncate(true)).unwrap_err();
            for error in [open_to_read(&at(name)).unwrap_err(), append, truncate] {
                assert_eq!(error.to_string(), "it is no regular file", "{name}");
            }
            assert!(!is_there(&at(name)), "{name}");
        }
        assert_eq!(open_to_read(&at("file")).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(open(&at("file"), OpenOptions::new().append(true).create(true)).unwrap());
        symlink("file", at("to-file")).unwrap();
        assert!(open_to_read(&at("to-file")).is_ok() && is_there(&at("to-file")));
    }
}
