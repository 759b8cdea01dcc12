//! Writing and deleting.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use action::{Digest, FileDelete, FileKind, FileWrite, Target};
use gate::{Authorized, Report};
use ledger::{Outcome, Status};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::FileError;
use crate::read::{content, regular};

/// What a write did.
#[derive(Debug, Clone)]
pub struct Change {
    /// Canonical path relative to the workspace.
    pub path: String,
    /// Digest before; `None` for a new file.
    pub before: Option<Digest>,
    /// Digest after.
    pub after: Digest,
    /// Size after, in bytes.
    pub bytes: usize,
}

impl Report for Change {
    fn outcome(&self) -> Outcome {
        let outcome = Outcome::new(Status::Done).with("bytes", self.bytes).with_digest("after", self.after);
        match self.before {
            Some(before) => outcome.with_digest("before", before),
            None => outcome,
        }
    }
}

/// What a deletion did.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// Canonical path relative to the workspace.
    pub path: String,
    /// Digest of what was there; `None` for a directory.
    pub before: Option<Digest>,
}

impl Report for Deleted {
    fn outcome(&self) -> Outcome {
        let outcome = Outcome::new(Status::Done);
        match self.before {
            Some(before) => outcome.with_digest("before", before),
            None => outcome,
        }
    }
}

/// Writes a whole file, atomically, creating directories on the way.
///
/// # Errors
/// [`FileError::Conflict`] if the file is no longer what the change was made from; then and in every other case
/// the file is as it was.
pub fn write(authorized: Authorized<FileWrite>) -> Result<Change, FileError> {
    let FileWrite { path: target, content: bytes, replaces, .. } = authorized.into_action();
    let path = target.display();
    let failed = |errno: Errno| FileError::io("write", path.clone())(errno.into());
    let mut mode = Mode::from_raw_mode(0o644);
    let before = match regular(&target)? {
        None => None,
        Some(handle) => {
            let stat = rustix::fs::fstat(handle).map_err(failed)?;
            mode = Mode::from_raw_mode(stat.st_mode & 0o777);
            Some(content(&target)?.digest)
        }
    };
    if before != replaces {
        return Err(FileError::Conflict { path });
    }
    let directory = parent(&target).map_err(failed)?;
    let temporary = OsString::from(format!(".varvel-{}-{:x}.tmp", std::process::id(), serial()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file =
        rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    let finished = fill(file, &bytes, mode).map_err(FileError::io("write", path.clone())).and_then(|()| {
        // A new file must still be absent; an old one must still be the one that was read.
        let flags = if before.is_none() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        if before.is_some() && !still_there(&target, &directory) {
            return Err(FileError::Conflict { path: path.clone() });
        }
        rustix::fs::renameat_with(&directory, &temporary, &directory, target.name(), flags).map_err(|errno| {
            if errno == Errno::EXIST { FileError::Conflict { path: path.clone() } } else { failed(errno) }
        })
    });
    if let Err(error) = finished {
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
        return Err(error);
    }
    sync(&directory);
    Ok(Change { path, before, after: Digest::of(&bytes), bytes: bytes.len() })
}

/// Deletes a file, a symbolic link or an empty directory.
///
/// # Errors
/// If it is gone, is not empty, or cannot be deleted.
pub fn delete(authorized: Authorized<FileDelete>) -> Result<Deleted, FileError> {
    let target = authorized.into_action().path;
    let path = target.display();
    let failed = |errno: Errno| FileError::io("delete", path.clone())(errno.into());
    let (before, flags) = match target.kind() {
        None => return Err(failed(Errno::NOENT)),
        Some(FileKind::Directory) => (None, AtFlags::REMOVEDIR),
        Some(FileKind::Special) => (None, AtFlags::empty()),
        Some(FileKind::Regular) => (content(&target).ok().map(|content| content.digest), AtFlags::empty()),
    };
    if !still_there(&target, target.directory()) {
        return Err(FileError::Conflict { path });
    }
    rustix::fs::unlinkat(target.directory(), target.name(), flags).map_err(failed)?;
    sync(target.directory());
    Ok(Deleted { path, before })
}

fn fill(file: OwnedFd, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let mut file = File::from(file);
    file.write_all(bytes)?;
    rustix::fs::fchmod(&file, mode)?;
    file.sync_all()
}

/// The directory that the file goes into, creating what is missing without following links.
fn parent(target: &Target) -> Result<OwnedFd, Errno> {
    let mut directory = reopen_directory(target.directory())?;
    for name in target.missing() {
        match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        directory = rustix::fs::openat2(&directory, name, flags, Mode::empty(), resolve)?;
    }
    Ok(directory)
}

fn reopen_directory(handle: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(handle, ".", flags, Mode::empty())
}

/// Whether the name still leads to the object that was decided on.
fn still_there(target: &Target, directory: impl AsFd) -> bool {
    let Some(handle) = target.handle() else { return false };
    let now = rustix::fs::statat(directory, target.name(), AtFlags::SYMLINK_NOFOLLOW);
    match (now, rustix::fs::fstat(handle)) {
        (Ok(now), Ok(then)) => (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino),
        _ => false,
    }
}

/// Makes a rename or removal survive a power cut, where the file system can.
fn sync(directory: impl AsFd) {
    if let Ok(directory) = reopen_directory(directory) {
        let _ = rustix::fs::fsync(directory);
    }
}

/// Different for each call in this process.
fn serial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
