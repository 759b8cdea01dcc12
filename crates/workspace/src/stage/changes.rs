//! What a staged command changed, for people and for the gate.

use std::path::PathBuf;

use action::{Commit, Digest, Digester, StagedChange, StagedKind, Target, printable};
use rustix::fs::FileType;
use std::os::unix::ffi::OsStrExt;

use super::place::Seen;
use super::scan::Scan;
use super::{Stage, diff};

/// What is, or would be, at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it points to.
        target: PathBuf,
    },
    /// A socket, pipe or device.
    Special,
}

impl Object {
    pub(super) fn seen(seen: &Seen, target: Option<PathBuf>) -> Self {
        match seen.kind() {
            FileType::RegularFile => Self::File { mode: seen.permissions(), size: seen.size },
            FileType::Directory => Self::Directory { mode: seen.permissions() },
            FileType::Symlink => Self::Link { target: target.unwrap_or_default() },
            _ => Self::Special,
        }
    }
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: StagedKind,
    /// Whether the host runs or trusts it later.
    pub host_trusted: bool,
    /// What is there now.
    pub before: Option<Object>,
    /// What would be there.
    pub after: Option<Object>,
    /// Lines added and removed, where the diff shows it.
    pub lines: Option<(usize, usize)>,
    pub(super) below: Option<Seen>,
    /// Of a staged file's content.
    pub(super) digest: Option<Digest>,
}

/// Something that must not come into the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

/// Everything that a staged command changed.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The paths, sorted.
    pub list: Vec<Change>,
    /// What must not come into the workspace. While there is anything, nothing can be committed; see
    /// [`Stage::leave_out_refused`].
    pub refused: Vec<Refusal>,
    /// Files whose set-user-id or set-group-id bit is left out.
    pub stripped: Vec<PathBuf>,
    /// Paths that the workspace changed since the stage began. While there is any, nothing can be committed.
    pub conflicts: Vec<PathBuf>,
    /// Bytes of content that would come in.
    pub bytes: u64,
    /// Digest over names, kinds, modes and contents.
    pub digest: Digest,
    /// The changes as a unified diff, at most about 400 kB.
    pub diff: String,
    stage: String,
}

impl Changes {
    pub(super) fn new(stage: &Stage, scan: Scan) -> Self {
        let digest = digest(&scan.changes);
        let Scan { changes: mut list, refused, stripped, conflicts, bytes, lent: _lent, .. } = scan;
        let diff = diff::diff(stage, &mut list);
        let stage = stage.id().to_owned();
        Self { list, refused, stripped, conflicts, bytes, digest, diff, stage }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.refused.is_empty()
    }

    /// How many paths were created, changed and deleted.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        counts(&self.list)
    }

    /// The action that brings them into `workspace`.
    #[must_use]
    pub fn to_action(&self, workspace: &Target) -> Commit {
        Commit {
            workspace: workspace.clone(),
            stage: self.stage.clone(),
            changes: self.list.iter().map(StagedChange::from).collect(),
            digest: self.digest,
            diff: self.diff.clone(),
        }
    }
}

impl From<&Change> for StagedChange {
    fn from(change: &Change) -> Self {
        Self { path: printable(&change.path), kind: change.kind, host_trusted: change.host_trusted }
    }
}

pub(super) fn counts(list: &[Change]) -> (usize, usize, usize) {
    let count = |kind| list.iter().filter(|change| change.kind == kind).count();
    (count(StagedKind::Created), count(StagedKind::Changed), count(StagedKind::Deleted))
}

/// Digest over sorted changes. Every part has its length before it, so no two lists have the same.
pub(super) fn digest(list: &[Change]) -> Digest {
    let mut digester = Digester::default();
    let mut part = |bytes: &[u8]| {
        digester.update(&(bytes.len() as u64).to_le_bytes());
        digester.update(bytes);
    };
    for change in list {
        part(change.path.as_os_str().as_bytes());
        part(match change.kind {
            StagedKind::Created => b"created",
            StagedKind::Changed => b"changed",
            StagedKind::Deleted => b"deleted",
        });
        match &change.after {
            None | Some(Object::Special) => {}
            Some(Object::File { mode, .. }) => {
                part(b"file");
                part(&mode.to_le_bytes());
                part(change.digest.as_ref().map_or(&[], |digest| digest.as_bytes()));
            }
            Some(Object::Directory { mode }) => {
                part(b"directory");
                part(&mode.to_le_bytes());
            }
            Some(Object::Link { target }) => {
                part(b"link");
                part(target.as_os_str().as_bytes());
            }
        }
    }
    digester.finish()
}
