//! The file that says which process serves.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::ops::host::regular;

/// No number of a process is longer.
const LONGEST: u64 = 64;

/// This process's id, written beside the file that it is for; dropped, it is gone.
#[derive(Debug)]
pub struct Prepared {
    temporary: PathBuf,
    path: PathBuf,
}

/// Writes this process's id where nobody looks yet. Makes the directory, for its user alone, where only that is missing.
///
/// # Errors
///
/// When the directory takes no file.
pub fn prepare(path: &Path) -> io::Result<Prepared> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let prepared = Prepared { temporary: temporary.into(), path: path.to_owned() };
    let mut file = regular::open(&prepared.temporary, fs::OpenOptions::new().write(true).create(true).truncate(true))?;
    writeln!(file, "{}", std::process::id())?;
    Ok(prepared)
}

impl Prepared {
    /// Puts it into force; whoever reads meanwhile sees the old text or the new one.
    ///
    /// # Errors
    ///
    /// When the directory is gone meanwhile, or something that is no file is in the place.
    pub fn publish(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Not there any more once it was published.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The process that the file names; `None` where there is no file or no number in it.
pub fn read(path: &Path) -> Option<u32> {
    let mut text = String::new();
    regular::open_to_read(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes the file where it still names this process: a successor has written its own.
pub fn remove_if_ours(path: &Path) {
    if read(path) == Some(std::process::id()) {
        let _ = fs::remove_file(path);
    }
}

/// Whether a living process of this program has the id: an old file may name one that is gone, or another that has its number since.
pub fn is_ours(pid: u32) -> bool {
    let comm = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let pid = pid.to_string();
    let is_zombie = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The state stands behind the name, which is in brackets and may hold anything.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    });
    !is_zombie && comm(&pid).is_some_and(|name| Some(name) == comm("self"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_its_place_names_nobody_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.pid");
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        for pipe in [path.as_os_str(), &temporary] {
            assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        assert_eq!(read(&path), None);
        remove_if_ours(&path);
        assert!(prepare(&path).is_err());
    }

    #[test]
    fn the_file_names_this_process_until_another_has_written_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/t.pid");
        assert_eq!(read(&path), None);
        drop(prepare(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
        prepare(&path).unwrap().publish().unwrap();
        assert_eq!(read(&path), Some(std::process::id()));
        assert!(is_ours(std::process::id()));
        fs::write(&path, "1\n").unwrap();
        remove_if_ours(&path);
        assert_eq!(read(&path), Some(1));
        prepare(&path).unwrap().publish().unwrap();
        remove_if_ours(&path);
        assert!(!path.exists());
    }
}
