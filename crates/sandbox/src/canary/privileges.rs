//! What a process has from the start, or could get: variables, descriptors, capabilities, shared memory, a terminal.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::attempt::{Code, Tally, Verdict, call};
use super::files::{open, visible_processes};
use super::process::{THEME, slurp, status};
use super::{Brief, Canary, VARIABLE};

pub(crate) const ALL: &[Canary] = &[
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
