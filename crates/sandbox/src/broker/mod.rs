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

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use caller::{Caller, where_is};
use calls::{Call, parse};
use notify::Waiting;
pub(crate) use notify::{Listener, install};

use crate::plan::Plan;

/// Symbolic links followed on the way to a name.
const MAX_LINKS: usize = 40;
/// Refusals that are told, at most.
const MAX_TOLD: usize = 100;
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

/// A name in a directory.
struct Place {
    directory: OwnedFd,
    name: Vec<u8>,
    /// `None` when it lies where the kernel may decide.
    path: Option<Brokered>,
}

/// Where a brokered name is.
#[derive(Debug, Clone)]
enum Brokered {
    /// Relative to the workspace.
    Workspace(PathBuf),
    /// In a private place around it, where every name may be used. The whole path.
    Private(PathBuf),
}

/// Answers the calls of one command.
pub(crate) struct Broker {
    listener: Listener,
    workspace: PathBuf,
    /// Private places that contain the workspace: where, and which mount. A path alone is not enough: what looks private
    /// by its name may lie on another mount.
    around: Vec<(PathBuf, u64)>,
    repositories: bool,
    /// Directories with a repository that this command has made.
    own: Vec<PathBuf>,
    parked: Vec<Waiting>,
    refused: Vec<String>,
}

impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Broker {
    pub(crate) fn new(listener: Listener, workspace: PathBuf, plan: &Plan) -> Self {
        Self {
            listener,
            workspace,
            around: plan
                .around()
                .into_iter()
                .filter_map(|path| Some((mount_id(CWD, &path)?, path)))
                .map(|(id, path)| (path, id))
                .collect(),
            repositories: plan.repositories,
            own: Vec::new(),
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
            Answer::File(file, close_on_exec) => self.listener.give(id, file.as_fd(), close_on_exec),
            Answer::Later if self.parked.len() < MAX_PARKED => self.parked.push(waiting),
            Answer::Later => self.listener.answer(id, Err(Errno::AGAIN)),
            Answer::Refused(path) => {
                let shown = action::printable(&path);
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
            Call::Truncate { path, length } => self.truncate(caller, &path, length),
            Call::Directory { at, path, mode } => {
                let place = self.locate(caller, at, &path, false)?;
                let Some(brokered) = &place.path else { return Ok(Answer::Kernel) };
                let repository = match brokered {
                    Brokered::Workspace(path) if self.repositories => {
                        self.may_found(&place, path).then_some(path)
                    }
                    _ => None,
                };
                if let Some(path) = self.guarded(brokered).filter(|_| repository.is_none()) {
                    return Ok(Answer::Refused(path.to_owned()));
                }
                let mode = Mode::from_raw_mode(mode & !caller.umask()?);
                let made = rustix::fs::mkdirat(&place.directory, place.name.as_slice(), mode);
                if let Some(path) = repository.filter(|_| made.is_ok()) {
                    // Beneath the workspace's own root the rest stays guarded.
                    let root = path.parent().filter(|parent| *parent != Path::new(""));
                    self.own.push(root.unwrap_or(path).to_owned());
                }
                Ok(Answer::Done(made))
            }
            Call::Node { at, path, mode, device } => {
                let kind = FileType::from_raw_mode(mode);
                let place = self.locate(caller, at, &path, false)?;
                self.change(&place, |place| {
                    if !matches!(kind, FileType::RegularFile | FileType::Fifo) && mode & libc::S_IFMT != 0 {
                        return Err(Errno::PERM);
                    }
                    let mode = Mode::from_raw_mode((mode & 0o7777) & !caller.umask()?);
                    rustix::fs::mknodat(&place.directory, place.name.as_slice(), kind, mode, device)
                })
            }
            Call::Symlink { target, at, path } => {
                let place = self.locate(caller, at, &path, false)?;
                self.change(&place, |place| {
                    rustix::fs::symlinkat(target.as_slice(), &place.directory, place.name.as_slice())
                })
            }
            Call::Unlink { at, path, flags } => {
                let place = self.locate(caller, at, &path, false)?;
                self.change(&place, |place| {
                    rustix::fs::unlinkat(&place.directory, place.name.as_slice(), flags)
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
        let Some(brokered) = &place.path else { return Ok(Answer::Kernel) };
        Ok(match self.guarded(brokered) {
            Some(path) => Answer::Refused(path.to_owned()),
            None => Answer::Done(change(place)),
        })
    }

    fn open(&self, caller: Caller, at: i32, path: &[u8], flags: OFlags, mode: u32) -> Result<Answer, Errno> {
        if flags.contains(OFlags::PATH) {
            return Ok(Answer::Kernel);
        }
        if flags.contains(OFlags::TMPFILE) {
            return self.unnamed(caller, at, path, flags, mode);
        }
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let follow = !exclusive && !flags.contains(OFlags::NOFOLLOW);
        let place = self.locate(caller, at, path, follow)?;
        let Some(brokered) = &place.path else { return Ok(Answer::Kernel) };
        if let Some(path) = self.guarded(brokered) {
            return Ok(Answer::Refused(path.to_owned()));
        }
        let there = rustix::fs::statat(&place.directory, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        let mode = match &there {
            Ok(_) => 0,
            Err(_) => mode & !caller.umask()?,
        };
        let kind = there.map(|stat| FileType::from_raw_mode(stat.st_mode));
        if matches!(kind, Ok(FileType::Socket | FileType::BlockDevice | FileType::CharacterDevice)) {
            return Ok(Answer::Kernel);
        }
        // Opening the writing end of a pipe waits for a reader; this process must not.
        let pipe = kind == Ok(FileType::Fifo) && !flags.contains(OFlags::NONBLOCK);
        let mut use_flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        use_flags.set(OFlags::NOFOLLOW, true);
        use_flags.set(OFlags::NONBLOCK, pipe || flags.contains(OFlags::NONBLOCK));
        let opened = rustix::fs::openat(
            &place.directory,
            place.name.as_slice(),
            use_flags,
            Mode::from_raw_mode(mode & 0o7777),
        );
        match opened {
            Ok(file) => {
                if pipe {
                    rustix::fs::fcntl_setfl(&file, flags & !OFlags::NONBLOCK)?;
                }
                Ok(Answer::File(file, flags.contains(OFlags::CLOEXEC)))
            }
            Err(Errno::NXIO) if pipe => Ok(Answer::Later),
            Err(errno) => Ok(Answer::Done(Err(errno))),
        }
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
        let base = if path.starts_with(b"/") { None } else { Some(caller.directory(at)?) };
        let directory = open_directory(base.as_ref(), path)?;
        if self.brokered(&directory)?.is_none() {
            return Ok(Answer::Kernel);
        }
        let mode = Mode::from_raw_mode(mode & 0o7777 & !caller.umask()?);
        Ok(match rustix::fs::openat(&directory, ".", flags | OFlags::CLOEXEC, mode) {
            Ok(file) => Answer::File(file, flags.contains(OFlags::CLOEXEC)),
            Err(errno) => Answer::Done(Err(errno)),
        })
    }

    fn truncate(&self, caller: Caller, path: &[u8], length: u64) -> Result<Answer, Errno> {
        let place = self.locate(caller, libc::AT_FDCWD, path, true)?;
        self.change(&place, |place| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = rustix::fs::openat(&place.directory, place.name.as_slice(), flags, Mode::empty())?;
            rustix::fs::ftruncate(&file, length)
        })
    }

    fn link(
        &self,
        caller: Caller,
        (from_at, from): (i32, &[u8]),
        (at, path): (i32, &[u8]),
        flags: AtFlags,
    ) -> Result<Answer, Errno> {
        let place = self.locate(caller, at, path, false)?;
        let Some(brokered) = &place.path else { return Ok(Answer::Kernel) };
        if let Some(path) = self.guarded(brokered) {
            return Ok(Answer::Refused(path.to_owned()));
        }
        if let Some(open) = caller.open_file(from)? {
            // An open file, mostly one without a name. Otherwise another name for a guarded file would be a way to
            // change it.
            let stat = rustix::fs::fstat(&open)?;
            if stat.st_nlink > 0 {
                match self.brokered(&open)? {
                    None => return Ok(Answer::Kernel),
                    Some(source) => {
                        if let Some(path) = self.guarded(&source) {
                            return Ok(Answer::Refused(path.to_owned()));
                        }
                    }
                }
            }
            let own = format!("/proc/self/fd/{}", open.as_raw_fd());
            let linked = rustix::fs::linkat(
                CWD,
                own,
                &place.directory,
                place.name.as_slice(),
                AtFlags::SYMLINK_FOLLOW,
            );
            return Ok(Answer::Done(linked));
        }
        let source = self.locate(caller, from_at, from, flags.contains(AtFlags::SYMLINK_FOLLOW))?;
        // Another name for a guarded file would be a way to change it.
        if let Some(path) = source.path.as_ref().and_then(|brokered| self.guarded(brokered)) {
            return Ok(Answer::Refused(path.to_owned()));
        }
        let linked = rustix::fs::linkat(
            &source.directory,
            source.name.as_slice(),
            &place.directory,
            place.name.as_slice(),
            AtFlags::empty(),
        );
        Ok(Answer::Done(linked))
    }

    fn rename(
        &self,
        caller: Caller,
        (from_at, from): (i32, &[u8]),
        (at, path): (i32, &[u8]),
        flags: RenameFlags,
    ) -> Result<Answer, Errno> {
        let source = self.locate(caller, from_at, from, false)?;
        let target = self.locate(caller, at, path, false)?;
        if source.path.is_none() && target.path.is_none() {
            return Ok(Answer::Kernel);
        }
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        for (place, other, arrives) in [(&source, &target, exchange), (&target, &source, true)] {
            let Some(brokered) = &place.path else { continue };
            if let Some(path) = self.guarded(brokered) {
                return Ok(Answer::Refused(path.to_owned()));
            }
            let path = match brokered {
                Brokered::Workspace(path) => path,
                // What contains the workspace stays where it is, or its paths would mean something else.
                Brokered::Private(path) if self.workspace.starts_with(path) => {
                    return Ok(Answer::Done(Err(Errno::BUSY)));
                }
                Brokered::Private(_) => continue,
            };
            // A directory that is moved to the beginning of a guarded path brings its content there; one that comes
            // from where packages are unpacked was not looked at.
            let moved = || {
                let stat =
                    rustix::fs::statat(&other.directory, other.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
                !stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
            };
            let unpacked = match &other.path {
                Some(Brokered::Workspace(from)) => policy::packaged(from),
                _ => true,
            };
            let leads = policy::leads_to_guarded(path) || (unpacked && !policy::packaged(path));
            if arrives && leads && !self.own_repository(path) && moved() {
                return Ok(Answer::Refused(path.clone()));
            }
        }
        let renamed = rustix::fs::renameat_with(
            &source.directory,
            source.name.as_slice(),
            &target.directory,
            target.name.as_slice(),
            flags,
        );
        Ok(Answer::Done(renamed))
    }

    /// Takes a path apart as the kernel would: the directory, opened, and the last name in it.
    fn locate(&self, caller: Caller, at: i32, path: &[u8], follow: bool) -> Result<Place, Errno> {
        let mut path = path.to_vec();
        let mut base = if path.starts_with(b"/") { None } else { Some(caller.directory(at)?) };
        for _ in 0..MAX_LINKS {
            // What is "self" there depends on who looks.
            if path.starts_with(b"/proc/") || path.starts_with(b"/dev/") {
                return Err(Errno::INVAL);
            }
            while path.len() > 1 && path.ends_with(b"/") {
                path.pop();
            }
            let cut = path.iter().rposition(|&byte| byte == b'/');
            let (before, name) = match cut {
                Some(0) => (&b"/"[..], &path[1..]),
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&b""[..], &path[..]),
            };
            if matches!(name, b"" | b"." | b"..") {
                return Err(Errno::INVAL);
            }
            let directory = open_directory(base.as_ref(), before)?;
            if follow && let Ok(target) = rustix::fs::readlinkat(&directory, name, Vec::with_capacity(256)) {
                path = target.into_bytes();
                base = if path.starts_with(b"/") { None } else { Some(directory) };
                continue;
            }
            let name = name.to_vec();
            let path = self.brokered(&directory)?.map(|place| match place {
                Brokered::Workspace(parent) => Brokered::Workspace(parent.join(os(&name))),
                Brokered::Private(parent) => Brokered::Private(parent.join(os(&name))),
            });
            return Ok(Place { directory, name, path });
        }
        Err(Errno::LOOP)
    }

    /// What the broker has to do with an open directory (or file).
    fn brokered(&self, handle: &OwnedFd) -> Result<Option<Brokered>, Errno> {
        let path = where_is(handle)?;
        if let Ok(inside) = path.strip_prefix(&self.workspace) {
            return Ok(Some(Brokered::Workspace(inside.to_owned())));
        }
        let mount = mount_id(handle, Path::new(""));
        let private = self.around.iter().any(|(around, id)| path.starts_with(around) && mount == Some(*id));
        // Anything else is the kernel's.
        Ok(private.then_some(Brokered::Private(path)))
    }

    /// The path, when its name is one that the host later runs or trusts.
    fn guarded<'b>(&self, brokered: &'b Brokered) -> Option<&'b Path> {
        let Brokered::Workspace(path) = brokered else { return None };
        let guarded = policy::guarded(path) && !self.own_repository(path);
        (guarded && !crate::cut::is("protect")).then_some(path)
    }

    /// Whether the command has made the repository that `path` lies in.
    fn own_repository(&self, path: &Path) -> bool {
        self.own.iter().any(|own| path.starts_with(own))
    }

    /// Whether a new repository may begin here: a `.git` where there is none, not within another's.
    fn may_found(&self, place: &Place, path: &Path) -> bool {
        let there = rustix::fs::statat(&place.directory, ".git", AtFlags::SYMLINK_NOFOLLOW);
        let new = there.err() == Some(Errno::NOENT);
        let parent = path.parent().unwrap_or(Path::new(""));
        place.name == b".git" && new && !policy::guarded(parent)
    }
}

/// The mount that something lies on; statx(2), Linux 5.8.
fn mount_id(at: impl AsFd, path: &Path) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(at, path, flags, StatxFlags::MNT_ID).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    known.then_some(found.stx_mnt_id)
}

/// Opens a directory; an empty path is `base` itself. Links of /proc are not followed: they would be ours.
fn open_directory(base: Option<&OwnedFd>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.is_empty() { &b"."[..] } else { path };
    let base = base.map_or(CWD, AsFd::as_fd);
    rustix::fs::openat2(base, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}
