//! The root file system inside: an empty one, with what the plan names mounted into it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::launcher::Failure;
use crate::network;
use crate::plan::{Mount, MountKind, Plan};
use crate::profile::{Isolation, NetworkAccess};

/// Where the new root is put together. It always exists, and is not seen by the command.
const STAGE: &str = "/tmp";
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
const EMPTY_FILE: &str = "/.hidden-file";
const EMPTY_DIRECTORY: &str = "/.hidden-directory";

/// Paths that can be written inside.
pub(crate) fn writable(plan: &Plan) -> Vec<PathBuf> {
    let mounted = plan.mounts.iter().filter_map(|mount| {
        let writable = matches!(
            mount.kind,
            MountKind::Scratch
                | MountKind::Workspace { writable: true }
                | MountKind::Staged { .. }
                | MountKind::Cache { .. }
        );
        writable.then(|| mount.path.get())
    });
    mounted.chain(DEVICES.iter().map(PathBuf::from)).collect()
}

/// Something cloned from the outside, not yet placed.
struct Source<'a> {
    mount: &'a Mount,
    tree: Option<OwnedFd>,
    directory: bool,
}

/// Builds the root and moves into it. Afterwards nothing of the old one is reachable.
pub(crate) fn build(
    plan: &Plan,
    workspace: BorrowedFd<'_>,
    (user, group): (u32, u32),
) -> Result<(), Failure> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(Failure::at("making mounts private"))?;
    if crate::cut::is("root") {
        return Ok(());
    }
    // Take hold of everything before the stage covers a part of it.
    let mut sources = Vec::new();
    for wanted in &plan.mounts {
        if let Some(source) = take(wanted, workspace)? {
            sources.push(source);
        }
    }
    let devices: Vec<_> = DEVICES
        .iter()
        .filter_map(|path| Some((*path, clone_tree(CWD, Path::new(path), OpenTreeFlags::empty()).ok()?)))
        .collect();

    scratch(Path::new(STAGE), "mode=0755,size=16m,nr_inodes=65536")?;
    fs::write(inside(EMPTY_FILE), "").map_err(Failure::at("building the root"))?;
    fs::create_dir(inside(EMPTY_DIRECTORY)).map_err(Failure::at("building the root"))?;
    for (path, mode) in [(EMPTY_FILE, 0), (EMPTY_DIRECTORY, 0o555)] {
        set_mode(&inside(path), mode)?;
    }
    for source in sources {
        place(plan, source)?;
    }
    for (path, tree) in devices {
        touch(&inside(path))?;
        attach(&tree, &inside(path))?;
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "fd/0"),
        ("/dev/stdout", "fd/1"),
        ("/dev/stderr", "fd/2"),
    ] {
        std::os::unix::fs::symlink(target, inside(link)).map_err(Failure::at("building /dev"))?;
    }
    names(plan, user, group).map_err(Failure::at("building /etc"))?;
    certificates(plan).map_err(Failure::at("building the certificates"))?;
    let proc = inside("/proc");
    fs::create_dir_all(&proc).map_err(Failure::at("building the root"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if crate::cut::is("pid-namespace") {
        mount(Some("/proc"), &proc, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
    } else {
        // Only one's own processes are seen: not pid 1, which is wider than they are.
        mount(Some("proc"), &proc, Some("proc"), flags, Some("hidepid=ptraceable"))
    }
    .map_err(Failure::at("mounting /proc"))?;
    std::env::set_current_dir(STAGE).map_err(Failure::at("entering the root"))?;
    nix::unistd::pivot_root(".", ".").map_err(Failure::at("changing the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Failure::at("leaving the old root"))?;
    std::env::set_current_dir("/").map_err(Failure::at("entering the root"))?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at("opening the root"))?;
    restrict(&root, libc::MOUNT_ATTR_RDONLY, false).map_err(Failure::at("making the root read-only"))
}

/// Clones what a mount shows. `None` when it does not exist outside, or is a link that is recreated.
fn take<'a>(wanted: &'a Mount, workspace: BorrowedFd<'_>) -> Result<Option<Source<'a>>, Failure> {
    let path = wanted.path.get();
    let failed =
        |error: io::Error| Failure { what: format!("mounting {}", path.display()), why: error.to_string() };
    let (tree, directory) = match &wanted.kind {
        MountKind::Scratch => (None, true),
        // Found again inside the workspace when it is in place.
        MountKind::Protected | MountKind::Hidden => (None, false),
        MountKind::Staged { upper, work } => {
            let here = same_directory(&path, workspace).map_err(failed)?;
            let tree = overlay(&here, &upper.get(), &work.get()).map_err(failed)?;
            (Some(tree), true)
        }
        MountKind::Cache { from } => {
            let tree = clone_tree(CWD, &from.get(), OpenTreeFlags::empty()).map_err(failed)?;
            restrict(&tree, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, false).map_err(failed)?;
            (Some(tree), true)
        }
        MountKind::Socket => (Some(clone_tree(CWD, &path, OpenTreeFlags::empty()).map_err(failed)?), false),
        MountKind::Workspace { writable } => {
            let here = same_directory(&path, workspace).map_err(failed)?;
            let tree = clone_tree(
                here.as_fd(),
                Path::new(""),
                OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE,
            )
            .map_err(failed)?;
            let read_only = if *writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
            restrict(&tree, read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, true)
                .map_err(failed)?;
            (Some(tree), true)
        }
        MountKind::ReadOnly => {
            let Ok(link) = fs::symlink_metadata(&path) else { return Ok(None) };
            if link.is_symlink() && path.components().count() == 2 {
                // /bin -> usr/bin and the like: recreated, so that both names show the same directory.
                return Ok(Some(Source { mount: wanted, tree: None, directory: false }));
            }
            let metadata = if link.is_symlink() { fs::metadata(&path) } else { Ok(link) };
            let Ok(metadata) = metadata else { return Ok(None) };
            if !metadata.is_dir() && !metadata.is_file() {
                return Ok(None);
            }
            let tree = match clone_tree(CWD, &path, OpenTreeFlags::AT_RECURSIVE) {
                Ok(tree) => tree,
                // Not ours to see, so not the command's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            restrict(&tree, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, true)
                .map_err(failed)?;
            (Some(tree), metadata.is_dir())
        }
    };
    Ok(Some(Source { mount: wanted, tree, directory }))
}

/// Opens `path` in this mount namespace and makes sure that it is the directory that was decided on. (The handle
/// itself belongs to the mount namespace outside, from which the kernel clones nothing.)
fn same_directory(path: &Path, decided: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let here = rustix::fs::open(path, flags, Mode::empty())?;
    let (found, wanted) = (rustix::fs::fstat(&here)?, rustix::fs::fstat(decided)?);
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino) {
        return Err(io::Error::other("another directory has taken its place"));
    }
    Ok(here)
}

fn place(plan: &Plan, source: Source<'_>) -> Result<(), Failure> {
    let path = source.mount.path.get();
    let target = inside(&path);
    let failed = || Failure::at::<io::Error>(format!("mounting {}", path.display()));
    match (&source.mount.kind, source.tree) {
        (MountKind::Scratch, _) => {
            fs::create_dir_all(&target).map_err(failed())?;
            let mode = if path.starts_with("/tmp") || path.starts_with("/dev") { "1777" } else { "0700" };
            scratch(&target, &format!("mode={mode},size={}m", plan.limits.scratch_mb))
        }
        (MountKind::Protected | MountKind::Hidden, _) => cover(plan, source.mount),
        (_, Some(tree)) => {
            if source.directory {
                fs::create_dir_all(&target).map_err(failed())?;
            } else {
                touch(&target)?;
            }
            attach(&tree, &target)
        }
        (_, None) => {
            let link = fs::read_link(&path).map_err(failed())?;
            std::os::unix::fs::symlink(link, &target).map_err(failed())
        }
    }
}

/// Makes something inside the workspace read-only, or hides it. Absent things are left absent.
fn cover(plan: &Plan, wanted: &Mount) -> Result<(), Failure> {
    let path = wanted.path.get();
    let failed =
        |error: io::Error| Failure { what: format!("covering {}", path.display()), why: error.to_string() };
    let workspace = plan
        .mounts
        .iter()
        .find(|mount| matches!(mount.kind, MountKind::Workspace { .. } | MountKind::Staged { .. }));
    let Some(workspace) = workspace.map(|mount| mount.path.get()) else { return Ok(()) };
    let Ok(relative) = path.strip_prefix(&workspace) else { return Ok(()) };
    let root = rustix::fs::open(inside(&workspace), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = match rustix::fs::openat2(&root, relative, flags, Mode::empty(), resolve) {
        Ok(found) => found,
        // Absent, or behind a link, whose target is then covered under its own name.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    let tree = match wanted.kind {
        MountKind::Hidden => {
            let directory = rustix::fs::fstat(&found)
                .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
            let empty = inside(if directory { EMPTY_DIRECTORY } else { EMPTY_FILE });
            clone_tree(CWD, &empty, OpenTreeFlags::empty())
        }
        _ => clone_tree(&found, Path::new(""), OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE),
    }
    .map_err(failed)?;
    restrict(&tree, libc::MOUNT_ATTR_RDONLY, true).map_err(failed)?;
    let target = format!("/proc/self/fd/{}", found.as_raw_fd());
    move_mount(
        tree.as_fd(),
        "",
        CWD,
        target.as_str(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )
    .map_err(|errno| failed(errno.into()))
}

/// `/etc/passwd`, `/etc/group` and `/etc/resolv.conf` of the inside.
fn names(plan: &Plan, user: u32, group: u32) -> io::Result<()> {
    let home = plan.home.get();
    let (name, home) = (&plan.user, home.to_string_lossy());
    fs::create_dir_all(inside("/etc"))?;
    fs::write(
        inside("/etc/passwd"),
        format!(
            "root:x:0:0:root:/root:/sbin/nologin\n{name}:x:{user}:{group}:{name}:{home}:/bin/sh\n\
             nobody:x:65534:65534:nobody:/:/sbin/nologin\n"
        ),
    )?;
    fs::write(inside("/etc/group"), format!("root:x:0:\n{name}:x:{group}:\nnogroup:x:65534:\n"))?;
    let resolver = match plan.network {
        NetworkAccess::Host => return Ok(()),
        NetworkAccess::None => "# no network in the sandbox\n",
        NetworkAccess::Proxy => "# the proxy answers\nnameserver 127.0.0.1\noptions timeout:5 attempts:1\n",
    };
    fs::write(inside("/etc/resolv.conf"), resolver)
}

/// The system's certificates and the session's own authority, in one file, where there is such an authority.
fn certificates(plan: &Plan) -> io::Result<()> {
    let Some(own) = plan.doors.as_ref().and_then(|doors| doors.ca_pem.as_ref()) else { return Ok(()) };
    let mut all = network::BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    all.push('\n');
    all.push_str(own);
    let path = inside(network::CERTIFICATES);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, all)
}

/// An overlay over the workspace, not yet placed: fsopen(2), overlayfs with `userxattr`, as a user namespace may.
fn overlay(below: &OwnedFd, upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen,
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let config = || -> rustix::io::Result<()> {
        fsconfig_set_flag(&context, "userxattr")?;
        // By descriptor: a path could hold the option's separators, or have been replaced.
        fsconfig_set_string(&context, "lowerdir", format!("/proc/self/fd/{}", below.as_raw_fd()))?;
        fsconfig_set_string(&context, "upperdir", upper)?;
        fsconfig_set_string(&context, "workdir", work)?;
        fsconfig_create(&context)
    };
    config().map_err(|errno| {
        io::Error::other(format!("{errno} (overlayfs in a user namespace; needs Linux 5.11 or later)"))
    })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Where `path` of the inside is while the root is being built.
fn inside(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(STAGE).join(path.strip_prefix("/").unwrap_or(path))
}

/// An empty file to mount on. Mostly its directory is there already.
fn touch(path: &Path) -> Result<(), Failure> {
    let create = || match (File::create(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            File::create(path).map(drop)
        }
        (created, _) => created.map(drop),
    };
    create().map_err(Failure::at(format!("creating {}", path.display())))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Failure::at("building the root"))
}

fn scratch(path: &Path, options: &str) -> Result<(), Failure> {
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .map_err(Failure::at(format!("mounting an empty {}", path.display())))
}

fn clone_tree(at: impl AsFd, path: &Path, flags: OpenTreeFlags) -> io::Result<OwnedFd> {
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(at, path, flags)?)
}

fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Failure> {
    move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Failure::at(format!("mounting {}", target.display())))
}

/// Sets mount attributes; mount_setattr(2), Linux 5.12.
fn restrict(tree: &OwnedFd, attributes: u64, recursive: bool) -> io::Result<()> {
    let mut request = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty NUL-terminated string, the structure outlives the call, and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut request,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Paths that can be read inside.
pub(crate) fn readable(plan: &Plan) -> Vec<PathBuf> {
    match plan.isolation {
        // Everything that was mounted.
        Isolation::Namespaces => vec!["/".into()],
        Isolation::Landlock => {
            let absent = |kind: &MountKind| matches!(kind, MountKind::Hidden);
            let paths = plan.mounts.iter().filter(|mount| !absent(&mount.kind)).map(|mount| mount.path.get());
            let more = DEVICES.iter().map(PathBuf::from).chain([PathBuf::from("/proc")]);
            paths.chain(more).filter(|path| path.exists()).collect()
        }
    }
}
