//! Reads a file that the configuration is, or that it names: whole, or not at all.
//!
//! A pipe may never end and a device never stop; either would take the process that serves with it, at a reload.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Far more than thousands of models, proxies or certificates need.
const MOST_BYTES: u64 = 64 << 20;

/// # Errors
///
/// What is no regular file, is larger than anything that is meant for us, or can't be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    // Of a directory the system says so itself.
    if !found.is_file() && !found.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", MOST_BYTES >> 20)));
    }
    Ok(bytes)
}

/// The same for text.
///
/// # Errors
///
/// As [`read`], and for what is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_a_directory_and_what_has_no_end_are_refused_at_once() {
        for (path, why) in [("/dev/zero", "no regular file"), ("/", "directory"), ("/nowhere/at/all", "No such file")] {
            let error = read(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("larger than 64 MiB"));
        File::options().write(true).open(&large).unwrap().set_len(3).unwrap();
        assert_eq!(read_text(&large).unwrap(), "\0\0\0");
    }
}
