//! Which changes are refused: names that the host later runs or trusts, and the ways to bring them about without
//! writing them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::place::{Brokered, Place, kind_at};
use crate::plan::{Plan, RawPath};

/// What the broker knows beside the names.
#[derive(Debug)]
pub(super) struct Rules {
    workspace: PathBuf,
    /// Whether a new repository may be made.
    pub(super) repositories: bool,
    /// Directories with a repository that this command has made.
    own: Vec<PathBuf>,
    /// Covered paths, relative to the workspace: what holds one stays where it is, or the next command would not find
    /// it there to cover it again.
    hidden: Vec<PathBuf>,
    /// What links with trusted names lead to, and where the hooks are kept.
    trusted: Vec<PathBuf>,
}

/// Why something is refused.
pub(super) enum Refusal {
    /// The host trusts this name.
    Trusted(PathBuf),
    /// It has to stay where it is.
    Fixed,
}

impl Rules {
    pub(super) fn new(workspace: PathBuf, plan: &Plan) -> Self {
        Self {
            workspace,
            repositories: plan.repositories,
            own: Vec::new(),
            hidden: plan.hidden(),
            trusted: plan.trusted.iter().map(RawPath::get).collect(),
        }
    }

    /// The path, when its name is one that the host later runs or trusts, or becomes one by being in `directory`.
    pub(super) fn name(&self, place: &Place) -> Option<PathBuf> {
        let Some(Brokered::Workspace(path)) = &place.path else { return None };
        self.path(path).or_else(|| {
            let elsewhere = !in_git(path) && !self.is_own(path) && !self.repositories;
            (elsewhere && !crate::cut::is("protect") && in_bare_repository(place)).then(|| path.clone())
        })
    }

    /// The same for something that is there, by its path alone.
    pub(super) fn path(&self, path: &Path) -> Option<PathBuf> {
        let leads = || self.trusted.iter().any(|trusted| path.starts_with(trusted));
        let guarded = (policy::guarded(path) || leads()) && !self.is_own(path);
        (guarded && !crate::cut::is("protect")).then(|| path.to_owned())
    }

    /// A symbolic link with this text: a way to give what is somewhere else a name that is trusted.
    pub(super) fn symlink(&self, place: &Place, target: &Path) -> Option<PathBuf> {
        let Some(Brokered::Workspace(path)) = &place.path else { return None };
        let from_repository = in_git(target) && !in_git(path);
        let from_packages = policy::packaged(target) && !policy::packaged(path);
        let leads = policy::leads_to_guarded(path) || from_repository || from_packages;
        let refused = leads && !self.is_own(path) && !crate::cut::is("protect");
        self.name(place).or_else(|| refused.then(|| path.clone()))
    }

    /// Something that leaves `from` and arrives at `to`. For an exchange it is asked both ways.
    pub(super) fn moved(&self, from: &Place, to: &Place) -> Option<Refusal> {
        for place in [from, to] {
            if let Some(path) = self.name(place) {
                return Some(Refusal::Trusted(path));
            }
        }
        match from.kind() {
            None | Some(FileType::RegularFile) => None,
            Some(_) => self.brings(from, to),
        }
    }

    /// The same for what is no regular file, by the paths alone.
    fn brings(&self, from: &Place, to: &Place) -> Option<Refusal> {
        if let Some(Brokered::Private(path)) = &from.path {
            // Or the paths of the workspace would mean something else.
            return self.workspace.starts_with(path).then_some(Refusal::Fixed);
        }
        let (Some(Brokered::Workspace(source)), Some(Brokered::Workspace(target))) = (&from.path, &to.path)
        else {
            return None;
        };
        let holds = |path: &PathBuf| path.starts_with(source);
        // What is free within a new repository stays within it, and it stays where it is.
        let crosses = |own: &PathBuf| {
            source.starts_with(own) != target.starts_with(own)
                || own.starts_with(source)
                || own.starts_with(target)
        };
        if self.hidden.iter().chain(&self.trusted).any(holds) || self.own.iter().any(crosses) {
            return Some(Refusal::Fixed);
        }
        if self.is_own(target) || crate::cut::is("protect") {
            return None;
        }
        // A directory brings its content to the beginning of a guarded path, or takes it away from there to where it is
        // not guarded. Out of a repository, and out of and into where packages are unpacked, the same.
        let unseen = in_git(source) && !(git_names(source) && git_names(target));
        let packages = policy::packaged(source) != policy::packaged(target);
        let leads = policy::leads_to_guarded(source) || policy::leads_to_guarded(target);
        let harmless = git_names(source) && git_names(target);
        ((unseen || packages || leads) && !harmless).then(|| Refusal::Trusted(target.clone()))
    }

    /// Whether a new repository may begin here: a `.git` where there is none, not within another's.
    pub(super) fn may_found(&self, place: &Place) -> Option<PathBuf> {
        let Some(Brokered::Workspace(path)) = &place.path else { return None };
        let parent = path.parent().unwrap_or(Path::new(""));
        let new = place.name == b".git" && place.kind().is_none() && !policy::guarded(parent);
        (self.repositories && new).then(|| path.clone())
    }

    /// Remembers a repository that the command has made.
    pub(super) fn founded(&mut self, path: &Path) {
        // Beneath the workspace's own root the rest stays guarded.
        let root = path.parent().filter(|parent| *parent != Path::new(""));
        self.own.push(root.unwrap_or(path).to_owned());
    }

    fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|own| path.starts_with(own))
    }
}

fn in_git(path: &Path) -> bool {
    path.iter().any(|part| part.eq_ignore_ascii_case(".git"))
}

/// Whether a path in a `.git` is one where any name is harmless.
fn git_names(path: &Path) -> bool {
    in_git(path) && !policy::leads_to_guarded(path)
}

/// Whether a name makes a directory a repository without a `.git`, or sets up one that is there: git treats every
/// directory with HEAD, objects and refs as one, and does what its settings say.
fn in_bare_repository(place: &Place) -> bool {
    let there = |name: &[u8]| kind_at(&place.directory, name).is_some();
    let name = place.name.to_ascii_lowercase();
    let whole = |own: &[u8]| {
        let has = |name: &[u8]| name == own || there(name);
        has(b"HEAD") && ((has(b"objects") && has(b"refs")) || has(b"commondir"))
    };
    match name.as_slice() {
        b"head" => whole(b"HEAD"),
        b"objects" | b"refs" | b"commondir" => whole(&name),
        b"config" | b"config.worktree" | b"config.lock" | b"hooks" => whole(b""),
        _ => hooks_of_bare_repository(&place.directory),
    }
}

/// Whether a directory is the `hooks` of a repository without a `.git`.
fn hooks_of_bare_repository(directory: &OwnedFd) -> bool {
    let named = super::caller::where_is(directory)
        .is_ok_and(|path| path.file_name().is_some_and(|name| name == "hooks"));
    named
        && [&b"../HEAD"[..], b"../objects", b"../refs"]
            .iter()
            .all(|name| kind_at(directory.as_fd(), name).is_some())
}
