//! Every way in which a name can come to be or a file can change: old system calls and new ones.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};

use super::attempt::{Code, call};
use super::files::open;

/// The name of a way, and whether it worked.
pub(crate) type Tried = (&'static str, Result<(), Code>);

pub(crate) fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Tries to make a regular file at `path`.
pub(crate) fn create(path: &Path) -> Vec<Tried> {
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let how = Mode::from_raw_mode(0o600);
    let no_resolve = ResolveFlags::empty();
    let openat2 = || rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, how, no_resolve);
    let mut all: Vec<Tried> = vec![
        ("openat", open(path, flags).map(drop)),
        ("openat for reading", open(path, OFlags::CREATE | OFlags::RDONLY).map(drop)),
        ("openat2", openat2().map(drop).map_err(Code::from)),
        ("mknodat", rustix::fs::mknodat(CWD, path, FileType::RegularFile, how, 0).map_err(Code::from)),
        ("O_TMPFILE and linkat", tmpfile(path)),
    ];
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let relative = || -> Result<(), Code> {
            let directory = open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            rustix::fs::openat(&directory, name, flags | OFlags::CLOEXEC, how)?;
            Ok(())
        };
        all.push(("openat beside a descriptor", relative()));
        let winding = parent.join(".").join("..").join(parent.file_name().unwrap_or_default()).join(name);
        all.push(("openat by a winding path", open(&winding, flags).map(drop)));
        let through_proc = || -> Result<(), Code> {
            let directory = open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            let way = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
            open(&way, flags).map(drop)
        };
        all.push(("openat through /proc/self/fd", through_proc()));
        let linked = || -> Result<(), Code> {
            let link = PathBuf::from(format!("/tmp/way-{}", std::process::id()));
            let _ = rustix::fs::unlink(&link);
            rustix::fs::symlink(path, &link)?;
            let opened = open(&link, flags).map(drop);
            let _ = rustix::fs::unlink(&link);
            opened
        };
        // A relative link would lead elsewhere.
        if path.is_absolute() {
            all.push(("openat through a link", linked()));
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        let name = c(path);
        let at = name.as_ptr() as usize;
        let bits = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as usize;
        // SAFETY: `name` is NUL-terminated and outlives the three calls; the other arguments are numbers.
        let old = unsafe {
            [
                ("open", call(libc::SYS_open, [at, bits, 0o600, 0, 0, 0])),
                ("creat", call(libc::SYS_creat, [at, 0o600, 0, 0, 0, 0])),
                ("mknod", call(libc::SYS_mknod, [at, (libc::S_IFREG | 0o600) as usize, 0, 0, 0, 0])),
            ]
        };
        all.extend(old.map(|(way, result)| (way, result.map(drop))));
    }
    all
}

/// A file without a name that is then given one.
fn tmpfile(path: &Path) -> Result<(), Code> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let file = open(parent, OFlags::TMPFILE | OFlags::RDWR)?;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Tries to make a directory at `path`.
pub(crate) fn make_directory(path: &Path) -> Vec<Tried> {
    #[allow(unused_mut, reason = "used on x86-64")]
    let mut all: Vec<Tried> = vec![("mkdirat", rustix::fs::mkdir(path, Mode::RWXU).map_err(Code::from))];
    #[cfg(target_arch = "x86_64")]
    {
        let name = c(path);
        // SAFETY: `name` is NUL-terminated and outlives the call.
        let old = unsafe { call(libc::SYS_mkdir, [name.as_ptr() as usize, 0o700, 0, 0, 0, 0]) };
        all.push(("mkdir", old.map(drop)));
    }
    all
}

/// Tries to give what is at `from` the name `to`: by moving, exchanging, linking.
pub(crate) fn rename(from: &Path, to: &Path) -> Vec<Tried> {
    let with = |flags| rustix::fs::renameat_with(CWD, from, CWD, to, flags).map_err(Code::from);
    #[allow(unused_mut, reason = "used on x86-64")]
    let mut all: Vec<Tried> = vec![
        ("linkat", rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).map_err(Code::from)),
        ("renameat2 without replacing", with(RenameFlags::NOREPLACE)),
        ("renameat2 with exchange", with(RenameFlags::EXCHANGE)),
        ("renameat", rustix::fs::renameat(CWD, from, CWD, to).map_err(Code::from)),
    ];
    #[cfg(target_arch = "x86_64")]
    {
        let (old, new) = (c(from), c(to));
        let [a, b] = [&old, &new].map(|path| path.as_ptr() as usize);
        // SAFETY: both names are NUL-terminated and outlive the calls.
        let tried = unsafe {
            [
                ("link", call(libc::SYS_link, [a, b, 0, 0, 0, 0])),
                ("rename", call(libc::SYS_rename, [a, b, 0, 0, 0, 0])),
            ]
        };
        all.extend(tried.map(|(way, result)| (way, result.map(drop))));
    }
    all
}

/// Tries to make a symbolic link at `path`.
pub(crate) fn symlink(to: &Path, path: &Path) -> Vec<Tried> {
    #[allow(unused_mut, reason = "used on x86-64")]
    let mut all: Vec<Tried> = vec![("symlinkat", rustix::fs::symlink(to, path).map_err(Code::from))];
    #[cfg(target_arch = "x86_64")]
    {
        let (target, name) = (c(to), c(path));
        // SAFETY: both names are NUL-terminated and outlive the call.
        let old = unsafe {
            call(libc::SYS_symlink, [target.as_ptr() as usize, name.as_ptr() as usize, 0, 0, 0, 0])
        };
        all.push(("symlink", old.map(drop)));
    }
    all
}

/// Tries to open what is at `path` for changing it, or to change it. `plain` is a free name in the same file system.
pub(crate) fn change(path: &Path, plain: &Path) -> Vec<Tried> {
    let name = c(path);
    let at = name.as_ptr() as usize;
    let reopened = || -> Result<(), Code> {
        let handle = open(path, OFlags::PATH)?;
        let way = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        open(&way, OFlags::WRONLY).map(drop)
    };
    let aliased = || -> Result<(), Code> {
        let _ = rustix::fs::unlink(plain);
        rustix::fs::linkat(CWD, path, CWD, plain, AtFlags::empty())?;
        let result = open(plain, OFlags::WRONLY).map(drop);
        let _ = rustix::fs::unlink(plain);
        result
    };
    let linked = || -> Result<(), Code> {
        let _ = rustix::fs::unlink(plain);
        rustix::fs::symlink(path, plain)?;
        let result = open(plain, OFlags::WRONLY).map(drop);
        let _ = rustix::fs::unlink(plain);
        result
    };
    let openat2 = || -> Result<(), Code> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty())?;
        Ok(())
    };
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let truncated = unsafe { call(libc::SYS_truncate, [at, 0, 0, 0, 0, 0]) };
    vec![
        ("open for writing", open(path, OFlags::WRONLY).map(drop)),
        ("open for both", open(path, OFlags::RDWR).map(drop)),
        ("open for appending", open(path, OFlags::WRONLY | OFlags::APPEND).map(drop)),
        ("openat2", openat2()),
        ("open through /proc/self/fd", reopened()),
        ("open through a hard link", aliased()),
        ("open through a link", linked()),
        ("open for reading, and truncate", open(path, OFlags::RDONLY | OFlags::TRUNC).map(drop)),
        ("truncate", truncated.map(drop)),
    ]
}
