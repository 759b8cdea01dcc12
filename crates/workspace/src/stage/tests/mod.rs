//! Stages: upper layers built by hand, by a model of the overlay file system, and by the kernel's own.

mod crash;
mod layer;
mod model;
mod overlay_tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use action::Root;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::commit::{Fault, Point, run};
use super::*;

/// A workspace, and a place for Varvel's own files.
struct Place {
    _dir: tempfile::TempDir,
    work: PathBuf,
    home: PathBuf,
    root: Root,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (work, home) = (dir.path().join("work"), dir.path().join("home"));
        std::fs::create_dir(&work).unwrap();
        std::fs::create_dir(&home).unwrap();
        let root = Root::open(&work).unwrap();
        Self { _dir: dir, work, home, root }
    }

    /// One with these files.
    fn with(files: &[(&str, &str)]) -> Self {
        let place = Self::new();
        for (path, content) in files {
            put(&place.work, path, content);
        }
        place
    }

    fn stage(&self) -> Stage {
        Stage::create(&self.home, &self.root).unwrap()
    }

    fn tree(&self) -> Tree {
        tree(&self.work)
    }
}

/// Commits whatever is staged.
fn commit(stage: &Stage) -> Result<Committed, StageError> {
    commit_or(stage, &mut |_| None)
}

fn commit_or(stage: &Stage, faults: &mut dyn FnMut(Point) -> Option<Fault>) -> Result<Committed, StageError> {
    let digest = stage.changes()?.digest;
    run(stage, digest, faults)
}

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree for comparing: mode, and content or target, of each path.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn tree(root: &Path) -> Tree {
    fn walk(root: &Path, at: &Path, found: &mut Tree) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let content = if about.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if about.is_file() {
                std::fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (about.mode(), content));
            if about.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = Tree::new();
    walk(root, root, &mut found);
    found
}

/// A whiteout as a device where that is allowed and wanted, else as a marked file.
fn whiteout(path: &Path, device: bool) {
    if device && rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).is_ok() {
        return;
    }
    std::fs::write(path, "").unwrap();
    mark(path, "whiteout", b"");
    mark(path.parent().unwrap(), "opaque", b"x");
}

fn mark(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, format!("user.overlay.{name}"), value, XattrFlags::empty()).unwrap();
}

fn kinds(changes: &Changes) -> Vec<String> {
    use action::StagedKind::{Changed, Created, Deleted};
    let sign = |change: &Change| match change.kind {
        Created => '+',
        Changed => '~',
        Deleted => '-',
    };
    changes.list.iter().map(|change| format!("{}{}", sign(change), change.path.display())).collect()
}
