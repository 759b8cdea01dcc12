//! The broker: what a command may create, rename, remove or open for writing in the workspace.
//!
//! Landlock makes the workspace read-only for the command, whatever it does. Every system call that would change it
//! waits (seccomp_unotify), and this process, pid 1 inside and under a wider Landlock domain, does it on the command's
//! behalf: it resolves the path to a handle, decides on the canonical name, and acts on the handle. Names that the host
//! later runs or trusts (`policy::guarded`) are refused, at any depth, existing or not. What the command's memory says
//! after it was read does not matter: a call that is let go on to the kernel meets Landlock.

mod caller;
mod calls;
mod notify;
mod place;
mod refuse;

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use caller::Caller;
use calls::{Call, parse};
use notify::Waiting;
pub(crate) use notify::{Listener, install};
use place::{Area, Brokered, Place, open_directory};
use refuse::{Refusal, Rules};

use crate::plan::Plan;

/// Refusals that are told, at most, and how much of a name.
const MAX_TOLD: usize = 100;
const MAX_NAME: usize = 300;
/// Bits of a mode that a command may set: not set-user-ID.
const MODE: u32 = 0o3777;
/// Calls that may wait for the other end of a pipe.
const MAX_PARKED: usize = 64;

/// What becomes of a call.
enum Answer {
    /// The kernel does it, and Landlock decides.
    Kernel,
    /// Done, or failed.
    Done(Result<(), Errno>),
    /// Open.
    File(OwnedFd, bool),
    /// The host trusts this name.
    Refused(PathBuf),
    /// The other end of the pipe is not there yet.
    Later,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Trusted(path) => Self::Refused(path),
            Refusal::Fixed => Self::Done(Err(Errno::BUSY)),
        }
    }
}

/// Answers the calls of one command.
pub(crate) struct Broker {
    listener: Listener,
    area: Area,
    rules: Rules,
    lock: Option<OwnedFd>,
    parked: Vec<Waiting>,
    refused: Vec<String>,
}

/// The right to move things in the workspace, until it is dropped.
struct Turn<'a>(&'a OwnedFd);

impl<'a> Turn<'a> {
    fn take(lock: &'a OwnedFd) -> Result<Self, Errno> {
        rustix::fs::flock(lock, FlockOperation::LockExclusive).map(|()| Self(lock))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // It fails for a bad descriptor only.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Broker {
    pub(crate) fn new(listener: Listener, workspace: PathBuf, plan: &Plan, lock: Option<OwnedFd>) -> Self {
        Self {
            listener,
            lock,
            area: Area::new(workspace.clone(), plan.around()),
            rules: Rules::new(workspace, plan),
            parked: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Answers the call that has arrived.
    pub(crate) fn serve(&mut self) {
        if let Some(waiting) = self.listener.receive() {
            self.decide(waiting);
        }
    }

    /// Whether calls wait for the other end of a pipe; [`Broker::retry`] tries them again.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    pub(crate) fn retry(&mut self) {
        for waiting in std::mem::take(&mut self.parked) {
            self.decide(waiting);
        }
    }

    /// What was refused so far, each once.
    pub(crate) fn refused(self) -> Vec<String> {
        self.refused
    }

    fn decide(&mut self, waiting: Waiting) {
        let id = waiting.id;
        let caller = Caller(waiting.thread);
        let call = parse(&waiting, caller);
        // What was read is that thread's only if it still waits.
        if !self.listener.still_waits(id) {
            return;
        }
        let answer = match call.and_then(|call| self.perform(caller, call)) {
            Ok(answer) => answer,
            // What the kernel would say. To let it say so itself would give others time to make what is missing, and
            // then Landlock would refuse what is allowed.
            Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NAMETOOLONG)) => {
                Answer::Done(Err(errno))
            }
            // A call that cannot be read or understood is the kernel's; Landlock lets it change nothing here.
            Err(_) => Answer::Kernel,
        };
        match answer {
            Answer::Kernel => self.listener.go_on(id),
            Answer::Done(result) => self.listener.answer(id, result),
            Answer::File(file, close_on_exec) => self.listener.give(id, file, close_on_exec),
            Answer::Later if self.parked.len() < MAX_PARKED => self.parked.push(waiting),
            Answer::Later => self.listener.answer(id, Err(Errno::AGAIN)),
            Answer::Refused(path) => {
                let shown: String = action::printable(&path).chars().take(MAX_NAME).collect();
                if self.refused.len() < MAX_TOLD && !self.refused.contains(&shown) {
                    self.refused.push(shown);
                }
                self.listener.answer(id, Err(Errno::ACCESS));
            }
        }
    }

    fn perform(&mut self, caller: Caller, call: Call) -> Result<Answer, Errno> {
        match call {
            Call::Open { at, path, flags, mode } => self.open(caller, at, &path, flags, mode),
            Call::Truncate { path, length } => {
                let place = self.area.locate_file(caller, libc::AT_FDCWD, &path, true)?;
                self.change(&place, |place| truncate(place, length))
            }
            Call::Directory { at, path, mode } => self.directory(caller, at, &path, mode),
            Call::Node { at, path, mode, device } => {
                let place = self.area.locate_file(caller, at, &path, false)?;
                self.change(&place, |place| node(caller, place, mode, device))
            }
            Call::Symlink { target, at, path } => {
                let place = self.area.locate_file(caller, at, &path, false)?;
                let text = Path::new(OsStr::from_bytes(&target));
                if let Some(path) = self.rules.symlink(&place, text) {
                    return Ok(Answer::Refused(path));
                }
                self.change(&place, |place| {
                    rustix::fs::symlinkat(target.as_slice(), &place.directory, place.name.as_slice())
                })
            }
            Call::Unlink { at, path, flags } => {
                let place = self.area.locate(caller, at, &path, false)?;
                self.change(&place, |place| {
                    rustix::fs::unlinkat(&place.directory, place.written().as_slice(), flags)
                })
            }
            Call::Link { from_at, from, at, path, flags } => {
                self.link(caller, (from_at, &from), (at, &path), flags)
            }
            Call::Rename { from_at, from, at, path, flags } => {
                self.rename(caller, (from_at, &from), (at, &path), flags)
            }
        }
    }

    /// Does `change` unless the name is outside, or guarded.
    fn change(
        &self,
        place: &Place,
        change: impl FnOnce(&Place) -> Result<(), Errno>,
    ) -> Result<Answer, Errno> {
        if place.path.is_none() {
            return Ok(Answer::Kernel);
        }
        Ok(match self.rules.name(place) {
            Some(path) => Answer::Refused(path),
            None => Answer::Done(change(place)),
        })
    }

    fn directory(&mut self, caller: Caller, at: i32, path: &[u8], mode: u32) -> Result<Answer, Errno> {
        let place = self.area.locate(caller, at, path, false)?;
        if place.path.is_none() {
            return Ok(Answer::Kernel);
        }
        if place.kind().is_some() {
            // `mkdir -p` goes through what is there.
            return Ok(Answer::Done(Err(Errno::EXIST)));
        }
        let repository = self.rules.may_found(&place);
        if let Some(path) = self.rules.name(&place).filter(|_| repository.is_none()) {
            return Ok(Answer::Refused(path));
        }
        caller.lend_umask()?;
        let made = rustix::fs::mkdirat(&place.directory, place.name.as_slice(), Mode::from_raw_mode(mode));
        if let Some(path) = repository.filter(|_| made.is_ok()) {
            self.rules.founded(&path);
        }
        Ok(Answer::Done(made))
    }

    fn open(&self, caller: Caller, at: i32, path: &[u8], flags: OFlags, mode: u32) -> Result<Answer, Errno> {
        if flags.contains(OFlags::PATH) {
            return Ok(Answer::Kernel);
        }
        if flags.contains(OFlags::TMPFILE) {
            return self.unnamed(caller, at, path, flags, mode);
        }
        if let Some(open) = caller.open_file(path)? {
            return self.again(&open, flags);
        }
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let follow = !exclusive && !flags.contains(OFlags::NOFOLLOW);
        let place = self.area.locate_file(caller, at, path, follow)?;
        if place.path.is_none() {
            return Ok(Answer::Kernel);
        }
        if let Some(path) = self.rules.name(&place) {
            return Ok(Answer::Refused(path));
        }
        let kind = place.kind();
        if matches!(kind, Some(FileType::Socket | FileType::BlockDevice | FileType::CharacterDevice)) {
            return Ok(Answer::Kernel);
        }
        if kind.is_none() {
            caller.lend_umask()?;
        }
        // Opening waits for a reader of a pipe, or for a lease to end; this process must not.
        let wait = !flags.contains(OFlags::NONBLOCK);
        let use_flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::from_raw_mode(mode & MODE);
        match rustix::fs::openat(&place.directory, place.name.as_slice(), use_flags, mode) {
            Ok(file) => {
                if wait {
                    rustix::fs::fcntl_setfl(&file, flags & !OFlags::NONBLOCK)?;
                }
                Ok(Answer::File(file, flags.contains(OFlags::CLOEXEC)))
            }
            Err(Errno::NXIO | Errno::WOULDBLOCK) if wait => Ok(Answer::Later),
            Err(errno) => Ok(Answer::Done(Err(errno))),
        }
    }

    /// The answer about something that the caller has open, where the broker does not act: it lies elsewhere, or its
    /// name is one that the host trusts.
    fn not_ours(&self, open: &OwnedFd) -> Result<Option<Answer>, Errno> {
        Ok(match self.area.of(open)? {
            None => Some(Answer::Kernel),
            Some(Brokered::Workspace(path)) => self.rules.path(&path).map(Answer::Refused),
            Some(Brokered::Private(_)) => None,
        })
    }

    /// Opens once more what the caller has open, as `/dev/stdout` and `/proc/self/fd/N` do.
    fn again(&self, open: &OwnedFd, flags: OFlags) -> Result<Answer, Errno> {
        if let Some(answer) = self.not_ours(open)? {
            return Ok(answer);
        }
        let stat = rustix::fs::fstat(open)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Answer::Kernel);
        }
        let use_flags = (flags | OFlags::CLOEXEC) & !(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW);
        Ok(match rustix::fs::openat(CWD, own_link(open), use_flags, Mode::empty()) {
            Ok(file) => Answer::File(file, flags.contains(OFlags::CLOEXEC)),
            Err(errno) => Answer::Done(Err(errno)),
        })
    }

    /// `O_TMPFILE`: a file without a name, in a directory. It gets its name by a link, which is looked at then.
    fn unnamed(
        &self,
        caller: Caller,
        at: i32,
        path: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> Result<Answer, Errno> {
        if path.starts_with(b"/proc/") || path.starts_with(b"/dev/") {
            return Ok(Answer::Kernel);
        }
        let base = if path.starts_with(b"/") { None } else { Some(caller.directory(at)?) };
        let directory = open_directory(base.as_ref(), path)?;
        if self.area.of(&directory)?.is_none() {
            return Ok(Answer::Kernel);
        }
        caller.lend_umask()?;
        let mode = Mode::from_raw_mode(mode & MODE);
        Ok(match rustix::fs::openat(&directory, ".", flags | OFlags::CLOEXEC, mode) {
            Ok(file) => Answer::File(file, flags.contains(OFlags::CLOEXEC)),
            Err(errno) => Answer::Done(Err(errno)),
        })
    }

    fn link(
        &self,
        caller: Caller,
        (from_at, from): (i32, &[u8]),
        (at, path): (i32, &[u8]),
        flags: AtFlags,
    ) -> Result<Answer, Errno> {
        let place = self.area.locate_file(caller, at, path, false)?;
        if place.path.is_none() {
            return Ok(Answer::Kernel);
        }
        if let Some(path) = self.rules.name(&place) {
            return Ok(Answer::Refused(path));
        }
        let open = if from.is_empty() && flags.contains(AtFlags::EMPTY_PATH) {
            Some(caller.descriptor(from_at)?)
        } else {
            caller.open_file(from)?
        };
        let (directory, name, flags) = match &open {
            // An open file, mostly one without a name. Otherwise another name for a guarded file would be a way to
            // change it.
            Some(open) => {
                if rustix::fs::fstat(open)?.st_nlink > 0
                    && let Some(answer) = self.not_ours(open)?
                {
                    return Ok(answer);
                }
                (CWD, own_link(open).into_bytes(), AtFlags::SYMLINK_FOLLOW)
            }
            None => {
                let follow = flags.contains(AtFlags::SYMLINK_FOLLOW);
                let source = self.area.locate_file(caller, from_at, from, follow)?;
                if let Some(refusal) = self.rules.moved(&source, &place) {
                    return Ok(refusal.into());
                }
                let linked = rustix::fs::linkat(
                    &source.directory,
                    source.name.as_slice(),
                    &place.directory,
                    place.name.as_slice(),
                    AtFlags::empty(),
                );
                return Ok(Answer::Done(linked));
            }
        };
        let linked =
            rustix::fs::linkat(directory, name.as_slice(), &place.directory, place.name.as_slice(), flags);
        Ok(Answer::Done(linked))
    }

    fn rename(
        &self,
        caller: Caller,
        (from_at, from): (i32, &[u8]),
        (at, path): (i32, &[u8]),
        flags: RenameFlags,
    ) -> Result<Answer, Errno> {
        if !(flags - (RenameFlags::NOREPLACE | RenameFlags::EXCHANGE)).is_empty() {
            // It would leave a device behind.
            return Ok(Answer::Done(Err(Errno::INVAL)));
        }
        // The brokers of one workspace take turns: what is judged is what is moved. Nobody else has this lock.
        let _turn = self.lock.as_ref().map(Turn::take).transpose()?;
        let source = self.area.locate(caller, from_at, from, false)?;
        let target = self.area.locate(caller, at, path, false)?;
        if source.path.is_none() && target.path.is_none() {
            return Ok(Answer::Kernel);
        }
        let mut refusal = self.rules.moved(&source, &target);
        if refusal.is_none() && flags.contains(RenameFlags::EXCHANGE) {
            refusal = self.rules.moved(&target, &source);
        }
        if let Some(refusal) = refusal {
            return Ok(refusal.into());
        }
        let renamed = rustix::fs::renameat_with(
            &source.directory,
            source.written().as_slice(),
            &target.directory,
            target.written().as_slice(),
            flags,
        );
        Ok(Answer::Done(renamed))
    }
}

fn truncate(place: &Place, length: u64) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::openat(&place.directory, place.name.as_slice(), flags, Mode::empty())?;
    rustix::fs::ftruncate(&file, length)
}

/// A file or a pipe; other nodes only lead elsewhere.
fn node(caller: Caller, place: &Place, mode: u32, device: u64) -> Result<(), Errno> {
    let kind = match mode & libc::S_IFMT {
        0 | libc::S_IFREG => FileType::RegularFile,
        libc::S_IFIFO => FileType::Fifo,
        _ => return Err(Errno::PERM),
    };
    caller.lend_umask()?;
    let mode = Mode::from_raw_mode(mode & MODE);
    rustix::fs::mknodat(&place.directory, place.name.as_slice(), kind, mode, device)
}

/// A path that means this very handle, for us.
fn own_link(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}
