//! Reading.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use action::{Digest, FileKind, FileRead, Target};
use gate::{Authorized, Report};
use ledger::{Outcome, Status};
use rustix::fs::{CWD, Mode, OFlags};

use crate::FileError;

/// Largest file that is read as a whole, in bytes.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Content {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

impl Content {
    /// The text, or `None` for a binary file (a NUL byte among the first 8 kB, or not UTF-8).
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        let sample = &self.bytes[..self.bytes.len().min(8192)];
        if sample.contains(&0) {
            return None;
        }
        std::str::from_utf8(&self.bytes).ok()
    }
}

impl Report for Content {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Done).with("bytes", self.bytes.len()).with_digest("sha256", self.digest)
    }
}

/// Reads a whole file.
///
/// # Errors
/// If it is not a regular file, is larger than [`MAX_FILE`], or cannot be read.
pub fn read(authorized: Authorized<FileRead>) -> Result<Content, FileError> {
    content(&authorized.action().path)
}

pub(crate) fn content(target: &Target) -> Result<Content, FileError> {
    let path = target.display();
    let Some(handle) = regular(target)? else {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(FileError::Io { what: "read", path, source });
    };
    let file = reopen(handle).map_err(FileError::io("read", &path))?;
    let mut bytes = Vec::new();
    // The file may grow while it is read; the limit holds for what was read.
    File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(FileError::io("read", &path))?;
    if bytes.len() as u64 > MAX_FILE {
        let size = target.size().max(bytes.len() as u64);
        return Err(FileError::TooLarge { path, size, limit: MAX_FILE });
    }
    let digest = Digest::of(&bytes);
    Ok(Content { bytes, digest })
}

/// The handle if the target is a regular file, `None` if nothing is there.
pub(crate) fn regular(target: &Target) -> Result<Option<BorrowedFd<'_>>, FileError> {
    let what = match target.kind() {
        None => return Ok(None),
        Some(FileKind::Regular) => return Ok(target.handle()),
        Some(FileKind::Directory) => "a directory",
        Some(FileKind::Special) => "a socket, pipe or device",
    };
    Err(FileError::NotAFile { path: target.display(), what })
}

/// Opens the very object behind an `O_PATH` handle for reading.
pub(crate) fn reopen(handle: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(rustix::fs::openat(CWD, link, flags, Mode::empty())?)
}
