//! Varvel's own files outside any workspace (`$VARVEL_HOME`): private, written atomically.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Creates a directory (and its parents) with mode 0700.
///
/// # Errors
/// If it cannot be created.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A file that is being written beside its final name, so that a crash never leaves half of it there.
#[derive(Debug)]
pub struct StateFile {
    /// Open for writing at its end.
    pub file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl StateFile {
    /// Starts, or goes on with, the file that will be `path`. What an interrupted run left is kept and appended to.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn resume(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let partial = PathBuf::from(name);
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&partial)?;
        file.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::WouldBlock, "another process of Varvel is writing it now")
        })?;
        Ok(Self { file, partial, path: path.to_owned() })
    }

    /// Where it is while it is being written.
    #[must_use]
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Bytes written so far.
    ///
    /// # Errors
    /// If the file system does not say.
    pub fn written(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Keeps only the first `length` bytes.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// If the file system refuses; the partial file stays.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)
    }

    /// Removes it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn discard(self) -> io::Result<()> {
        std::fs::remove_file(&self.partial)
    }

    /// Writes `content` to `path` (mode 0600), replacing what was there.
    ///
    /// # Errors
    /// If the file system refuses; then the old content is still there.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
        let mut state = Self::resume(path)?;
        state.truncate(0)?;
        state.file.write_all(content)?;
        state.finish()
    }
}

/// Removes one of Varvel's own files.
///
/// # Errors
/// If it is absent or the file system refuses.
pub fn remove_state(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}
