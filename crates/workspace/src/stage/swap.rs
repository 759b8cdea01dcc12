//! The steps of a commit, each one call of the kernel, and taking them back.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use action::printable;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::StageError;
use super::journal::Op;
use super::place::{self, Moment, Seen};

/// Directories that are kept open, so that a step can be taken back even if their name leads elsewhere by then.
const HELD: usize = 256;

/// The workspace, and the directory in it where objects are prepared and kept aside.
pub(super) struct Ground {
    pub(super) root: OwnedFd,
    pub(super) aside: OwnedFd,
    held: HashMap<PathBuf, Rc<OwnedFd>>,
    known: HashMap<PathBuf, Seen>,
}

/// What taking back a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// It had not been done.
    Nothing,
    /// It is taken back.
    Back,
    /// Somebody else has changed what it would have to be put back over.
    Blocked,
}

impl Ground {
    pub(super) fn new(root: OwnedFd, aside: OwnedFd) -> Self {
        Self { root, aside, held: HashMap::new(), known: HashMap::new() }
    }

    fn parent(&mut self, path: &Path) -> place::Io<Rc<OwnedFd>> {
        if let Some(held) = self.held.get(path) {
            return Ok(Rc::clone(held));
        }
        let directory = Rc::new(place::directory(&self.root, path)?);
        let seen = Seen::of(&rustix::fs::fstat(&*directory)?);
        if let Some(known) = self.known.get(path)
            && !known.same_object(&seen)
        {
            return Err(Errno::LOOP);
        }
        self.known.insert(path.to_owned(), seen);
        if self.held.len() < HELD {
            self.held.insert(path.to_owned(), Rc::clone(&directory));
        }
        Ok(directory)
    }

    /// The directories that something was done in.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.known.keys().map(PathBuf::as_path)
    }

    /// Directories that are no longer where they were when something was done in them.
    pub(super) fn moved(&self) -> Vec<String> {
        let there = |path: &Path, known: &Seen| {
            let directory = place::directory(&self.root, path).ok()?;
            rustix::fs::fstat(directory).ok().map(|stat| Seen::of(&stat).same_object(known))
        };
        let moved = self.known.iter().filter(|(path, known)| there(path, known) != Some(true));
        moved.map(|(path, _)| printable(path)).collect()
    }

    /// Takes a step. If it fails, it is not taken.
    pub(super) fn perform(&mut self, op: &Op) -> Result<(), StageError> {
        let conflict = || StageError::Conflict { paths: vec![printable(op.path())] };
        let failed = |errno: Errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::EXIST => conflict(),
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => {
                StageError::NoExchange { path: printable(op.path()), source: errno.into() }
            }
            errno => StageError::io("change", printable(op.path()))(errno),
        };
        let Some((parent, name)) = place::split(op.path()) else { return Err(conflict()) };
        let directory = self.parent(parent).map_err(failed)?;
        let directory = &*directory;
        let aside = &self.aside;
        match op {
            Op::Create { slot, .. } => rename(aside, slot.as_ref(), directory, name).map_err(failed),
            Op::Replace { slot, old, .. } => {
                exchange(aside, slot.as_ref(), directory, name).map_err(failed)?;
                self.is_old(slot, old).then_some(()).ok_or_else(|| {
                    // Not what was looked at: everything goes back where it was.
                    let _ = exchange(aside, slot.as_ref(), directory, name);
                    conflict()
                })
            }
            Op::Remove { slot, old, .. } => {
                rename(directory, name, aside, slot.as_ref()).map_err(failed)?;
                self.is_old(slot, old).then_some(()).ok_or_else(|| {
                    let _ = rename(aside, slot.as_ref(), directory, name);
                    conflict()
                })
            }
            Op::Mode { object, from, to, .. } => {
                let handle = place::directory(directory, Path::new(name)).map_err(failed)?;
                let seen = Seen::of(&rustix::fs::fstat(&handle).map_err(failed)?);
                if !seen.same_object(object) || seen.permissions() != *from {
                    return Err(conflict());
                }
                place::set_mode(handle, *to).map_err(failed)
            }
        }
    }

    /// Whether what was put aside is what was looked at before.
    fn is_old(&self, slot: &str, old: &Seen) -> bool {
        place::look(&self.aside, slot.as_ref())
            .is_ok_and(|seen| seen.is_some_and(|seen| seen.same_content(old)))
    }

    /// Takes back a step, if it was taken.
    pub(super) fn undo(&mut self, op: &Op) -> place::Io<Undone> {
        let Some((parent, name)) = place::split(op.path()) else { return Ok(Undone::Blocked) };
        let directory = match self.parent(parent) {
            Ok(directory) => directory,
            // A directory that came with an earlier step, or never did.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return self.without_directory(op),
            Err(errno) => return Err(errno),
        };
        let directory = &*directory;
        let aside = &self.aside;
        let here = place::look(directory, name)?;
        let is = |seen: &Option<Seen>, object: &Seen| seen.is_some_and(|seen| seen.same_object(object));
        match op {
            Op::Create { slot, new, .. } => {
                if place::look(aside, slot.as_ref())?.is_some() {
                    return Ok(Undone::Nothing);
                }
                if !is_prepared(here.as_ref(), new) {
                    // Somebody has removed or replaced it: theirs stays.
                    return Ok(Undone::Nothing);
                }
                rename(directory, name, aside, slot.as_ref())?;
                Ok(Undone::Back)
            }
            Op::Replace { slot, new, old, .. } => {
                let kept = place::look(aside, slot.as_ref())?;
                if is(&kept, new) || is(&here, old) {
                    return Ok(Undone::Nothing);
                }
                if !is(&kept, old) || !is_prepared(here.as_ref(), new) {
                    return Ok(Undone::Blocked);
                }
                exchange(aside, slot.as_ref(), directory, name)?;
                if !is(&place::look(aside, slot.as_ref())?, new) {
                    exchange(aside, slot.as_ref(), directory, name)?;
                    return Ok(Undone::Blocked);
                }
                Ok(Undone::Back)
            }
            Op::Remove { slot, old, .. } => {
                if !is(&place::look(aside, slot.as_ref())?, old) {
                    return Ok(Undone::Nothing);
                }
                match rename(aside, slot.as_ref(), directory, name) {
                    Ok(()) => Ok(Undone::Back),
                    Err(Errno::EXIST) => Ok(Undone::Blocked),
                    Err(errno) => Err(errno),
                }
            }
            Op::Mode { object, from, to, .. } => match here {
                Some(seen) if seen.same_object(object) && seen.permissions() == *to && from != to => {
                    place::set_mode(place::directory(directory, Path::new(name))?, *from)?;
                    Ok(Undone::Back)
                }
                _ => Ok(Undone::Nothing),
            },
        }
    }

    /// Numbers of the steps that are taken. They are taken in order, so that all before a swap that is taken are.
    pub(super) fn done(&mut self, ops: &[Op]) -> BTreeSet<usize> {
        let done = |(number, op)| self.is_done(op).unwrap_or(false).then_some(number);
        let seen: BTreeSet<usize> = ops.iter().enumerate().filter_map(done).collect();
        let is_swap = |number: &&usize| !matches!(ops.get(**number), Some(Op::Mode { .. }));
        let swapped = seen.iter().rev().find(is_swap).map_or(0, |last| last + 1);
        (0..swapped).chain(seen).collect()
    }

    fn is_done(&mut self, op: &Op) -> place::Io<bool> {
        let Some((parent, name)) = place::split(op.path()) else { return Ok(false) };
        let here = place::look(&*self.parent(parent)?, name)?;
        let kept = |slot: &String| place::look(&self.aside, slot.as_ref());
        let is = |seen: Option<Seen>, object: &Seen| seen.is_some_and(|seen| seen.same_object(object));
        Ok(match op {
            Op::Create { slot, new, .. } => kept(slot)?.is_none() && is(here, new),
            Op::Replace { slot, old, .. } | Op::Remove { slot, old, .. } => is(kept(slot)?, old),
            Op::Mode { object, to, .. } => {
                is(here, object) && here.is_some_and(|here| here.permissions() == *to)
            }
        })
    }

    /// What is at the path of a step that was taken back, if it is what was there before.
    pub(super) fn settled(&mut self, op: &Op) -> Option<Seen> {
        let (parent, name) = place::split(op.path())?;
        let seen = place::look(&*self.parent(parent).ok()?, name).ok()??;
        let (before, same) = match op {
            Op::Create { .. } => return None,
            Op::Replace { old, .. } | Op::Remove { old, .. } => (old, seen.same_content(old)),
            // Names came and went in it.
            Op::Mode { object, .. } => (object, seen.same_object(object)),
        };
        (same && seen.permissions() == before.permissions()).then_some(seen)
    }

    /// What can be said of a step whose directory is not there.
    fn without_directory(&self, op: &Op) -> place::Io<Undone> {
        let kept = match op {
            Op::Create { .. } | Op::Mode { .. } => None,
            Op::Replace { slot, old, .. } | Op::Remove { slot, old, .. } => {
                place::look(&self.aside, slot.as_ref())?.filter(|seen| seen.same_object(old))
            }
        };
        Ok(if kept.is_some() { Undone::Blocked } else { Undone::Nothing })
    }
}

/// Whether this is the object that was prepared. An inode alone does not say: it may have been freed and used again.
fn is_prepared(seen: Option<&Seen>, new: &Seen) -> bool {
    seen.is_some_and(|seen| if seen.is_dir() { seen.same_object(new) } else { seen.same_content(new) })
}

/// Whether a prepared object, or anything below it, was changed by somebody else once it was in the workspace. Nothing
/// below it had changed after `since` when it came there.
pub(super) fn changed_since(aside: &OwnedFd, slot: &str, prepared: &Seen, since: Moment) -> place::Io<bool> {
    let name = OsStr::new(slot);
    // Renaming stamps the change time of what is renamed, and of nothing below it.
    match place::look(aside, name)? {
        Some(seen) if !seen.same_content(prepared) => Ok(true),
        Some(seen) if seen.is_dir() => any_since(&place::directory(aside, Path::new(name))?, since),
        _ => Ok(false),
    }
}

fn any_since(directory: &OwnedFd, since: Moment) -> place::Io<bool> {
    for name in place::names(directory, usize::MAX)? {
        let Some(seen) = place::look(directory, &name)? else { continue };
        if seen.changed >= since {
            return Ok(true);
        }
        if seen.is_dir() {
            let inside = place::directory(directory, Path::new(&name))?;
            if seen.mode & 0o500 != 0o500 {
                // It is going to be removed.
                place::set_mode(&inside, seen.permissions() | 0o700)?;
            }
            if any_since(&inside, since)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn rename(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> place::Io<()> {
    rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE)
}

fn exchange(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> place::Io<()> {
    rustix::fs::renameat_with(from, name, to, new, RenameFlags::EXCHANGE)
}
