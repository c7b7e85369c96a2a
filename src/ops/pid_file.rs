//! The file that says which process serves.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Writes this process's id; whoever reads meanwhile sees the old text or the new one. Makes the directory, for its user alone, where
/// only that is missing.
///
/// # Errors
///
/// When the directory takes no file.
pub fn write(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| writeln!(file, "{}", std::process::id()));
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// The process that the file names; `None` where there is no file or no number in it.
pub fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
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
    fn the_file_names_this_process_until_another_has_written_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/t.pid");
        assert_eq!(read(&path), None);
        write(&path).unwrap();
        assert_eq!(read(&path), Some(std::process::id()));
        assert!(is_ours(std::process::id()));
        fs::write(&path, "1\n").unwrap();
        remove_if_ours(&path);
        assert_eq!(read(&path), Some(1));
        write(&path).unwrap();
        remove_if_ours(&path);
        assert!(!path.exists());
    }
}
