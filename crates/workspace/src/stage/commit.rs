//! Bringing staged changes into the workspace. Read [`run`] first.
//!
//! Everything is prepared in one directory of ours in the workspace. Then each path is swapped by one rename; what was
//! there is kept aside until the end. The plan is on disk before the first swap, so that whatever stops this half-way
//! can be taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use action::{Digest, printable};
use gate::Report;
use ledger::{Outcome, Status};
use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;

use super::changes::{counts, digest};
use super::journal::{self, Journal, Op};
use super::place::{self, Seen};
use super::prepare::{Copier, SYNCED_SINGLY};
use super::scan::{Scan, Step, scan};
use super::swap::{Ground, Undone, changed_since};
use super::{Stage, StageError, StageState, begin, random};

/// How often steps are tried again, in all, that cannot be taken back at once.
const ATTEMPTS: usize = 500;

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Identifier of the stage, which is gone.
    pub stage: String,
    /// Paths that are new.
    pub created: usize,
    /// Paths that changed.
    pub changed: usize,
    /// Paths that are gone.
    pub deleted: usize,
    /// Bytes of content that came in.
    pub bytes: u64,
    /// Digest over the changes.
    pub digest: Digest,
}

impl Report for Committed {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Done)
            .with("created", self.created)
            .with("changed", self.changed)
            .with("deleted", self.deleted)
            .with("bytes", self.bytes)
            .with_digest("digest", self.digest)
    }
}

/// What became of a commit that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// None was.
    Nothing,
    /// So many steps were taken back; the workspace is as it was before, and the stage is pending.
    TakenBack(usize),
    /// All of it was in the workspace already; the stage is gone.
    Completed,
}

/// A place in a commit, for tests that let it fail there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Begun,
    Prepared,
    Step(usize),
    Swapped,
    Complete,
}

/// How it fails there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "nothing fails on purpose outside tests"))]
pub(super) enum Fault {
    /// By an error.
    Fail,
    /// As if the process were killed.
    Die,
}

/// Decides about each point; only tests say anything but `None`.
pub(super) type Faults<'a> = &'a mut dyn FnMut(Point) -> Option<Fault>;

enum Stop {
    Failed(StageError),
    Dead,
}

impl From<StageError> for Stop {
    fn from(error: StageError) -> Self {
        Self::Failed(error)
    }
}

/// Commits what has the digest `decided`.
pub(super) fn run(stage: &Stage, decided: Digest, faults: Faults<'_>) -> Result<Committed, StageError> {
    stage.check_workspace()?;
    if stage.is_interrupted() {
        return Err(StageError::Interrupted { id: stage.info.id.clone() });
    }
    let lock = locked(stage)?;
    let root = &lock.0;

    // What is staged must be what was decided on, and the workspace what it was when the command began.
    let scan = scan(stage)?;
    if !scan.refused.is_empty() {
        let paths = scan.refused.iter().map(|refusal| printable(&refusal.path)).collect();
        return Err(StageError::Refused { paths });
    }
    if digest(&scan.changes) != decided {
        return Err(StageError::NotDecided { id: stage.info.id.clone() });
    }
    if !scan.conflicts.is_empty() {
        return Err(StageError::Conflict {
            paths: scan.conflicts.iter().map(|path| printable(path)).collect(),
        });
    }

    if !scan.steps.is_empty() {
        stage.set_state(StageState::Committing)?;
        let mut journal = Journal::new(journal::aside(random()?));
        let mut ground = None;
        match carry_out(stage, root, &scan, &mut journal, &mut ground, faults) {
            Ok(()) => {}
            Err(Stop::Dead) => return Err(StageError::Interrupted { id: stage.info.id.clone() }),
            Err(Stop::Failed(error)) => {
                take_back(stage, root, journal, ground, &error.to_string())?;
                return Err(error);
            }
        }
        // It is done, whether or not what was kept aside can be removed now; `Stage::recover` does it then.
        let _ = place::remove_tree(root, journal.aside.as_ref());
    }
    let (created, changed, deleted) = counts(&scan.changes);
    let committed = Committed {
        stage: stage.info.id.clone(),
        created,
        changed,
        deleted,
        bytes: scan.bytes,
        digest: decided,
    };
    drop(scan);
    let _ = stage.retire();
    Ok(committed)
}

/// Finishes or takes back a commit that was cut short.
pub(super) fn recover(stage: &Stage) -> Result<Recovered, StageError> {
    let lock = locked(stage)?;
    let root = &lock.0;
    let Some(journal) = journal::read(&stage.directory)? else { return Ok(Recovered::Nothing) };
    if journal::is_complete(&stage.directory)? {
        let failed = StageError::io("remove", journal.aside.clone());
        place::remove_tree(root, journal.aside.as_ref()).map_err(failed)?;
        stage.retire()?;
        return Ok(Recovered::Completed);
    }
    take_back(stage, root, journal, None, "it was cut short").map(Recovered::TakenBack)
}

/// A locked handle. It is unlocked and not only closed: a process that was just forked may still have a copy.
struct Locked(OwnedFd);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// A handle of the workspace, locked against another commit.
fn locked(stage: &Stage) -> Result<Locked, StageError> {
    let failed = || StageError::io("open", stage.info.workspace.clone());
    let root = place::readable(stage.root.handle()).map_err(failed())?;
    match rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Locked(root)),
        Err(Errno::WOULDBLOCK) => Err(StageError::Busy),
        Err(errno) => Err(failed()(errno)),
    }
}

/// Journal, preparation, swap, completion, in this order and each durable before the next.
fn carry_out(
    stage: &Stage,
    root: &OwnedFd,
    scan: &Scan,
    journal: &mut Journal,
    ground: &mut Option<Ground>,
    faults: Faults<'_>,
) -> Result<(), Stop> {
    let mut at = |point| match faults(point) {
        None => Ok(()),
        Some(Fault::Die) => Err(Stop::Dead),
        Some(Fault::Fail) => Err(Stop::Failed(StageError::Io {
            what: "go on with",
            path: format!("{point:?}"),
            source: Errno::IO.into(),
        })),
    };
    let failed = || StageError::io("prepare", journal.aside.clone());
    journal::write(&stage.directory, journal)?;
    at(Point::Begun)?;

    rustix::fs::mkdirat(root, &journal.aside, Mode::from_raw_mode(0o700)).map_err(failed())?;
    let aside = place::directory(root, Path::new(&journal.aside)).map_err(failed())?;
    let ops = prepare(stage, root, &aside, scan)?;
    let began = begin();
    journal.ops = ops;
    journal.began = began;
    journal::write(&stage.directory, journal)?;
    at(Point::Prepared)?;

    // Kept by the caller, for the directories that it holds open.
    let ground = ground.insert(Ground::new(again(root)?, aside));
    for (number, op) in journal.ops.iter().enumerate() {
        ground.perform(op)?;
        at(Point::Step(number))?;
    }
    let moved = ground.moved();
    if !moved.is_empty() {
        return Err(Stop::Failed(StageError::Conflict { paths: moved }));
    }
    check_kept(ground, &journal.ops, scan)?;
    sync(ground)?;
    at(Point::Swapped)?;

    journal::set_complete(&stage.directory)?;
    match at(Point::Complete) {
        Err(Stop::Dead) => Err(Stop::Dead),
        // From here on there is only forward.
        _ => Ok(()),
    }
}

/// Copies everything, and makes the list of steps.
fn prepare(stage: &Stage, root: &OwnedFd, aside: &OwnedFd, scan: &Scan) -> Result<Vec<Op>, StageError> {
    let upper = stage.upper_handle()?;
    let singly = scan.changes.len() <= SYNCED_SINGLY;
    let copier = Copier { upper: &upper, aside, changes: &scan.changes, sync: singly, stage: stage.id() };
    let mut modes = Modes::default();
    let mut swaps = Vec::new();
    for (number, step) in scan.steps.iter().enumerate() {
        let slot = number.to_string();
        if !matches!(step, Step::Mode { .. }) {
            modes.writable_parent(root, step.path())?;
        }
        match step {
            Step::Put { path, below } => {
                let (new, mode) = copier.prepare(path, &slot)?;
                if let Some(mode) = mode {
                    modes.after.insert(path.clone(), (new, new.permissions(), mode));
                }
                let path = path.clone();
                swaps.push(match *below {
                    None => Op::Create { path, slot, new },
                    Some(old) => {
                        modes.movable(&path, old);
                        Op::Replace { path, slot, new, old }
                    }
                });
            }
            Step::Remove { path, below } => {
                modes.movable(path, *below);
                swaps.push(Op::Remove { path: path.clone(), slot, old: *below });
            }
            Step::Mode { path, below, mode } => {
                // A directory that was made writable goes on from there.
                let from = modes.before.get(path).map_or(below.permissions(), |(_, _, to)| *to);
                modes.after.insert(path.clone(), (*below, from, *mode));
            }
        }
    }
    let failed = || StageError::io("sync", "the workspace");
    if singly {
        let aside = place::readable(aside).map_err(failed())?;
        rustix::fs::fsync(aside).map_err(failed())?;
    } else {
        rustix::fs::syncfs(root).map_err(failed())?;
    }
    Ok(modes.around(swaps))
}

/// Modes that change before and after the swaps: path, object, from, to.
#[derive(Default)]
struct Modes {
    before: BTreeMap<PathBuf, (Seen, u32, u32)>,
    after: BTreeMap<PathBuf, (Seen, u32, u32)>,
}

impl Modes {
    /// The directory of `path` has to be writable for the swap.
    fn writable_parent(&mut self, root: &OwnedFd, path: &Path) -> Result<(), StageError> {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            return Ok(());
        };
        if self.before.contains_key(parent) {
            return Ok(());
        }
        let failed = || StageError::io("look at", printable(parent));
        let seen = place::look_at(root, parent).map_err(failed())?;
        let seen = seen.ok_or_else(|| StageError::Conflict { paths: vec![printable(parent)] })?;
        if seen.mode & 0o300 != 0o300 {
            let (mode, open) = (seen.permissions(), seen.permissions() | 0o700);
            self.before.insert(parent.to_owned(), (seen, mode, open));
            let last = self.after.get(parent).map_or(mode, |(_, _, to)| *to);
            self.after.insert(parent.to_owned(), (seen, open, last));
        }
        Ok(())
    }

    /// A directory that is moved elsewhere has to be writable itself, for its `..` changes.
    fn movable(&mut self, path: &Path, old: Seen) {
        if old.is_dir() && old.mode & 0o300 != 0o300 {
            let mode = old.permissions();
            self.before.insert(path.to_owned(), (old, mode, mode | 0o700));
        }
    }

    /// All steps: directories are opened from the top and closed from the bottom.
    fn around(self, swaps: Vec<Op>) -> Vec<Op> {
        let op = |(path, (object, from, to))| Op::Mode { path, object, from, to };
        let before = self.before.into_iter().map(op);
        let after = self.after.into_iter().rev().map(op);
        before.chain(swaps).chain(after).collect()
    }
}

/// What was in a directory when it was put aside must be what was looked at before.
fn check_kept(ground: &Ground, ops: &[Op], scan: &Scan) -> Result<(), StageError> {
    let mut conflicts = Vec::new();
    for op in ops {
        let (Op::Remove { path, slot, old } | Op::Replace { path, slot, old, .. }) = op else { continue };
        if !old.is_dir() {
            continue;
        }
        let start = scan.changes.partition_point(|change| change.path.as_path() <= path.as_path());
        for change in scan.changes[start..].iter().take_while(|change| change.path.starts_with(path)) {
            // Nothing that is new is below a directory that goes.
            let (Some(below), Ok(rest)) = (&change.below, change.path.strip_prefix(path)) else { continue };
            let kept = place::look_at(&ground.aside, &Path::new(slot).join(rest))
                .map_err(StageError::io("look at", printable(&change.path)))?;
            if !kept.is_some_and(|kept| kept.same_content(below)) {
                conflicts.push(printable(&change.path));
            }
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(StageError::Conflict { paths: conflicts }) }
}

/// Makes the swaps survive a power cut.
fn sync(ground: &Ground) -> Result<(), StageError> {
    let failed = || StageError::io("sync", "the workspace");
    if ground.directories().count() > SYNCED_SINGLY {
        return rustix::fs::syncfs(&ground.root).map_err(failed());
    }
    for path in ground.directories() {
        let directory = place::directory(&ground.root, path).map_err(failed())?;
        match place::readable(&directory) {
            Ok(directory) => rustix::fs::fsync(directory).map_err(failed())?,
            // It may be written to and not read.
            Err(Errno::ACCESS) => rustix::fs::syncfs(&ground.root).map_err(failed())?,
            Err(errno) => return Err(failed()(errno)),
        }
    }
    Ok(())
}

/// Takes back whatever was done, in reverse. Returns how many steps there were.
fn take_back(
    stage: &Stage,
    root: &OwnedFd,
    mut journal: Journal,
    ground: Option<Ground>,
    why: &str,
) -> Result<usize, StageError> {
    let name = journal.aside.clone();
    let incomplete =
        |paths: Vec<String>| StageError::Incomplete { why: why.to_owned(), paths, kept: name.clone() };
    let mut count = 0;
    let mut blocked = Vec::new();
    let ground = match (ground, place::directory(root, Path::new(&journal.aside))) {
        (Some(ground), _) => Some(ground),
        (None, Ok(aside)) => Some(Ground::new(again(root)?, aside)),
        // Before it was made, or after it was removed.
        (None, Err(Errno::NOENT)) => None,
        (None, Err(errno)) => return Err(StageError::io("open", name.clone())(errno)),
    };
    match ground {
        None => {}
        Some(mut ground) => {
            journal.back.extend(ground.done(&journal.ops));
            if !journal.back.is_empty() {
                // On a full disk this must go on. Should it be cut short as well, there is a conflict later, no more.
                let _ = journal::write(&stage.directory, &journal);
            }
            let mut patience = ATTEMPTS;
            let mut failed = Vec::new();
            for op in journal.ops.iter().rev() {
                match undo(&mut ground, op, &mut patience) {
                    Ok(Undone::Nothing) => {}
                    Ok(Undone::Back) => count += 1,
                    Ok(Undone::Blocked) => blocked.push(printable(op.path())),
                    Err(_) => failed.push(printable(op.path())),
                }
            }
            if !failed.is_empty() {
                // The journal stays: it can be tried again.
                failed.extend(blocked);
                return Err(incomplete(failed));
            }
            // Only now: taking back one step stamps the directory of another.
            let settled = settled(&mut ground, &journal);
            blocked.extend(clear(&ground, &journal)?);
            journal::add_settled(&stage.directory, settled)?;
            if blocked.is_empty() {
                let failed = StageError::io("remove", name.clone());
                place::remove_tree(&ground.root, journal.aside.as_ref()).map_err(failed)?;
            }
        }
    }
    journal::remove(&stage.directory)?;
    stage.set_state(StageState::Pending)?;
    if blocked.is_empty() { Ok(count) } else { Err(incomplete(blocked)) }
}

/// What steps that were taken back have stamped, where it is otherwise what it was: this very stage can be committed over
/// it again. Directories in which names came and went matter where their mode is to change.
fn settled(ground: &mut Ground, journal: &Journal) -> Vec<Seen> {
    let back = || journal.back.iter().filter_map(|number| journal.ops.get(*number));
    let inside: BTreeSet<&Path> = back().filter_map(|op| op.path().parent()).collect();
    let around = journal.ops.iter().filter(|op| matches!(op, Op::Mode { .. }) && inside.contains(op.path()));
    back().chain(around).filter_map(|op| ground.settled(op)).collect()
}

/// Takes back one step. What is in the way may be gone in a moment.
fn undo(ground: &mut Ground, op: &Op, patience: &mut usize) -> place::Io<Undone> {
    loop {
        match ground.undo(op) {
            Err(_) | Ok(Undone::Blocked) if *patience > 0 => {
                *patience -= 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            undone => return undone,
        }
    }
}

fn again(root: &OwnedFd) -> Result<OwnedFd, StageError> {
    root.try_clone().map_err(StageError::io("open", "the workspace"))
}

/// Removes what was prepared, but for what somebody has changed while it was in the workspace: those paths are returned.
fn clear(ground: &Ground, journal: &Journal) -> Result<Vec<String>, StageError> {
    let mut changed = Vec::new();
    for op in &journal.ops {
        let (Op::Create { path, slot, new } | Op::Replace { path, slot, new, .. }) = op else { continue };
        let failed = || StageError::io("remove", journal.aside.clone());
        match place::look(&ground.aside, slot.as_ref()).map_err(failed())? {
            Some(seen) if seen.same_object(new) => {}
            _ => continue,
        }
        if changed_since(&ground.aside, slot, new, journal.began).map_err(failed())? {
            changed.push(printable(path));
        } else {
            place::remove_tree(&ground.aside, slot.as_ref()).map_err(failed())?;
        }
    }
    Ok(changed)
}
