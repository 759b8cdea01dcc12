//! What the canaries aim at, outside: a workspace, files beside it, listeners on the loopback device, a process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Brief;
use super::bait::Bait;

/// What an abandoned playground is older than.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Prefix of a playground's directory.
const PREFIX: &str = "proof-";
/// Namespaces that a command must not share.
const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// Files of the workspace before the attack.
pub(crate) const FILES: &[(&str, &str)] = &[
    (".git/HEAD", "ref: refs/heads/main\n"),
    (".git/config", "[core]\n\tbare = false\n"),
    (".git/hooks/pre-commit.sample", "#!/bin/sh\n"),
    (".git/info/exclude", ""),
    (".git/objects/keep", ""),
    (".env", "SECRET=canary\n"),
    ("a/b/.env", "SECRET=canary\n"),
    ("a/id_rsa", "canary\n"),
    ("deep/er/and/deeper/.env.local", "SECRET=canary\n"),
    (".vscode/settings.json", "{}\n"),
    ("AGENTS.md", "Be careful.\n"),
    ("plain.txt", "plain\n"),
    ("create/deep/keep", ""),
    ("rename/prepared.json", "{}\n"),
    ("rename/deep/keep", ""),
    ("rename/innocent/hooks/pre-commit", "#!/bin/sh\n"),
    ("rename/innocent/tasks.json", "{}\n"),
    ("race/keep", ""),
];

/// Everything that a proof needs outside. Dropping it removes it all.
pub struct Playground {
    root: PathBuf,
    pub(crate) brief: Brief,
    pub(crate) tcp: TcpListener,
    pub(crate) proxied: TcpListener,
    pub(crate) udp: OwnedFd,
    pub(crate) path: UnixListener,
    pub(crate) named: UnixListener,
    pub(crate) bait: Bait,
    pub(crate) memory: Memory,
    /// Size and time of change of the program.
    pub(crate) program: Option<(u64, SystemTime)>,
}

impl Playground {
    /// Builds one in the directory `place`, which exists and is private.
    ///
    /// `state` is `$VARVEL_HOME`, `home` the person's home directory; nothing is put into the latter.
    ///
    /// # Errors
    /// If something cannot be made.
    pub fn new(place: &Path, state: &Path, home: &Path) -> io::Result<Self> {
        remove_abandoned(place);
        let nonce = nonce()?;
        let place = place.canonicalize()?;
        let root = place.join(format!("{PREFIX}{nonce}"));
        // From here on the directory is removed when anything fails.
        let guard = Removed(root.clone());
        let (workspace, outside) = (root.join("workspace"), root.join("outside"));
        fs::create_dir_all(&outside)?;
        fs::write(outside.join("file"), "outside\n")?;
        for (path, content) in FILES {
            let path = workspace.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&workspace))?;
            fs::write(path, content)?;
        }
        symlink(outside.join("file"), workspace.join("link-out"))?;
        symlink(&outside, workspace.join("link-out-directory"))?;
        let state = state.canonicalize()?;
        fs::write(state.join("canary-file"), "state\n")?;
        let scratch: Vec<_> = ["/tmp", "/dev/shm"]
            .iter()
            .map(|directory| Path::new(directory).join(format!("varvel-canary-{nonce}")))
            .filter(|path| fs::write(path, "scratch\n").is_ok())
            .collect();
        let memory = Memory::new();
        let bait = Bait::start(&nonce)?;
        let (tcp, proxied) = (listener()?, listener()?);
        let (udp, udp_port) = datagrams()?;
        let program = std::env::current_exe()?;
        let brief = Brief {
            forbidden: forbidden(&nonce, [&outside, &state]),
            namespaces: namespaces()?,
            tcp: tcp.local_addr()?.port(),
            proxied: proxied.local_addr()?.port(),
            udp: udp_port,
            bait: bait.id(),
            memory: memory.0,
            home: home.canonicalize().unwrap_or_else(|_| home.to_owned()),
            only: Vec::new(),
            inherited: Vec::new(),
            program,
            nonce,
            workspace,
            outside,
            state,
            scratch,
        };
        let path = socket_in(&brief.workspace)?;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(brief.abstract_name())?;
        let named = UnixListener::bind_addr(&address)?;
        named.set_nonblocking(true)?;
        let program = stamp(&brief.program);
        std::mem::forget(guard);
        Ok(Self { root, brief, tcp, proxied, udp, path, named, bait, memory, program })
    }

    /// The workspace to run the canary in.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.brief.workspace
    }

    /// The instructions for the program inside.
    #[must_use]
    pub fn brief(&self) -> &Brief {
        &self.brief
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later proof.
        for path in self.brief.scratch.iter().chain(&self.brief.forbidden) {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_file(self.brief.state.join("canary-file"));
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Removes a directory unless it is forgotten.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what proofs that were killed have left.
fn remove_abandoned(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let old = entry.metadata().and_then(|found| found.modified()).ok();
        let old = old.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > ABANDONED);
        if old && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Twelve hexadecimal digits that nobody else has.
fn nonce() -> io::Result<String> {
    let mut bytes = [0u8; 6];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Files that must not come to be on this machine.
fn forbidden(nonce: &str, own: [&Path; 2]) -> Vec<PathBuf> {
    let name = format!("varvel-canary-written-{nonce}");
    let mut all: Vec<_> =
        ["/", "/usr", "/usr/local", "/usr/bin", "/etc", "/dev", "/lib", "/tmp", "/dev/shm", "/var/tmp"]
            .iter()
            .map(|directory| Path::new(directory).join(&name))
            .collect();
    all.extend(own.map(|directory| directory.join(&name)));
    all
}

fn namespaces() -> io::Result<BTreeMap<String, String>> {
    let one = |kind: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}"))?;
        Ok((kind.to_owned(), link.to_string_lossy().into_owned()))
    };
    NAMESPACES.into_iter().map(one).collect()
}

fn listener() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A UDP socket and its port.
fn datagrams() -> io::Result<(OwnedFd, u16)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, address.port()))
}

/// A listener at `host.sock` in `directory`, however long that path is (an address holds 108 bytes).
fn socket_in(directory: &Path) -> io::Result<UnixListener> {
    let handle = fs::File::open(directory)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/host.sock", handle.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub(crate) fn stamp(program: &Path) -> Option<(u64, SystemTime)> {
    let found = fs::metadata(program).ok()?;
    Some((found.len(), found.modified().ok()?))
}

/// A System V shared memory segment of one page; -1 where the kernel has none.
pub(crate) struct Memory(i32);

impl Memory {
    fn new() -> Self {
        // SAFETY: takes no pointers.
        Self(unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600) })
    }

    /// How many processes have attached it.
    pub(crate) fn attached(&self) -> u64 {
        // SAFETY: the structure is plain data for which all-zero is valid, and it is valid for the call.
        unsafe {
            let mut state: libc::shmid_ds = std::mem::zeroed();
            if libc::shmctl(self.0, libc::IPC_STAT, &raw mut state) < 0 { 0 } else { state.shm_nattch as u64 }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.0 >= 0 {
            // SAFETY: marks the segment, which is ours, for removal; no memory is touched.
            unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}
