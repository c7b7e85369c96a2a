//! Where segments are stored: the seam at which tests let a disk fail.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of the segments.
pub trait Disk: Send + Sync {
    /// Makes a segment that does not exist yet.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names of new segments durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that is appended to by one process.
pub trait Segment: Send + Sync {
    /// Appends as many of the bytes as the disk takes; what it took survives the process.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Takes back what stands after the first `bytes`.
    fn cut(&self, bytes: u64) -> io::Result<()>;
    /// Makes all that was appended durable.
    fn sync(&self) -> io::Result<()>;
    /// Whether the file still has its name; lines of a deleted file go nowhere.
    fn is_there(&self) -> bool;
}

/// The real one; for the owner's eyes only.
pub struct RealDisk(pub PathBuf);

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.0.join(name))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Segment for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_there(&self) -> bool {
        self.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }
}

/// Makes the ledger's directory where it is missing.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
