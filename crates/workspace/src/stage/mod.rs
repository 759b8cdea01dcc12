//! Staged changes: a command writes into the upper layer of an overlay file system instead of into the workspace, and
//! a person decides afterwards whether that comes into the workspace (all of it or nothing) or goes away.
//!
//! See overlayfs in the kernel's documentation for what an upper layer looks like.

mod changes;
mod commit;
mod diff;
mod error;
mod journal;
mod marks;
mod place;
mod prepare;
mod refuse;
mod scan;
mod swap;

use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use action::{Commit, Root, printable};
use gate::Authorized;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::state::{StateFile, create_private_dir};
use place::{Moment, Seen};

pub use changes::{Change, Changes, Object, Refusal};
pub use commit::{Committed, Recovered};
pub use error::StageError;

/// Directory of the stages, below Varvel's own.
const DIRECTORY: &str = "stage";
/// Digits of an identifier.
const ID_LENGTH: usize = 8;
/// Longest `about.json`, in bytes.
const MAX_ABOUT: u64 = 64 * 1024;
/// Most bytes of a note.
const MAX_NOTE: usize = 1000;
/// Most stages that are listed.
const MAX_STAGES: usize = 10_000;

/// What a stage is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StageState {
    /// Its command runs, or was cut short.
    Running,
    /// Somebody has to decide.
    Pending,
    /// It is being brought into the workspace, or that was cut short.
    Committing,
}

/// What is known about a stage without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageInfo {
    /// Eight hexadecimal digits.
    pub id: String,
    /// Path of the workspace, printable.
    pub workspace: String,
    /// Device of the workspace.
    device: u64,
    /// Inode of the workspace.
    inode: u64,
    /// Whatever changes in the workspace from now on has this change time or a later one, and whatever changed before
    /// an earlier one.
    begun: Moment,
    /// What it is doing.
    pub state: StageState,
    /// What ran, in a few words.
    pub note: String,
}

impl StageInfo {
    /// When it began, in seconds since 1970.
    #[must_use]
    pub fn begun(&self) -> i64 {
        self.begun.0
    }
}

/// One stage, open. No other process can open it meanwhile.
#[derive(Debug)]
pub struct Stage {
    info: StageInfo,
    state: Cell<StageState>,
    directory: PathBuf,
    handle: OwnedFd,
    root: Root,
    _lock: Lock,
}

impl Stage {
    /// Makes an empty stage over `workspace`, below `state_dir` (Varvel's own directory).
    ///
    /// # Errors
    /// If its directories cannot be made.
    pub fn create(state_dir: &Path, workspace: &Root) -> Result<Self, StageError> {
        let stages = state_dir.join(DIRECTORY);
        let failed = |path: &Path| StageError::io("create", printable(path));
        create_private_dir(&stages).map_err(failed(&stages))?;
        sweep(&stages);
        let seen = workspace_seen(workspace)?;
        let (id, directory) = loop {
            let id = format!("{:08x}", random()? >> 32);
            let directory = stages.join(&id);
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => break (id, directory),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&directory)(error)),
            }
        };
        let lock = lock(&directory, &id)?;
        for name in ["upper", "work"] {
            let path = directory.join(name);
            DirBuilder::new().mode(0o700).create(&path).map_err(failed(&path))?;
        }
        let info = StageInfo {
            id,
            workspace: printable(workspace.path()),
            device: seen.device,
            inode: seen.inode,
            begun: begin(),
            state: StageState::Running,
            note: String::new(),
        };
        let stage = Self::assemble(info, directory, workspace, lock)?;
        stage.save()?;
        Ok(stage)
    }

    /// Opens a stage that was made over `workspace`.
    ///
    /// # Errors
    /// If it does not exist, is in use, belongs to another directory, or [`StageError::Interrupted`].
    pub fn open(state_dir: &Path, id: &str, workspace: &Root) -> Result<Self, StageError> {
        let stage = Self::open_any(state_dir, id, workspace)?;
        if stage.is_interrupted() {
            return Err(StageError::Interrupted { id: stage.info.id });
        }
        Ok(stage)
    }

    /// Brings a stage whose commit was cut short (a crash, a power cut) back to one side: nothing of it is in the
    /// workspace, or all of it is.
    ///
    /// # Errors
    /// As [`Stage::open`]; [`StageError::Incomplete`] if the workspace was changed meanwhile where something would
    /// have to be put back.
    pub fn recover(state_dir: &Path, id: &str, workspace: &Root) -> Result<Recovered, StageError> {
        commit::recover(&Self::open_any(state_dir, id, workspace)?)
    }

    /// The stages that there are, oldest first.
    ///
    /// # Errors
    /// If their directory cannot be read. A stage that is damaged is left out.
    pub fn list(state_dir: &Path) -> Result<Vec<StageInfo>, StageError> {
        let stages = state_dir.join(DIRECTORY);
        let entries = match std::fs::read_dir(&stages) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StageError::io("list", printable(&stages))(error)),
        };
        let mut infos: Vec<_> = entries
            .flatten()
            .take(MAX_STAGES)
            .filter_map(|entry| {
                let name = entry.file_name();
                let id = name.to_str().filter(|id| is_id(id))?;
                let info = read_info(&entry.path(), id).ok()?;
                // What it does is known from its files, should it have been killed.
                let state = match info.state {
                    _ if journal::exists(&entry.path()) => StageState::Committing,
                    StageState::Committing => StageState::Pending,
                    state => state,
                };
                Some(StageInfo { state, ..info })
            })
            .collect();
        infos.sort_by_key(|info| (info.begun, info.id.clone()));
        Ok(infos)
    }

    /// What is known about one stage.
    ///
    /// # Errors
    /// If it does not exist or is damaged.
    pub fn info(state_dir: &Path, id: &str) -> Result<StageInfo, StageError> {
        if !is_id(id) {
            return Err(StageError::NoSuchStage { id: printable(Path::new(id)) });
        }
        read_info(&state_dir.join(DIRECTORY).join(id), id)
    }

    /// Removes a stage whose workspace need not be there any more.
    ///
    /// # Errors
    /// If it does not exist or is in use, [`StageError::Interrupted`], and if something cannot be removed.
    pub fn discard(state_dir: &Path, id: &str) -> Result<(), StageError> {
        Self::info(state_dir, id)?;
        let directory = state_dir.join(DIRECTORY).join(id);
        let _lock = lock(&directory, id)?;
        if journal::exists(&directory) {
            return Err(StageError::Interrupted { id: id.to_owned() });
        }
        retire(&directory, id)
    }

    /// Identifier: eight hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// The workspace.
    #[must_use]
    pub fn workspace(&self) -> &Root {
        &self.root
    }

    /// Directory for the overlay's `upperdir`.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Directory for the overlay's `workdir`.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Records what runs in it, in a few words.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub fn set_note(&mut self, note: &str) -> Result<(), StageError> {
        self.info.note = note.chars().filter(|c| !c.is_control()).take(MAX_NOTE / 4).collect();
        self.save()
    }

    /// Records that the command has ended and somebody has to decide.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub fn ended(&self) -> Result<(), StageError> {
        self.set_state(StageState::Pending)
    }

    /// What the command changed, with the diff.
    ///
    /// # Errors
    /// If it cannot be read or is more than what is handled.
    pub fn changes(&self) -> Result<Changes, StageError> {
        let scan = scan::scan(self)?;
        Ok(Changes::new(self, scan))
    }

    /// Brings the changes that were authorised into the workspace: all of them, or, if anything is in the way, none.
    /// Afterwards the stage is gone.
    ///
    /// # Errors
    /// [`StageError::NotDecided`] if the stage holds anything else by now, [`StageError::Conflict`] if the workspace
    /// changed underneath, [`StageError::Refused`] if some of it must not come in, and if the operating system
    /// refuses.
    pub fn commit(&self, authorized: Authorized<Commit>) -> Result<Committed, StageError> {
        let action = authorized.into_action();
        if action.stage != self.info.id || action.workspace.root().path() != self.root.path() {
            return Err(StageError::NotDecided { id: self.info.id.clone() });
        }
        commit::run(self, action.digest, &mut |_| None)
    }

    /// Removes the paths that cannot be committed from the stage, so that the rest can be. Returns how many there were.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn leave_out_refused(&self) -> Result<usize, StageError> {
        let scan = scan::scan(self)?;
        let refused = &scan.refused;
        let upper = self.upper_handle()?;
        for refusal in refused {
            let failed = || StageError::io("remove", printable(&refusal.path));
            let Some((parent, name)) = place::split(&refusal.path) else { continue };
            let parent = place::directory(&upper, parent).map_err(failed())?;
            place::remove_tree(parent, name).map_err(failed())?;
        }
        Ok(refused.len())
    }

    /// Removes the stage with everything in it. The workspace is as it was.
    ///
    /// # Errors
    /// [`StageError::Interrupted`] if a commit was cut short, and if something cannot be removed.
    pub fn drop_changes(&self) -> Result<(), StageError> {
        if self.is_interrupted() {
            return Err(StageError::Interrupted { id: self.info.id.clone() });
        }
        self.retire()
    }

    fn assemble(
        info: StageInfo,
        directory: PathBuf,
        workspace: &Root,
        lock: Lock,
    ) -> Result<Self, StageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, &directory, flags, Mode::empty())
            .map_err(StageError::io("open", printable(&directory)))?;
        Ok(Self {
            state: Cell::new(info.state),
            info,
            directory,
            handle,
            root: workspace.clone(),
            _lock: lock,
        })
    }

    fn open_any(state_dir: &Path, id: &str, workspace: &Root) -> Result<Self, StageError> {
        // Before the identifier becomes part of a path.
        let info = Self::info(state_dir, id)?;
        let directory = state_dir.join(DIRECTORY).join(id);
        let lock = lock(&directory, id)?;
        let stage = Self::assemble(info, directory, workspace, lock)?;
        stage.check_workspace()?;
        Ok(stage)
    }

    /// Whether the workspace is still the directory that the stage was made over.
    fn check_workspace(&self) -> Result<(), StageError> {
        let seen = workspace_seen(&self.root)?;
        if (seen.device, seen.inode) == (self.info.device, self.info.inode) {
            return Ok(());
        }
        Err(StageError::OtherWorkspace { id: self.info.id.clone(), made_over: self.info.workspace.clone() })
    }

    fn upper_handle(&self) -> Result<OwnedFd, StageError> {
        place::directory(&self.handle, Path::new("upper")).map_err(StageError::io("open", "upper"))
    }

    fn is_interrupted(&self) -> bool {
        journal::exists(&self.directory)
    }

    fn set_state(&self, state: StageState) -> Result<(), StageError> {
        self.state.set(state);
        self.save()
    }

    fn save(&self) -> Result<(), StageError> {
        let info = StageInfo { state: self.state.get(), ..self.info.clone() };
        let text = serde_json::to_vec(&info)
            .map_err(|error| StageError::Damaged { file: "about.json", why: error.to_string() })?;
        StateFile::write(&self.directory.join("about.json"), &text)
            .map_err(StageError::io("write", "about.json"))
    }

    fn retire(&self) -> Result<(), StageError> {
        retire(&self.directory, &self.info.id)
    }
}

/// Takes a stage out of the list in one step, then removes it.
fn retire(directory: &Path, id: &str) -> Result<(), StageError> {
    let failed = |error: std::io::Error| StageError::io("remove stage", id)(error);
    let gone = directory.with_file_name(format!("{id}.gone"));
    std::fs::rename(directory, &gone).map_err(failed)?;
    let stages = parent_handle(&gone).map_err(|errno| failed(errno.into()))?;
    place::remove_tree(stages, gone.file_name().unwrap_or_default()).map_err(|errno| failed(errno.into()))
}

/// Removes what an earlier removal left.
fn sweep(stages: &Path) {
    let Ok(entries) = std::fs::read_dir(stages) else { return };
    for entry in entries.flatten().take(MAX_STAGES) {
        let name = entry.file_name();
        let gone = name.to_str().and_then(|name| name.strip_suffix(".gone")).is_some_and(is_id);
        if gone && let Ok(stages) = parent_handle(&entry.path()) {
            // Another process may be at it; then there is nothing left to do.
            let _ = place::remove_tree(stages, &name);
        }
    }
}

fn parent_handle(path: &Path) -> place::Io<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path.parent().unwrap_or(Path::new("/")), flags, Mode::empty())
}

fn workspace_seen(workspace: &Root) -> Result<Seen, StageError> {
    let stat = rustix::fs::fstat(workspace.handle())
        .map_err(StageError::io("look at", printable(workspace.path())))?;
    Ok(Seen::of(&stat))
}

fn is_id(id: &str) -> bool {
    id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The lock of a stage. It is unlocked and not only closed: a process that was just forked may still have a copy.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn lock(directory: &Path, id: &str) -> Result<Lock, StageError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(StageError::io("open", printable(&path)))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StageError::InUse { id: id.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StageError::io("lock", printable(&path))(error)),
    }
}

fn read_info(directory: &Path, id: &str) -> Result<StageInfo, StageError> {
    let bytes = read_own(&directory.join("about.json"), MAX_ABOUT)
        .map_err(StageError::io("read", "about.json"))?
        .ok_or_else(|| StageError::NoSuchStage { id: id.to_owned() })?;
    let damaged = |why: String| StageError::Damaged { file: "about.json", why };
    let info: StageInfo = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if info.id != id {
        return Err(damaged(format!("it is about {}", info.id)));
    }
    Ok(info)
}

/// One of the stage's own files, at most `most` bytes of it; `None` when it is absent.
fn read_own(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::other("it is longer than it can be"));
    }
    Ok(Some(bytes))
}

/// The moment that divides what changed before from what changes after.
///
/// File systems stamp changes with the coarse clock, which stands still between ticks, or with a finer one. Waiting
/// until the coarse clock has passed the fine one leaves no stamp that could be on either side.
fn begin() -> Moment {
    let now = |clock| {
        let time = clock_gettime(clock);
        Moment(time.tv_sec, time.tv_nsec)
    };
    let before = now(ClockId::Realtime);
    // A clock that is being set back must not keep this waiting for ever.
    for _ in 0..1000 {
        let coarse = now(ClockId::RealtimeCoarse);
        if coarse > before {
            return coarse;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    now(ClockId::RealtimeCoarse)
}

/// Sixty-four bits that nobody can guess.
fn random() -> Result<u64, StageError> {
    let mut bytes = [0u8; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(StageError::io("read", "/dev/urandom"))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests prepare files and start programs")]
mod tests;
