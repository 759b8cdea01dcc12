//! The plan: everything the launcher needs, worked out beforehand, passed as JSON through a pipe.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use action::Root;
use serde::{Deserialize, Serialize};

use crate::SandboxError;
use crate::profile::{Profile, WorkspaceAccess};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountKind {
    /// The same file or directory, read-only.
    ReadOnly,
    /// The workspace, from the descriptor that was decided on.
    Workspace { writable: bool },
    /// An empty private directory.
    Scratch,
    /// Inside the workspace: the same, but it cannot be moved away and put up anew.
    Pinned,
    /// Inside the workspace: the same, but read-only.
    Protected,
    /// Inside the workspace: hidden, unreadable.
    Hidden,
}

/// What the launcher is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: RawPath,
    pub(crate) argv: Vec<String>,
    pub(crate) user: String,
    pub(crate) home: RawPath,
    /// A session of its own, without the terminal.
    pub(crate) detach: bool,
    pub(crate) unix_sockets: bool,
    /// Shares the machine's network.
    pub(crate) network: bool,
    pub(crate) memory_mb: u64,
    pub(crate) processes: u64,
    pub(crate) open_files: u64,
    pub(crate) file_mb: u64,
    pub(crate) scratch_mb: u64,
}

/// Largest plan that the launcher accepts, in bytes.
pub(crate) const MAX_PLAN: u64 = 4 * 1024 * 1024;

impl Plan {
    /// The plan for `argv` under `profile`.
    ///
    /// `read_only` are further paths for a helper process; `hidden` are paths in the workspace, relative to it.
    pub(crate) fn new(
        profile: &Profile,
        workspace: Option<&Root>,
        argv: Vec<String>,
        directory: &Path,
        read_only: &[PathBuf],
        hidden: &[PathBuf],
    ) -> Result<Self, SandboxError> {
        let home = home();
        let mut mounts = Vec::new();
        let mut add = |path: &Path, kind| mounts.push(Mount { path: path.into(), kind });
        for path in &profile.system {
            add(Path::new(path), MountKind::ReadOnly);
        }
        for path in read_only {
            add(path, MountKind::ReadOnly);
        }
        for path in ["/tmp", "/dev/shm"] {
            add(Path::new(path), MountKind::Scratch);
        }
        if profile.workspace != WorkspaceAccess::None {
            add(&home, MountKind::Scratch);
        }
        for path in &profile.home {
            add(&home.join(path), MountKind::ReadOnly);
        }
        if let Some(root) = workspace.filter(|_| profile.workspace != WorkspaceAccess::None) {
            suitable(root.path(), &home)?;
            let writable = profile.workspace == WorkspaceAccess::ReadWrite;
            add(root.path(), MountKind::Workspace { writable });
            for path in &profile.protect {
                for parent in Path::new(path).ancestors().skip(1).filter(|parent| *parent != Path::new("")) {
                    add(&root.path().join(parent), MountKind::Pinned);
                }
                add(&root.path().join(path), MountKind::Protected);
            }
            for path in hidden {
                add(&root.path().join(path), MountKind::Hidden);
            }
        }
        // Parents before children, so that nothing is covered by what contains it. The sort is stable.
        mounts.sort_by_key(|mount| mount.path.get().components().count());
        let mut pinned = HashSet::new();
        mounts.retain(|mount| mount.kind != MountKind::Pinned || pinned.insert(mount.path.clone()));
        let limits = profile.limits;
        Ok(Self {
            mounts,
            environment: environment(profile, &home),
            directory: directory.into(),
            argv,
            user: std::env::var("USER").ok().filter(|name| plain(name)).unwrap_or_else(|| "agent".into()),
            home: home.as_path().into(),
            detach: true,
            unix_sockets: profile.unix_sockets,
            network: profile.network,
            memory_mb: limits.memory_mb,
            processes: limits.processes,
            open_files: limits.open_files,
            file_mb: limits.file_mb,
            scratch_mb: limits.scratch_mb,
        })
    }
}

fn home() -> PathBuf {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .and_then(|home| home.canonicalize().ok())
        .filter(|home| home.components().count() > 1)
        .unwrap_or_else(|| PathBuf::from("/home/agent"))
}

fn environment(profile: &Profile, home: &Path) -> Vec<(String, String)> {
    if profile.environment.is_empty() {
        return Vec::new();
    }
    let passed =
        profile.environment.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
    let mut all: Vec<_> = passed.collect();
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
