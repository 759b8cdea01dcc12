//! Pid 1 inside: builds the root, locks itself in, starts the command, watches and reaps.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::thread::CapabilitySet;

use crate::broker::{self, Broker, Listener};
use crate::launcher::{Ends, Failure, IGNORED, Message, end_descendants, open_process, send};
use crate::plan::Plan;
use crate::profile::{Isolation, NetworkAccess};
use crate::{landlock, limits, network, root, seccomp};

/// How often memory and processes are looked at.
const WATCH: Duration = Duration::from_millis(100);
/// How often calls that wait for the other end of a pipe are tried again.
const RETRY: Duration = Duration::from_millis(5);

/// Builds the walls and runs the command behind them. Returns its exit status.
pub(crate) fn init(plan: &Plan, ends: &Ends, ids: (u32, u32)) -> Result<i32, Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(Failure::at("tying the process to its parent"))?;
    match plan.isolation {
        Isolation::Namespaces => enter(plan, ends, ids)?,
        // Orphans of the command come to us, and end with us.
        Isolation::Landlock => {
            landlock::require_scopes()?;
            nix::sys::prctl::set_child_subreaper(true).map_err(Failure::at("adopting orphans"))?;
        }
    }
    limits::limit_resources(plan).map_err(Failure::at("setting resource limits"))?;
    // The broker looks into the memory of the command's threads, also where a setting of the kernel (Yama) or a
    // program forbids it to others.
    let kept = if plan.brokered.is_some() { CapabilitySet::SYS_PTRACE } else { CapabilitySet::empty() };
    keep_capabilities(kept).map_err(Failure::at("dropping capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(Failure::at("no_new_privs"))?;
    let (readable, writable) = (root::readable(plan), root::writable(plan));
    landlock::apply(&readable, &writable)?;
    nix::sys::prctl::set_dumpable(false).map_err(Failure::at("hiding init"))?;
    seccomp::apply(plan)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(Failure::at("starting a process"))?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(Failure::at("starting a process"))? {
        ForkResult::Child => {
            drop(ours);
            let message = become_command(plan, theirs, &readable, &writable);
            send(&ends.status, &message);
            let not_found = matches!(message, Message::Exec { not_found: true, .. });
            std::process::exit(if not_found { 127 } else { 126 })
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let broker = match &plan.brokered {
                None => None,
                Some(workspace) => {
                    let lock = ends.lock.as_ref().map(OwnedFd::try_clone).transpose();
                    let lock = lock.map_err(Failure::at("starting the broker"))?;
                    let listener = receive_fds(&ours, 1)
                        .map(|(fds, _)| fds)
                        .map_err(Failure::at("starting the broker"))?
                        .pop();
                    // Without one the command did not come so far; its own message says why.
                    listener.map(|fd| Broker::new(Listener::from(fd), workspace.get(), plan, lock))
                }
            };
            drop(ours);
            let ended = watch(plan, ends, child, broker);
            if plan.isolation == Isolation::Landlock {
                end_descendants();
            }
            // The command has run: whatever went wrong now is not that nothing did.
            Ok(ended.unwrap_or_else(|failure| {
                send(&ends.status, &Message::Broken { why: format!("{}: {}", failure.what, failure.why) });
                137
            }))
        }
    }
}

/// Makes the root and the network, and moves into them.
fn enter(plan: &Plan, ends: &Ends, ids: (u32, u32)) -> Result<(), Failure> {
    root::build(plan, ends.workspace.as_fd(), ids)?;
    nix::unistd::sethostname("sandbox").map_err(Failure::at("naming the host"))?;
    if plan.network != NetworkAccess::Host && !crate::cut::is("network-namespace") {
        network::loopback_up().map_err(Failure::at("bringing up the loopback device"))?;
    }
    if let Some(doors) = &plan.doors {
        let listeners = network::open_doors(doors).map_err(Failure::at("opening the way to the proxy"))?;
        let fds = listeners.fds();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut line = serde_json::to_vec(&Message::Doors).map_err(Failure::at("telling of the doors"))?;
        line.push(b'\n');
        send_fds(&ends.status, &line, &fds).map_err(Failure::at("telling of the doors"))?;
    }
    Ok(())
}

/// Replaces this process by the command; returns only what went wrong.
fn become_command(
    plan: &Plan,
    to_broker: OwnedFd,
    readable: &[std::path::PathBuf],
    writable: &[std::path::PathBuf],
) -> Message {
    let program = plan.argv.first().cloned().unwrap_or_default();
    let failed = |why: String, not_found| Message::Exec { program: program.clone(), why, not_found };
    if let Err(failure) = narrow(plan, &to_broker, readable, writable) {
        return Message::Setup { what: failure.what, why: failure.why };
    }
    drop(to_broker);
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        return failed(error.to_string(), false);
    }
    if plan.detach
        && let Err(error) = nix::unistd::setsid()
    {
        return failed(error.to_string(), false);
    }
    if let Err(error) = std::env::set_current_dir(plan.directory.get()) {
        return failed(format!("its directory cannot be entered: {error}"), false);
    }
    for signal in IGNORED {
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

/// What the command may do less than pid 1: no capability, no write in the workspace but through the broker.
fn narrow(
    plan: &Plan,
    to_broker: &OwnedFd,
    readable: &[std::path::PathBuf],
    writable: &[std::path::PathBuf],
) -> Result<(), Failure> {
    keep_capabilities(CapabilitySet::empty()).map_err(Failure::at("dropping capabilities"))?;
    let Some(workspace) = &plan.brokered else { return Ok(()) };
    let workspace = workspace.get();
    let around = plan.around();
    let narrower: Vec<_> =
        writable.iter().filter(|path| **path != workspace && !around.contains(path)).cloned().collect();
    landlock::apply(readable, &narrower)?;
    let listener = broker::install()?;
    send_fds(to_broker, b".", &[listener.as_fd()]).map_err(Failure::at("starting the broker"))
}

/// Serves the broker and reaps; ends when the command does, and ends everything when it uses too much.
fn watch(plan: &Plan, ends: &Ends, child: Pid, mut broker: Option<Broker>) -> Result<i32, Failure> {
    let failed = || Failure::at("waiting for a process");
    let pidfd = open_process(child)?;
    let mut look = Instant::now() + WATCH;
    let code = 'ended: loop {
        let parked = broker.as_ref().is_some_and(Broker::has_parked);
        let wait = if parked { RETRY } else { look.saturating_duration_since(Instant::now()) };
        let wait = Timespec::try_from(wait).unwrap_or_default();
        let mut fds =
            vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&ends.lifeline, PollFlags::empty())];
        if let Some(broker) = &broker {
            fds.push(PollFd::new(broker, PollFlags::IN));
        }
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed()(io::Error::from(errno).to_string())),
        }
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if events[1].intersects(PollFlags::HUP | PollFlags::ERR) {
            break 137;
        }
        if let (Some(broker), Some(events)) = (&mut broker, events.get(2)) {
            if events.contains(PollFlags::IN) {
                broker.serve();
            } else if parked {
                broker.retry();
            }
        }
        if broker.is_some() && events.get(2).is_some_and(|e| e.intersects(PollFlags::HUP | PollFlags::ERR)) {
            // Nobody is left who could call: the command has ended.
            if let Some(broker) = broker.take() {
                tell(ends, broker);
            }
        }
        let due = Instant::now() >= look;
        if !due && !events[0].contains(PollFlags::IN) {
            continue;
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => break 'ended code,
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => break 'ended 128 + signal as i32,
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => break,
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(failed()(error.to_string())),
            }
        }
        look = Instant::now() + WATCH;
        if let Some(what) = limits::exceeded(plan) {
            send(&ends.status, &Message::Exceeded { what });
            // Ending pid 1 ends everything inside.
            break 137;
        }
    };
    if let Some(broker) = broker {
        tell(ends, broker);
    }
    Ok(code)
}

fn tell(ends: &Ends, broker: Broker) {
    let paths = broker.refused();
    if !paths.is_empty() {
        send(&ends.status, &Message::Refused { paths });
    }
}

/// Drops all capabilities but `kept`, for this process and all that it starts.
fn keep_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    use rustix::thread::{CapabilitySets, capability_is_in_bounding_set};
    if crate::cut::is("capabilities") {
        return Ok(());
    }
    rustix::thread::clear_ambient_capability_set()?;
    let (now, none) = (rustix::thread::capabilities(None)?, CapabilitySet::empty());
    if now.permitted.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // Capabilities that this kernel does not know are not in the set.
            if capability_is_in_bounding_set(capability).unwrap_or(false) {
                rustix::thread::remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    let kept = kept & now.permitted;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: none },
    )
}

pub(crate) fn send_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(fds));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message with at most `most` descriptors, and the bytes that come with it; nothing when the other end
/// closed.
pub(crate) fn receive_fds(socket: impl AsFd, most: usize) -> io::Result<(Vec<OwnedFd>, Vec<u8>)> {
    let (mut byte, mut fds) = ([0u8; 4096], Vec::new());
    let got;
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1)) + most * size_of::<i32>()];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => {
                got = received.bytes;
                break;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((fds, byte.get(..got).unwrap_or_default().to_vec()))
}
