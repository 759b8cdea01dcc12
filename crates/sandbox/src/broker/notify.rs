//! System calls that are put before the broker: seccomp_unotify(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_long, sock_filter};

use crate::launcher::Failure;

/// Bits of the flags of open(2) that mean: something may be created or changed.
const CHANGES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC).unsigned_abs();

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) id: u64,
    /// Thread, in the listener's pid namespace.
    pub(crate) thread: u32,
    pub(crate) number: c_long,
    pub(crate) args: [u64; 6],
}

/// Where waiting calls arrive.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Both sides run on one processor, so that a call costs no wake-up of another one (Linux 6.6).
const SYNC_WAKE_UP: u64 = 1;

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        // SAFETY: the argument is a number. Older kernels refuse, and are slower.
        let _ = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
        Self(fd)
    }
}

impl Listener {
    /// The next call. `None` when it went away meanwhile.
    pub(crate) fn receive(&self) -> Option<Waiting> {
        let mut request = MaybeUninit::<libc::seccomp_notif>::zeroed();
        // SAFETY: the kernel wants a zeroed structure of this type and fills it in.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, request.as_mut_ptr()) };
        if result != 0 {
            return None;
        }
        // SAFETY: all-zero is valid for this plain structure, and the kernel has filled it in.
        let request = unsafe { request.assume_init() };
        Some(Waiting {
            id: request.id,
            thread: request.pid,
            number: c_long::from(request.data.nr),
            args: request.data.args,
        })
    }

    /// Whether the call still waits, so that what was read about its thread is about that thread.
    pub(crate) fn still_waits(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one u64 during the call.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
    }

    /// Lets the kernel do the call. What it may do then, Landlock decides.
    pub(crate) fn go_on(&self, id: u64) {
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or_default();
        self.send(libc::seccomp_notif_resp { id, val: 0, error: 0, flags });
    }

    /// Ends the call with a value or an error.
    pub(crate) fn answer(&self, id: u64, result: Result<(), rustix::io::Errno>) {
        let error = result.err().map_or(0, |errno| -errno.raw_os_error());
        self.send(libc::seccomp_notif_resp { id, val: 0, error, flags: 0 });
    }

    /// Ends the call with a new descriptor. Ours is closed before the caller goes on: a file that somebody else still
    /// has open for writing cannot be run, and its locks last.
    pub(crate) fn give(&self, id: u64, file: OwnedFd, close_on_exec: bool) {
        let request = libc::seccomp_notif_addfd {
            id,
            flags: 0,
            srcfd: file.as_raw_fd().unsigned_abs(),
            newfd: 0,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
        };
        // SAFETY: the kernel reads the structure during the call.
        let number =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request) };
        let error = io::Error::last_os_error();
        drop(file);
        if number < 0 {
            // Too many open files, or the caller is gone.
            let errno = rustix::io::Errno::from_io_error(&error);
            return self.answer(id, Err(errno.unwrap_or(rustix::io::Errno::MFILE)));
        }
        // The caller waits killably only, so nothing comes between.
        self.send(libc::seccomp_notif_resp { id, val: i64::from(number), error: 0, flags: 0 });
    }

    fn send(&self, response: libc::seccomp_notif_resp) {
        // SAFETY: the kernel reads the structure during the call. If the caller is gone there is nobody to answer.
        let _ =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    }
}

/// Installs the filter for this thread and its children: every call that creates, renames, removes or opens for
/// writing waits for the broker.
pub(crate) fn install() -> Result<OwnedFd, Failure> {
    let program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(Failure::at("the broker's filter"))?,
        filter: program.as_ptr().cast_mut(),
    };
    // After it was received a call is interrupted only by what kills, so that nothing is done twice.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the program outlives the call, which copies it.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Failure::at("the broker's filter")(io::Error::last_os_error())),
    }
}

/// Calls that always wait.
fn always() -> Vec<c_long> {
    let mut calls = vec![
        libc::SYS_linkat,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_renameat2,
        libc::SYS_symlinkat,
        libc::SYS_truncate,
        libc::SYS_unlinkat,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        libc::SYS_creat,
        libc::SYS_link,
        libc::SYS_mkdir,
        libc::SYS_mknod,
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_rmdir,
        libc::SYS_symlink,
        libc::SYS_unlink,
    ]);
    calls
}

/// Calls that wait when their flags say so, and which argument those are.
fn by_flags() -> Vec<(c_long, u32)> {
    let mut calls = vec![(libc::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    calls.push((libc::SYS_open, 1));
    calls
}

/// The filter in classic BPF. The architecture and x32 were ruled out by the filters before it.
fn program() -> Vec<sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let number = |call: c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    let mut program = vec![step(LOAD, 0, 0, 0)];
    for call in always() {
        program.push(step(EQUAL, 0, 1, number(call)));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    for (call, argument) in by_flags() {
        // Arguments are 64 bits wide and begin at offset 16 of seccomp_data; the low half is what counts.
        program.push(step(EQUAL, 0, 4, number(call)));
        program.push(step(LOAD, 0, 0, 16 + 8 * argument));
        program.push(step(ANY_BIT, 0, 1, CHANGES));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    }
    // Its flags are in memory; libraries fall back to openat.
    program.push(step(EQUAL, 0, 1, number(libc::SYS_openat2)));
    program.push(step(RETURN, 0, 0, errno(libc::ENOSYS)));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}
