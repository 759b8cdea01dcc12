//! Processes, what they inherit, and what they share with the machine.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::attempt::{Code, Ended, Outcome, Tally, Verdict, call, isolated, wait};
use super::files::{open, visible_processes};
use super::{BAIT, Brief, CANARY_ARG, Canary, LEFTOVER, VARIABLE};

const THEME: &str = "processes";

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
    Canary {
        name: "environment-secret",
        theme: THEME,
        tried: "find variables of Varvel's environment: its own, and those of every process it can see",
        attempt: environment,
    },
    Canary {
        name: "ld-preload",
        theme: THEME,
        tried: "inherit variables that make programs load code",
        attempt: preload,
    },
    Canary {
        name: "inherited-fd",
        theme: THEME,
        tried: "use descriptors that were left open",
        attempt: inherited,
    },
    Canary {
        name: "capabilities",
        theme: THEME,
        tried: "have or get capabilities: CapEff and the rest, set-user-ID, setuid(0), device nodes",
        attempt: capabilities,
    },
    Canary {
        name: "core-dump",
        theme: THEME,
        tried: "raise the limit of core dumps, which the machine would write",
        attempt: core_dump,
    },
    Canary {
        name: "ipc",
        theme: THEME,
        tried: "attach shared memory of the machine (System V)",
        attempt: shared_memory,
    },
    Canary {
        name: "tiocsti",
        theme: THEME,
        tried: "type into the terminal (TIOCSTI, TIOCLINUX)",
        attempt: tiocsti,
    },
];

/// Descriptors above 2 that are open now, with what they are.
pub(crate) fn descriptors() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return vec!["/proc/self/fd is missing".into()];
    };
    let all = entries.flatten().filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let what = std::fs::read_link(entry.path()).ok()?;
        // The one that reads this directory.
        let own = what.starts_with("/proc") && what.ends_with("fd");
        (number > 2 && !own).then(|| format!("{number}: {}", what.display()))
    });
    all.collect()
}

fn slurp(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = open(path, OFlags::RDONLY) {
        let _ = std::fs::File::from(file).take(1 << 20).read_to_end(&mut bytes);
    }
    bytes
}

fn status(field: &str) -> Option<String> {
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

fn environment(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let secret = |name: &str| {
        let name = name.to_ascii_uppercase();
        let signs =
            ["API_KEY", "SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE_KEY", "ACCESS_KEY"];
        signs.iter().any(|sign| name.contains(sign))
            || [
                "SSH_AUTH_SOCK",
                "SSH_AGENT_PID",
                "GPG_AGENT_INFO",
                "DBUS_SESSION_BUS_ADDRESS",
                "XAUTHORITY",
                "DISPLAY",
                "WAYLAND_DISPLAY",
                "KUBECONFIG",
                "DOCKER_HOST",
                "XDG_RUNTIME_DIR",
                VARIABLE,
                "VARVEL_HOME",
                "VARVEL_CUT",
            ]
            .contains(&name.as_str())
    };
    let mut count = 0;
    for (name, _) in std::env::vars_os() {
        count += 1;
        if let Some(name) = name.to_str().filter(|name| secret(name)) {
            tally.escaped(format!("{name} is set"));
        }
    }
    let planted = format!("{VARIABLE}=");
    for process in visible_processes() {
        let text = slurp(&process.join("environ"));
        if text.split(|byte| *byte == 0).any(|variable| variable.starts_with(planted.as_bytes())) {
            tally.escaped(format!("{} has the environment of the machine", process.display()));
        }
    }
    tally.answer(format!("{count} variables, none of Varvel's"));
    tally.verdict()
}

fn preload(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let loads = name.starts_with("LD_")
            || name.starts_with("BASH_FUNC_")
            || [
                "BASH_ENV",
                "ENV",
                "GCONV_PATH",
                "PYTHONSTARTUP",
                "PYTHONPATH",
                "NODE_OPTIONS",
                "PERL5OPT",
                "PERL5LIB",
                "RUBYOPT",
                "JAVA_TOOL_OPTIONS",
                "GIT_SSH_COMMAND",
                "GIT_EXTERNAL_DIFF",
                "PROMPT_COMMAND",
            ]
            .contains(&&*name);
        if loads {
            tally.escaped(format!("{name} is set"));
        }
    }
    tally.must_fail("/etc/ld.so.preload", rustix::fs::stat("/etc/ld.so.preload"));
    tally.verdict()
}

fn inherited(brief: &Brief) -> Verdict {
    if brief.inherited.is_empty() {
        return Verdict::held("none but 0, 1 and 2");
    }
    Verdict::escaped(brief.inherited.join(", "))
}

fn capabilities(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        match status(set) {
            Some(value) if value.bytes().all(|byte| byte == b'0') => {}
            Some(value) => tally.escaped(format!("{set} is {value}")),
            None => tally.error(format!("{set} is missing")),
        }
    }
    for (field, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        match status(field) {
            Some(value) if value == wanted => {}
            value => tally.escaped(format!("{field} is {}", value.unwrap_or_default())),
        }
    }
    if nix::unistd::getuid().is_root() || nix::unistd::geteuid().is_root() {
        tally.escaped("it is root");
    }
    // SAFETY: numbers and null pointers only. By number, because the library would act on all threads.
    let tried = unsafe {
        [
            ("setuid(0)", call(libc::SYS_setuid, [0; 6])),
            ("setresuid(0)", call(libc::SYS_setresuid, [0; 6])),
            ("setgid(0)", call(libc::SYS_setgid, [0; 6])),
            ("setgroups", call(libc::SYS_setgroups, [0; 6])),
        ]
    };
    for (what, result) in tried {
        tally.must_fail(what, result);
    }
    let device = rustix::fs::makedev(1, 1);
    let node = Path::new("/tmp/canary-node");
    tally.must_fail(
        "made a device node",
        rustix::fs::mknodat(rustix::fs::CWD, node, rustix::fs::FileType::CharacterDevice, Mode::RWXU, device),
    );
    let _ = rustix::fs::unlink(node);
    for place in ["/", "/usr", "/tmp", "/proc"] {
        match rustix::fs::statvfs(place) {
            // The root itself holds nothing but empty directories and files that Varvel has written.
            Ok(found) if place == "/" || found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID) => {}
            Ok(_) => tally.escaped(format!("set-user-ID programs count in {place}")),
            Err(errno) => tally.answer(Code::from(errno).name()),
        }
    }
    tally.answer("none");
    tally.verdict()
}

fn core_dump(_: &Brief) -> Verdict {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let mut tally = Tally::default();
    match getrlimit(Resource::RLIMIT_CORE) {
        Ok((0, 0)) => tally.answer("the limit is 0"),
        Ok((soft, hard)) => tally.escaped(format!("the limit is {soft}, {hard}")),
        Err(errno) => tally.error(errno.to_string()),
    }
    tally.must_fail("raised the limit", setrlimit(Resource::RLIMIT_CORE, 1 << 20, 1 << 20));
    tally.verdict()
}

fn shared_memory(brief: &Brief) -> Verdict {
    if brief.memory < 0 {
        return Verdict::error("the machine made no segment");
    }
    let mut tally = Tally::default();
    let segment = brief.memory as usize;
    // SAFETY: with address 0 the kernel chooses a free place.
    let attached = unsafe { call(libc::SYS_shmat, [segment, 0, libc::SHM_RDONLY as usize, 0, 0, 0]) };
    tally.must_fail("attached it", attached);
    let mut state = vec![0u64; 64];
    // SAFETY: the buffer is larger than the structure that is written, and aligned for it.
    let asked = unsafe {
        call(libc::SYS_shmctl, [segment, libc::IPC_STAT as usize, state.as_mut_ptr() as usize, 0, 0, 0])
    };
    tally.must_fail("asked about it", asked);
    tally.verdict()
}

fn tiocsti(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let letter = b"#";
    for descriptor in [0usize, 1, 2] {
        for (name, request) in [("TIOCSTI", libc::TIOCSTI as usize), ("TIOCLINUX", libc::TIOCLINUX as usize)]
        {
            // Also with bits above the 32 that the kernel looks at.
            for high in [0usize, 1 << 32] {
                let args = [descriptor, request | high, letter.as_ptr() as usize, 0, 0, 0];
                // SAFETY: the request reads one byte, and that is there.
                tally.must_be_barred(name, unsafe { call(libc::SYS_ioctl, args) });
            }
        }
    }
    tally.must_fail("opened the terminal", open(Path::new("/dev/tty"), OFlags::RDWR));
    tally.must_fail("opened the console", open(Path::new("/dev/console"), OFlags::RDWR));
    tally.verdict()
}
