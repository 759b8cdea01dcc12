//! Reading an upper layer: what of it differs from the workspace below, and what has to be done about it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use action::{Digest, Digester, StagedKind, printable};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::changes::{Change, Object, Refusal};
use super::marks::Marks;
use super::place::{self, Moment, PLAIN, SPECIAL, Seen};
use super::refuse::{leads_out, special};
use super::{Stage, StageError, journal};

/// Most entries that are looked at, in the upper layer and below it.
const MAX_ENTRIES: u64 = 200_000;
/// Deepest directory.
const MAX_DEPTH: u64 = 256;
/// Most bytes of content.
const MAX_BYTES: u64 = 16 << 30;
/// Longest path that the kernel takes, in bytes.
const MAX_PATH: usize = 4000;
/// Something that has to be done at one path of the workspace.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The staged object with everything below comes here.
    Put {
        path: PathBuf,
        /// What is there now.
        below: Option<Seen>,
    },
    /// What is here goes, with everything below.
    Remove { path: PathBuf, below: Seen },
    /// The directory gets another mode.
    Mode { path: PathBuf, below: Seen, mode: u32 },
}

impl Step {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Put { path, .. } | Self::Remove { path, .. } | Self::Mode { path, .. } => path,
        }
    }
}

/// What was found. Changes and steps are sorted by path.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) changes: Vec<Change>,
    pub(super) steps: Vec<Step>,
    pub(super) refused: Vec<Refusal>,
    /// Files whose set-user-id or set-group-id bit is left out.
    pub(super) stripped: Vec<PathBuf>,
    /// Paths that changed below since the stage began.
    pub(super) conflicts: Vec<PathBuf>,
    /// Bytes of content that come in.
    pub(super) bytes: u64,
    /// Everything staged can be read while this lives.
    pub(super) lent: Lent,
}

/// Compares the upper layer of a stage with its workspace.
pub(super) fn scan(stage: &Stage) -> Result<Scan, StageError> {
    let upper = stage.upper_handle()?;
    let lower = place::directory(stage.root.handle(), Path::new(""))
        .map_err(StageError::io("open", stage.info.workspace.clone()))?;
    let mut scanner = Scanner {
        upper,
        lower,
        later: Vec::new(),
        restamped: Vec::new(),
        begun: stage.info.begun,
        settled: journal::settled(&stage.directory)?,
        entries: 0,
        read: 0,
        found: Scan::default(),
    };
    // A list and not recursion: a command decides how deep its directories are.
    scanner.later.push(Later { path: PathBuf::new(), merged: true, hiding: false, inside_new: false });
    while let Some(later) = scanner.later.pop() {
        scanner.directory(&later)?;
    }
    let mut found = scanner.found;
    found.changes.sort_by(|a, b| a.path.cmp(&b.path));
    found.steps.sort_by(|a, b| a.path().cmp(b.path()));
    // Adding and removing names stamps a directory twice alike. Another change means that it is not the directory that
    // it was: it was renamed, or another was put in its place. That matters where something changes in it.
    for path in scanner.restamped {
        let next = found.changes.partition_point(|change| change.path < path);
        if found.changes.get(next).is_some_and(|change| change.path.starts_with(&path)) {
            found.conflicts.push(path);
        }
    }
    found.refused.sort_by(|a, b| a.path.cmp(&b.path));
    found.stripped.sort();
    found.conflicts.sort();
    found.conflicts.dedup();
    Ok(found)
}

struct Scanner {
    upper: OwnedFd,
    lower: OwnedFd,
    /// Directories that have yet to be looked into.
    later: Vec<Later>,
    /// Directories below that were changed in another way than by adding and removing names.
    restamped: Vec<PathBuf>,
    begun: Moment,
    /// Objects that were touched since, but only by taking back a commit of this very stage.
    settled: HashSet<Seen>,
    entries: u64,
    read: u64,
    found: Scan,
}

/// A directory of the upper layer to look into.
struct Later {
    path: PathBuf,
    /// Whether a directory below shows through it.
    merged: bool,
    /// Whether it, or one above it, hides what is below.
    hiding: bool,
    /// Whether it is new, or in a new one.
    inside_new: bool,
}

/// Directories and files of the upper layer that had to be made accessible, with the modes that they had and get back.
#[derive(Debug, Default)]
pub(super) struct Lent(Vec<(OwnedFd, u32)>);

impl Drop for Lent {
    fn drop(&mut self) {
        for (handle, mode) in self.0.drain(..).rev() {
            // If this fails, the next look shows a change of mode, which a person sees.
            let _ = place::set_mode(handle, mode);
        }
    }
}

impl Scanner {
    fn directory(&mut self, later: &Later) -> Result<(), StageError> {
        let Later { path, merged, hiding, inside_new } = later;
        if path.components().count() as u64 > MAX_DEPTH {
            return Err(StageError::TooMuch { what: "directories inside one another", limit: MAX_DEPTH });
        }
        let lower = match merged {
            true => Some(place::directory(&self.lower, path).map_err(|errno| moved(errno, path))?),
            false => None,
        };
        let lower = lower.as_ref();
        let shown = || printable(path);
        let upper = place::directory(&self.upper, path).map_err(StageError::io("open staged", shown()))?;
        self.lend(&upper, 0o700)?;
        let readable = place::readable(&upper).map_err(StageError::io("open staged", shown()))?;
        let marks = Marks::read(&readable, path)?;
        let (hiding, inside_new) = (*hiding || marks.opaque, *inside_new);
        let names = place::names(&upper, self.rest()).map_err(StageError::io("list staged", shown()))?;
        for name in &names {
            self.count(1)?;
            let path = path.join(name);
            if path.as_os_str().len() > MAX_PATH {
                return Err(StageError::TooMuch { what: "bytes in a path", limit: MAX_PATH as u64 });
            }
            self.entry(
                &path,
                &upper,
                name,
                lower,
                Around { hiding, inside_new, whiteouts: marks.whiteouts },
            )?;
        }
        if let (true, Some(lower)) = (hiding, lower) {
            let below = place::names(lower, self.rest()).map_err(StageError::io("list", shown()))?;
            for name in below.iter().filter(|name| names.binary_search(name).is_err()) {
                self.remove(&path.join(name), lower, name)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        upper: &OwnedFd,
        name: &OsStr,
        lower: Option<&OwnedFd>,
        around: Around,
    ) -> Result<(), StageError> {
        let shown = || printable(path);
        let seen = place::look(upper, name)
            .map_err(StageError::io("look at staged", shown()))?
            .ok_or_else(|| StageError::io("look at staged", shown())(Errno::NOENT))?;
        let below = match lower {
            Some(lower) => place::look(lower, name).map_err(StageError::io("look at", shown()))?,
            None => None,
        };
        match seen.kind() {
            FileType::RegularFile => self.file(path, upper, name, lower, below, around),
            FileType::Directory => self.subdirectory(path, upper, name, lower, below, around),
            FileType::Symlink => self.link(path, upper, name, lower, below, around),
            FileType::CharacterDevice if is_whiteout(upper, name) => match lower {
                Some(lower) => self.remove(path, lower, name),
                None => Ok(()),
            },
            kind => {
                self.refuse(path, format!("it is {}", special(kind)));
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        path: &Path,
        upper: &OwnedFd,
        name: &OsStr,
        lower: Option<&OwnedFd>,
        below: Option<Seen>,
        around: Around,
    ) -> Result<(), StageError> {
        let failed = || StageError::io("read staged", printable(path));
        let handle = place::handle(upper, name).map_err(failed())?;
        let had = Seen::of(&rustix::fs::fstat(&handle).map_err(failed())?).permissions();
        self.lend(&handle, 0o400)?;
        let file = File::from(place::file(upper, name).map_err(failed())?);
        let marks = Marks::read(&file, path)?;
        let seen = Seen::of(&rustix::fs::fstat(&file).map_err(failed())?);
        if around.whiteouts && marks.whiteout && seen.size == 0 {
            return match lower {
                Some(lower) => self.remove(path, lower, name),
                None => Ok(()),
            };
        }
        if had & SPECIAL != 0 {
            self.found.stripped.push(path.to_owned());
        }
        let mode = had & PLAIN;
        let (digest, size) = self.digest(file).map_err(StageError::io("read staged", printable(path)))?;
        if let (Some(lower), Some(below)) = (lower, below)
            && below.is_file()
            && (below.permissions() == had || below.permissions() == mode)
            && below.size == size
            && self.below_is(lower, name, digest)?
        {
            return Ok(());
        }
        self.check_origin(path, marks, lower, below);
        self.found.bytes += size;
        self.put(path, Object::File { mode, size }, Some(digest), lower, below, around)
    }

    fn link(
        &mut self,
        path: &Path,
        upper: &OwnedFd,
        name: &OsStr,
        lower: Option<&OwnedFd>,
        below: Option<Seen>,
        around: Around,
    ) -> Result<(), StageError> {
        let failed = || StageError::io("read the link", printable(path));
        let target = place::link_target(upper, name).map_err(failed())?;
        if let (Some(lower), Some(below)) = (lower, below)
            && below.kind() == FileType::Symlink
            && place::link_target(lower, name).map_err(failed())? == target
        {
            return Ok(());
        }
        if let Some(why) = leads_out(path, &target) {
            self.refuse(path, format!("it is a link to {}, {why}", printable(&target)));
            return Ok(());
        }
        self.put(path, Object::Link { target }, None, lower, below, around)
    }

    fn subdirectory(
        &mut self,
        path: &Path,
        upper: &OwnedFd,
        name: &OsStr,
        lower: Option<&OwnedFd>,
        below: Option<Seen>,
        around: Around,
    ) -> Result<(), StageError> {
        let failed = || StageError::io("open", printable(path));
        let handle = place::directory(upper, Path::new(name)).map_err(failed())?;
        let had = Seen::of(&rustix::fs::fstat(&handle).map_err(failed())?).permissions();
        let all_below = below;
        let Some(below) = below.filter(Seen::is_dir) else {
            let mode = had & PLAIN;
            self.lend(&handle, 0o700)?;
            let marks = Marks::read(place::readable(&handle).map_err(failed())?, path)?;
            self.check_origin(path, marks, lower, all_below);
            self.put(path, Object::Directory { mode }, None, lower, all_below, around)?;
            self.later.push(Later { path: path.to_owned(), merged: false, hiding: false, inside_new: true });
            return Ok(());
        };
        // A group that is inherited from the directory is the workspace's own arrangement.
        let mode = (had & PLAIN) | (below.permissions() & SPECIAL);
        if mode != below.permissions() {
            self.change(path, Some(below), None, Some(Object::Directory { mode }), None);
            self.found.steps.push(Step::Mode { path: path.to_owned(), below, mode });
        }
        if self.touched(&below) && below.changed != below.written {
            self.restamped.push(path.to_owned());
        }
        self.later.push(Later {
            path: path.to_owned(),
            merged: true,
            hiding: around.hiding,
            inside_new: false,
        });
        Ok(())
    }

    /// The staged object comes to `path`, whatever is there now.
    fn put(
        &mut self,
        path: &Path,
        after: Object,
        digest: Option<Digest>,
        lower: Option<&OwnedFd>,
        below: Option<Seen>,
        around: Around,
    ) -> Result<(), StageError> {
        let target = match (lower, path.file_name(), below) {
            (_, _, Some(below)) if below.is_dir() => {
                self.remove_below(path)?;
                None
            }
            (Some(lower), Some(name), Some(below)) if below.kind() == FileType::Symlink => {
                place::link_target(lower, name).ok()
            }
            _ => None,
        };
        self.change(path, below, target, Some(after), digest);
        if !around.inside_new {
            self.found.steps.push(Step::Put { path: path.to_owned(), below });
        }
        Ok(())
    }

    /// What is at `path` below goes. If nothing is, somebody else has removed it, and that is the same.
    fn remove(&mut self, path: &Path, lower: &OwnedFd, name: &OsStr) -> Result<(), StageError> {
        let shown = || printable(path);
        let Some(below) = place::look(lower, name).map_err(StageError::io("look at", shown()))? else {
            return Ok(());
        };
        let target = place::link_target(lower, name).ok();
        self.change(path, Some(below), target, None, None);
        self.found.steps.push(Step::Remove { path: path.to_owned(), below });
        if below.is_dir() { self.remove_below(path) } else { Ok(()) }
    }

    /// Everything below a directory of the workspace goes, one change for each path.
    fn remove_below(&mut self, path: &Path) -> Result<(), StageError> {
        let mut later = vec![path.to_owned()];
        while let Some(path) = later.pop() {
            if path.components().count() as u64 > MAX_DEPTH {
                return Err(StageError::TooMuch { what: "directories inside one another", limit: MAX_DEPTH });
            }
            let shown = || printable(&path);
            let inside = place::directory(&self.lower, &path).map_err(|errno| moved(errno, &path))?;
            for name in place::names(&inside, self.rest()).map_err(StageError::io("list", shown()))? {
                self.count(1)?;
                let path = path.join(&name);
                let below =
                    place::look(&inside, &name).map_err(StageError::io("look at", printable(&path)))?;
                let Some(below) = below else { continue };
                self.change(&path, Some(below), place::link_target(&inside, &name).ok(), None, None);
                if below.is_dir() {
                    later.push(path);
                }
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        path: &Path,
        below: Option<Seen>,
        target: Option<PathBuf>,
        after: Option<Object>,
        digest: Option<Digest>,
    ) {
        if below.is_some_and(|below| self.touched(&below)) {
            self.found.conflicts.push(path.to_owned());
        }
        let kind = match (&below, &after) {
            (None, _) => StagedKind::Created,
            (Some(_), Some(_)) => StagedKind::Changed,
            (Some(_), None) => StagedKind::Deleted,
        };
        self.found.changes.push(Change {
            path: path.to_owned(),
            kind,
            host_trusted: policy::host_trusted(path) || stands_in(path, after.as_ref()),
            before: below.map(|below| Object::seen(&below, target)),
            after,
            lines: None,
            below,
            digest,
        });
    }

    /// Something that was copied from below and has nothing below any more: it was deleted there, if anything was.
    fn check_origin(&mut self, path: &Path, marks: Marks, lower: Option<&OwnedFd>, below: Option<Seen>) {
        let parent = lower.and_then(|lower| rustix::fs::fstat(lower).ok()).map(|stat| Seen::of(&stat));
        if marks.origin && below.is_none() && parent.is_some_and(|parent| parent.written >= self.begun) {
            self.found.conflicts.push(path.to_owned());
        }
    }

    fn touched(&self, below: &Seen) -> bool {
        below.changed >= self.begun && !self.settled.contains(below)
    }

    fn refuse(&mut self, path: &Path, why: String) {
        self.found.refused.push(Refusal { path: path.to_owned(), why });
    }

    /// Makes an object of the upper layer accessible, for as long as this looks.
    fn lend(&mut self, handle: &OwnedFd, needed: u32) -> Result<(), StageError> {
        let failed = || StageError::io("open", "the stage");
        let seen = Seen::of(&rustix::fs::fstat(handle).map_err(failed())?);
        if seen.mode & needed == needed {
            return Ok(());
        }
        place::set_mode(handle, seen.permissions() | needed).map_err(failed())?;
        let handle = handle.try_clone().map_err(StageError::io("open", "the stage"))?;
        self.found.lent.0.push((handle, seen.permissions()));
        Ok(())
    }

    fn digest(&mut self, mut file: File) -> std::io::Result<(Digest, u64)> {
        let mut digester = Digester::default();
        let mut buffer = vec![0u8; 64 * 1024];
        let mut size = 0u64;
        loop {
            let length = match file.read(&mut buffer) {
                Ok(0) => return Ok((digester.finish(), size)),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            digester.update(&buffer[..length]);
            size += length as u64;
            self.read += length as u64;
            if self.read > MAX_BYTES {
                return Err(std::io::Error::other(format!("the stage has more than {MAX_BYTES} bytes")));
            }
        }
    }

    /// Whether the file below has this content. One that cannot be read has another.
    fn below_is(&mut self, lower: &OwnedFd, name: &OsStr, digest: Digest) -> Result<bool, StageError> {
        let Ok(file) = place::file(lower, name) else { return Ok(false) };
        let read = self.read;
        let found = self.digest(File::from(file));
        // Only what is staged counts.
        self.read = read;
        Ok(found.is_ok_and(|(found, _)| found == digest))
    }

    fn count(&mut self, entries: u64) -> Result<(), StageError> {
        self.entries += entries;
        if self.entries > MAX_ENTRIES {
            return Err(StageError::TooMuch { what: "entries", limit: MAX_ENTRIES });
        }
        Ok(())
    }

    fn rest(&self) -> usize {
        usize::try_from(MAX_ENTRIES - self.entries.min(MAX_ENTRIES)).unwrap_or(usize::MAX)
    }
}

/// What is around an entry.
#[derive(Debug, Clone, Copy)]
struct Around {
    /// The directory hides what is below.
    hiding: bool,
    /// The directory is itself new, and comes as a whole.
    inside_new: bool,
    /// Regular files can be whiteouts.
    whiteouts: bool,
}

/// A directory of the workspace that is not where it was a moment ago.
fn moved(errno: Errno, path: &Path) -> StageError {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => StageError::Conflict { paths: vec![printable(path)] },
        // Something is mounted there, and the overlay shows what is under the mount.
        Errno::XDEV => StageError::Conflict { paths: vec![format!("{} (a mount point)", printable(path))] },
        errno => StageError::io("open", printable(path))(errno),
    }
}

fn is_whiteout(directory: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_rdev == 0)
}

/// Whether a link gives what is somewhere else a trusted place: `.github` that leads to `evil`, or a project that lies
/// where packages are unpacked.
fn stands_in(path: &Path, after: Option<&Object>) -> bool {
    match after {
        Some(Object::Link { target }) => {
            policy::leads_to_guarded(path) || (policy::packaged(target) && !policy::packaged(path))
        }
        _ => false,
    }
}
