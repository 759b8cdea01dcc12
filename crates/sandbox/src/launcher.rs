//! The launcher: this program, started again with [`LAUNCHER_ARG`], one thread, nothing loaded.
//!
//! Three processes: the *outer* one makes the namespaces and waits; *init* (pid 1 inside) builds the root, locks
//! itself in, and watches over memory and processes; the third becomes the command. When Varvel dies, the pipe
//! that brought the plan closes; outer and init then end, and with init everything inside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::plan::{MAX_PLAN, Plan};
use crate::{landlock, root, seccomp};

/// First argument that makes the program act as the launcher.
pub const LAUNCHER_ARG: &str = "__sandbox-launcher";

/// Descriptor that brings the plan and closes when Varvel dies.
pub(crate) const PLAN_FD: RawFd = 3;
/// Descriptor for messages back.
pub(crate) const STATUS_FD: RawFd = 4;
/// Handle of the workspace, or of `/` when there is none.
pub(crate) const WORKSPACE_FD: RawFd = 5;

/// How often init looks at memory and processes.
const WATCH: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A message from the launcher, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Message {
    /// A wall could not be built.
    Setup { what: String, why: String },
    /// The program could not be started.
    Exec { program: String, why: String, not_found: bool },
    /// Everything inside was killed because it used too much of this.
    Exceeded { what: String },
}

/// A step that failed.
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Failure {
    /// For `map_err`: names the step.
    pub(crate) fn at<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self { what, why: error.to_string() }
    }
}

/// Runs the launcher and ends the process with the command's exit status (128 + N for signal N).
///
/// Call it before anything else in `main`, when the first argument is [`LAUNCHER_ARG`].
pub fn launcher_main() -> ! {
    // SAFETY: the parent placed its descriptors at these numbers (see `run`), nothing in this fresh process
    // uses them, and each is wrapped once.
    let (plan, status, workspace) = unsafe {
        (OwnedFd::from_raw_fd(PLAN_FD), OwnedFd::from_raw_fd(STATUS_FD), OwnedFd::from_raw_fd(WORKSPACE_FD))
    };
    let status = File::from(status);
    let code = match outer(&plan, &status, workspace) {
        Ok(code) => code,
        Err(failure) => {
            send(&status, &Message::Setup { what: failure.what, why: failure.why });
            125
        }
    };
    std::process::exit(code)
}

fn send(status: &File, message: &Message) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        // If Varvel is gone there is nobody to tell.
        let _ = (&*status).write_all(&line);
    }
}

fn outer(plan_fd: &OwnedFd, status: &File, workspace: OwnedFd) -> Result<i32, Failure> {
    close_on_exec();
    let plan = read_plan(plan_fd)?;
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if !plan.network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    unshare(namespaces).map_err(Failure::at("creating namespaces"))?;
    // Never root inside: root outside appears as an ordinary user.
    let inner = |id: u32| if id == 0 { 1000 } else { id };
    let (inner_user, inner_group) = (inner(user.as_raw()), inner(group.as_raw()));
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("{inner_user} {user} 1"))?;
    write_proc("/proc/self/gid_map", &format!("{inner_group} {group} 1"))?;
    // Ctrl-C reaches the command itself; the launcher stays to report how it ended.
    ignore(Signal::SIGINT);
    ignore(Signal::SIGQUIT);
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(Failure::at("starting a process"))? {
        ForkResult::Child => {
            let failure = match init(&plan, plan_fd, status, &workspace, (inner_user, inner_group)) {
                Ok(code) => std::process::exit(code),
                Err(failure) => failure,
            };
            send(status, &Message::Setup { what: failure.what, why: failure.why });
            std::process::exit(125)
        }
        ForkResult::Parent { child } => {
            drop(workspace);
            wait_outside(plan_fd, child)
        }
    }
}

/// Waits for init; kills it (and so everything inside) when Varvel is gone.
fn wait_outside(lifeline: &OwnedFd, child: Pid) -> Result<i32, Failure> {
    let failed = || Failure::at("waiting for a process");
    let pid = rustix::process::Pid::from_raw(child.as_raw())
        .ok_or_else(|| Failure { what: "waiting for a process".into(), why: "no such process".into() })?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(Failure::at("pidfd_open"))?;
    if wait_for(&pidfd, lifeline, None).map_err(failed())? == Woken::Orphaned {
        let _ = signal::kill(child, Signal::SIGKILL);
    }
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(failed()(error.into())),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Woken {
    Ended,
    Orphaned,
    Tick,
}

/// Waits until the process ends, the lifeline closes, or the time is up.
fn wait_for(process: &OwnedFd, lifeline: &OwnedFd, time: Option<&Timespec>) -> io::Result<Woken> {
    loop {
        let mut fds = [PollFd::new(process, PollFlags::IN), PollFd::new(lifeline, PollFlags::empty())];
        match poll(&mut fds, time) {
            Ok(0) => return Ok(Woken::Tick),
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => return Ok(Woken::Ended),
            Ok(_) if fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
                return Ok(Woken::Orphaned);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Pid 1 inside. Builds the root, locks itself in, starts the command and reaps.
fn init(
    plan: &Plan,
    lifeline: &OwnedFd,
    status: &File,
    workspace: &OwnedFd,
    ids: (u32, u32),
) -> Result<i32, Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(Failure::at("tying the process to its parent"))?;
    root::build(plan, workspace.as_fd(), ids)?;
    nix::unistd::sethostname("sandbox").map_err(Failure::at("naming the host"))?;
    if !plan.network {
        loopback_up().map_err(Failure::at("bringing up the loopback device"))?;
    }
    limit_resources(plan).map_err(Failure::at("setting resource limits"))?;
    drop_capabilities().map_err(Failure::at("dropping capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(Failure::at("no_new_privs"))?;
    landlock::apply(&root::writable(plan))?;
    nix::sys::prctl::set_dumpable(false).map_err(Failure::at("hiding init"))?;
    seccomp::apply(plan.unix_sockets)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(Failure::at("starting a process"))? {
        ForkResult::Child => {
            let message = become_command(plan);
            send(status, &message);
            std::process::exit(if matches!(message, Message::Exec { not_found: true, .. }) {
                127
            } else {
                126
            })
        }
        ForkResult::Parent { child } => watch(plan, lifeline, status, child),
    }
}

/// Replaces this process by the command; returns only what went wrong.
fn become_command(plan: &Plan) -> Message {
    let program = plan.argv.first().cloned().unwrap_or_default();
    let failed = |why: String, not_found| Message::Exec { program: program.clone(), why, not_found };
    if plan.detach
        && let Err(error) = nix::unistd::setsid()
    {
        return failed(error.to_string(), false);
    }
    if let Err(error) = std::env::set_current_dir(plan.directory.get()) {
        return failed(format!("its directory cannot be entered: {error}"), false);
    }
    for signal in [Signal::SIGPIPE, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: restoring the default disposition runs no code of ours.
        let _ = unsafe {
            signal::sigaction(signal, &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()))
        };
    }
    use std::os::unix::process::CommandExt;
    let error = std::process::Command::new(&program)
        .args(plan.argv.iter().skip(1))
        .env_clear()
        .envs(plan.environment.iter().cloned())
        .exec();
    let not_found = error.kind() == io::ErrorKind::NotFound;
    let why =
        if not_found { "there is no such program inside the sandbox".into() } else { error.to_string() };
    failed(why, not_found)
}

/// Reaps everything; ends when the command does, and ends everything when it uses too much.
fn watch(plan: &Plan, lifeline: &OwnedFd, status: &File, child: Pid) -> Result<i32, Failure> {
    let failed = || Failure::at("waiting for a process");
    let pid = rustix::process::Pid::from_raw(child.as_raw())
        .ok_or_else(|| Failure { what: "waiting for a process".into(), why: "no such process".into() })?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(Failure::at("pidfd_open"))?;
    loop {
        let woken = wait_for(&pidfd, lifeline, Some(&WATCH)).map_err(failed())?;
        if woken == Woken::Orphaned {
            return Ok(137);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => break,
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(failed()(error.into())),
            }
        }
        if let Some(what) = exceeded(plan) {
            send(status, &Message::Exceeded { what });
            // Ending pid 1 ends everything inside.
            return Ok(137);
        }
    }
}

/// Whether the processes inside use more than they may, together. A floor that needs no privileges.
fn exceeded(plan: &Plan) -> Option<String> {
    let (mut pages, mut processes) = (0u64, 0u64);
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        processes += 1;
        // Fields 2 and 3 of statm: resident and shared pages.
        let statm = std::fs::read_to_string(entry.path().join("statm")).unwrap_or_default();
        let mut fields = statm.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
        pages += resident.saturating_sub(shared);
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if plan.memory_mb > 0 && pages.saturating_mul(page) > plan.memory_mb << 20 {
        return Some(format!("{} MB of memory", plan.memory_mb));
    }
    (plan.processes > 0 && processes > plan.processes).then(|| format!("{} processes", plan.processes))
}

fn limit_resources(plan: &Plan) -> nix::Result<()> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    let mebibytes = |count: u64| count << 20;
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_DATA, (plan.memory_mb > 0).then(|| mebibytes(plan.memory_mb))),
        (Resource::RLIMIT_FSIZE, (plan.file_mb > 0).then(|| mebibytes(plan.file_mb))),
        (Resource::RLIMIT_NOFILE, (plan.open_files > 0).then_some(plan.open_files)),
        (Resource::RLIMIT_NPROC, (plan.processes > 0).then_some(plan.processes)),
    ] {
        if let Some(limit) = limit {
            let (_, hard) = getrlimit(resource)?;
            let limit = if hard == RLIM_INFINITY { limit } else { limit.min(hard) };
            setrlimit(resource, limit, limit)?;
        }
    }
    Ok(())
}

fn drop_capabilities() -> rustix::io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capability_is_in_bounding_set};
    rustix::thread::clear_ambient_capability_set()?;
    for capability in CapabilitySet::all().iter() {
        // Capabilities that this kernel does not know are not in the set.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )
}

/// Programs inside may talk to each other over 127.0.0.1; the namespace has no other device.
fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use std::os::fd::AsRawFd;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data for which all-zero is valid; the name is NUL-terminated ("lo" and zeros);
    // the kernel reads the structure during the call only.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nothing but standard input, output and error reaches the command.
fn close_on_exec() {
    // SAFETY: the call only sets a flag on descriptors; it touches no memory.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

fn ignore(signal: Signal) {
    // SAFETY: ignoring a signal runs no code of ours.
    let _ = unsafe {
        signal::sigaction(signal, &SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty()))
    };
}

fn write_proc(path: &str, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(Failure::at("mapping the user"))
}

fn read_plan(plan: &OwnedFd) -> Result<Plan, Failure> {
    let mut bytes = Vec::new();
    let mut file = File::from(plan.try_clone().map_err(Failure::at("reading the plan"))?);
    let mut chunk = [0u8; 65536];
    while !bytes.ends_with(b"\n") {
        match file.read(&mut chunk).map_err(Failure::at("reading the plan"))? {
            0 => return Err(Failure { what: "reading the plan".into(), why: "it ended early".into() }),
            n if bytes.len() as u64 + n as u64 > MAX_PLAN => {
                return Err(Failure { what: "reading the plan".into(), why: "it is too long".into() });
            }
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    serde_json::from_slice(&bytes).map_err(Failure::at("reading the plan"))
}
