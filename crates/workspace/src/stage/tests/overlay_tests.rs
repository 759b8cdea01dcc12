//! Upper layers that the kernel itself wrote, in a user namespace.

use std::process::Command;
use std::time::Instant;

use super::*;

/// Runs a shell script in the stage as a command in the sandbox would; `false` where that is not possible.
fn staged(place: &Place, stage: &Stage, script: &str) -> bool {
    let mounted = place.home.join("mounted");
    let _ = std::fs::create_dir(&mounted);
    let show = |path: &Path| path.display().to_string();
    let options = format!(
        "userxattr,lowerdir={},upperdir={},workdir={}",
        show(&place.work),
        show(&stage.upper()),
        show(&stage.work())
    );
    let line = format!(
        "mount -t overlay overlay -o {options} {mounted} || exit 77\ncd {mounted} || exit 77\nset -e\n{script}",
        mounted = show(&mounted)
    );
    let status = match Command::new("unshare").args(["-Urm", "sh", "-c", &line]).status() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("skipped: unshare: {error}");
            return false;
        }
    };
    if !status.success() && status.code().is_none_or(|code| code == 77 || code == 1) {
        eprintln!("skipped: no overlay in a user namespace here ({status})");
        return false;
    }
    assert!(status.success(), "{status}");
    true
}

/// The script run directly and in a stage come to the same.
fn same(prepare: &str, script: &str) -> Option<Changes> {
    let place = Place::new();
    let copy = tempfile::tempdir().unwrap();
    for directory in [place.work.as_path(), copy.path()] {
        let line = format!("set -e\numask 022\n{prepare}");
        assert!(Command::new("sh").args(["-c", &line]).current_dir(directory).status().unwrap().success());
    }
    let line = format!("set -e\numask 022\n{script}");
    assert!(Command::new("sh").args(["-c", &line]).current_dir(copy.path()).status().unwrap().success());
    let before = place.tree();
    let stage = place.stage();
    if !staged(&place, &stage, &format!("umask 022\n{script}")) {
        return None;
    }
    assert_eq!(place.tree(), before, "the stage wrote below");
    let changes = stage.changes().unwrap();
    assert!(changes.refused.is_empty() && changes.conflicts.is_empty(), "{changes:?}");
    commit(&stage).unwrap();
    assert_eq!(place.tree(), tree(copy.path()), "{script}");
    assert_eq!(std::fs::read_dir(place.home.join("stage")).unwrap().count(), 0);
    Some(changes)
}

const PREPARE: &str = "mkdir -p d/e/f many; echo a > a; echo b > b; echo c > d/c; echo g > d/e/f/g; ln -s a l; \
    mkdir dir; echo x > dir/x; echo y > dir/y; chmod 755 b; echo k > k";

#[test]
fn what_a_command_does_arrives() {
    for (script, expected) in [
        ("echo new > n; mkdir -p p/q; echo r > p/q/r", "+n +p +p/q +p/q/r"),
        ("echo A > a; echo more >> d/e/f/g", "~a ~d/e/f/g"),
        ("cat a; touch a; chmod 755 b; echo a > a", ""),
        ("rm a b; rm -r d", "-a -b -d -d/c -d/e -d/e/f -d/e/f/g"),
        ("mv a z; mv dir moved", "-a -dir -dir/x -dir/y +moved +moved/x +moved/y +z"),
        ("rm -rf dir; mkdir dir; echo z > dir/z; echo x > dir/x", "-dir/y +dir/z"),
        ("rm -rf d; mkdir -p d/e; echo n > d/e/n", "-d/c -d/e/f -d/e/f/g +d/e/n"),
        ("rm l; ln -s dir l; ln -s ../a d/l2", "+d/l2 ~l"),
        ("rm -r dir; echo file > dir; rm a; mkdir a; echo in > a/in", "~a +a/in ~dir -dir/x -dir/y"),
        ("chmod 700 d; chmod 600 a; chmod 555 dir", "~a ~d ~dir"),
        ("ln a hard; echo hard >> hard", "~a +hard"),
        ("rm a; echo a > a; chmod 644 a", ""),
        ("sed -i s/b/B/ b", "~b"),
        ("mkdir -p x; mv d x/d; rm -r x", "-d -d/c -d/e -d/e/f -d/e/f/g"),
    ] {
        let Some(changes) = same(PREPARE, script) else { return };
        assert_eq!(kinds(&changes).join(" "), expected, "{script}");
    }
}

#[test]
fn odd_names_and_deep_directories_arrive() {
    let odd = r#"printf 'x' > "$(printf '\377\376')"; printf 'y' > "$(printf 'a\nb')"; printf z > 'a*b ?'; mkdir -- '-d'"#;
    if same(PREPARE, odd).is_none() {
        return;
    }
    same("", "p=.; i=0; while [ $i -lt 120 ]; do p=$p/d; i=$((i+1)); done; mkdir -p $p; echo x > $p/f");
}

#[test]
fn links_out_and_special_files_of_a_command_are_refused() {
    let place = Place::with(&[("a", "a")]);
    let stage = place.stage();
    if !staged(&place, &stage, "ln -s /etc/passwd out; mkfifo pipe; echo b > b; mkdir d; ln -s ../../up d/up")
    {
        return;
    }
    let changes = stage.changes().unwrap();
    assert_eq!(changes.refused.len(), 3, "{:?}", changes.refused);
    assert!(commit(&stage).is_err());
    assert_eq!(place.tree().len(), 1);
    stage.drop_changes().unwrap();
    assert_eq!(std::fs::read_dir(place.home.join("stage")).unwrap().count(), 0);
}

#[test]
fn ten_thousand_files() {
    let place = Place::with(&[("tree/old", "old")]);
    let script = "i=0; while [ $i -lt 10000 ]; do d=tree/$((i % 100)); [ $i -lt 100 ] && mkdir $d; \
        echo $i > $d/$i; i=$((i+1)); done; rm tree/old";
    let stage = place.stage();
    if !staged(&place, &stage, script) {
        return;
    }
    let start = Instant::now();
    let changes = stage.changes().unwrap();
    let looked = start.elapsed();
    assert!(changes.diff.len() < 600_000 && changes.diff.contains("is left out"));
    let start = Instant::now();
    let committed = run(&stage, changes.digest, &mut |_| None).unwrap();
    eprintln!("10,000 new files: looked at in {looked:?}, committed in {:?}", start.elapsed());
    assert_eq!((committed.created, committed.deleted), (10_100, 1));
    let start = Instant::now();
    let stage = place.stage();
    if staged(&place, &stage, "for f in tree/*/*; do echo more >> $f; done") {
        let changes = stage.changes().unwrap();
        let looked = start.elapsed();
        let start = Instant::now();
        let committed = run(&stage, changes.digest, &mut |_| None).unwrap();
        eprintln!(
            "10,000 changed files: staged and looked at in {looked:?}, committed in {:?}",
            start.elapsed()
        );
        assert_eq!(committed.changed, 10_000);
    }
    assert_eq!(place.tree().len(), 10_101);
}
