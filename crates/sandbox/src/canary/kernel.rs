//! System calls that exploits need and builds do not. They must not even look at their arguments.
//!
//! The arguments are such that the call fails on them wherever it is let through: addresses that are never mapped,
//! descriptors that are not open, flags that do not exist.

use std::path::Path;

use rustix::fs::Mode;

use super::attempt::{Code, Ended, Tally, Verdict, call, isolated, wait};
use super::ways::c;
use super::{Brief, Canary};

const THEME: &str = "kernel";
/// An address that is never mapped (`vm.mmap_min_addr`), and no valid pointer to anything.
const NOWHERE: usize = 1;
/// No descriptor, no process; or all flags.
const NONE: usize = usize::MAX;
/// Bit that marks a system call of the x32 ABI.
#[cfg(target_arch = "x86_64")]
const X32_BIT: libc::c_long = 0x4000_0000;

pub(crate) const ALL: &[Canary] = &[
    Canary {
        name: "mount",
        theme: THEME,
        tried: "mount, unmount, pivot_root, and the newer calls for the same",
        attempt: mount,
    },
    Canary {
        name: "user-namespace",
        theme: THEME,
        tried: "new namespaces, and with them capabilities: unshare, clone, clone3",
        attempt: namespace,
    },
    Canary { name: "setns", theme: THEME, tried: "enter another namespace", attempt: setns },
    Canary { name: "chroot", theme: THEME, tried: "chroot", attempt: chroot },
    Canary {
        name: "io-uring",
        theme: THEME,
        tried: "io_uring, which goes around filters",
        attempt: io_uring,
    },
    Canary { name: "bpf", theme: THEME, tried: "load a BPF program", attempt: bpf },
    Canary { name: "keyctl", theme: THEME, tried: "the kernel's keyrings", attempt: keyctl },
    Canary { name: "perf", theme: THEME, tried: "perf_event_open", attempt: perf },
    Canary { name: "userfaultfd", theme: THEME, tried: "userfaultfd", attempt: userfaultfd },
    Canary {
        name: "open-by-handle",
        theme: THEME,
        tried: "open files by handle, past every path",
        attempt: open_by_handle,
    },
    Canary { name: "kexec", theme: THEME, tried: "load another kernel", attempt: kexec },
    Canary { name: "modules", theme: THEME, tried: "load or remove kernel modules", attempt: modules },
    Canary {
        name: "reboot",
        theme: THEME,
        tried: "reboot(2), with numbers that do nothing",
        attempt: reboot,
    },
    Canary {
        name: "administration",
        theme: THEME,
        tried: "quotas, swap, accounting, the clock, the host's name, the kernel's log",
        attempt: administration,
    },
    Canary {
        name: "rare-calls",
        theme: THEME,
        tried: "personality, kcmp, fanotify, process_madvise and other calls that builds do not need",
        attempt: rare,
    },
    Canary { name: "x32", theme: THEME, tried: "system calls of the x32 ABI, past the filter", attempt: x32 },
    Canary {
        name: "i386",
        theme: THEME,
        tried: "32-bit system calls (int 0x80), past the filter",
        attempt: i386,
    },
];

/// Tries each call; it must be barred.
fn barred(calls: &[(&str, libc::c_long, &[usize])]) -> Tally {
    let mut tally = Tally::default();
    for (name, number, arguments) in calls {
        let mut args = [0usize; 6];
        for (place, value) in args.iter_mut().zip(*arguments) {
            *place = *value;
        }
        // SAFETY: the tables below hold numbers, null and NOWHERE, never an address of this process.
        tally.must_be_barred(name, unsafe { call(*number, args) });
    }
    tally
}

fn mount(_: &Brief) -> Verdict {
    let mut tally = barred(&[
        ("mount", libc::SYS_mount, &[NOWHERE, NOWHERE, NOWHERE, 0, NOWHERE]),
        ("umount2", libc::SYS_umount2, &[NOWHERE, 0]),
        ("pivot_root", libc::SYS_pivot_root, &[NOWHERE, NOWHERE]),
        ("fsopen", libc::SYS_fsopen, &[NOWHERE, 0]),
        ("fsconfig", libc::SYS_fsconfig, &[NONE, NONE]),
        ("fsmount", libc::SYS_fsmount, &[NONE, NONE, NONE]),
        ("fspick", libc::SYS_fspick, &[NONE, NOWHERE, 0]),
        ("open_tree", libc::SYS_open_tree, &[NONE, NOWHERE, 0]),
        ("move_mount", libc::SYS_move_mount, &[NONE, NOWHERE, NONE, NOWHERE, NONE]),
        ("mount_setattr", libc::SYS_mount_setattr, &[NONE, NOWHERE, NONE, NOWHERE, 0]),
    ]);
    let (kind, target) = (c"tmpfs", c"/tmp");
    // SAFETY: the names are NUL-terminated and outlive the calls.
    let (mounted, unmounted) = unsafe {
        let (kind, target) = (kind.as_ptr() as usize, target.as_ptr() as usize);
        (
            call(libc::SYS_mount, [kind, target, kind, 0, 0, 0]),
            call(libc::SYS_umount2, [target, libc::MNT_DETACH as usize, 0, 0, 0, 0]),
        )
    };
    tally.must_fail("mounted a file system", mounted);
    tally.must_fail("unmounted /tmp", unmounted);
    tally.verdict()
}

fn namespace(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
    // SAFETY: as fork(2): no memory is shared and the stack is copied; the process has one thread.
    let cloned = unsafe { call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]) };
    if cloned == Ok(0) {
        // SAFETY: ends the child that should not be.
        unsafe { libc::_exit(0) };
    }
    if let Ok(child) = cloned {
        wait(child as libc::pid_t);
    }
    tally.must_be_barred("clone with a user namespace", cloned);
    // struct clone_args, first version: 8 numbers of 64 bits; flags first, exit signal fifth.
    let mut request = [0u64; 8];
    request[0] = libc::CLONE_NEWUSER as u64;
    request[4] = libc::SIGCHLD as u64;
    // SAFETY: the structure is valid for the call and its size is given; otherwise as above.
    let cloned =
        unsafe { call(libc::SYS_clone3, [request.as_ptr() as usize, size_of_val(&request), 0, 0, 0, 0]) };
    if cloned == Ok(0) {
        // SAFETY: ends the child that should not be.
        unsafe { libc::_exit(0) };
    }
    if let Ok(child) = cloned {
        wait(child as libc::pid_t);
    }
    tally.must_be_barred("clone3 with a user namespace", cloned);
    // Last, for in a new namespace the others are barred for another reason.
    for (name, flag) in [
        ("unshare the user namespace", libc::CLONE_NEWUSER),
        ("unshare mounts", libc::CLONE_NEWNS),
        ("unshare the network", libc::CLONE_NEWNET),
        ("unshare the file table", libc::CLONE_FILES),
    ] {
        // SAFETY: a number.
        tally.must_be_barred(name, unsafe { call(libc::SYS_unshare, [flag as usize, 0, 0, 0, 0, 0]) });
    }
    tally.verdict()
}

fn setns(_: &Brief) -> Verdict {
    barred(&[("setns", libc::SYS_setns, &[NONE, 0])]).verdict()
}

fn chroot(brief: &Brief) -> Verdict {
    let mut tally = barred(&[("chroot", libc::SYS_chroot, &[NOWHERE])]);
    for place in [Path::new("/tmp"), &brief.workspace] {
        let name = c(place);
        // SAFETY: `name` is NUL-terminated and outlives the call.
        tally.must_fail("changed its root", unsafe {
            call(libc::SYS_chroot, [name.as_ptr() as usize, 0, 0, 0, 0, 0])
        });
    }
    tally.verdict()
}

fn io_uring(_: &Brief) -> Verdict {
    barred(&[
        ("io_uring_setup", libc::SYS_io_uring_setup, &[1, NOWHERE]),
        ("io_uring_enter", libc::SYS_io_uring_enter, &[NONE, 1, 0, 0]),
        ("io_uring_register", libc::SYS_io_uring_register, &[NONE, 0, NOWHERE, 1]),
    ])
    .verdict()
}

fn bpf(_: &Brief) -> Verdict {
    // BPF_MAP_CREATE and BPF_PROG_LOAD.
    barred(&[
        ("bpf map", libc::SYS_bpf, &[0, NOWHERE, 48]),
        ("bpf program", libc::SYS_bpf, &[5, NOWHERE, 48]),
    ])
    .verdict()
}

fn keyctl(_: &Brief) -> Verdict {
    // KEYCTL_GET_KEYRING_ID of the session keyring (-3).
    barred(&[
        ("keyctl", libc::SYS_keyctl, &[0, NONE - 2, 0]),
        ("add_key", libc::SYS_add_key, &[NOWHERE, NOWHERE, NOWHERE, 1, NONE - 2]),
        ("request_key", libc::SYS_request_key, &[NOWHERE, NOWHERE, 0, 0]),
    ])
    .verdict()
}

fn perf(_: &Brief) -> Verdict {
    barred(&[("perf_event_open", libc::SYS_perf_event_open, &[NOWHERE, 0, NONE, NONE, 0])]).verdict()
}

fn userfaultfd(_: &Brief) -> Verdict {
    barred(&[
        ("userfaultfd", libc::SYS_userfaultfd, &[0]),
        ("userfaultfd for user space", libc::SYS_userfaultfd, &[1]),
    ])
    .verdict()
}

fn open_by_handle(_: &Brief) -> Verdict {
    barred(&[
        ("name_to_handle_at", libc::SYS_name_to_handle_at, &[NONE, NOWHERE, NOWHERE, NOWHERE, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, &[NONE, NOWHERE, 0]),
    ])
    .verdict()
}

fn kexec(_: &Brief) -> Verdict {
    barred(&[
        ("kexec_load", libc::SYS_kexec_load, &[NOWHERE, 1, NOWHERE, NONE]),
        ("kexec_file_load", libc::SYS_kexec_file_load, &[NONE, NONE, 0, NOWHERE, NONE]),
    ])
    .verdict()
}

fn modules(_: &Brief) -> Verdict {
    barred(&[
        ("init_module", libc::SYS_init_module, &[NOWHERE, 0, NOWHERE]),
        ("finit_module", libc::SYS_finit_module, &[NONE, NOWHERE, 0]),
        ("delete_module", libc::SYS_delete_module, &[NOWHERE, libc::O_NONBLOCK as usize]),
    ])
    .verdict()
}

fn reboot(_: &Brief) -> Verdict {
    barred(&[("reboot", libc::SYS_reboot, &[0, 0, 0, 0])]).verdict()
}

fn administration(_: &Brief) -> Verdict {
    barred(&[
        ("quotactl", libc::SYS_quotactl, &[NONE, NOWHERE, 0, NOWHERE]),
        ("swapon", libc::SYS_swapon, &[NOWHERE, 0]),
        ("swapoff", libc::SYS_swapoff, &[NOWHERE]),
        ("acct", libc::SYS_acct, &[NOWHERE]),
        ("settimeofday", libc::SYS_settimeofday, &[NOWHERE, 0]),
        ("clock_settime", libc::SYS_clock_settime, &[0, NOWHERE]),
        ("clock_adjtime", libc::SYS_clock_adjtime, &[0, NOWHERE]),
        ("sethostname", libc::SYS_sethostname, &[NOWHERE, 1]),
        ("setdomainname", libc::SYS_setdomainname, &[NOWHERE, 1]),
        // SYSLOG_ACTION_SIZE_BUFFER.
        ("syslog", libc::SYS_syslog, &[10, 0, 0]),
    ])
    .verdict()
}

fn rare(_: &Brief) -> Verdict {
    let me = std::process::id() as usize;
    let mut tally = barred(&[
        // The number that only asks.
        ("personality", libc::SYS_personality, &[0xffff_ffff]),
        ("kcmp", libc::SYS_kcmp, &[me, me, 0, 0, 0]),
        ("fanotify_init", libc::SYS_fanotify_init, &[NONE, 0]),
        ("process_madvise", libc::SYS_process_madvise, &[NONE, NOWHERE, 1, 0, 0]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, &[NONE, 0, 0]),
        ("lookup_dcookie", libc::SYS_lookup_dcookie, &[0, NOWHERE, 1]),
        ("nfsservctl", libc::SYS_nfsservctl, &[NONE, NOWHERE, NOWHERE]),
    ]);
    let made = rustix::fs::mkdir("/tmp/canary-place", Mode::RWXU).map_err(Code::from);
    let _ = rustix::fs::rmdir("/tmp/canary-place");
    tally.answer(made.map_or_else(Code::name, |()| "ordinary calls work".into()));
    tally.verdict()
}

#[cfg(target_arch = "x86_64")]
fn x32(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for (name, number) in [
        ("getpid", libc::SYS_getpid),
        ("unshare", libc::SYS_unshare),
        ("ptrace (x32's own)", 521),
        ("socket", 41),
    ] {
        // SAFETY: none of these takes pointers with these arguments.
        tally.must_fail(name, unsafe { call(number | X32_BIT, [0; 6]) });
    }
    tally.verdict()
}

#[cfg(not(target_arch = "x86_64"))]
fn x32(_: &Brief) -> Verdict {
    Verdict::held("not on this architecture")
}

#[cfg(target_arch = "x86_64")]
fn i386(_: &Brief) -> Verdict {
    let ended = isolated(2, || {
        // getpid of the 32-bit table.
        let mut number: i64 = 20;
        // SAFETY: the call takes no arguments and changes nothing; old kernels clear r8 to r11.
        unsafe {
            std::arch::asm!(
                "int 0x80",
                inlateout("rax") number,
                lateout("r8") _,
                lateout("r9") _,
                lateout("r10") _,
                lateout("r11") _,
            );
        }
        if number > 0 {
            return Verdict::escaped("32-bit system calls work");
        }
        Verdict::held(Code(i32::try_from(-number).unwrap_or(libc::EIO)).name())
    });
    match ended {
        Ended::Said(verdict) => verdict,
        Ended::Killed(signal) => Verdict::held(format!("killed by signal {signal}")),
        Ended::Silent => Verdict::error("the attempt ended without a word"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn i386(_: &Brief) -> Verdict {
    Verdict::held("not on this architecture")
}
