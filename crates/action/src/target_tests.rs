#![allow(clippy::disallowed_methods, reason = "tests prepare files")]

use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("src/deep")).unwrap();
    std::fs::write(work.join("src/a.txt"), "a").unwrap();
    std::fs::write(dir.path().join("secret"), "s").unwrap();
    symlink("src/a.txt", work.join("inside")).unwrap();
    symlink("../secret", work.join("outside")).unwrap();
    symlink("/etc", work.join("etc")).unwrap();
    symlink("nowhere", work.join("dangling")).unwrap();
    symlink("loop", work.join("loop")).unwrap();
    let root = Root::open(&work).unwrap();
    (dir, root)
}

#[test]
fn follows_links_that_stay_and_names_the_real_file() {
    let (_dir, root) = tree();
    assert_eq!(root.resolve("inside").unwrap().display(), "src/a.txt");
    assert_eq!(root.resolve("./src/../src/a.txt").unwrap().display(), "src/a.txt");
    let absolute = root.path().join("src/a.txt");
    assert_eq!(root.resolve(absolute.to_str().unwrap()).unwrap().display(), "src/a.txt");
    assert_eq!(root.resolve("").unwrap().display(), ".");
}

#[test]
fn refuses_what_leaves() {
    let (_dir, root) = tree();
    for path in ["../secret", "outside", "etc/passwd", "/etc/passwd", "src/../../secret", "/proc/self/root"] {
        assert!(matches!(root.resolve(path), Err(ResolveError::Outside { .. })), "{path}");
        assert!(matches!(root.resolve_or_new(path), Err(ResolveError::Outside { .. })), "{path}");
    }
    assert!(root.resolve_or_new("new/../../x").is_err());
    assert!(matches!(root.resolve_or_new("etc/new-file"), Err(ResolveError::Outside { .. })));
    assert!(matches!(root.resolve_or_new("dangling"), Err(ResolveError::BrokenLink { .. })));
    assert!(matches!(root.resolve_or_new("dangling/x"), Err(ResolveError::BrokenLink { .. })));
    assert!(matches!(root.resolve("loop"), Err(ResolveError::BrokenLink { .. })));
    assert!(matches!(root.resolve("a\0b"), Err(ResolveError::Invalid { .. })));
    assert!(matches!(root.resolve_or_new("src/a.txt/b"), Err(ResolveError::NotADirectory { .. })));
}

#[test]
fn new_files_name_what_must_be_created() {
    let (_dir, root) = tree();
    let target = root.resolve_or_new("src/new/dir/file.rs").unwrap();
    assert_eq!(target.display(), "src/new/dir/file.rs");
    assert_eq!(target.missing(), ["new", "dir"]);
    assert_eq!(target.name(), "file.rs");
    assert!(target.kind().is_none());
}

#[test]
fn names_that_are_not_utf8_round_trip() {
    let (_dir, root) = tree();
    let name = OsString::from_vec(b"caf\xe9".to_vec());
    std::fs::write(root.path().join(&name), "x").unwrap();
    let shown = printable(Path::new(&name));
    assert_eq!(shown, "caf\\xe9");
    assert_eq!(root.resolve(&shown).unwrap().path(), Path::new(&name));
}

#[test]
fn a_swap_after_resolving_changes_nothing() {
    let (_dir, root) = tree();
    let target = root.resolve("src/a.txt").unwrap();
    std::fs::remove_file(root.path().join("src/a.txt")).unwrap();
    symlink("../../secret", root.path().join("src/a.txt")).unwrap();
    let stat = rustix::fs::fstat(target.handle().unwrap()).unwrap();
    assert_eq!(stat.st_size, 1);
    assert_eq!(stat.st_nlink, 0, "still the removed file, not the link's target");
}

proptest! {
    #[test]
    fn resolved_paths_are_beneath(parts in prop::collection::vec(
        prop::sample::select(vec!["..", ".", "src", "deep", "inside", "outside", "etc", "a.txt", "dangling", "new", "/"]), 0..7)) {
        let (_dir, root) = tree();
        if let Ok(target) = root.resolve_or_new(&parts.join("/")) {
            prop_assert!(target.path().components().all(|c| matches!(c, Component::Normal(_))));
            if target.kind().is_some() {
                prop_assert_eq!(std::fs::canonicalize(target.absolute()).unwrap(), target.absolute());
            }
        }
    }

    #[test]
    fn printable_round_trips(bytes in prop::collection::vec(1u8..=255, 1..40)) {
        let path = PathBuf::from(OsString::from_vec(bytes));
        let shown = printable(&path);
        prop_assert!(!shown.chars().any(char::is_control));
        if !path.as_os_str().as_bytes().windows(2).any(|w| w == b"\\x") {
            let back = unescape(&shown).unwrap_or_else(|| OsString::from(shown.clone()));
            prop_assert_eq!(back, path.into_os_string());
        }
    }
}
