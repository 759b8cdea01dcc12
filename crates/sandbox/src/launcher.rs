//! The launcher: this program, started again with [`LAUNCHER_ARG`], one thread, nothing loaded.
//!
//! Three processes: the *outer* one makes the namespaces and waits; *init* (pid 1 inside) builds the root, locks
//! itself in, and watches over memory, processes and names (`init`, `broker`); the third becomes the command. When
//! Varvel dies, the pipe that brought the plan closes; outer and init then end, and with init everything inside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::init::init;
use crate::plan::{MAX_PLAN, Plan};
use crate::profile::{Isolation, NetworkAccess};

/// First argument that makes the program act as the launcher.
pub const LAUNCHER_ARG: &str = "__sandbox-launcher";

/// Descriptor that brings the plan and closes when Varvel dies.
pub(crate) const PLAN_FD: RawFd = 3;
/// Socket for messages back.
pub(crate) const STATUS_FD: RawFd = 4;
/// Handle of the workspace, or of `/` when there is none.
pub(crate) const WORKSPACE_FD: RawFd = 5;

/// Signals that do not end the launcher. The command has them as they were.
pub(crate) const IGNORED: [Signal; 10] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
];

/// A message from the launcher, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Message {
    /// The doors to the proxy are made; their sockets come with this.
    Doors,
    /// A wall could not be built.
    Setup { what: String, why: String },
    /// The program could not be started.
    Exec { program: String, why: String, not_found: bool },
    /// Everything inside was killed because it used too much of this.
    Exceeded { what: String },
    /// The watch over the running command failed, and it was ended.
    Broken { why: String },
    /// Names that the command was not allowed to change.
    Refused { paths: Vec<String> },
}

/// A step that failed.
#[derive(Debug)]
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

    pub(crate) fn new(what: &str, why: &str) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// What the processes of the launcher share.
pub(crate) struct Ends {
    /// Brought the plan; closes when Varvel dies.
    pub(crate) lifeline: OwnedFd,
    pub(crate) status: File,
    pub(crate) workspace: OwnedFd,
    /// By which the brokers of one workspace take turns.
    pub(crate) lock: Option<OwnedFd>,
}

/// Runs the launcher and ends the process with the command's exit status (128 + N for signal N).
///
/// Call it before anything else in `main`, when the first argument is [`LAUNCHER_ARG`].
pub fn launcher_main() -> ! {
    // SAFETY: the parent placed its descriptors at these numbers (see `run`), nothing in this fresh process
    // uses them, and each is wrapped once.
    let (lifeline, status, workspace) = unsafe {
        (OwnedFd::from_raw_fd(PLAN_FD), OwnedFd::from_raw_fd(STATUS_FD), OwnedFd::from_raw_fd(WORKSPACE_FD))
    };
    let mut ends = Ends { lifeline, status: File::from(status), workspace, lock: None };
    let code = match outer(&mut ends) {
        Ok(code) => code,
        Err(failure) => {
            send(&ends.status, &Message::Setup { what: failure.what, why: failure.why });
            125
        }
    };
    std::process::exit(code)
}

pub(crate) fn send(status: &File, message: &Message) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        // If Varvel is gone there is nobody to tell.
        let _ = (&*status).write_all(&line);
    }
}

fn outer(ends: &mut Ends) -> Result<i32, Failure> {
    close_on_exec();
    let plan = read_plan(&ends.lifeline)?;
    if let Some(path) = &plan.lock {
        // While its path still means something.
        let file = File::options().read(true).write(true).open(path.get());
        ends.lock = Some(file.map_err(Failure::at("opening the lock of the workspace"))?.into());
    }
    let ends = &*ends;
    crate::cgroup::join(&plan)?;
    let ids = match plan.isolation {
        Isolation::Namespaces => unshare_all(&plan)?,
        Isolation::Landlock => (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()),
    };
    // Ctrl-C reaches the command itself; the launcher stays to report how it ended. Nothing else ends it but its task.
    for signal in IGNORED {
        ignore(signal);
    }
    if plan.isolation == Isolation::Landlock {
        // Should init end first, what it has left behind comes here.
        nix::sys::prctl::set_child_subreaper(true).map_err(Failure::at("adopting orphans"))?;
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(Failure::at("starting a process"))? {
        ForkResult::Child => {
            let failure = match init(&plan, ends, ids) {
                Ok(code) => std::process::exit(code),
                Err(failure) => failure,
            };
            send(&ends.status, &Message::Setup { what: failure.what, why: failure.why });
            std::process::exit(125)
        }
        ForkResult::Parent { child } => {
            let ended = wait_outside(&ends.lifeline, child);
            if plan.isolation == Isolation::Landlock {
                end_descendants();
            }
            ended
        }
    }
}

/// Enters new namespaces. Returns the user and group that this process has inside.
fn unshare_all(plan: &Plan) -> Result<(u32, u32), Failure> {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let others = [
        (CloneFlags::CLONE_NEWPID, !crate::cut::is("pid-namespace")),
        (CloneFlags::CLONE_NEWIPC, !crate::cut::is("ipc-namespace")),
        (
            CloneFlags::CLONE_NEWNET,
            plan.network != NetworkAccess::Host && !crate::cut::is("network-namespace"),
        ),
    ];
    for (namespace, wanted) in others {
        namespaces.set(namespace, wanted);
    }
    unshare(namespaces).map_err(Failure::at("creating namespaces"))?;
    // Never root inside: root outside appears as an ordinary user.
    let inner = |id: u32| if id == 0 { 1000 } else { id };
    let (inner_user, inner_group) = (inner(user.as_raw()), inner(group.as_raw()));
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("{inner_user} {user} 1"))?;
    write_proc("/proc/self/gid_map", &format!("{inner_group} {group} 1"))?;
    Ok((inner_user, inner_group))
}

/// Waits for init; kills it (and so everything inside) when Varvel is gone.
fn wait_outside(lifeline: &OwnedFd, child: Pid) -> Result<i32, Failure> {
    let failed = || Failure::at("waiting for a process");
    let pidfd = open_process(child)?;
    if wait_for(&pidfd, lifeline).map_err(failed())? == Woken::Orphaned {
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

pub(crate) fn open_process(pid: Pid) -> Result<OwnedFd, Failure> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw())
        .ok_or_else(|| Failure::new("waiting for a process", "no such process"))?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(Failure::at("pidfd_open"))
}

#[derive(PartialEq, Eq)]
enum Woken {
    Ended,
    Orphaned,
}

/// Waits until the process ends or the lifeline closes.
fn wait_for(process: &OwnedFd, lifeline: &OwnedFd) -> io::Result<Woken> {
    loop {
        let mut fds = [PollFd::new(process, PollFlags::IN), PollFd::new(lifeline, PollFlags::empty())];
        match poll(&mut fds, None::<&Timespec>) {
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => return Ok(Woken::Ended),
            Ok(_) if fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
                return Ok(Woken::Orphaned);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Nothing but standard input, output and error reaches the command.
fn close_on_exec() {
    if crate::cut::is("close-range") {
        return;
    }
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
            0 => return Err(Failure::new("reading the plan", "it ended early")),
            n if bytes.len() as u64 + n as u64 > MAX_PLAN => {
                return Err(Failure::new("reading the plan", "it is too long"));
            }
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    serde_json::from_slice(&bytes).map_err(Failure::at("reading the plan"))
}

/// Without a pid namespace: ends what the command has left behind. New ones may be born while it looks, so it looks
/// until there are none.
pub(crate) fn end_descendants() {
    let own = format!("/proc/self/task/{}/children", std::process::id());
    for _ in 0..10_000 {
        let children = std::fs::read_to_string(&own).unwrap_or_default();
        let mut any = false;
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            any = true;
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        while let Ok(status) = waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if !any {
            return;
        }
    }
}
