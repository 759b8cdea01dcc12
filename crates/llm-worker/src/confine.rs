//! Locking the process in, once everything it needs is in memory.
//!
//! Landlock takes away every file; seccomp leaves a short list of system calls: reading and writing what is open,
//! memory, threads, clocks. No socket, no program, no new file. (On x86-64 the list is by number, so calls of the
//! x32 ABI, whose numbers have bit 30 set, are not on it.)

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Why the process could not be locked in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// Landlock covers a thread and its children, not threads that run already.
    #[error("cannot lock the model in: {0} threads run already")]
    Threads(usize),
    #[error(
        "cannot lock the model in: Landlock: {0} (it needs Linux 5.13 or later with Landlock switched on)"
    )]
    Landlock(String),
    #[error("cannot lock the model in: seccomp: {0}")]
    Seccomp(String),
    #[error("the model is not locked in: {0}")]
    Open(&'static str),
}

/// Everything that stays possible.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Locks the process in, for good. Call it while there is one thread.
pub(crate) fn lock_in() -> Result<(), ConfineError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(ConfineError::Threads(threads));
    }
    let failed = |error: landlock::RulesetError| ConfineError::Landlock(error.to_string());
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(failed)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(ConfineError::Landlock("the kernel does not enforce it".into()));
    }
    filter().map_err(ConfineError::Seccomp)
}

fn filter() -> Result<(), String> {
    let rules: BTreeMap<i64, Vec<_>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().map_err(|error| format!("{error:?}"))?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)
        .map_err(|error| error.to_string())?;
    let program: BpfProgram =
        filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

/// Tries what must not work.
pub(crate) fn prove() -> Result<(), ConfineError> {
    if std::fs::File::open("/dev/null").is_ok() || std::fs::metadata("/").is_ok() {
        return Err(ConfineError::Open("it can open files"));
    }
    if std::net::UdpSocket::bind("127.0.0.1:0").is_ok() || std::net::TcpListener::bind("127.0.0.1:0").is_ok()
    {
        return Err(ConfineError::Open("it can open sockets"));
    }
    if std::process::Command::new("/bin/true").spawn().is_ok() {
        return Err(ConfineError::Open("it can start programs"));
    }
    // It can still do its work.
    std::thread::spawn(|| ()).join().map_err(|_| ConfineError::Open("and cannot start threads"))
}
