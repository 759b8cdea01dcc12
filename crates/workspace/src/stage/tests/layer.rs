//! Upper layers built by hand.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use action::{Actor, Autonomy, SessionId, StagedKind};
use gate::{Gate, Limits, Nobody};
use ledger::{Entries, Ledger};
use policy::{BY_HAND, Policy};

use super::*;

#[test]
fn changes_are_listed_and_committed_and_the_stage_is_gone() {
    let place =
        Place::with(&[("a.txt", "one\ntwo\n"), ("gone.txt", "x\n"), ("same", "s"), ("d/deep/f", "f")]);
    let stage = place.stage();
    let upper = stage.upper();
    put(&upper, "a.txt", "one\n2\n");
    put(&upper, "same", "s");
    put(&upper, "new/deep/n.txt", "n\n");
    whiteout(&upper.join("gone.txt"), true);
    whiteout(&upper.join("d"), true);
    put(&upper, ".git/hooks/pre-commit", "#!/bin/sh\n");
    std::fs::write(upper.join("bin"), [0, 1, 2]).unwrap();
    stage.ended().unwrap();
    let changes = stage.changes().unwrap();
    assert_eq!(
        kinds(&changes),
        [
            "+.git",
            "+.git/hooks",
            "+.git/hooks/pre-commit",
            "~a.txt",
            "+bin",
            "-d",
            "-d/deep",
            "-d/deep/f",
            "-gone.txt",
            "+new",
            "+new/deep",
            "+new/deep/n.txt"
        ]
    );
    let trusted: Vec<_> = changes.list.iter().filter(|c| c.host_trusted).map(|c| c.path.clone()).collect();
    assert_eq!(trusted.len(), 3, "{trusted:?}");
    assert!(
        changes.diff.contains("--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"),
        "{}",
        changes.diff
    );
    assert!(changes.diff.contains("(nothing -> binary, 3 bytes)"), "{}", changes.diff);
    let a = changes.list.iter().find(|change| change.path == Path::new("a.txt")).unwrap();
    assert_eq!(a.lines, Some((1, 1)));
    assert_eq!(Stage::list(&place.home).unwrap()[0].state, StageState::Pending);
    let committed = commit(&stage).unwrap();
    assert_eq!((committed.created, committed.changed, committed.deleted), (7, 1, 4));
    assert!(!place.work.join("d").exists() && !place.work.join("gone.txt").exists());
    assert_eq!(std::fs::read(place.work.join("a.txt")).unwrap(), b"one\n2\n");
    assert_eq!(std::fs::read(place.work.join("new/deep/n.txt")).unwrap(), b"n\n");
    assert_eq!(Stage::list(&place.home).unwrap(), []);
    assert!(place.tree().keys().all(|path| !path.to_string_lossy().contains(".varvel-")));
    assert_eq!(std::fs::read_dir(place.home.join("stage")).unwrap().count(), 0);
}

#[test]
fn what_goes_through_the_gate_is_recorded_by_digest() {
    let place = Place::with(&[("a", "1")]);
    let stage = place.stage();
    put(&stage.upper(), "a", "22");
    let action = stage.changes().unwrap().to_action(&place.root.resolve(".").unwrap());
    assert_eq!((action.changes.len(), action.changes[0].kind), (1, StagedKind::Changed));
    let actor = Actor { person: "p".into(), agent: BY_HAND.into(), session: SessionId::new("s") };
    let ledger = Ledger::open(&place.home.join("ledger")).unwrap();
    let policy = Policy::new(Autonomy::Observe);
    let gate = Gate::new(actor, policy, Limits::default(), Box::new(Nobody), ledger);
    let now = |action| {
        let future = gate.perform(action, async |authorized| stage.commit(authorized));
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it waits"),
        }
    };
    // Somebody writes to the stage between the decision and the commit.
    put(&stage.upper(), "a", "33");
    assert!(now(action.clone()).is_err());
    assert_eq!(std::fs::read(place.work.join("a")).unwrap(), b"1");
    put(&stage.upper(), "a", "22");
    let committed = now(action).unwrap().value;
    assert_eq!((committed.changed, committed.bytes), (1, 2));
    let entries: Vec<_> = Entries::open(&place.home.join("ledger")).unwrap().collect();
    assert_eq!(entries[3]["record"]["digest"], committed.digest.to_string());
    assert_eq!(entries[2]["record"]["action"]["changes"][0]["path"], "a");
}

#[test]
fn opaque_directories_and_changes_of_type() {
    for device in [true, false] {
        let place =
            Place::with(&[("d/old", "o"), ("d/kept", "k"), ("d/sub/x", "x"), ("f", "f"), ("g/h/i", "i")]);
        let stage = place.stage();
        let upper = stage.upper();
        put(&upper, "d/kept", "k");
        put(&upper, "d/sub/y", "y");
        mark(&upper.join("d"), "opaque", b"y");
        std::fs::create_dir(upper.join("f")).unwrap();
        put(&upper, "f/in", "in");
        std::fs::create_dir(upper.join("g")).unwrap();
        symlink("../f", upper.join("g/h")).unwrap();
        whiteout(&upper.join("nothing"), device);
        let changes = stage.changes().unwrap();
        assert_eq!(
            kinds(&changes),
            ["-d/old", "-d/sub/x", "+d/sub/y", "~f", "+f/in", "~g/h", "-g/h/i"],
            "{device}"
        );
        commit(&stage).unwrap();
        assert_eq!(std::fs::read(place.work.join("g/h/in")).unwrap(), b"in");
        assert_eq!(place.tree().len(), 8);
    }
}

#[test]
fn modes_and_times_are_kept_and_dangerous_bits_are_not() {
    let place = Place::with(&[("run", "r"), ("d/f", "f"), ("closed/f", "f"), ("ro/gone/f", "f")]);
    mode(&place.work.join("closed"), 0o555);
    mode(&place.work.join("ro/gone"), 0o555);
    mode(&place.work.join("ro"), 0o555);
    let stage = place.stage();
    let upper = stage.upper();
    put(&upper, "run", "r");
    mode(&upper.join("run"), 0o4755);
    std::fs::create_dir(upper.join("d")).unwrap();
    mode(&upper.join("d"), 0o700);
    put(&upper, "closed/f", "g");
    mode(&upper.join("closed"), 0o555);
    std::fs::create_dir(upper.join("ro")).unwrap();
    whiteout(&upper.join("ro/gone"), true);
    mode(&upper.join("ro"), 0o500);
    put(&upper, "tight/inner/f", "t");
    mode(&upper.join("tight/inner"), 0o500);
    mode(&upper.join("tight"), 0o555);
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::open(upper.join("run")).unwrap().set_modified(old).unwrap();
    let changes = stage.changes().unwrap();
    assert_eq!(changes.stripped, [Path::new("run")]);
    commit(&stage).unwrap();
    let about = |path: &str| place.work.join(path).metadata().unwrap();
    assert_eq!(about("run").mode() & 0o7777, 0o755);
    assert_eq!(about("run").modified().unwrap(), old);
    for (path, mode) in
        [("d", 0o700), ("closed", 0o555), ("ro", 0o500), ("tight", 0o555), ("tight/inner", 0o500)]
    {
        assert_eq!(about(path).mode() & 0o7777, mode, "{path}");
    }
    assert!(!place.work.join("ro/gone").exists());
    assert_eq!(std::fs::read(place.work.join("closed/f")).unwrap(), b"g");
}

#[test]
fn links_that_lead_out_and_special_files_are_refused_until_they_are_left_out() {
    let place = Place::with(&[("in", "x"), ("d/e/f", "y")]);
    symlink("/etc/passwd", place.work.join("old")).unwrap();
    let stage = place.stage();
    let upper = stage.upper();
    std::fs::create_dir_all(upper.join("d/e")).unwrap();
    for (path, target) in [
        ("old", "/etc/passwd"),
        ("abs", "/etc"),
        ("up", ".."),
        ("d/e/up3", "../../../x"),
        ("again", "d/../../x"),
        ("fine", "d/e/f"),
        ("d/e/fine", "../../in"),
        ("broken", "not-there"),
    ] {
        symlink(target, upper.join(path)).unwrap();
    }
    rustix::fs::mknodat(CWD, upper.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    let changes = stage.changes().unwrap();
    let refused: Vec<_> = changes.refused.iter().map(|r| r.path.to_string_lossy().into_owned()).collect();
    assert_eq!(refused, ["abs", "again", "d/e/up3", "pipe", "socket", "up"]);
    let before = place.tree();
    assert!(matches!(commit(&stage), Err(StageError::Refused { paths }) if paths.len() == 6));
    assert_eq!(place.tree(), before);
    drop(socket);
    assert_eq!(stage.leave_out_refused().unwrap(), 6);
    assert_eq!(kinds(&stage.changes().unwrap()), ["+broken", "+d/e/fine", "+fine"]);
    commit(&stage).unwrap();
    assert_eq!(std::fs::read(place.work.join("d/e/fine")).unwrap(), b"x");
}

#[test]
fn what_changed_underneath_is_a_conflict() {
    type Change = fn(&Path);
    let cases: &[(&str, Change)] = &[
        ("changed", |work| std::fs::write(work.join("changed"), "host").unwrap()),
        ("changed", |work| mode(&work.join("changed"), 0o600)),
        ("changed", |work| {
            std::fs::rename(work.join("other"), work.join("changed")).unwrap();
        }),
        ("new", |work| std::fs::write(work.join("new"), "host").unwrap()),
        ("tree", |work| std::fs::write(work.join("tree/a/more"), "host").unwrap()),
        ("tree", |work| std::fs::write(work.join("tree/a/b"), "host").unwrap()),
        ("dir", |work| {
            std::fs::rename(work.join("dir"), work.join("dir2")).unwrap();
            std::fs::rename(work.join("lookalike"), work.join("dir")).unwrap();
        }),
        ("dir", |work| std::fs::remove_dir_all(work.join("dir")).unwrap()),
    ];
    let files = [
        ("changed", "1"),
        ("other", "1"),
        ("tree/a/b", "b"),
        ("dir/f", "f"),
        ("lookalike/f", "f"),
        ("gone", "g"),
    ];
    for (number, (name, change)) in cases.iter().enumerate() {
        let place = Place::with(&files);
        let stage = place.stage();
        let upper = stage.upper();
        put(&upper, "changed", "2");
        put(&upper, "new", "n");
        put(&upper, "dir/f", "staged");
        mark(&upper.join("dir"), "origin", b"");
        mark(&upper.join("dir/f"), "origin", b"");
        whiteout(&upper.join("tree"), true);
        whiteout(&upper.join("gone"), true);
        change(&place.work);
        // Deleting what the command deleted as well, or adding something elsewhere, is no conflict.
        std::fs::remove_file(place.work.join("gone")).unwrap();
        let before = place.tree();
        match commit(&stage) {
            Err(StageError::Conflict { paths }) => {
                assert!(paths.iter().all(|path| path.starts_with(name)), "{number}: {paths:?}");
            }
            other => panic!("{number}: {other:?}"),
        }
        assert_eq!(place.tree(), before, "{number}");
        stage.drop_changes().unwrap();
        assert_eq!(place.tree(), before, "{number}");
    }
    let place = Place::with(&files);
    let stage = place.stage();
    put(&stage.upper(), "dir/f", "staged");
    std::fs::write(place.work.join("dir/unrelated"), "host").unwrap();
    std::fs::write(place.work.join("changed"), "host").unwrap();
    commit(&stage).unwrap();
    assert_eq!(std::fs::read(place.work.join("dir/f")).unwrap(), b"staged");
}

#[test]
fn unknown_marks_and_deep_trees_are_errors() {
    let place = Place::new();
    let stage = place.stage();
    std::fs::create_dir(stage.upper().join("d")).unwrap();
    mark(&stage.upper().join("d"), "redirect", b"/x");
    assert!(matches!(stage.changes(), Err(StageError::Unsupported { .. })));
    std::fs::remove_dir(stage.upper().join("d")).unwrap();
    let deep = (0..300).fold(stage.upper(), |path, _| path.join("d"));
    std::fs::create_dir_all(deep).unwrap();
    assert!(matches!(stage.changes(), Err(StageError::TooMuch { .. })));
    stage.drop_changes().unwrap();
}

#[test]
fn dropping_removes_everything_and_follows_nothing() {
    let place = Place::with(&[("a", "a")]);
    put(&place.home, "outside/f", "f");
    let stage = place.stage();
    let upper = stage.upper();
    put(&upper, "r/s/t", "t");
    symlink(place.home.join("outside"), upper.join("r/s/out")).unwrap();
    mode(&upper.join("r/s"), 0o000);
    mode(&upper.join("r"), 0o555);
    std::fs::create_dir(stage.work().join("work")).unwrap();
    mode(&stage.work().join("work"), 0o000);
    // Deeper than what is held open at once, and than a path can be long.
    let mut at = rustix::fs::open(&upper, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = "d".repeat(100);
    for _ in 0..200 {
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o700)).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    stage.drop_changes().unwrap();
    assert_eq!(std::fs::read_dir(place.home.join("stage")).unwrap().count(), 0);
    assert_eq!(std::fs::read(place.home.join("outside/f")).unwrap(), b"f");
    assert_eq!(place.tree().len(), 1);
}

#[test]
fn a_stage_is_opened_once_and_only_over_its_workspace() {
    let place = Place::new();
    let other = Place::new();
    let mut stage = place.stage();
    stage.set_note("make\x1b all").unwrap();
    let id = stage.id().to_owned();
    assert!(matches!(Stage::open(&place.home, &id, &place.root), Err(StageError::InUse { .. })));
    assert_eq!(Stage::list(&place.home).unwrap()[0].state, StageState::Running);
    drop(stage);
    assert!(matches!(Stage::open(&place.home, &id, &other.root), Err(StageError::OtherWorkspace { .. })));
    for id in ["", "../../x", "0000000", "ABCDEF00", "00000000"] {
        assert!(matches!(Stage::open(&place.home, id, &place.root), Err(StageError::NoSuchStage { .. })));
    }
    let stage = Stage::open(&place.home, &id, &place.root).unwrap();
    assert_eq!(Stage::info(&place.home, &id).unwrap().note, "make all");
    assert!(matches!(Stage::discard(&place.home, &id), Err(StageError::InUse { .. })));
    assert_eq!(commit(&stage).unwrap().created, 0, "nothing is staged");
    let id = place.stage().id().to_owned();
    Stage::discard(&place.home, &id).unwrap();
    assert_eq!(Stage::list(&place.home).unwrap(), []);
}

#[test]
fn where_links_lead() {
    use crate::stage::refuse::leads_out;
    for (path, target, out) in [
        ("a", "b", false),
        ("a", "./b", false),
        ("a", "", false),
        ("a", "..", true),
        ("d/a", "..", false),
        ("d/a", "../..", true),
        ("d/e/a", "../../x", false),
        ("d/e/a", "../x/../y", true),
        ("a", "/", true),
    ] {
        assert_eq!(leads_out(Path::new(path), Path::new(target)).is_some(), out, "{path} -> {target}");
    }
}

#[test]
fn names_that_are_not_text() {
    let place = Place::new();
    std::fs::write(place.work.join(OsStr::from_bytes(b"\xff\xfe")), "1").unwrap();
    let stage = place.stage();
    std::fs::write(stage.upper().join(OsStr::from_bytes(b"\xff\xfe")), "2").unwrap();
    std::fs::write(stage.upper().join(OsStr::from_bytes(b"new\n\x80")), "3").unwrap();
    let target = place.root.resolve(".").unwrap();
    let action = stage.changes().unwrap().to_action(&target);
    let paths: Vec<_> = action.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["new\\x0a\\x80", "\\xff\\xfe"]);
    commit(&stage).unwrap();
    assert_eq!(std::fs::read(place.work.join(OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"2");
}

#[test]
fn what_its_owner_may_not_read_is_committed_too() {
    let place = Place::with(&[("ro/f", "f"), ("empty/x", "x")]);
    std::fs::remove_file(place.work.join("empty/x")).unwrap();
    mode(&place.work.join("empty"), 0o555);
    mode(&place.work.join("ro"), 0o555);
    let stage = place.stage();
    let upper = stage.upper();
    put(&upper, "secret", "s");
    put(&upper, "closed/in/f", "f");
    put(&upper, "ro/new", "n");
    whiteout(&upper.join("empty"), true);
    for path in ["secret", "closed/in/f", "closed/in", "closed"] {
        mode(&upper.join(path), 0);
    }
    mode(&upper.join("ro"), 0o500);
    let before = place.tree();
    let fail = &mut |point| (point == Point::Swapped).then_some(Fault::Fail);
    commit_or(&stage, fail).unwrap_err();
    assert_eq!(place.tree(), before);
    assert_eq!(commit(&stage).unwrap().created, 5);
    let modes = |path: &str| place.work.join(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((modes("secret"), modes("closed"), modes("ro")), (0, 0, 0o500));
    assert!(!place.work.join("empty").exists());
    for (path, bits) in [("secret", 0o600), ("closed", 0o700), ("closed/in", 0o700), ("closed/in/f", 0o600)] {
        if path.starts_with("closed/") {
            assert_eq!(modes(path), 0, "{path}");
        }
        mode(&place.work.join(path), bits);
    }
    mode(&place.work.join("ro"), 0o700);
    assert_eq!(std::fs::read(place.work.join("closed/in/f")).unwrap(), b"f");
}
