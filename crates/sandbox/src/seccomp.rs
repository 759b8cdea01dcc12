//! seccomp: system calls that no build, test or script needs, and that kernel exploits do.
//!
//! Three filters, because one filter has one action: calls of the x32 ABI do not exist (seccompiler checks only
//! the architecture, which x32 shares), `clone3` does not exist (its flags are in memory, where a filter cannot
//! look; libraries fall back to `clone`), and the list below is not permitted.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
};

use crate::launcher::Failure;
use crate::plan::Plan;
use crate::profile::{Isolation, Syscalls};

/// Not permitted (EPERM), whatever the arguments.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Not permitted where there are no namespaces: they reach processes and shared memory of the whole machine, and names
/// and owners of files, which Landlock does not look at.
const UNSHARED: &[libc::c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fsetxattr,
    libc::SYS_ioprio_set,
    libc::SYS_lsetxattr,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgget,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_semget,
    libc::SYS_setpriority,
    libc::SYS_setxattr,
    libc::SYS_shmget,
];

/// fchmodat2(2), Linux 6.6; the same number everywhere.
const FCHMODAT2: libc::c_long = 452;

/// Bit that marks a system call of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Len::Dword, Op::Eq, value)
}

fn unequal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Len::Dword, Op::Ne, value)
}

/// Which sockets there are.
#[derive(Clone, Copy)]
struct Families {
    unix: bool,
    internet: bool,
}

/// Installs the filters for this thread and its children.
pub(crate) fn apply(plan: &Plan) -> Result<(), Failure> {
    if crate::cut::is("seccomp") {
        return Ok(());
    }
    let compiling = || Failure::at("compiling seccomp filters");
    let families = Families {
        unix: plan.unix_sockets || crate::cut::is("unix-filter"),
        // Without a network namespace any address would be the machine's.
        internet: plan.isolation == Isolation::Namespaces,
    };
    let mut filters = Vec::from(programs(families).map_err(compiling())?);
    if plan.syscalls == Syscalls::AllowList {
        filters.push(allow_list().map_err(compiling())?);
    }
    for program in filters {
        apply_filter(&program).map_err(Failure::at("seccomp"))?;
    }
    Ok(())
}

/// Nothing but what is listed; the rest does not exist, so that programs use what they used before it did.
fn allow_list() -> Result<BpfProgram, seccompiler::BackendError> {
    let listed = crate::syscalls::ALLOWED.iter().map(|call| (*call, vec![])).collect();
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter =
        SeccompFilter::new(listed, absent, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    filter.try_into()
}

fn programs(families: Families) -> Result<[BpfProgram; 3], seccompiler::BackendError> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, vec![])).collect();
    // Typing into the terminal that started us.
    denied.insert(
        libc::SYS_ioctl,
        vec![
            SeccompRule::new(vec![equal(1, libc::TIOCSTI)?])?,
            SeccompRule::new(vec![equal(1, libc::TIOCLINUX)?])?,
        ],
    );
    // A new user namespace would give back capabilities inside it, and with them more of the kernel.
    let new_user = libc::CLONE_NEWUSER as u64;
    denied.insert(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![SeccompCondition::new(
            0,
            Len::Dword,
            Op::MaskedEq(new_user),
            new_user,
        )?])?],
    );
    let known = [
        (libc::AF_INET, families.internet),
        (libc::AF_INET6, families.internet),
        (libc::AF_UNIX, families.unix),
    ];
    let others = known
        .iter()
        .filter(|(_, there)| *there)
        .map(|(family, _)| unequal(0, u64::from(family.unsigned_abs())))
        .collect::<Result<Vec<_>, _>>()?;
    // No condition at all means: always.
    let rules = if others.is_empty() { vec![] } else { vec![SeccompRule::new(others)?] };
    denied.insert(libc::SYS_socket, rules);
    // A set-user-ID program in the workspace would be the person's, outside.
    let modes = [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (FCHMODAT2, 2)];
    #[cfg(target_arch = "x86_64")]
    let modes = modes.into_iter().chain([(libc::SYS_chmod, 1)]);
    for (call, argument) in modes {
        let set_user_id = u64::from(libc::S_ISUID);
        let condition = SeccompCondition::new(argument, Len::Dword, Op::MaskedEq(set_user_id), set_user_id)?;
        denied.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    // Limits of others: of pid 1, which watches, or without a pid namespace of the person's own processes.
    denied.insert(
        libc::SYS_prlimit64,
        vec![SeccompRule::new(vec![unequal(0, 0)?, SeccompCondition::new(2, Len::Qword, Op::Ne, 0)?])?],
    );
    if !families.unix {
        // A pair of datagram sockets can send to any socket that has a name.
        let kind = SeccompCondition::new(1, Len::Dword, Op::MaskedEq(0xf), libc::SOCK_DGRAM as u64)?;
        denied.insert(libc::SYS_socketpair, vec![SeccompRule::new(vec![kind])?]);
    }
    if !families.internet {
        // No namespaces: what they would keep apart.
        for call in UNSHARED {
            denied.insert(*call, vec![]);
        }
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let denied = SeccompFilter::new(denied, SeccompAction::Allow, errno(libc::EPERM), architecture)?;
    let absent = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        SeccompAction::Allow,
        errno(libc::ENOSYS),
        architecture,
    )?;
    Ok([no_x32(), denied.try_into()?, absent.try_into()?])
}

/// `if (nr >= X32_BIT) return ENOSYS; return ALLOW;`
fn no_x32() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, offset 0 of seccomp_data
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
