//! Small steps on directories and files, all by descriptor: no path is ever followed through a symbolic link or across
//! a mount.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What the kernel said.
pub(super) type Io<T> = rustix::io::Result<T>;

/// Directories below one another that are removed before the rest is moved up, so that few descriptors are open.
const REMOVE_DEPTH: usize = 64;
/// Bits of a mode that are permissions, and the sticky bit.
pub(super) const PLAIN: u32 = 0o1777;
/// Set-user-id and set-group-id.
pub(super) const SPECIAL: u32 = 0o6000;

/// A moment by the file system's clock: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Moment(pub(super) i64, pub(super) i64);

/// An object as it was seen, to tell later whether it is still that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) written: Moment,
    pub(super) changed: Moment,
}

impl Seen {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            written: Moment(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            changed: Moment(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Permission bits with the special ones.
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(super) fn same_object(&self, other: &Self) -> bool {
        (self.device, self.inode, self.kind()) == (other.device, other.inode, other.kind())
    }

    /// Whether it is the same object with the same content. Being renamed changes neither.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.same_object(other) && self.written == other.written && (self.is_dir() || self.size == other.size)
    }
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

/// Handle (`O_PATH`) of a directory beneath `root`; the root itself for an empty path.
pub(super) fn directory(root: impl AsFd, path: &Path) -> Io<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), beneath())
}

/// A directory handle that can be listed and synced.
pub(super) fn readable(directory: impl AsFd) -> Io<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, ".", flags, Mode::empty(), beneath())
}

/// A file to be read, never through a link.
pub(super) fn file(directory: impl AsFd, name: &OsStr) -> Io<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), beneath())
}

/// What a name stands for; `None` when nothing is there.
pub(super) fn look(directory: impl AsFd, name: &OsStr) -> Io<Option<Seen>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Seen::of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// As [`look`], by a path beneath `root`.
pub(super) fn look_at(root: impl AsFd, path: &Path) -> Io<Option<Seen>> {
    let Some((parent, name)) = split(path) else { return Err(Errno::INVAL) };
    match directory(root, parent) {
        Ok(directory) => look(directory, name),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The directory and the name of a path; `None` for the root.
pub(super) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

/// The names in a directory, sorted; one more than `most` when there are more.
pub(super) fn names(directory: impl AsFd, most: usize) -> Io<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(readable(directory)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
        if names.len() > most {
            break;
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Where a symbolic link points to.
pub(super) fn link_target(directory: impl AsFd, name: &OsStr) -> Io<PathBuf> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Changes the mode of the very object behind a handle, even an `O_PATH` one.
pub(super) fn set_mode(handle: impl AsFd, mode: u32) -> Io<()> {
    let link = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
    rustix::fs::chmodat(CWD, link, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Handle (`O_PATH`) of whatever a name stands for, a link itself included.
pub(super) fn handle(directory: impl AsFd, name: &OsStr) -> Io<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Removes what a name stands for, with everything below. Links are removed, not followed; directories that may not be
/// written are made writable first.
pub(super) fn remove_tree(parent: impl AsFd, name: &OsStr) -> Io<()> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let top = match opened(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        top => top?,
    };
    // Deeper directories are moved up to the top one, and are emptied in a later round.
    let mut moved = 0u64;
    loop {
        empty(&top, &top, REMOVE_DEPTH, &mut moved)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if moved > 0 => moved = 0,
            Err(Errno::NOENT) => return Ok(()),
            done => return done,
        }
    }
}

fn empty(directory: &OwnedFd, top: &OwnedFd, depth: usize, moved: &mut u64) -> Io<()> {
    for name in names(directory, usize::MAX)? {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        let child = opened(directory, &name)?;
        if depth == 0 {
            *moved += 1;
            let up = OsString::from(format!(
                ".varvel-deep-{}-{moved}",
                Seen::of(&rustix::fs::fstat(&child)?).inode
            ));
            rustix::fs::renameat_with(directory, &name, top, &up, RenameFlags::NOREPLACE)?;
        } else {
            empty(&child, top, depth - 1, moved)?;
            rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// A directory that is about to be removed, made accessible.
fn opened(parent: impl AsFd, name: &OsStr) -> Io<OwnedFd> {
    let child = directory(parent, Path::new(name))?;
    let seen = Seen::of(&rustix::fs::fstat(&child)?);
    if seen.mode & 0o700 != 0o700 {
        set_mode(&child, seen.permissions() | 0o700)?;
    }
    Ok(child)
}
