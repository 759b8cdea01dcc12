//! The plan: everything the launcher needs, worked out beforehand, passed as JSON through a pipe.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use action::Root;
use serde::{Deserialize, Serialize};

use crate::SandboxError;
use crate::network::{self, Doors};
use crate::profile::{Isolation, NetworkAccess, Profile, ResourceLimits, Syscalls, WorkspaceAccess};

/// A path in the plan. Bytes, because file names need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RawPath(Vec<u8>);

impl RawPath {
    pub(crate) fn get(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.0.clone()))
    }
}

impl From<&Path> for RawPath {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().to_owned().into_vec())
    }
}

/// Something to be mounted in the new root, at the same path as outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) path: RawPath,
    pub(crate) kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountKind {
    /// The same file or directory, read-only.
    ReadOnly,
    /// The workspace, from the descriptor that was decided on.
    Workspace { writable: bool },
    /// The workspace, with writes landing elsewhere.
    Staged { upper: RawPath, work: RawPath },
    /// A directory of ours, writable.
    Cache { from: RawPath },
    /// A unix socket of the machine.
    Socket,
    /// An empty private directory.
    Scratch,
    /// Inside the workspace: the same, but read-only.
    Protected,
    /// Inside the workspace: hidden, unreadable.
    Hidden,
}

/// What the launcher is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) isolation: Isolation,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: RawPath,
    pub(crate) argv: Vec<String>,
    pub(crate) user: String,
    pub(crate) home: RawPath,
    /// A session of its own, without the terminal.
    pub(crate) detach: bool,
    /// The workspace, when the command changes names in it only through the broker.
    pub(crate) brokered: Option<RawPath>,
    /// File by which the brokers of one workspace take turns.
    pub(crate) lock: Option<RawPath>,
    /// What is guarded in the workspace beside what has a guarded name: what such names lead to. Relative to it.
    pub(crate) trusted: Vec<RawPath>,
    /// Whether the broker lets a new `.git` be made.
    pub(crate) repositories: bool,
    pub(crate) unix_sockets: bool,
    pub(crate) syscalls: Syscalls,
    pub(crate) network: NetworkAccess,
    pub(crate) doors: Option<Doors>,
    /// Directories of control groups that it joins, by controller.
    pub(crate) cgroups: Vec<RawPath>,
    pub(crate) limits: ResourceLimits,
}

/// Largest plan that the launcher accepts, in bytes.
pub(crate) const MAX_PLAN: u64 = 16 * 1024 * 1024;

/// Read-only mounts inside the workspace, where these exist. A second wall behind the broker, and the only one against
/// a change of mode or owner, which has no name to be refused.
const PROTECTED: [&str; 12] = [
    ".git/hooks",
    ".git/config",
    ".git/info/attributes",
    ".githooks",
    ".husky",
    ".envrc",
    ".vscode",
    ".idea",
    ".devcontainer",
    ".mcp.json",
    ".claude",
    ".cursor",
];

/// What goes into a plan beside the profile.
pub(crate) struct Wanted<'a> {
    pub(crate) workspace: Option<&'a Root>,
    pub(crate) argv: Vec<String>,
    pub(crate) directory: &'a Path,
    /// Further paths, read-only.
    pub(crate) visible: &'a [PathBuf],
    /// Paths in the workspace, relative to it.
    pub(crate) hidden: &'a [PathBuf],
    /// As [`Plan::trusted`].
    pub(crate) trusted: &'a [PathBuf],
    pub(crate) stage: Option<&'a StageDirs>,
    /// Where writable caches are kept: path beneath the home, directory of ours.
    pub(crate) caches: &'a [(String, PathBuf)],
    pub(crate) doors: Option<Doors>,
}

/// Where staged writes land: `upperdir` and `workdir` of an overlay, empty directories of one file system.
#[derive(Debug, Clone)]
pub struct StageDirs {
    /// What was written.
    pub upper: PathBuf,
    /// The kernel's own.
    pub work: PathBuf,
}

impl Plan {
    /// Writable places that contain the brokered workspace, such as the private home. Landlock has no exceptions
    /// beneath what it allows, so what is written there goes through the broker as well.
    pub(crate) fn around(&self) -> Vec<PathBuf> {
        let Some(workspace) = self.brokered.as_ref().map(RawPath::get) else { return Vec::new() };
        self.mounts
            .iter()
            .filter(|mount| matches!(mount.kind, MountKind::Scratch | MountKind::Cache { .. }))
            .map(|mount| mount.path.get())
            .filter(|path| workspace.starts_with(path))
            .collect()
    }

    /// Paths in the workspace that are covered, relative to it.
    pub(crate) fn hidden(&self) -> Vec<PathBuf> {
        let Some(workspace) = self.brokered.as_ref().map(RawPath::get) else { return Vec::new() };
        self.mounts
            .iter()
            .filter(|mount| mount.kind == MountKind::Hidden)
            .filter_map(|mount| mount.path.get().strip_prefix(&workspace).ok().map(Path::to_owned))
            .collect()
    }

    pub(crate) fn new(profile: &Profile, wanted: Wanted<'_>) -> Result<Self, SandboxError> {
        let home = home();
        let mut mounts = Vec::new();
        let mut add = |path: &Path, kind| mounts.push(Mount { path: path.into(), kind });
        for path in profile.system.iter().map(Path::new).chain(wanted.visible.iter().map(PathBuf::as_path)) {
            add(path, MountKind::ReadOnly);
        }
        for path in ["/tmp", "/dev/shm"] {
            add(Path::new(path), MountKind::Scratch);
        }
        if profile.workspace != WorkspaceAccess::None {
            add(&home, MountKind::Scratch);
        }
        let cached = |path: &String| profile.cache.contains(path);
        for path in profile.home.iter().filter(|path| !cached(path)) {
            add(&home.join(path), MountKind::ReadOnly);
        }
        for (path, from) in wanted.caches {
            add(&home.join(path), MountKind::Cache { from: from.as_path().into() });
        }
        let sockets = sockets(profile);
        for path in &sockets {
            add(path, MountKind::Socket);
        }
        let mut brokered = None;
        if let Some(root) = wanted.workspace.filter(|_| profile.workspace != WorkspaceAccess::None) {
            suitable(root.path(), &home)?;
            let writable = profile.workspace == WorkspaceAccess::ReadWrite;
            match wanted.stage.filter(|_| writable) {
                Some(stage) => {
                    let (upper, work) = (stage.upper.as_path().into(), stage.work.as_path().into());
                    add(root.path(), MountKind::Staged { upper, work });
                }
                None => {
                    add(root.path(), MountKind::Workspace { writable });
                    brokered = writable.then(|| root.path().into());
                    for path in PROTECTED {
                        add(&root.path().join(path), MountKind::Protected);
                    }
                }
            }
            for path in wanted.hidden {
                add(&root.path().join(path), MountKind::Hidden);
            }
        }
        // Parents before children, so that nothing is covered by what contains it. The sort is stable.
        mounts.sort_by_key(|mount| mount.path.get().components().count());
        let mut environment = environment(profile, &home);
        if profile.network == NetworkAccess::Proxy {
            let doors = wanted.doors.as_ref().ok_or_else(|| SandboxError::Setup {
                what: "the network".into(),
                why: "this profile needs the proxy, and none was started".into(),
            })?;
            environment.extend(network::environment(doors));
        }
        Ok(Self {
            isolation: profile.isolation,
            mounts,
            environment,
            directory: wanted.directory.into(),
            argv: wanted.argv,
            user: std::env::var("USER").ok().filter(|name| plain(name)).unwrap_or_else(|| "agent".into()),
            home: home.as_path().into(),
            detach: true,
            brokered,
            lock: None,
            trusted: wanted.trusted.iter().map(|path| path.as_path().into()).collect(),
            repositories: profile.repositories,
            unix_sockets: !sockets.is_empty(),
            syscalls: profile.syscalls,
            network: profile.network,
            doors: wanted.doors.filter(|_| profile.network == NetworkAccess::Proxy),
            cgroups: Vec::new(),
            limits: profile.limits,
        })
    }
}

/// The home directory, canonical; one that is not there when there is none.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .and_then(|home| home.canonicalize().ok())
        .filter(|home| home.components().count() > 1)
        .unwrap_or_else(|| PathBuf::from("/home/agent"))
}

/// The sockets of a profile that there are: absolute paths.
pub(crate) fn sockets(profile: &Profile) -> Vec<PathBuf> {
    let value = |written: &String| match written.strip_prefix('$') {
        Some(name) => std::env::var_os(name).map(PathBuf::from),
        None => Some(PathBuf::from(written)),
    };
    let is_socket = |path: &PathBuf| {
        use std::os::unix::fs::FileTypeExt;
        path.is_absolute() && std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
    };
    profile.sockets.iter().filter_map(value).filter(is_socket).collect()
}

fn environment(profile: &Profile, home: &Path) -> Vec<(String, String)> {
    if profile.environment.is_empty() {
        return Vec::new();
    }
    // Names of sockets are passed on with the sockets.
    let names = profile.sockets.iter().filter_map(|socket| socket.strip_prefix('$'));
    let passed = profile
        .environment
        .iter()
        .map(String::as_str)
        .chain(names)
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let mut all: Vec<_> = passed.collect();
    if crate::cut::is("environment") {
        all = std::env::vars().collect();
    }
    if !all.iter().any(|(name, _)| name == "PATH") {
        all.push(("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()));
    }
    all.push(("HOME".into(), home.to_string_lossy().into_owned()));
    all.push(("TMPDIR".into(), "/tmp".into()));
    all.push(("VARVEL_SANDBOX".into(), "1".into()));
    all.extend(profile.fixed.clone());
    all
}

/// A user name that can stand in a passwd file.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Whether commands can be confined to this workspace.
///
/// # Errors
/// If it is or holds the home directory, or belongs to the system.
pub fn check_workspace(root: &Root) -> Result<(), SandboxError> {
    suitable(root.path(), &home())
}

/// A workspace that is, or holds, the home directory or the system would give away what the sandbox protects.
fn suitable(path: &Path, home: &Path) -> Result<(), SandboxError> {
    let refuse = |why| Err(SandboxError::Workspace { path: path.to_owned(), why });
    if home.starts_with(path) {
        return refuse("it is or holds your home directory; use a directory inside it");
    }
    const SYSTEM: [&str; 12] =
        ["/", "/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/proc", "/sys", "/dev", "/run", "/boot"];
    let top = path.components().take(2).collect::<PathBuf>();
    if path == Path::new("/tmp") || SYSTEM.iter().any(|system| Path::new(system) == top) {
        return refuse("it belongs to the system; use a directory of your own");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_and_system_directories_are_no_workspace() {
        let home = Path::new("/home/someone");
        for path in ["/", "/home", "/home/someone", "/usr/share/x", "/etc", "/tmp", "/proc/1"] {
            assert!(suitable(Path::new(path), home).is_err(), "{path}");
        }
        for path in ["/home/someone/code", "/srv/x", "/tmp/x", "/home/other"] {
            assert!(suitable(Path::new(path), home).is_ok(), "{path}");
        }
    }
}
