//! A model of the overlay file system: random changes, once directly and once into an upper layer that is committed.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Do {
    Write(usize, Vec<u8>),
    Mkdir(usize),
    Remove(usize),
    Chmod(usize, u32),
    Link(usize, usize),
}

/// Paths that collide a lot.
fn paths() -> Vec<PathBuf> {
    let names = ["a", "b"];
    let mut paths = Vec::new();
    for a in names {
        paths.push(PathBuf::from(a));
        for b in names {
            paths.push(Path::new(a).join(b));
            for c in names {
                paths.push(Path::new(a).join(b).join(c));
            }
        }
    }
    paths
}

fn any_do() -> impl Strategy<Value = Do> {
    let path = 0..paths().len();
    let modes = prop_oneof![Just(0o755u32), Just(0o644), Just(0o500), Just(0o555), Just(0o700)];
    prop_oneof![
        3 => (path.clone(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(at, content)| Do::Write(at, content)),
        3 => path.clone().prop_map(Do::Mkdir),
        3 => path.clone().prop_map(Do::Remove),
        2 => (path.clone(), modes).prop_map(|(at, mode)| Do::Chmod(at, mode)),
        1 => (path.clone(), path).prop_map(|(at, to)| Do::Link(at, to)),
    ]
}

/// What is at a path, as a program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Nothing,
    File,
    Directory,
    Link,
}

fn is(path: &Path) -> Is {
    match path.symlink_metadata() {
        Err(_) => Is::Nothing,
        Ok(about) if about.is_dir() => Is::Directory,
        Ok(about) if about.is_symlink() => Is::Link,
        Ok(_) => Is::File,
    }
}

/// Does it directly. Everything that is not possible is left out, the same way in [`Overlay`].
fn direct(root: &Path, what: &Do) {
    let paths = paths();
    let (Do::Write(at, _) | Do::Mkdir(at) | Do::Remove(at) | Do::Chmod(at, _) | Do::Link(at, _)) = what;
    let relative = &paths[*at];
    let path = root.join(relative);
    if is(path.parent().unwrap()) != Is::Directory || through_link(root, relative) {
        return;
    }
    match (what, is(&path)) {
        (Do::Write(_, content), Is::Nothing | Is::File) => std::fs::write(&path, content).unwrap(),
        (Do::Mkdir(_), Is::Nothing) => std::fs::create_dir(&path).unwrap(),
        (Do::Remove(_), Is::Directory) => std::fs::remove_dir_all(&path).unwrap(),
        (Do::Remove(_), Is::File | Is::Link) => std::fs::remove_file(&path).unwrap(),
        (Do::Chmod(_, bits), Is::File | Is::Directory) => mode(&path, usable(*bits)),
        (Do::Link(_, to), Is::Nothing) => std::os::unix::fs::symlink(&paths[*to], &path).unwrap(),
        _ => {}
    }
}

/// Root may do anything; others need the owner's bits for what this test does next.
fn usable(bits: u32) -> u32 {
    if rustix::process::geteuid().is_root() { bits } else { bits | 0o700 }
}

fn through_link(root: &Path, path: &Path) -> bool {
    path.ancestors().skip(1).any(|above| is(&root.join(above)) == Is::Link)
}

struct Overlay {
    lower: PathBuf,
    upper: PathBuf,
    device: bool,
}

impl Overlay {
    /// The path below, where it shows through.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let mut at = PathBuf::new();
        let mut hidden = false;
        for part in path {
            if hidden {
                return None;
            }
            at.push(part);
            let upper = self.upper.join(&at);
            match is(&upper) {
                Is::Directory => hidden = marked(&upper, "opaque", b"y"),
                Is::Nothing => {}
                // A whiteout, or something that covers it.
                _ if at != path => return None,
                _ => {}
            }
        }
        let below = self.lower.join(path);
        (is(&below) != Is::Nothing && !through_link(&self.lower, path)).then_some(below)
    }

    fn is(&self, path: &Path) -> Is {
        let mut at = PathBuf::new();
        for part in path {
            at.push(part);
            let upper = self.upper.join(&at);
            if is_whiteout(&upper) {
                return Is::Nothing;
            }
            let here = match is(&upper) {
                Is::Nothing => self.below(&at).map_or(Is::Nothing, |below| is(&below)),
                here => here,
            };
            if at == path || here != Is::Directory {
                return if at == path { here } else { Is::Nothing };
            }
        }
        Is::Directory
    }

    fn copy_up(&self, path: &Path) {
        let ancestors: Vec<_> = path.ancestors().collect();
        for path in ancestors.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            let upper = self.upper.join(path);
            if is(&upper) == Is::Nothing
                && let Some(below) = self.below(path)
            {
                match is(&below) {
                    Is::Directory => std::fs::create_dir(&upper).unwrap(),
                    Is::File => drop(std::fs::copy(&below, &upper).unwrap()),
                    _ => continue,
                }
                mode(&upper, below.metadata().unwrap().mode() & 0o7777);
                mark(&upper, "origin", b"");
            }
        }
    }

    /// Removes a whiteout; whether there was something that has to stay hidden.
    fn uncover(&self, path: &Path) -> bool {
        let upper = self.upper.join(path);
        if is_whiteout(&upper) {
            std::fs::remove_file(upper).unwrap();
            return true;
        }
        false
    }

    fn apply(&self, what: &Do) {
        let paths = paths();
        let (Do::Write(at, _) | Do::Mkdir(at) | Do::Remove(at) | Do::Chmod(at, _) | Do::Link(at, _)) = what;
        let path = &paths[*at];
        if self.is(path.parent().unwrap()) != Is::Directory {
            return;
        }
        let upper = self.upper.join(path);
        let here = self.is(path);
        match (what, here) {
            (Do::Write(_, content), Is::Nothing | Is::File) => {
                self.copy_up(path.parent().unwrap());
                self.uncover(path);
                if here == Is::File {
                    self.copy_up(path);
                }
                std::fs::write(&upper, content).unwrap();
            }
            (Do::Mkdir(_), Is::Nothing) => {
                self.copy_up(path.parent().unwrap());
                let hides = self.uncover(path);
                std::fs::create_dir(&upper).unwrap();
                if hides {
                    mark(&upper, "opaque", b"y");
                }
            }
            (Do::Remove(_), Is::File | Is::Link | Is::Directory) => {
                self.copy_up(path.parent().unwrap());
                let below = self.below(path).is_some();
                match is(&upper) {
                    Is::Nothing => {}
                    Is::Directory => std::fs::remove_dir_all(&upper).unwrap(),
                    _ => std::fs::remove_file(&upper).unwrap(),
                }
                if below {
                    whiteout(&upper, self.device);
                }
            }
            (Do::Chmod(_, bits), Is::File | Is::Directory) => {
                self.copy_up(path);
                mode(&upper, usable(*bits));
            }
            (Do::Link(_, to), Is::Nothing) => {
                self.copy_up(path.parent().unwrap());
                self.uncover(path);
                std::os::unix::fs::symlink(&paths[*to], &upper).unwrap();
            }
            _ => {}
        }
    }
}

fn is_whiteout(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.symlink_metadata().is_ok_and(|about| about.file_type().is_char_device())
        || (is(path) == Is::File && marked(path, "whiteout", b""))
}

fn marked(path: &Path, name: &str, value: &[u8]) -> bool {
    let mut found = [0u8; 16];
    rustix::fs::lgetxattr(path, format!("user.overlay.{name}"), &mut found)
        .is_ok_and(|length| found[..length] == *value)
}

/// Few cases, unless `PROPTEST_CASES` says how many.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if told { config.cases } else { 96 }, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_commit_does_what_the_command_would_have_done(
        first in prop::collection::vec(any_do(), 0..25),
        then in prop::collection::vec(any_do(), 1..25),
        device: bool,
        stops: Option<(bool, usize)>,
    ) {
        let place = Place::new();
        let copy = tempfile::tempdir().unwrap();
        for what in &first {
            direct(&place.work, what);
            direct(copy.path(), what);
        }
        let before = place.tree();
        let stage = place.stage();
        let overlay = Overlay { lower: place.work.clone(), upper: stage.upper(), device };
        for what in &then {
            direct(copy.path(), what);
            overlay.apply(what);
        }
        let after = tree(copy.path());
        prop_assert_eq!(&place.tree(), &before, "the model wrote below");
        let changes = stage.changes().unwrap();
        prop_assert!(changes.refused.is_empty() && changes.conflicts.is_empty(), "{:?}", changes);
        prop_assert_eq!(changes.list.is_empty(), before == after, "{:?}", changes.list);

        // Once stopped somewhere, where that is wanted, and then to the end.
        let mut stage = stage;
        if let Some((die, at)) = stops {
            let mut count = 0;
            let fault = if die { Fault::Die } else { Fault::Fail };
            let id = stage.id().to_owned();
            let result = commit_or(&stage, &mut |point| {
                count += 1;
                (count > at % 12 && point != Point::Complete).then_some(fault)
            });
            if result.is_ok() {
                prop_assert_eq!(place.tree(), after);
                return Ok(());
            }
            if die {
                drop(stage);
                Stage::recover(&place.home, &id, &place.root).unwrap();
                stage = Stage::open(&place.home, &id, &place.root).unwrap();
            }
            prop_assert_eq!(&place.tree(), &before);
        }
        commit(&stage).unwrap();
        prop_assert_eq!(place.tree(), after);
    }
}
