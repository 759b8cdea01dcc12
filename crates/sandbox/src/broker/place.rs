//! Paths of a command, taken apart as the kernel would: the directory, opened, and the last name in it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::caller::{Caller, where_is};

/// Symbolic links followed on the way to a name.
const MAX_LINKS: usize = 40;

/// A name in a directory.
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: Vec<u8>,
    /// Whether the path ended in a slash, which is an error for everything but directories.
    pub(super) slash: bool,
    /// `None` when it lies where the kernel may decide.
    pub(super) path: Option<Brokered>,
}

/// Where a brokered name is.
#[derive(Debug, Clone)]
pub(super) enum Brokered {
    /// Relative to the workspace.
    Workspace(PathBuf),
    /// In a private place around it, where every name may be used. The whole path.
    Private(PathBuf),
}

impl Place {
    /// What is there, links not followed.
    pub(super) fn kind(&self) -> Option<FileType> {
        kind_at(&self.directory, &self.name)
    }

    /// The name as it was written, so that the kernel judges a slash at its end.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut name = self.name.clone();
        if self.slash {
            name.push(b'/');
        }
        name
    }
}

pub(super) fn kind_at(directory: impl AsFd, name: &[u8]) -> Option<FileType> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

/// The places that are brokered.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) workspace: PathBuf,
    /// Private places that contain the workspace: where, and which mount. A path alone is not enough: what looks private
    /// by its name may lie on another mount.
    around: Vec<(PathBuf, u64)>,
}

impl Area {
    pub(super) fn new(workspace: PathBuf, around: Vec<PathBuf>) -> Self {
        let around =
            around.into_iter().filter_map(|path| mount_id(CWD, &path).map(|id| (path, id))).collect();
        Self { workspace, around }
    }

    /// Where an open directory (or file) is; `None` when it is the kernel's to decide.
    pub(super) fn of(&self, handle: &OwnedFd) -> Result<Option<Brokered>, Errno> {
        let path = where_is(handle)?;
        if let Ok(inside) = path.strip_prefix(&self.workspace) {
            return Ok(Some(Brokered::Workspace(inside.to_owned())));
        }
        let mount = mount_id(handle, Path::new(""));
        let private = self.around.iter().any(|(around, id)| path.starts_with(around) && mount == Some(*id));
        Ok(private.then_some(Brokered::Private(path)))
    }

    /// Takes a path apart; with `follow`, links that it ends in are followed.
    pub(super) fn locate(&self, caller: Caller, at: i32, path: &[u8], follow: bool) -> Result<Place, Errno> {
        let slash = path.len() > 1 && path.ends_with(b"/");
        let mut path = path.to_vec();
        let mut base = if path.starts_with(b"/") { None } else { Some(caller.directory(at)?) };
        for _ in 0..MAX_LINKS {
            // What is "self" there depends on who looks.
            if path.starts_with(b"/proc/") || path.starts_with(b"/dev/") {
                return Err(Errno::INVAL);
            }
            while path.len() > 1 && path.ends_with(b"/") {
                path.pop();
            }
            let (before, name) = match path.iter().rposition(|&byte| byte == b'/') {
                Some(0) => (&b"/"[..], &path[1..]),
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&b""[..], &path[..]),
            };
            if matches!(name, b"" | b"." | b"..") {
                return Err(Errno::INVAL);
            }
            let directory = open_directory(base.as_ref(), before)?;
            if follow && let Ok(target) = rustix::fs::readlinkat(&directory, name, Vec::with_capacity(256)) {
                path = target.into_bytes();
                base = if path.starts_with(b"/") { None } else { Some(directory) };
                continue;
            }
            let name = name.to_vec();
            let path = self.of(&directory)?.map(|place| match place {
                Brokered::Workspace(parent) => Brokered::Workspace(parent.join(OsStr::from_bytes(&name))),
                Brokered::Private(parent) => Brokered::Private(parent.join(OsStr::from_bytes(&name))),
            });
            return Ok(Place { directory, name, slash, path });
        }
        Err(Errno::LOOP)
    }

    /// As [`Area::locate`], of something that is no directory: after a slash the kernel says what is wrong.
    pub(super) fn locate_file(
        &self,
        caller: Caller,
        at: i32,
        path: &[u8],
        follow: bool,
    ) -> Result<Place, Errno> {
        let place = self.locate(caller, at, path, follow)?;
        if place.slash { Err(Errno::INVAL) } else { Ok(place) }
    }
}

/// Opens a directory; an empty path is `base` itself. Links of /proc are not followed: they would be ours.
pub(super) fn open_directory(base: Option<&OwnedFd>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.is_empty() { &b"."[..] } else { path };
    let base = base.map_or(CWD, AsFd::as_fd);
    rustix::fs::openat2(base, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// The mount that something lies on; statx(2), Linux 5.8.
fn mount_id(at: impl AsFd, path: &Path) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(at, path, flags, StatxFlags::MNT_ID).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    known.then_some(found.stx_mnt_id)
}
