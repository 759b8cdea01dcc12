//! Copying what is staged into a directory of ours in the workspace, so that it only has to be renamed.
//!
//! Content is copied and not moved: what arrives has the digest that was decided on, nothing else has it open, and the
//! stage is whole should the commit fail.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use action::{Digester, printable};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use super::StageError;
use super::changes::{Change, Object};
use super::place::{self, Seen};

/// With more files than this the whole file system is synced once instead of each file.
pub(super) const SYNCED_SINGLY: usize = 64;

/// Copies staged objects into `aside`.
pub(super) struct Copier<'a> {
    pub(super) upper: &'a OwnedFd,
    pub(super) aside: &'a OwnedFd,
    /// All changes, sorted by path.
    pub(super) changes: &'a [Change],
    /// Whether each file is synced.
    pub(super) sync: bool,
    pub(super) stage: &'a str,
}

impl Copier<'_> {
    /// Prepares the object staged at `path`, with everything below, as `slot`. A directory on top stays accessible to
    /// its owner; its own mode, where that is another, is returned.
    pub(super) fn prepare(&self, path: &Path, slot: &str) -> Result<(Seen, Option<u32>), StageError> {
        let start = self.changes.partition_point(|change| change.path.as_path() < path);
        let all = self.changes[start..].iter().take_while(|change| change.path.starts_with(path));
        let mut directories = Vec::new();
        for change in all {
            let Some(after) = &change.after else { continue };
            let below = change.path.strip_prefix(path).unwrap_or(Path::new(""));
            // Joining an empty path would add a slash.
            let to =
                if below.as_os_str().is_empty() { PathBuf::from(slot) } else { Path::new(slot).join(below) };
            let failed = || StageError::io("copy", printable(&change.path));
            let Some((from_parent, name)) = place::split(&change.path) else { continue };
            let Some((to_parent, new)) = place::split(&to) else { continue };
            let from = place::directory(self.upper, from_parent).map_err(failed())?;
            let into = place::directory(self.aside, to_parent).map_err(failed())?;
            match after {
                Object::File { mode, .. } => {
                    let source = place::file(&from, name).map_err(failed())?;
                    self.file(change, source, &into, new.to_owned(), *mode)?;
                }
                Object::Link { target } => {
                    rustix::fs::symlinkat(target, &into, new).map_err(failed())?;
                    let seen = place::look(&from, name).map_err(failed())?;
                    if let Some(seen) = seen {
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        rustix::fs::utimensat(&into, new, &written(&seen), flags).map_err(failed())?;
                    }
                }
                Object::Directory { mode } => {
                    rustix::fs::mkdirat(&into, new, Mode::from_raw_mode(0o700)).map_err(failed())?;
                    let seen = place::look(&from, name).map_err(failed())?;
                    directories.push((change, to, *mode, seen));
                }
                Object::Special => return Err(self.not_decided()),
            }
        }
        let mut top = None;
        for (change, to, mode, seen) in directories.into_iter().rev() {
            let failed = || StageError::io("copy", printable(&change.path));
            let directory = place::directory(self.aside, &to).map_err(failed())?;
            let mut now = mode;
            if to == Path::new(slot) && mode & 0o700 != 0o700 {
                now = mode | 0o700;
                top = Some(mode);
            }
            if self.sync {
                let readable = place::readable(&directory).map_err(failed())?;
                rustix::fs::fsync(readable).map_err(failed())?;
            }
            if let Some(seen) = seen {
                let parent = place::split(&to).map_or(Path::new(""), |(parent, _)| parent);
                let name = place::split(&to).map(|(_, name)| name).unwrap_or_default();
                let parent = place::directory(self.aside, parent).map_err(failed())?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(parent, name, &written(&seen), flags).map_err(failed())?;
            }
            // The kernel keeps a group that new directories inherit.
            let kept = Seen::of(&rustix::fs::fstat(&directory).map_err(failed())?).permissions() & 0o2000;
            place::set_mode(&directory, now | kept).map_err(failed())?;
        }
        let failed = || StageError::io("look at", slot);
        match place::look(self.aside, slot.as_ref()).map_err(failed())? {
            Some(seen) => Ok((seen, top)),
            None => Err(self.not_decided()),
        }
    }

    fn file(
        &self,
        change: &Change,
        source: OwnedFd,
        into: &OwnedFd,
        name: OsString,
        mode: u32,
    ) -> Result<(), StageError> {
        let failed = || StageError::io("copy", printable(&change.path));
        let wrong = |error: std::io::Error| StageError::io("copy", printable(&change.path))(error);
        let seen = rustix::fs::fstat(&source).map_err(failed())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(into, name, flags, Mode::from_raw_mode(0o600)).map_err(failed())?;
        let mut source = File::from(source);
        let mut file = File::from(file);
        let mut digester = Digester::default();
        let size = usize::try_from(seen.st_size).unwrap_or(0).clamp(512, 256 * 1024);
        let mut buffer = vec![0u8; size];
        loop {
            let length = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(wrong(error)),
            };
            digester.update(&buffer[..length]);
            file.write_all(&buffer[..length]).map_err(wrong)?;
        }
        // What was decided on, and nothing that came there since.
        if change.digest != Some(digester.finish()) {
            return Err(self.not_decided());
        }
        let own = rustix::fs::fstat(&file).map_err(failed())?;
        if own.st_gid != seen.st_gid {
            // The group that the command's file has, where the person may give it.
            let _ = rustix::fs::fchown(&file, None, Some(Gid::from_raw(seen.st_gid)));
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed())?;
        rustix::fs::futimens(file.as_fd(), &written(&Seen::of(&seen))).map_err(failed())?;
        if self.sync {
            file.sync_all().map_err(wrong)?;
        }
        Ok(())
    }

    fn not_decided(&self) -> StageError {
        StageError::NotDecided { id: self.stage.to_owned() }
    }
}

/// The time of the last write, and no other.
fn written(seen: &Seen) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seen.written.0, tv_nsec: seen.written.1 },
    }
}
