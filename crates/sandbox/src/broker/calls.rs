//! Waiting system calls, taken apart.

use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::caller::Caller;
use super::notify::Waiting;

/// A call that may change the workspace. `at` is the descriptor that a relative path starts from.
#[derive(Debug)]
pub(super) enum Call {
    Open { at: i32, path: Vec<u8>, flags: OFlags, mode: u32 },
    Truncate { path: Vec<u8>, length: u64 },
    Directory { at: i32, path: Vec<u8>, mode: u32 },
    Node { at: i32, path: Vec<u8>, mode: u32, device: u64 },
    Symlink { target: Vec<u8>, at: i32, path: Vec<u8> },
    Link { from_at: i32, from: Vec<u8>, at: i32, path: Vec<u8>, flags: AtFlags },
    Rename { from_at: i32, from: Vec<u8>, at: i32, path: Vec<u8>, flags: RenameFlags },
    Unlink { at: i32, path: Vec<u8>, flags: AtFlags },
}

/// What is waiting, with its paths read from the caller's memory.
pub(super) fn parse(waiting: &Waiting, caller: Caller) -> Result<Call, Errno> {
    const HERE: i32 = libc::AT_FDCWD;
    let args = waiting.args;
    let path = |argument: usize| caller.path(args[argument]);
    // Descriptors, flags and modes are 32 bits; what stands above them is noise.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel looks at the low half only")]
    let low = |argument: usize| args[argument] as u32;
    let fd = |argument: usize| low(argument).cast_signed();
    let open = |argument: usize| OFlags::from_bits_retain(low(argument));
    let at_flags = |argument: usize| AtFlags::from_bits_retain(low(argument));
    Ok(match waiting.number {
        libc::SYS_openat => Call::Open { at: fd(0), path: path(1)?, flags: open(2), mode: low(3) },
        libc::SYS_mkdirat => Call::Directory { at: fd(0), path: path(1)?, mode: low(2) },
        libc::SYS_mknodat => {
            Call::Node { at: fd(0), path: path(1)?, mode: low(2), device: u64::from(low(3)) }
        }
        libc::SYS_symlinkat => Call::Symlink { target: path(0)?, at: fd(1), path: path(2)? },
        libc::SYS_linkat => {
            Call::Link { from_at: fd(0), from: path(1)?, at: fd(2), path: path(3)?, flags: at_flags(4) }
        }
        libc::SYS_renameat2 => Call::Rename {
            from_at: fd(0),
            from: path(1)?,
            at: fd(2),
            path: path(3)?,
            flags: RenameFlags::from_bits_retain(low(4)),
        },
        libc::SYS_unlinkat => Call::Unlink { at: fd(0), path: path(1)?, flags: at_flags(2) },
        libc::SYS_truncate => Call::Truncate { path: path(0)?, length: args[1] },
        #[cfg(target_arch = "x86_64")]
        number => match number {
            libc::SYS_open => Call::Open { at: HERE, path: path(0)?, flags: open(1), mode: low(2) },
            libc::SYS_creat => Call::Open {
                at: HERE,
                path: path(0)?,
                flags: OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
                mode: low(1),
            },
            libc::SYS_mkdir => Call::Directory { at: HERE, path: path(0)?, mode: low(1) },
            libc::SYS_mknod => {
                Call::Node { at: HERE, path: path(0)?, mode: low(1), device: u64::from(low(2)) }
            }
            libc::SYS_symlink => Call::Symlink { target: path(0)?, at: HERE, path: path(1)? },
            libc::SYS_link => Call::Link {
                from_at: HERE,
                from: path(0)?,
                at: HERE,
                path: path(1)?,
                flags: AtFlags::empty(),
            },
            libc::SYS_rename => Call::Rename {
                from_at: HERE,
                from: path(0)?,
                at: HERE,
                path: path(1)?,
                flags: RenameFlags::empty(),
            },
            libc::SYS_renameat => Call::Rename {
                from_at: fd(0),
                from: path(1)?,
                at: fd(2),
                path: path(3)?,
                flags: RenameFlags::empty(),
            },
            libc::SYS_unlink => Call::Unlink { at: HERE, path: path(0)?, flags: AtFlags::empty() },
            libc::SYS_rmdir => Call::Unlink { at: HERE, path: path(0)?, flags: AtFlags::REMOVEDIR },
            _ => return Err(Errno::NOSYS),
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => return Err(Errno::NOSYS),
    })
}
