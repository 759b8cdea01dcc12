//! Paths that have been resolved beneath a workspace root, once, by the kernel.
//!
//! A [`Target`] is the only way to name a file in an action. It holds handles (`O_PATH` descriptors), so what
//! was decided on is what is used: renaming or re-linking the path afterwards changes nothing.
//! See openat2(2), `RESOLVE_BENEATH`.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Serialize, Serializer};

/// Longest path accepted, in bytes (Linux `PATH_MAX`).
const MAX_PATH: usize = 4096;
/// How often a path that changes underneath is looked at again.
const ATTEMPTS: usize = 4;

/// Why a path could not be turned into a [`Target`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It leaves the workspace: by `..`, as an absolute path, or through a symbolic link.
    #[error("{path} is outside the workspace {root}; only files beneath it can be used")]
    Outside {
        /// As it was asked for.
        path: String,
        /// The workspace.
        root: String,
    },
    /// Nothing is there.
    #[error("{path} does not exist; use `list` or `search` to see what does")]
    NotFound {
        /// As it was asked for.
        path: String,
    },
    /// A symbolic link on the way points to nothing, or in a circle.
    #[error("{path} goes through a symbolic link that points to nothing or in a circle")]
    BrokenLink {
        /// As it was asked for.
        path: String,
    },
    /// A component that should be a directory is not one.
    #[error("{path}: a part of this path is a file, not a directory")]
    NotADirectory {
        /// As it was asked for.
        path: String,
    },
    /// Not a possible path.
    #[error("not a usable path: {why}")]
    Invalid {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The operating system refused.
    #[error("cannot open {path}: {source}")]
    Io {
        /// As it was asked for.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// What kind of object a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A socket, pipe or device: never read or written.
    Special,
}

/// A directory that is open as a workspace.
#[derive(Debug, Clone)]
pub struct Root(Arc<RootInner>);

#[derive(Debug)]
struct RootInner {
    path: PathBuf,
    handle: OwnedFd,
}

/// An object that exists.
#[derive(Debug, Clone)]
struct Existing {
    handle: Arc<OwnedFd>,
    kind: FileKind,
    size: u64,
}

/// A resolved path beneath a [`Root`]: existing, or creatable.
#[derive(Debug, Clone)]
pub struct Target {
    root: Root,
    path: PathBuf,
    directory: Arc<OwnedFd>,
    missing: Vec<OsString>,
    name: OsString,
    existing: Option<Existing>,
}

impl Root {
    /// Opens `directory` as a workspace.
    ///
    /// # Errors
    /// If it does not exist, is not a directory, or may not be searched.
    pub fn open(directory: &Path) -> Result<Self, ResolveError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|errno| ResolveError::from_errno(errno, directory, directory))?;
        let path = kernel_path(handle.as_fd())
            .map_err(|errno| ResolveError::from_errno(errno, directory, directory))?;
        Ok(Self(Arc::new(RootInner { path, handle })))
    }

    /// The canonical absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Handle (`O_PATH`) of the directory.
    #[must_use]
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.0.handle.as_fd()
    }

    /// Resolves `path`, which must exist, following symbolic links that stay beneath the root.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] when nothing is there, [`ResolveError::Outside`] when it leads out.
    pub fn resolve(&self, path: &str) -> Result<Target, ResolveError> {
        let target = self.resolve_or_new(path)?;
        if target.existing.is_none() {
            return Err(ResolveError::NotFound { path: path.to_owned() });
        }
        Ok(target)
    }

    /// Resolves `path`, which may be absent: then the target names what would be created.
    ///
    /// # Errors
    /// [`ResolveError::Outside`] when it leads out; other variants as they say.
    pub fn resolve_or_new(&self, path: &str) -> Result<Target, ResolveError> {
        let literal = self.resolve_bytes(OsStr::new(path))?;
        if literal.existing.is_none()
            && let Some(decoded) = unescape(path)
        {
            // Listings show names that are not UTF-8 with \xNN escapes; accept them back.
            let escaped = self.resolve_bytes(&decoded)?;
            if escaped.existing.is_some() {
                return Ok(escaped);
            }
        }
        Ok(literal)
    }

    fn resolve_bytes(&self, path: &OsStr) -> Result<Target, ResolveError> {
        if path.as_bytes().contains(&0) {
            return Err(ResolveError::Invalid { why: "it contains a NUL byte" });
        }
        if path.len() > MAX_PATH {
            return Err(ResolveError::Invalid { why: "it is longer than 4096 bytes" });
        }
        let asked = Path::new(path);
        let outside = || ResolveError::Outside { path: printable(asked), root: printable(self.path()) };
        let relative =
            if asked.is_absolute() { asked.strip_prefix(self.path()).map_err(|_| outside())? } else { asked };
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        for _ in 0..ATTEMPTS {
            match self.open_beneath(relative, ResolveFlags::empty()) {
                Ok(handle) => {
                    if let Some(target) = self.existing_target(handle, asked)? {
                        return Ok(target);
                    }
                    // Renamed between the two looks: look again.
                }
                Err(Errno::NOENT) => return self.missing_target(relative, asked),
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(ResolveError::from_errno(errno, asked, self.path())),
            }
        }
        Err(ResolveError::from_errno(Errno::AGAIN, asked, self.path()))
    }

    fn open_beneath(&self, path: &Path, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
        rustix::fs::openat2(&self.0.handle, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Turns an open handle into a target; `None` if it was moved meanwhile.
    fn existing_target(&self, handle: OwnedFd, asked: &Path) -> Result<Option<Target>, ResolveError> {
        let failed = |errno| ResolveError::from_errno(errno, asked, self.path());
        let absolute = kernel_path(handle.as_fd()).map_err(failed)?;
        let Ok(path) = absolute.strip_prefix(self.path()) else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&handle).map_err(failed)?;
        let (directory, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                match self.open_beneath(parent, ResolveFlags::NO_SYMLINKS) {
                    Ok(directory) => (directory, name.to_owned()),
                    Err(Errno::NOENT | Errno::LOOP | Errno::AGAIN) => return Ok(None),
                    Err(errno) => return Err(failed(errno)),
                }
            }
            _ => (
                self.open_beneath(Path::new("."), ResolveFlags::empty()).map_err(failed)?,
                OsString::from("."),
            ),
        };
        match rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) if same_object(&seen, &stat) => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
        Ok(Some(Target {
            root: self.clone(),
            path: path.to_owned(),
            directory: Arc::new(directory),
            missing: Vec::new(),
            name,
            existing: Some(Existing {
                handle: Arc::new(handle),
                kind: kind_of(&stat),
                size: u64::try_from(stat.st_size).unwrap_or(0),
            }),
        }))
    }

    /// The target for a path whose last components do not exist yet.
    fn missing_target(&self, relative: &Path, asked: &Path) -> Result<Target, ResolveError> {
        let mut missing = Vec::new();
        let mut existing = relative;
        let parent = loop {
            let (Some(parent), Some(Component::Normal(name))) =
                (existing.parent(), existing.components().next_back())
            else {
                return Err(ResolveError::NotFound { path: printable(asked) });
            };
            missing.push(name.to_owned());
            existing = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.open_beneath(existing, ResolveFlags::empty()) {
                Ok(handle) => break handle,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(ResolveError::from_errno(errno, asked, self.path())),
            }
        };
        missing.reverse();
        let parent = self
            .existing_target(parent, asked)?
            .ok_or_else(|| ResolveError::from_errno(Errno::AGAIN, asked, self.path()))?;
        let Some(Existing { handle, kind: FileKind::Directory, .. }) = parent.existing else {
            return Err(ResolveError::NotADirectory { path: printable(asked) });
        };
        // A symbolic link to nothing looks absent; creating "through" it would land elsewhere.
        let first = missing.first().cloned().unwrap_or_default();
        if rustix::fs::statat(&handle, &first, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(ResolveError::BrokenLink { path: printable(asked) });
        }
        let mut path = parent.path;
        path.extend(&missing);
        let name = missing.pop().unwrap_or_default();
        Ok(Target { root: self.clone(), path, directory: handle, missing, name, existing: None })
    }
}

impl Target {
    /// Canonical path relative to the root; empty for the root itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The canonical path for people and models: `.` for the root, `\xNN` for bytes that are not UTF-8.
    #[must_use]
    pub fn display(&self) -> String {
        if self.path.as_os_str().is_empty() { ".".to_owned() } else { printable(&self.path) }
    }

    /// The workspace that it lies in.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The canonical absolute path. For display and for programs that run confined; file effects use the handles.
    #[must_use]
    pub fn absolute(&self) -> PathBuf {
        self.root.path().join(&self.path)
    }

    /// What is there, or `None` when nothing is.
    #[must_use]
    pub fn kind(&self) -> Option<FileKind> {
        self.existing.as_ref().map(|existing| existing.kind)
    }

    /// Size in bytes when it was resolved; 0 when nothing is there.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.existing.as_ref().map_or(0, |existing| existing.size)
    }

    /// Handle (`O_PATH`) of the object itself, if it exists.
    #[must_use]
    pub fn handle(&self) -> Option<BorrowedFd<'_>> {
        self.existing.as_ref().map(|existing| existing.handle.as_fd())
    }

    /// Handle (`O_PATH`) of the deepest existing directory on the way to it.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Directories between [`Target::directory`] and the object that have to be created first.
    #[must_use]
    pub fn missing(&self) -> &[OsString] {
        &self.missing
    }

    /// Last component of the path.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.root.path() == other.root.path() && self.path == other.path
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.display())
    }
}

impl ResolveError {
    fn from_errno(errno: Errno, path: &Path, root: &Path) -> Self {
        let path = printable(path);
        match errno {
            Errno::XDEV => Self::Outside { path, root: printable(root) },
            Errno::NOENT => Self::NotFound { path },
            Errno::LOOP => Self::BrokenLink { path },
            Errno::NOTDIR => Self::NotADirectory { path },
            other => Self::Io { path, source: other.into() },
        }
    }
}

fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        _ => FileKind::Special,
    }
}

fn same_object(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// Where the kernel says an open handle is.
fn kernel_path(handle: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// `path` for a terminal or a model: control characters and bytes that are not UTF-8 become `\xNN`.
#[must_use]
pub fn printable(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let mut buffer = [0u8; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    out.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The inverse of [`printable`], or `None` when there is nothing to decode.
fn unescape(text: &str) -> Option<OsString> {
    if !text.contains("\\x") {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(OsString::from_vec(out))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
