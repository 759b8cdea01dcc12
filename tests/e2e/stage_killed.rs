//! Stages, and kill -9 at any moment.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{only, stages, tree};
use crate::support::{Place, alive, eventually, wait};

/// Files that the stage of [`large`] makes, and changes, and deletes.
const FILES: usize = 700;

fn start(place: &Place, args: &[&str]) -> Child {
    place.varvel().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    wait(&mut child, Duration::from_secs(10));
}

#[test]
fn while_the_command_runs() {
    for (mark, how) in [("818181", "commit"), ("828282", "drop")] {
        let place = Place::unproven().with("a", "1").with("gone", "1");
        let script = format!("echo 2 > a; rm gone; for n in 1 2 3 4 5; do echo $n > f$n; done; sleep {mark}");
        let child = start(&place, &["exec", "--stage", "--commit", "--", "sh", "-c", &script]);
        eventually("the command runs", || alive(mark));
        let id = only(&place);
        let busy = place.call(["stage", how, &id]);
        assert!(busy.code == 1 && busy.err.contains("in use"), "{busy:?}");
        kill(child);
        eventually("everything is gone", || !alive(mark));
        assert!(place.read("a") == "1" && place.has("gone") && !place.has("f1"));
        assert_eq!(stages(&place)[0]["state"], "running");
        let shown = place.call(["stage", "show", &id]);
        assert!(shown.out.contains("5 new, 1 changed, 1 deleted"), "{shown:?}");
        let done = place.call(["stage", how, &id]);
        assert_eq!(done.code, 0, "{done:?}");
        let committed = how == "commit";
        assert_eq!(place.read("a"), if committed { "2\n" } else { "1" });
        assert!(place.has("f5") == committed && place.has("gone") != committed);
        assert!(stages(&place).is_empty());
        place.verify();
    }
}

/// A workspace and a stage with many changes of each kind. The stage's identifier; the trees before and after.
fn large() -> (Place, String, Tree, Tree) {
    let place = Place::unproven();
    for name in ["changed", "gone"] {
        for n in 0..FILES {
            let path = place.work.path().join(format!("{name}{}/{n}", n % 7));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "old").unwrap();
        }
    }
    let before = tree(place.work.path());
    let script = format!(
        "import os, shutil\n\
         for n in range({FILES}):\n\
         \x20   open(f'changed{{n % 7}}/{{n}}', 'w').write('new')\n\
         \x20   open(f'gone{{n % 7}}/new{{n}}', 'w').write('new')\n\
         \x20   if n % 7: os.remove(f'gone{{n % 7}}/{{n}}')\n\
         shutil.rmtree('gone0'); os.mkdir('gone0'); open('gone0/again', 'w').write('new'); os.chmod('gone1', 0o700)\n"
    );
    let done = place.call(["exec", "--stage", "--keep", "--", "python3", "-c", &script]);
    assert_eq!(done.code, 0, "{done:?}");
    let after = (0..FILES)
        .map(|n| (format!("changed{}/{n}", n % 7), "new"))
        .chain((0..FILES).filter(|n| n % 7 != 0).map(|n| (format!("gone{}/new{n}", n % 7), "new")))
        .chain([("gone0/again".to_owned(), "new")])
        .map(|(name, content)| (name, format!("100644 {content}")));
    let directories = before.iter().filter(|(_, what)| what.ends_with('/')).cloned();
    let mut after: Tree = after.chain(directories).collect();
    after.sort();
    for (name, what) in &mut after {
        if name == "gone1" {
            *what = "40700 /".into();
        }
    }
    let id = only(&place);
    (place, id, before, after)
}

type Tree = Vec<(String, String)>;

#[test]
fn while_it_commits() {
    let mut seen = [0; 3];
    for round in 0u64..10 {
        let (place, id, before, after) = large();
        let aside = || {
            fs::read_dir(place.work.path())
                .unwrap()
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with(".varvel-"))
        };
        let first = place.work.path().join("changed0/0");
        let swapping = || fs::read_to_string(&first).is_ok_and(|content| content == "new");
        let mut child = start(&place, &["stage", "commit", &id]);
        // Before, while it prepares, while it swaps (the most), and at the end.
        let mut over = || child.try_wait().unwrap().is_some();
        while !over() && !(if round < 3 { aside() } else { swapping() }) {
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(Duration::from_millis(if round < 3 { round * 60 } else { (round - 3) * 4 }));
        kill(child);
        let there = stages(&place);
        if there.is_empty() {
            assert_eq!(tree(place.work.path()), after, "{round}");
            seen[0] += 1;
            continue;
        }
        assert_eq!((&there[0]["id"], there.len()), (&id.as_str().into(), 1));
        let half = tree(place.work.path());
        seen[if half == before { 1 } else { 2 }] += 1;
        let how = if round % 2 == 0 { "commit" } else { "drop" };
        let done = place.call(["stage", how, &id]);
        let now = tree(place.work.path());
        if done.code == 0 {
            assert!(
                now == if how == "commit" { &after } else { &before }[..] || now == after,
                "{round}: {done:?}"
            );
        } else {
            assert!(done.err.contains("was in the workspace already"), "{round}: {done:?}");
            assert_eq!(now, after, "{round}");
        }
        assert!(stages(&place).is_empty(), "{round}");
        place.verify();
    }
    // Cutting it short half-way is what this is about.
    eprintln!("{seen:?}");
    assert!(seen[2] > 0, "complete, untouched, half-way: {seen:?}");
}
