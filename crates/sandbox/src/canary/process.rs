//! Processes of the machine: to see, trace, signal or outlive them.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::attempt::{Code, Ended, Outcome, Tally, Verdict, call, isolated, wait};
use super::files::{open, visible_processes};
use super::{BAIT, Brief, CANARY_ARG, Canary, LEFTOVER};

pub(crate) const THEME: &str = "processes";

pub(crate) const ALL: &[Canary] = &[
    Canary {
        name: "host-proc",
        theme: THEME,
        tried: "see processes of the machine in /proc: command lines, environments, descriptors",
        attempt: host_proc,
    },
    Canary {
        name: "namespaces",
        theme: THEME,
        tried: "share a namespace with the machine",
        attempt: namespaces,
    },
    Canary {
        name: "ptrace",
        theme: THEME,
        tried: "trace a process of the machine, its own parents, or anything at all",
        attempt: ptrace,
    },
    Canary {
        name: "process-vm",
        theme: THEME,
        tried: "read and write the memory of a process of the machine, take its descriptors",
        attempt: process_vm,
    },
    Canary {
        name: "kill",
        theme: THEME,
        tried: "signal a process of the machine, change its limits or its priority",
        attempt: kill,
    },
    Canary {
        name: "outlive",
        theme: THEME,
        tried: "leave a process behind when the command ends",
        attempt: outlive,
    },
    Canary {
        name: "memfd-exec",
        theme: THEME,
        tried: "run a program from memory that is not confined",
        attempt: memfd_exec,
    },
];

pub(crate) fn slurp(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = open(path, OFlags::RDONLY) {
        let _ = std::fs::File::from(file).take(1 << 20).read_to_end(&mut bytes);
    }
    bytes
}

pub(crate) fn status(field: &str) -> Option<String> {
    let text = String::from_utf8(slurp(Path::new("/proc/self/status"))).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

/// Whether this process of /proc is the bait outside.
fn is_bait(brief: &Brief, process: &Path) -> bool {
    let sign = format!("{BAIT}{}", brief.nonce);
    slurp(&process.join("cmdline")).split(|byte| *byte == 0).any(|argument| argument == sign.as_bytes())
}

fn host_proc(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let me = std::process::id().to_string();
    match std::fs::read_link("/proc/self") {
        Ok(link) if link == Path::new(&me) => tally.answer("/proc is its own"),
        Ok(link) => tally.escaped(format!("/proc calls this process {}, not {me}", link.display())),
        Err(error) => tally.error(format!("/proc/self: {error}")),
    }
    match status("NSpid") {
        Some(pids) if pids.split_whitespace().count() == 1 => {}
        Some(pids) => tally.escaped(format!("/proc belongs to a namespace further out ({pids})")),
        None => tally.error("NSpid is missing"),
    }
    let processes = visible_processes();
    for process in &processes {
        if is_bait(brief, process) {
            tally.escaped(format!("{} is a process of the machine", process.display()));
        }
    }
    tally.must_fail("the files of pid 1", rustix::fs::stat("/proc/1/root/."));
    tally.must_fail("the directory of pid 1", rustix::fs::stat("/proc/1/cwd/."));
    // Their numbers may be seen (when Varvel runs as root), what they are may not.
    for number in 0..16 {
        let descriptor = format!("/proc/1/fd/{number}");
        tally.must_fail(&descriptor, std::fs::read_link(&descriptor));
        tally.must_fail(&descriptor, open(Path::new(&descriptor), OFlags::RDONLY));
    }
    tally.must_fail("the memory of pid 1", open(Path::new("/proc/1/mem"), OFlags::RDONLY));
    tally.must_fail("the environment of pid 1", open_and_read(Path::new("/proc/1/environ")));
    tally.answer(format!("{} processes", processes.len()));
    tally.verdict()
}

fn open_and_read(path: &Path) -> Result<(), Code> {
    let file = open(path, OFlags::RDONLY)?;
    match rustix::io::read(&file, &mut [0u8; 64])? {
        0 => Err(Code(libc::ENODATA)),
        _ => Ok(()),
    }
}

fn namespaces(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for (kind, outside) in &brief.namespaces {
        match std::fs::read_link(format!("/proc/self/ns/{kind}")) {
            Ok(inside) if inside == Path::new(outside) => {
                tally.escaped(format!("the {kind} namespace is shared"))
            }
            Ok(_) => tally.answer(kind.clone()),
            Err(error) => tally.error(format!("{kind}: {error}")),
        }
    }
    tally.verdict()
}

/// Processes to attack: the bait outside, and this process's ancestors inside. The number of the bait may be that of
/// a process inside; then there is nothing to show with it.
fn victims(brief: &Brief) -> Vec<i32> {
    let own = Path::new("/proc").join(brief.bait.to_string());
    let taken = own.exists() && !is_bait(brief, &own);
    let bait = (!taken).then_some(brief.bait);
    bait.into_iter().chain([1, std::os::unix::process::parent_id().cast_signed()]).collect()
}

/// A request of ptrace(2) that takes a process and nothing else.
fn trace(request: libc::c_uint, process: i32) -> Result<i64, Code> {
    // SAFETY: these requests take no pointers.
    unsafe { call(libc::SYS_ptrace, [request as usize, process as usize, 0, 0, 0, 0]) }
}

fn ptrace(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for victim in victims(brief) {
        // Does not stop it, and ends with this process.
        let seized = trace(libc::PTRACE_SEIZE, victim);
        let free = seized.is_err();
        tally.must_fail(&format!("seized {victim}"), seized);
        if free {
            let attached = trace(libc::PTRACE_ATTACH, victim);
            if attached.is_ok() {
                // It stops; it must go on, for it may be the one that reports.
                wait(victim);
                let _ = trace(libc::PTRACE_DETACH, victim);
            }
            tally.must_fail(&format!("attached to {victim}"), attached);
        }
    }
    // SAFETY: takes no other arguments.
    let traced = unsafe { call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0, 0]) };
    tally.must_be_barred("PTRACE_TRACEME", traced);
    tally.verdict()
}

fn process_vm(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let mut bytes = [0u8; 8];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // Nothing is there: what counts is whether the kernel would look.
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 8 };
    for victim in victims(brief) {
        for (way, number) in
            [("read memory", libc::SYS_process_vm_readv), ("write memory", libc::SYS_process_vm_writev)]
        {
            let args = [victim as usize, &raw const local as usize, 1, &raw const remote as usize, 1, 0];
            // SAFETY: both descriptions are valid for the call; `bytes` is ours and as long as it says; the other
            // address is another process's.
            match unsafe { call(number, args) } {
                Err(Code(libc::EFAULT)) => tally.escaped(format!("may {way} of {victim}")),
                other => tally.must_fail(&format!("{way} of {victim}"), other),
            }
        }
        // SAFETY: numbers only.
        let handle = unsafe { call(libc::SYS_pidfd_open, [victim as usize, 0, 0, 0, 0, 0]) };
        if let Ok(handle) = handle {
            let handle = usize::try_from(handle).unwrap_or(usize::MAX);
            // SAFETY: numbers only.
            let stolen = unsafe { call(libc::SYS_pidfd_getfd, [handle, 0, 0, 0, 0, 0]) };
            tally.must_fail(&format!("took a descriptor of {victim}"), stolen);
        }
    }
    tally.verdict()
}

fn kill(brief: &Brief) -> Verdict {
    let Some(bait) = victims(brief).into_iter().find(|pid| *pid == brief.bait && *pid > 1) else {
        return Verdict::held("its number is another process inside");
    };
    let bait = bait as usize;
    let mut tally = Tally::default();
    // SAFETY: numbers and null pointers only.
    let tried = unsafe {
        [
            ("pidfd_open", call(libc::SYS_pidfd_open, [bait, 0, 0, 0, 0, 0])),
            ("signal 0", call(libc::SYS_kill, [bait, 0, 0, 0, 0, 0])),
            ("SIGTERM", call(libc::SYS_kill, [bait, libc::SIGTERM as usize, 0, 0, 0, 0])),
            ("tgkill", call(libc::SYS_tgkill, [bait, bait, libc::SIGTERM as usize, 0, 0, 0])),
            ("prlimit", call(libc::SYS_prlimit64, [bait, libc::RLIMIT_NOFILE as usize, 0, 0, 0, 0])),
            ("setpriority", call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, bait, 19, 0, 0, 0])),
        ]
    };
    for (way, result) in tried {
        tally.must_fail(way, result);
    }
    tally.verdict()
}

/// Starts a process that has left its session, its parent and its descriptors. The other side looks for it.
fn outlive(brief: &Brief) -> Verdict {
    let started = isolated(2, || {
        if let Err(errno) = nix::unistd::setsid() {
            return Verdict::error(format!("setsid: {errno}"));
        }
        let started = std::process::Command::new("/proc/self/exe")
            .arg(CANARY_ARG)
            .arg(format!("{LEFTOVER}{}", brief.nonce))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .process_group(0)
            .spawn();
        match started {
            Ok(child) => Verdict::held(format!("process {} was started to stay", child.id())),
            Err(error) => Verdict::held(format!("not started: {error}")),
        }
    });
    match started {
        Ended::Said(verdict) => verdict,
        _ => Verdict::error("it could not be started"),
    }
}

fn memfd_exec(brief: &Brief) -> Verdict {
    let attempt = || -> std::io::Result<Verdict> {
        let memory = rustix::fs::memfd_create("canary", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut program = std::fs::File::open("/proc/self/exe")?;
        let mut memory = std::fs::File::from(memory);
        std::io::copy(&mut program, &mut memory)?;
        let again = Brief { only: vec!["outside-read".into()], ..brief.clone() };
        let arguments = [
            CString::new("canary")?,
            CString::new(CANARY_ARG)?,
            CString::new(again.argument().map_err(std::io::Error::other)?)?,
        ];
        let (mut reader, writer) = std::io::pipe()?;
        // SAFETY: this process has one thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut argv: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
            argv.push(std::ptr::null());
            let environment = [std::ptr::null::<libc::c_char>()];
            // SAFETY: the strings are NUL-terminated, both lists end with null, and all outlive the call.
            unsafe {
                libc::dup2(writer.as_raw_fd(), 1);
                libc::syscall(
                    libc::SYS_execveat,
                    memory.as_raw_fd(),
                    c"".as_ptr(),
                    argv.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
                libc::_exit(nix::errno::Errno::last_raw());
            }
        }
        drop(writer);
        let mut output = String::new();
        (&mut reader).take(65536).read_to_string(&mut output)?;
        let status = wait(child);
        Ok(match super::lines(&output).into_iter().next() {
            Some(line) if line.verdict.result == Outcome::Held => Verdict::held("it runs and is confined"),
            Some(line) => line.verdict,
            None if libc::WIFEXITED(status) => {
                let refused = Code(libc::WEXITSTATUS(status)).name();
                Verdict::held(format!("it does not run: {refused}"))
            }
            None => Verdict::error("it was killed"),
        })
    };
    attempt().unwrap_or_else(|error| Verdict::held(format!("it does not run: {error}")))
}
