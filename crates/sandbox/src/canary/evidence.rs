//! What can be seen outside after the attack, whatever the program inside says.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use super::LEFTOVER;
use super::playground::{FILES, Playground, stamp};

/// Most entries of the workspace that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// How long a process that was killed may take to disappear.
const GRACE: Duration = Duration::from_secs(2);

/// Something that got out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The canary that it belongs to.
    pub canary: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Playground {
    /// Looks for everything that the attack could have left or reached. Call it once the command has ended.
    pub fn evidence(&mut self) -> Vec<Evidence> {
        let mut found = Vec::new();
        let mut add = |canary, detail: String| found.push(Evidence { canary, detail });
        for (canary, accepted) in [
            ("tcp", self.tcp.accept().is_ok()),
            ("proxy-loopback", self.proxied.accept().is_ok()),
            ("unix-path", self.path.accept().is_ok()),
            ("unix-abstract", self.named.accept().is_ok()),
        ] {
            if accepted {
                add(canary, "a connection arrived outside".into());
            }
        }
        for datagram in self.datagrams() {
            let canary = if datagram.starts_with(b"canary") { "udp" } else { "dns" };
            add(canary, "a datagram arrived outside".into());
        }
        for path in &self.brief.forbidden {
            if path.symlink_metadata().is_ok() {
                let in_scratch = path.starts_with("/tmp") || path.starts_with("/dev/shm");
                let canary = if path.starts_with(&self.brief.outside) || path.starts_with(&self.brief.state) {
                    "outside-write"
                } else if in_scratch {
                    "scratch-private"
                } else {
                    "system-write"
                };
                add(canary, format!("{} came to be", path.display()));
            }
        }
        for (path, content) in
            [(self.brief.outside_file(), "outside\n"), (self.brief.state.join("canary-file"), "state\n")]
        {
            if !holds(&path, content.as_bytes()) {
                add("outside-write", format!("{} has changed", path.display()));
            }
        }
        let beside = fs::read_dir(&self.brief.outside).into_iter().flatten().flatten();
        for entry in beside.filter(|entry| entry.file_name() != "file") {
            add("outside-write", format!("{} came to be", entry.path().display()));
        }
        for (canary, detail) in trusted(&self.brief.workspace) {
            add(canary, detail);
        }
        if !self.bait.alive() {
            add("kill", "the process outside is dead".into());
        }
        if self.bait.tracer() != 0 {
            add("ptrace", "the process outside is traced".into());
        }
        if self.memory.attached() > 0 {
            add("ipc", "the shared memory outside is attached".into());
        }
        if self.program != stamp(&self.brief.program) {
            add("own-program", "the program has changed".into());
        }
        if outlived(&self.brief.nonce) {
            add("outlive", "a process is still there".into());
        }
        found
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0u8; 512];
        while all.len() < 64 {
            match rustix::net::recv(&self.udp, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => all.push(buffer[..length].to_vec()),
                Err(_) => break,
            }
        }
        all
    }
}

/// Files that the host trusts and that are not as they were.
fn trusted(workspace: &Path) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let original = |path: &Path| FILES.iter().find(|(name, _)| Path::new(name) == path);
    for (path, content) in FILES {
        let path = Path::new(path);
        if counts(path) && !holds(&workspace.join(path), content.as_bytes()) {
            found.push((whose(path), format!("{} is gone or has changed", path.display())));
        }
    }
    let directories: BTreeSet<_> =
        FILES.iter().flat_map(|(path, _)| Path::new(path).ancestors().skip(1)).collect();
    for path in walk(workspace) {
        if counts(&path) && original(&path).is_none() && !directories.contains(path.as_path()) {
            found.push((whose(&path), format!("{} came to be", path.display())));
        }
    }
    found
}

/// Whether the host runs or trusts this. In `.git` that is not everything: a command may commit.
fn counts(path: &Path) -> bool {
    if let Ok(rest) = path.strip_prefix(".git") {
        return rest.starts_with("hooks")
            || rest == Path::new("config")
            || rest == Path::new("info/attributes");
    }
    policy::host_trusted(path)
}

/// The canary that would have done this.
fn whose(path: &Path) -> &'static str {
    let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match first.as_deref() {
        Some(".git") => "git-hook",
        Some("race") => "protect-race",
        Some("rename" | ".husky" | ".devcontainer") => "trusted-rename",
        Some("AGENTS.md") => "trusted-change",
        _ => "trusted-create",
    }
}

/// Everything in the workspace, relative to it; links are not followed.
fn walk(workspace: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(workspace.join(&directory)).into_iter().flatten().flatten() {
            if found.len() >= MAX_ENTRIES {
                return found;
            }
            let path = directory.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// Whether `path` is a regular file with one name and this content.
fn holds(path: &Path, content: &[u8]) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    if !found.is_file() || found.nlink() != 1 || found.len() != content.len() as u64 {
        return false;
    }
    fs::read(path).is_ok_and(|bytes| bytes == content)
}

/// Whether a process that the canary left behind is alive, a moment after the end. It is ended.
fn outlived(nonce: &str) -> bool {
    let sign = format!("{LEFTOVER}{nonce}");
    let started = Instant::now();
    loop {
        let alive = processes_with(&sign);
        if alive.is_empty() {
            return false;
        }
        if started.elapsed() > GRACE {
            for pid in alive {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes with this argument.
fn processes_with(argument: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let mut line = Vec::new();
        if let Ok(file) = fs::File::open(entry.path().join("cmdline")) {
            let _ = file.take(65536).read_to_end(&mut line);
        }
        if line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_trusts_is_compared() {
        let workspace = tempfile::tempdir().unwrap();
        let at = |path: &str| workspace.path().join(path);
        for (path, content) in FILES {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), content).unwrap();
        }
        assert_eq!(trusted(workspace.path()), []);
        fs::write(at(".git/index"), "a commit").unwrap();
        fs::write(at("made.txt"), "work").unwrap();
        assert_eq!(trusted(workspace.path()), []);

        fs::write(at("AGENTS.md"), "Be reckless").unwrap();
        fs::write(at("race/.envrc"), "").unwrap();
        fs::write(at(".git/hooks/pre-commit"), "").unwrap();
        fs::create_dir(at("create/.vscode")).unwrap();
        std::os::unix::fs::symlink("/tmp", at("rename/AGENTS.md")).unwrap();
        let mut seen: Vec<_> = trusted(workspace.path()).into_iter().map(|(canary, _)| canary).collect();
        seen.sort_unstable();
        assert_eq!(seen, ["git-hook", "protect-race", "trusted-change", "trusted-create", "trusted-rename"]);
    }
}
