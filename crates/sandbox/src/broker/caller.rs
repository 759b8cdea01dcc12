//! The thread behind a waiting call: its memory, its directories, its umask.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Longest path, in bytes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Memory is read in pieces that do not cross a page, because the next one may not be there.
const PAGE: u64 = 4096;

/// A thread that waits in a system call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) u32);

impl Caller {
    /// A NUL-terminated path at `address`.
    pub(super) fn path(self, address: u64) -> Result<Vec<u8>, Errno> {
        let memory = File::open(format!("/proc/{}/mem", self.0)).map_err(errno)?;
        let mut path = Vec::new();
        while path.len() < MAX_PATH {
            let at = address.wrapping_add(path.len() as u64);
            let mut piece = [0u8; PAGE as usize];
            let room = usize::try_from(PAGE - at % PAGE).unwrap_or(0).min(MAX_PATH - path.len());
            let got = memory.read_at(&mut piece[..room], at).map_err(|_| Errno::FAULT)?;
            if got == 0 {
                return Err(Errno::FAULT);
            }
            if let Some(end) = piece[..got].iter().position(|&byte| byte == 0) {
                path.extend_from_slice(&piece[..end]);
                return Ok(path);
            }
            path.extend_from_slice(&piece[..got]);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// The directory that a relative path starts from.
    pub(super) fn directory(self, descriptor: i32) -> Result<OwnedFd, Errno> {
        let path = if descriptor == libc::AT_FDCWD {
            format!("/proc/{}/cwd", self.0)
        } else {
            format!("/proc/{}/fd/{descriptor}", self.0)
        };
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Its open file that `path` means, when it is of the form `/proc/self/fd/N`: for us that would be our own.
    pub(super) fn open_file(self, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let number = path.strip_prefix(b"/proc/self/fd/").or_else(|| path.strip_prefix(b"/dev/fd/"));
        let number = number.and_then(|rest| std::str::from_utf8(rest).ok()?.parse::<u32>().ok());
        let Some(number) = number else { return Ok(None) };
        let link = format!("/proc/{}/fd/{number}", self.0);
        rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map(Some)
    }

    /// Bits that are taken away from the mode of what it creates.
    pub(super) fn umask(self) -> Result<u32, Errno> {
        let mut text = [0u8; 512];
        let file = rustix::fs::open(
            format!("/proc/{}/status", self.0),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // "Umask:" is the second line.
        let got = rustix::io::read(&file, &mut text)?;
        let text = std::str::from_utf8(text.get(..got).unwrap_or_default()).unwrap_or_default();
        let umask = text.lines().find_map(|line| line.strip_prefix("Umask:"));
        umask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).ok_or(Errno::ACCESS)
    }
}

/// Where the kernel says that an open handle is.
pub(super) fn where_is(handle: &OwnedFd) -> Result<std::path::PathBuf, Errno> {
    use std::os::fd::AsRawFd;
    let link = rustix::fs::readlinkat(
        CWD,
        format!("/proc/self/fd/{}", handle.as_raw_fd()),
        Vec::with_capacity(256),
    )?;
    Ok(OsString::from_vec(link.into_bytes()).into())
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
