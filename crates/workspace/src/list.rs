//! Listing a directory, honouring `.gitignore`.

use action::{FileList, printable};
use gate::{Authorized, Report};
use ignore::WalkBuilder;
use ledger::{Outcome, Status};

use crate::FileError;

/// Most entries in one listing.
const MAX_ENTRIES: usize = 1000;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the workspace; directories end with `/`.
    pub path: String,
    /// Size in bytes; `None` for what is not a regular file.
    pub size: Option<u64>,
}

/// A directory's content, sorted.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// At most 1000 entries.
    pub entries: Vec<Entry>,
    /// Whether there were more.
    pub truncated: bool,
}

impl Report for Listing {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Done).with("entries", self.entries.len())
    }
}

/// Lists a directory down to `depth` levels (1: the directory itself). Ignored and hidden version-control
/// directories are left out.
///
/// # Errors
/// If it is not a directory.
pub fn list(authorized: Authorized<FileList>, depth: usize) -> Result<Listing, FileError> {
    let target = authorized.into_action().path;
    if target.kind() != Some(action::FileKind::Directory) {
        return Err(FileError::NotADirectory { path: target.display() });
    }
    let start = target.absolute();
    let mut listing = Listing::default();
    for entry in walk(&start).max_depth(Some(depth)).build().flatten().skip(1) {
        if listing.entries.len() == MAX_ENTRIES {
            listing.truncated = true;
            break;
        }
        let relative = entry.path().strip_prefix(target.root().path()).unwrap_or(entry.path());
        let mut path = printable(relative);
        let kind = entry.file_type();
        if kind.is_some_and(|kind| kind.is_dir()) {
            path.push('/');
        }
        let size = kind
            .is_some_and(|kind| kind.is_file())
            .then(|| entry.metadata().map(|metadata| metadata.len()).unwrap_or(0));
        listing.entries.push(Entry { path, size });
    }
    listing.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// A walk as a developer would expect it: `.gitignore` honoured with or without a repository, links not followed,
/// hidden files shown, version control left out.
pub(crate) fn walk(start: &std::path::Path) -> WalkBuilder {
    let mut walk = WalkBuilder::new(start);
    walk.hidden(false)
        .require_git(false)
        .git_global(false)
        .follow_links(false)
        .filter_entry(|entry| !matches!(entry.file_name().to_str(), Some(".git" | ".hg" | ".svn" | ".jj")));
    walk
}

/// Every regular file beneath the workspace that is not ignored, with its size in bytes, sorted. Names only: reading
/// one is an action of its own.
#[must_use]
pub fn paths(root: &action::Root) -> Vec<(std::path::PathBuf, u64)> {
    let mut found: Vec<_> = walk(root.path())
        .build()
        .flatten()
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            Some((entry.path().strip_prefix(root.path()).ok()?.to_owned(), size))
        })
        .collect();
    found.sort();
    found
}
