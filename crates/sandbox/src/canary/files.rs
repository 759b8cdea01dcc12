//! Files outside the workspace, and secrets inside it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::attempt::{Code, Tally, Verdict};
use super::{Brief, Canary};

const THEME: &str = "files";

pub(crate) const ALL: &[Canary] = &[
    Canary {
        name: "outside-read",
        theme: THEME,
        tried: "read a file outside the workspace: by path, by .., by links, by /proc",
        attempt: outside_read,
    },
    Canary {
        name: "outside-write",
        theme: THEME,
        tried: "create and change files outside the workspace",
        attempt: outside_write,
    },
    Canary {
        name: "home-secret",
        theme: THEME,
        tried: "see keys, credentials, browser profiles and shell history of the home directory",
        attempt: home_secret,
    },
    Canary {
        name: "state-read",
        theme: THEME,
        tried: "read Varvel's own files: ledger, keys, configuration",
        attempt: state_read,
    },
    Canary {
        name: "hidden-secret",
        theme: THEME,
        tried: "read files of secrets in the workspace: by name, by link, by moving them",
        attempt: hidden_secret,
    },
    Canary {
        name: "scratch-private",
        theme: THEME,
        tried: "see the machine's /tmp and /dev/shm, and leave files there",
        attempt: scratch_private,
    },
    Canary {
        name: "system-write",
        theme: THEME,
        tried: "create files in /usr, /etc, /dev and /",
        attempt: system_write,
    },
    Canary {
        name: "kernel-files",
        theme: THEME,
        tried: "write to /proc (which the mounts alone would allow), /proc/sys and /sys",
        attempt: kernel_files,
    },
    Canary {
        name: "own-program",
        theme: THEME,
        tried: "change or replace the varvel program, also by way of /proc/1/exe",
        attempt: own_program,
    },
];

/// Opens for reading and reads a byte. Bare system calls: rustix has no library beneath it here.
pub(crate) fn read(path: &Path) -> Result<usize, Code> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    Ok(rustix::io::read(&file, &mut [0u8; 1])?)
}

pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Code> {
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::from_raw_mode(0o600))?)
}

/// Processes that can be seen.
pub(crate) fn visible_processes() -> Vec<PathBuf> {
    let digits = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.map(|entry| entry.path()).filter(digits).take(65536).collect()
}

fn outside_read(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let file = brief.outside_file();
    let beneath = file.strip_prefix("/").unwrap_or(&file);
    tally.must_fail("by path", read(&file));
    tally.must_fail("by ..", read(&brief.at("../outside/file")));
    tally.must_fail("by a link that was there", read(&brief.at("link-out")));
    tally.must_fail("by a directory link", read(&brief.at("link-out-directory/file")));
    let link = Path::new("/tmp/canary-link");
    if rustix::fs::symlink(&file, link).is_ok() {
        tally.must_fail("by a link of its own", read(link));
        let _ = rustix::fs::unlink(link);
    }
    tally.must_fail("as the root of this process", read(&Path::new("/proc/self/root").join(beneath)));
    tally.must_fail("by opening the directory", open(&brief.outside, OFlags::DIRECTORY));
    tally.must_fail("by a handle without access", open(&file, OFlags::PATH));
    tally.must_fail("by asking about it", rustix::fs::stat(&file));
    tally.must_fail(
        "by a hard link",
        rustix::fs::linkat(CWD, &file, CWD, brief.at("hard-link"), AtFlags::empty()),
    );
    for process in visible_processes() {
        for way in ["root", "cwd"] {
            let place = process.join(way);
            tally.must_fail(&format!("by {}", place.display()), read(&place.join(beneath)));
            tally.must_fail(&format!("by {}/..", place.display()), read(&place.join("../outside/file")));
        }
    }
    tally.verdict()
}

fn outside_write(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    tally.must_fail("changed a file", open(&brief.outside_file(), OFlags::WRONLY));
    tally.must_fail("emptied a file", empty(&brief.outside_file()));
    for path in brief.forbidden.iter().filter(|path| path.starts_with(&brief.outside)) {
        tally.must_fail(&format!("created {}", path.display()), open(path, OFlags::CREATE | OFlags::WRONLY));
    }
    tally.must_fail("by ..", open(&brief.at("../outside/by-dots"), OFlags::CREATE | OFlags::WRONLY));
    tally.must_fail(
        "by a link",
        open(&brief.at("link-out-directory/by-link"), OFlags::CREATE | OFlags::WRONLY),
    );
    tally.must_fail("made a directory", rustix::fs::mkdir(brief.outside.join("directory"), Mode::RWXU));
    tally.must_fail(
        "moved a file out",
        rustix::fs::rename(brief.at("plain.txt"), brief.outside.join("moved")),
    );
    tally.must_fail(
        "linked a file out",
        rustix::fs::linkat(CWD, brief.at("plain.txt"), CWD, brief.outside.join("linked"), AtFlags::empty()),
    );
    // Where Varvel's state lies in the private home this works; the other side looks whether it came out.
    for path in brief.forbidden.iter().filter(|path| path.starts_with(&brief.state)) {
        match open(path, OFlags::CREATE | OFlags::WRONLY) {
            Ok(_) => tally.answer("written in private"),
            Err(code) => tally.answer(code.name()),
        }
    }
    tally.must_fail("deleted a file", rustix::fs::unlink(brief.outside_file()));
    tally.verdict()
}

fn empty(path: &Path) -> Result<(), Code> {
    open(path, OFlags::RDONLY | OFlags::TRUNC).map(drop)
}

/// What a home directory holds that is nobody else's business.
const PRIVATE: &[&str] = &[
    ".ssh",
    ".aws",
    ".gnupg",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".pgpass",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".password-store",
    ".cargo/credentials.toml",
    ".cargo/credentials",
    ".m2/settings.xml",
    ".config/gh",
    ".config/gcloud",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/varvel",
    ".mozilla",
    ".thunderbird",
    ".local/share/keyrings",
    ".local/share/varvel",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".psql_history",
    ".node_repl_history",
    ".claude",
    ".claude.json",
    ".vault-token",
];

fn home_secret(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for name in PRIVATE {
        let path = brief.home.join(name);
        // The way to the workspace exists, as empty directories.
        if brief.workspace.starts_with(&path) {
            tally.must_fail(&format!("~/{name}/ledger"), rustix::fs::stat(path.join("ledger")));
            continue;
        }
        tally.must_fail(&format!("~/{name}"), rustix::fs::stat(&path));
    }
    for path in [
        "/etc/shadow",
        "/etc/ssh",
        "/root/.ssh",
        "/var/lib",
        "/run/user",
        "/var/run/docker.sock",
        "/run/secrets",
    ] {
        tally.must_fail(path, rustix::fs::stat(path));
    }
    tally.verdict()
}

fn state_read(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for name in ["canary-file", "ledger", "ledger/entries.jsonl", "vault", "proof.json", "models"] {
        tally.must_fail(&format!("it sees {name}"), rustix::fs::stat(brief.state.join(name)));
    }
    tally.verdict()
}

fn hidden_secret(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let seen = |tally: &mut Tally, what: &str, path: &Path| match read(path) {
        Ok(0) => tally.answer("empty"),
        other => tally.must_fail(&format!("read {what}"), other),
    };
    for (index, name) in [".env", "a/b/.env", "a/id_rsa", "deep/er/and/deeper/.env.local"].iter().enumerate()
    {
        let path = brief.at(name);
        seen(&mut tally, name, &path);
        if let Ok(handle) = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            let again = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
            seen(&mut tally, &format!("{name} by its handle"), &again);
        }
        let alias = brief.at(&format!("alias-{index}"));
        if rustix::fs::linkat(CWD, &path, CWD, &alias, AtFlags::empty()).is_ok() {
            seen(&mut tally, &format!("{name} by a hard link"), &alias);
        }
        if rustix::fs::symlink(&path, brief.at(&format!("soft-{index}"))).is_ok() {
            seen(&mut tally, &format!("{name} by a link"), &brief.at(&format!("soft-{index}")));
        }
        let moved = brief.at(&format!("moved-{index}"));
        if rustix::fs::rename(&path, &moved).is_ok() {
            seen(&mut tally, &format!("{name} by moving it"), &moved);
            let _ = rustix::fs::rename(&moved, &path);
        }
    }
    if rustix::fs::rename(brief.at("a"), brief.at("a-moved")).is_ok() {
        seen(&mut tally, "a/b/.env by moving its directory", &brief.at("a-moved/b/.env"));
        let _ = rustix::fs::rename(brief.at("a-moved"), brief.at("a"));
    }
    tally.verdict()
}

fn scratch_private(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for path in &brief.scratch {
        tally.must_fail(&format!("it sees {}", path.display()), rustix::fs::stat(path));
    }
    // These may well succeed: the other side looks whether they came out.
    for path in brief.forbidden.iter().filter(|path| path.starts_with("/tmp") || path.starts_with("/dev/shm"))
    {
        match open(path, OFlags::CREATE | OFlags::WRONLY) {
            Ok(_) => tally.answer("written in private"),
            Err(code) => tally.answer(code.name()),
        }
    }
    tally.verdict()
}

fn system_write(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    let elsewhere = |path: &&PathBuf| {
        !path.starts_with(&brief.state)
            && !path.starts_with(&brief.outside)
            && !path.starts_with("/tmp")
            && !path.starts_with("/dev/shm")
    };
    for path in brief.forbidden.iter().filter(elsewhere) {
        tally.must_fail(&format!("created {}", path.display()), open(path, OFlags::CREATE | OFlags::WRONLY));
    }
    for path in ["/etc/passwd", "/etc/hosts", "/etc/ld.so.cache", "/usr/bin/env", "/bin/sh"] {
        tally.must_fail(&format!("opened {path} for writing"), open(Path::new(path), OFlags::WRONLY));
    }
    tally.verdict()
}

fn kernel_files(_: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for path in [
        "/proc/self/comm",
        "/proc/self/oom_score_adj",
        "/proc/self/mem",
        "/proc/self/uid_map",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/sda",
        "/dev/vda",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/kernel/security/lsm",
        "/sys/kernel/debug",
    ] {
        tally.must_fail(&format!("opened {path} for writing"), open(Path::new(path), OFlags::WRONLY));
    }
    tally.verdict()
}

fn own_program(brief: &Brief) -> Verdict {
    let mut tally = Tally::default();
    for path in [brief.program.as_path(), Path::new("/proc/1/exe")] {
        match open(path, OFlags::WRONLY) {
            // Busy is said before read-only is: what counts is whether it is mounted so.
            Err(Code(libc::ETXTBSY)) if read_only(path) => tally.answer("busy, on a read-only mount"),
            Err(Code(libc::ETXTBSY)) => tally.escaped(format!("{} is only busy", path.display())),
            other => tally.must_fail(&format!("opened {} for writing", path.display()), other),
        }
    }
    tally.must_fail("read the program of pid 1", read(Path::new("/proc/1/exe")));
    // It must be a mount of its own, or its name could be given to another file; that the file outside is as it was, the
    // other side sees.
    tally.must_fail("deleted the program", rustix::fs::unlink(&brief.program));
    tally.verdict()
}

fn read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
