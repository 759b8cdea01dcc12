//! What must not come into a workspace.

use std::path::{Component, Path};

use rustix::fs::FileType;

/// What something is that is neither file, directory nor link.
pub(super) fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

/// Why a link at `path` with this target could lead out of the workspace; `None` if it cannot.
///
/// The directory of a link is a real one, so `..` at the beginning of the target is exact. After a name it is not: the
/// name may itself be a link.
pub(super) fn leads_out(path: &Path, target: &Path) -> Option<&'static str> {
    let mut above = path.components().count().saturating_sub(1);
    let mut named = false;
    for component in target.components() {
        match component {
            Component::RootDir | Component::Prefix(_) => return Some("an absolute path"),
            Component::CurDir => {}
            Component::Normal(_) => named = true,
            Component::ParentDir if named => return Some("which goes up again after a name"),
            Component::ParentDir => match above.checked_sub(1) {
                Some(rest) => above = rest,
                None => return Some("outside the workspace"),
            },
        }
    }
    None
}
