//! Commits that stop half-way, and workspaces that move under them.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::journal;
use super::super::place;
use super::super::swap::Ground;
use super::*;

/// A stage with a step of every kind, and what the workspace is afterwards.
fn everything(place: &Place) -> Stage {
    for (path, content) in [
        ("changed", "1"),
        ("gone/a/b", "b"),
        ("type/x", "x"),
        ("moded/f", "f"),
        ("closed/f", "f"),
        ("file", "f"),
    ] {
        put(&place.work, path, content);
    }
    mode(&place.work.join("closed"), 0o555);
    mode(&place.work.join("gone"), 0o500);
    let stage = place.stage();
    let upper = stage.upper();
    put(&upper, "changed", "2");
    put(&upper, "new/tree/f", "f");
    mode(&upper.join("new"), 0o500);
    whiteout(&upper.join("gone"), true);
    put(&upper, "type", "now a file");
    std::fs::create_dir(upper.join("moded")).unwrap();
    mode(&upper.join("moded"), 0o700);
    put(&upper, "closed/g", "g");
    mode(&upper.join("closed"), 0o500);
    put(&upper, "file/inside", "now a directory");
    stage
}

/// All points that a commit of [`everything`] passes, and what comes of it.
fn points() -> (Vec<Point>, Tree) {
    let place = Place::new();
    let stage = everything(&place);
    let mut points = Vec::new();
    commit_or(&stage, &mut |point| {
        points.push(point);
        None
    })
    .unwrap();
    assert!(points.len() > 12, "{points:?}");
    (points, place.tree())
}

#[test]
fn a_failure_anywhere_leaves_the_workspace_as_it_was_and_can_be_tried_again() {
    let (points, after) = points();
    for &failing in points.iter().filter(|point| **point != Point::Complete) {
        let place = Place::new();
        let stage = everything(&place);
        let before = place.tree();
        let result = commit_or(&stage, &mut |point| (point == failing).then_some(Fault::Fail));
        assert!(matches!(result, Err(StageError::Io { .. })), "{failing:?}: {result:?}");
        assert_eq!(place.tree(), before, "{failing:?}");
        assert_eq!(Stage::list(&place.home).unwrap()[0].state, StageState::Pending);
        commit(&stage).unwrap_or_else(|error| panic!("{failing:?}: {error}"));
        assert_eq!(place.tree(), after, "{failing:?}");
    }
}

#[test]
fn a_crash_anywhere_is_recovered_from() {
    let (points, after) = points();
    for &dying in &points {
        let place = Place::new();
        let stage = everything(&place);
        let id = stage.id().to_owned();
        let before = place.tree();
        commit_or(&stage, &mut |point| (point == dying).then_some(Fault::Die)).unwrap_err();
        drop(stage);
        assert_eq!(Stage::list(&place.home).unwrap()[0].state, StageState::Committing);
        assert!(matches!(Stage::open(&place.home, &id, &place.root), Err(StageError::Interrupted { .. })));
        let recovered = Stage::recover(&place.home, &id, &place.root).unwrap();
        if dying == Point::Complete {
            assert_eq!(recovered, Recovered::Completed);
            assert_eq!(Stage::list(&place.home).unwrap(), []);
        } else {
            assert!(matches!(recovered, Recovered::TakenBack(_)), "{dying:?}: {recovered:?}");
            assert_eq!(place.tree(), before, "{dying:?}");
            assert_eq!(Stage::recover(&place.home, &id, &place.root).unwrap(), Recovered::Nothing);
            let stage = Stage::open(&place.home, &id, &place.root).unwrap();
            commit(&stage).unwrap_or_else(|error| panic!("{dying:?}: {error}"));
        }
        assert_eq!(place.tree(), after, "{dying:?}");
    }
}

#[test]
fn a_crash_while_it_is_taken_back_is_recovered_from() {
    let (points, after) = points();
    for taken in 0..points.len() {
        let place = Place::new();
        let stage = everything(&place);
        let id = stage.id().to_owned();
        let before = place.tree();
        commit_or(&stage, &mut |point| (point == Point::Swapped).then_some(Fault::Die)).unwrap_err();
        let mut journal = journal::read(&stage.directory).unwrap().unwrap();
        let root = place::directory(place.root.handle(), Path::new("")).unwrap();
        let aside = place::directory(&root, Path::new(&journal.aside)).unwrap();
        let mut ground = Ground::new(root, aside);
        journal.back.extend(ground.done(&journal.ops));
        assert_eq!(journal.back.len(), journal.ops.len());
        journal::write(&stage.directory, &journal).unwrap();
        for op in journal.ops.iter().rev().take(taken) {
            ground.undo(op).unwrap();
        }
        drop((ground, stage));
        Stage::recover(&place.home, &id, &place.root).unwrap();
        assert_eq!(place.tree(), before, "{taken}");
        let stage = Stage::open(&place.home, &id, &place.root).unwrap();
        commit(&stage).unwrap_or_else(|error| panic!("{taken}: {error}"));
        assert_eq!(place.tree(), after, "{taken}");
    }
}

#[test]
fn what_a_person_changes_after_it_was_taken_back_is_a_conflict() {
    type Change = fn(&Path);
    let changes: &[(&str, Change)] = &[
        ("changed", |work| std::fs::write(work.join("changed"), "3").unwrap()),
        ("moded", |work| mode(&work.join("moded"), 0o711)),
        ("moded", |work| std::fs::write(work.join("moded/h"), "host").unwrap()),
        ("gone/a/b", |work| mode(&work.join("gone/a/b"), 0o600)),
        ("type", |work| std::fs::write(work.join("type/y"), "host").unwrap()),
        ("new", |work| std::fs::write(work.join("new"), "host").unwrap()),
    ];
    for (path, change) in changes {
        let place = Place::new();
        let stage = everything(&place);
        commit_or(&stage, &mut |point| (point == Point::Swapped).then_some(Fault::Fail)).unwrap_err();
        change(&place.work);
        let then = place.tree();
        let error = commit(&stage).unwrap_err();
        let StageError::Conflict { paths } = error else { panic!("{path}: {error}") };
        assert!(paths.iter().any(|found| found == path), "{path}: {paths:?}");
        assert_eq!(place.tree(), then);
    }
}

#[test]
fn what_a_person_did_after_a_crash_is_not_lost() {
    let place = Place::with(&[("a", "old"), ("z", "old")]);
    let stage = place.stage();
    let id = stage.id().to_owned();
    put(&stage.upper(), "a", "staged");
    put(&stage.upper(), "new/f", "staged");
    put(&stage.upper(), "z", "staged");
    commit_or(&stage, &mut |point| (point == Point::Step(2)).then_some(Fault::Die)).unwrap_err();
    drop(stage);
    assert_eq!(std::fs::read(place.work.join("z")).unwrap(), b"staged");
    std::fs::remove_file(place.work.join("a")).unwrap();
    std::fs::write(place.work.join("a"), "person").unwrap();
    std::fs::write(place.work.join("new/more"), "person").unwrap();
    let error = Stage::recover(&place.home, &id, &place.root).unwrap_err();
    let StageError::Incomplete { paths, kept, .. } = error else { panic!("{error}") };
    assert_eq!(paths, ["a", "new"]);
    assert_eq!(std::fs::read(place.work.join("a")).unwrap(), b"person");
    assert_eq!(std::fs::read(place.work.join("z")).unwrap(), b"old");
    let kept = tree(&place.work.join(kept));
    let contents: Vec<_> = kept.values().map(|(_, content)| content.as_slice()).collect();
    assert!(contents.contains(&b"old".as_slice()) && contents.contains(&b"person".as_slice()), "{kept:?}");
}

#[test]
fn a_change_between_the_look_and_the_swap_is_a_conflict() {
    type Change = fn(&Path);
    let changes: &[Change] = &[
        |work| std::fs::write(work.join("changed"), "host").unwrap(),
        |work| std::fs::write(work.join("gone/a/b"), "host").unwrap(),
        |work| std::fs::write(work.join("gone/a/more"), "host").unwrap(),
        |work| std::fs::write(work.join("new"), "host").unwrap(),
        |work| std::fs::write(work.join("type/y"), "host").unwrap(),
        |work| {
            std::fs::rename(work.join("closed"), work.join("elsewhere")).unwrap();
            symlink("elsewhere", work.join("closed")).unwrap();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let place = Place::new();
        let stage = everything(&place);
        let mut then = None;
        let result = commit_or(&stage, &mut |point| {
            if point == Point::Prepared {
                change(&place.work);
                let mut all = place.tree();
                all.retain(|path, _| !path.to_string_lossy().contains(".varvel-"));
                then = Some(all);
            }
            None
        });
        assert!(matches!(result, Err(StageError::Conflict { .. })), "{number}: {result:?}");
        assert_eq!(Some(place.tree()), then, "{number}");
    }
}

#[test]
fn a_directory_that_becomes_a_link_never_leads_a_commit_out() {
    let (mut done, mut failed) = (0, 0);
    for _ in 0..60 {
        let place = Place::with(&[("d/changed", "1"), ("d/gone", "1"), ("d/sub/x", "1")]);
        put(&place.home, "outside/sub/x", "outside");
        put(&place.home, "outside/changed", "outside");
        put(&place.home, "outside/gone", "outside");
        let outside = place.home.join("outside");
        let untouched = tree(&outside);
        let stage = place.stage();
        put(&stage.upper(), "d/changed", "2");
        put(&stage.upper(), "d/new", "2");
        put(&stage.upper(), "d/sub/x", "2");
        put(&stage.upper(), "d/sub/new/x", "2");
        whiteout(&stage.upper().join("d/gone"), true);
        // Being renamed is a conflict for the look before; what is left is the race with the swaps.
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !go.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                while !stop.load(Ordering::Relaxed) {
                    let (d, real) = (place.work.join("d"), place.work.join("real"));
                    std::fs::rename(&d, &real).unwrap();
                    symlink(&outside, &d).unwrap();
                    std::fs::remove_file(&d).unwrap();
                    std::fs::rename(&real, &d).unwrap();
                }
            });
            let result = commit_or(&stage, &mut |point| {
                go.fetch_or(point == Point::Prepared, Ordering::Relaxed);
                None
            });
            go.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            result
        });
        assert_eq!(tree(&outside), untouched, "{result:?}");
        match &result {
            Ok(_) => done += 1,
            Err(StageError::Incomplete { .. }) => panic!("not taken back: {result:?}"),
            Err(_) => {
                failed += 1;
                assert_eq!(std::fs::read(place.work.join("d/changed")).unwrap(), b"1");
                assert!(place.work.join("d/gone").exists() && !place.work.join("d/new").exists());
                assert_eq!(place.tree().len(), 5);
            }
        }
    }
    eprintln!("committed {done} times, taken back {failed} times");

    // The same at each point of the swap, where the look before has found nothing wrong.
    let (points, _) = points();
    for flipping in points {
        for stays in [true, false] {
            let place = Place::new();
            put(&place.home, "outside/f", "outside");
            let outside = place.home.join("outside");
            let untouched = tree(&outside);
            let stage = everything(&place);
            let result = commit_or(&stage, &mut |point| {
                let (d, real) = (place.work.join("closed"), place.work.join("real"));
                if point == flipping {
                    std::fs::rename(&d, &real).unwrap();
                    symlink(&outside, &d).unwrap();
                } else if !stays && real.exists() {
                    std::fs::remove_file(&d).unwrap();
                    std::fs::rename(&real, &d).unwrap();
                }
                None
            });
            assert_eq!(tree(&outside), untouched, "{flipping:?}: {result:?}");
        }
    }
}
