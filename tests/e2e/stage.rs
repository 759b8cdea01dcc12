//! Stages: what a command writes lands beside the workspace, and a person decides about it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::approval::Terminal;
use crate::support::{Done, Place, eventually, finish, wait};

/// `varvel exec --stage OPTIONS -- sh -c script`.
fn staged(place: &Place, options: &[&str], script: &str) -> Done {
    place.call([&["exec", "--stage"], options, &["--", "sh", "-c", script]].concat())
}

/// The stages that there are.
pub(crate) fn stages(place: &Place) -> Vec<Value> {
    let done = place.call(["stage", "list", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The only stage.
pub(crate) fn only(place: &Place) -> String {
    let stages = stages(place);
    assert_eq!(stages.len(), 1, "{stages:?}");
    stages[0]["id"].as_str().unwrap().to_owned()
}

fn show(place: &Place, id: &str) -> Value {
    let done = place.call(["stage", "show", id, "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

/// As `+path`, `~path` and `-path`, with `!` behind those that the host runs or trusts.
fn signs(shown: &Value) -> Vec<String> {
    let sign = |change: &Value| {
        let sign = match change["kind"].as_str().unwrap() {
            "created" => "+",
            "changed" => "~",
            _ => "-",
        };
        let mark = if change["host_trusted"] == true { "!" } else { "" };
        format!("{sign}{}{mark}", change["path"].as_str().unwrap())
    };
    shown["changes"].as_array().unwrap().iter().map(sign).collect()
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect()
}

/// Everything in the workspace but what is at work there.
pub(crate) fn tree(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut later = vec![root.to_owned()];
    while let Some(directory) = later.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let what = if about.is_dir() {
                later.push(path.clone());
                "/".to_owned()
            } else if about.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                fs::read_to_string(&path).unwrap_or_default()
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push((name, format!("{:o} {what}", about.permissions().mode())));
        }
    }
    found.sort();
    found
}

#[test]
fn without_a_terminal_it_is_shown_and_kept_then_committed() {
    let place = Place::unproven().with("a.txt", "old\n").with("gone.txt", "gone\n");
    let before = tree(place.work.path());
    let done = staged(
        &place,
        &[],
        "echo new > a.txt; mkdir sub; echo canary-content > sub/b; rm gone.txt; cat a.txt; exit 5",
    );
    assert_eq!((done.code, done.out.as_str()), (5, "new\n"), "the command's status and output: {done:?}");
    for sign in
        ["staged: 2 new, 1 changed, 1 deleted", "~ a.txt  +1 -1", "+ sub/b", "- gone.txt", "Kept as stage"]
    {
        assert!(done.err.contains(sign), "{sign}: {}", done.err);
    }
    assert_eq!(tree(place.work.path()), before, "nothing has happened yet");

    let listed = &stages(&place)[0];
    assert_eq!(listed["state"], "pending");
    assert!(listed["note"].as_str().unwrap().starts_with("sh -c echo new"), "{listed}");
    assert_eq!(listed["workspace"], place.work.path().canonicalize().unwrap().to_str().unwrap());
    let id = only(&place);
    assert!(place.call(["stage", "list"]).out.contains(&format!("{id}  2")), "for people");
    let shown = show(&place, &id);
    assert_eq!(signs(&shown), ["~a.txt", "-gone.txt", "+sub", "+sub/b"]);
    assert!(shown["diff"].as_str().unwrap().contains("-old\n+new\n"), "{shown}");
    let text = place.call(["stage", "show", &id]).out;
    assert!(text.contains("-old") && text.contains("canary-content") && !text.contains('\u{1b}'), "{text}");

    let done = place.call(["stage", "commit", &id]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("Committed: 2 new, 1 changed, 1 deleted."), "{}", done.err);
    assert!(place.read("a.txt") == "new\n" && place.read("sub/b") == "canary-content\n");
    assert!(!place.has("gone.txt") && stages(&place).is_empty());

    // The ledger has what was decided on, by digest, and no content.
    let intents = place.records("intent");
    let intent = intents.iter().find(|record| record["action"]["kind"] == "commit").unwrap();
    assert_eq!(intent["action"]["digest"], shown["digest"]);
    assert_eq!((&intent["action"]["stage"], &intent["decision"]["verdict"]), (&id.into(), &"allow".into()));
    assert_eq!(paths(&intent["action"]["changes"]), ["a.txt", "gone.txt", "sub", "sub/b"]);
    let outcome = place.records("outcome").pop().unwrap();
    assert_eq!((&outcome["status"], &outcome["digest"]), (&"done".into(), &shown["digest"]));
    let ledger = fs::read_to_string(place.state().join("ledger/entries.jsonl")).unwrap();
    // It is in the command, once for its line of the ledger, and nowhere else.
    assert_eq!(ledger.matches("canary-content").count(), 1, "{ledger}");
    place.verify();
}

#[test]
fn what_is_to_become_of_it_can_be_said_before() {
    let place = Place::unproven().with("a", "1");
    let done = staged(&place, &["--drop"], "echo 2 > a");
    assert!(done.code == 0 && done.err.contains("~ a  ") && done.err.contains("Dropped."), "{done:?}");
    assert!(place.read("a") == "1" && stages(&place).is_empty());
    let done = staged(&place, &["--commit"], "echo 2 > a; exit 7");
    assert!(done.code == 7 && done.err.contains("Committed: 0 new, 1 changed, 0 deleted."), "{done:?}");
    assert!(place.read("a") == "2\n" && stages(&place).is_empty());
    let done = staged(&place, &["--keep"], "echo 3 > a");
    let id = only(&place);
    assert!(done.code == 0 && place.read("a") == "2\n", "{done:?}");
    assert_eq!(place.call(["stage", "drop", &id]).code, 0);
    assert!(place.read("a") == "2\n" && stages(&place).is_empty());
    for (args, code) in [
        (&["stage", "show", &id][..], 2),
        (&["stage", "commit", &id], 2),
        (&["stage", "drop", "../state"], 2),
        (&["exec", "--commit", "--", "true"], 2),
        (&["exec", "--stage", "--commit", "--drop", "--", "true"], 2),
    ] {
        assert_eq!(place.call(args).code, code, "{args:?}");
    }
    place.verify();
}

#[test]
fn nothing_changed_leaves_nothing() {
    let place = Place::unproven().with("a", "1");
    for script in ["cat a", "cp a b; mv b a", "touch x; rm x", "mkdir d; rmdir d; chmod 600 a; chmod 644 a"] {
        let done = staged(&place, &["--keep"], script);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.err.contains("changed nothing"), "{script}: {}", done.err);
        assert!(stages(&place).is_empty(), "{script}");
    }
    let done = place.call(["exec", "--stage", "--", "no-such-program"]);
    assert!(done.code == 127 && stages(&place).is_empty(), "{done:?}");
    assert_eq!(fs::read_dir(place.state().join("stage")).unwrap().count(), 0);
}

#[test]
fn deleted_recreated_and_renamed_directories_arrive() {
    let place = Place::unproven()
        .with("whole/a/b/c", "1")
        .with("again/old", "1")
        .with("again/stays", "1")
        .with("becomes-file/x", "1")
        .with("becomes-directory", "1")
        .with("moved/deep/x", "1")
        .with("script", "#!/bin/sh\n");
    let script = "rm -r whole; rm -r again; mkdir again; echo 1 > again/new; printf 1 > again/stays
        rm -r becomes-file; echo file > becomes-file
        rm becomes-directory; mkdir becomes-directory; echo x > becomes-directory/x
        mv moved elsewhere; chmod 755 script; ln -s again/new link; mkdir -m 700 private; touch 'a name' ünï";
    let done = staged(&place, &[], script);
    assert_eq!(done.code, 0, "{done:?}");
    let id = only(&place);
    let shown = show(&place, &id);
    let expected = [
        "+a name",
        "+again/new",
        "-again/old",
        "~becomes-directory",
        "+becomes-directory/x",
        "~becomes-file",
        "-becomes-file/x",
        "+elsewhere",
        "+elsewhere/deep",
        "+elsewhere/deep/x",
        "+link",
        "-moved",
        "-moved/deep",
        "-moved/deep/x",
        "+private",
        "~script",
        "-whole",
        "-whole/a",
        "-whole/a/b",
        "-whole/a/b/c",
        "+ünï",
    ];
    assert_eq!(signs(&shown), expected);
    assert_eq!(place.call(["stage", "commit", &id]).code, 0);
    // The same without a stage.
    let plain = Place::unproven()
        .with("whole/a/b/c", "1")
        .with("again/old", "1")
        .with("again/stays", "1")
        .with("becomes-file/x", "1")
        .with("becomes-directory", "1")
        .with("moved/deep/x", "1")
        .with("script", "#!/bin/sh\n");
    assert_eq!(plain.sh(script).code, 0);
    assert_eq!(tree(place.work.path()), tree(plain.work.path()));
    place.verify();
}

#[test]
fn what_leads_out_is_refused_and_can_be_left_out() {
    let place = Place::unproven().with("a", "1");
    let script = "echo 2 > a; ln -s /etc/passwd absolute; ln -s ../../x up; ln -s a inside; mkfifo pipe";
    let done = staged(&place, &["--commit"], script);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.err.contains("refused  absolute: it is a link to /etc/passwd"), "{}", done.err);
    assert!(place.read("a") == "1" && !place.has("inside"), "nothing, if not everything");
    let id = only(&place);
    assert_eq!(paths(&show(&place, &id)["refused"]), ["absolute", "pipe", "up"]);
    assert_eq!(place.call(["stage", "commit", &id]).code, 3);
    let done = place.call(["stage", "commit", &id, "--without-refused"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("3 left out"), "{}", done.err);
    let names: Vec<_> = tree(place.work.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "inside"]);
    assert_eq!(place.read("inside"), "2\n");
    place.verify();
}

#[test]
fn what_the_host_runs_later_is_marked() {
    let place = Place::unproven().with(".git/config", "[core]\n").with("a", "1");
    let script = "echo 2 > a; echo x > .envrc; echo x > .git/config; echo x > .git/hooks/pre-commit ||
        { mkdir .git/hooks; echo x > .git/hooks/pre-commit; }; mkdir .vscode; echo {} > .vscode/tasks.json";
    let done = staged(&place, &[], script);
    assert_eq!(place.read(".git/config"), "[core]\n");
    let first = done.err.lines().position(|line| line.contains(".envrc")).unwrap();
    let last = done.err.lines().position(|line| line.contains("~ a")).unwrap();
    assert!(first < last, "first what matters most: {}", done.err);
    assert!(done.err.contains("of them are run or trusted outside the sandbox"), "{}", done.err);
    let signs = signs(&show(&place, &only(&place)));
    for sign in ["+.envrc!", "~.git/config!", "+.git/hooks/pre-commit!", "+.vscode/tasks.json!", "~a"] {
        assert!(signs.iter().any(|one| one == sign), "{sign}: {signs:?}");
    }
}

#[test]
fn a_workspace_that_changed_underneath_is_a_conflict() {
    let place = Place::unproven().with("a", "1").with("d/x", "1").with("other", "1");
    let done = staged(&place, &[], "echo 2 > a; echo 2 > new; rm -r d");
    assert_eq!(done.code, 0, "{done:?}");
    let id = only(&place);
    // What does not concern the stage is no conflict.
    fs::write(place.work.path().join("other"), "host").unwrap();
    assert_eq!(show(&place, &id)["conflicts"].as_array().unwrap().len(), 0);
    for (path, passing) in [("a", false), ("new", true), ("d/y", true)] {
        fs::write(place.work.path().join(path), "host").unwrap();
        let before = tree(place.work.path());
        let done = place.call(["stage", "commit", &id]);
        assert_eq!(done.code, 3, "{path}: {done:?}");
        assert!(
            done.err.contains("has changed since the stage began") && done.err.contains(path),
            "{done:?}"
        );
        assert_eq!(tree(place.work.path()), before, "{path}");
        assert_eq!(only(&place), id, "it is kept");
        assert_eq!(show(&place, &id)["conflicts"].as_array().unwrap()[0], "a", "{path}");
        if passing {
            fs::remove_file(place.work.path().join(path)).unwrap();
        }
    }
    let failed = place.records("outcome").pop().unwrap();
    assert_eq!(failed["status"], "failed");
    assert_eq!(place.call(["stage", "drop", &id]).code, 0);

    // The same while the command runs, with the answer given before.
    let mut command = place.varvel();
    command.args([
        "exec",
        "--stage",
        "--commit",
        "--",
        "sh",
        "-c",
        "echo 3 > a; echo 3 > b; echo; read line",
    ]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    fs::write(place.work.path().join("a"), "host again").unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("conflict  a has changed") && err.contains("Kept as stage"), "{err}");
    assert!(place.read("a") == "host again" && !place.has("b"));
    assert_eq!(place.records("session-end").pop().unwrap()["about"]["exit"], 3);
    place.verify();
}

#[test]
fn another_directory_of_that_name_is_not_committed_to() {
    let place = Place::unproven().with("w/a", "1");
    let done = place.call(["exec", "--stage", "-C", "w", "--", "sh", "-c", "echo 2 > a"]);
    assert_eq!(done.code, 0, "{done:?}");
    let id = only(&place);
    let at = |name: &str| place.work.path().join(name);
    fs::rename(at("w"), at("v")).unwrap();
    for make in [|_: &Path| {}, |w: &Path| fs::create_dir(w).unwrap()] {
        make(&at("w"));
        let done = place.call(["stage", "commit", &id]);
        assert_eq!(done.code, 2, "{done:?}");
    }
    fs::remove_dir(at("w")).unwrap();
    symlink("v", at("w")).unwrap();
    let done = place.call(["stage", "commit", &id]);
    assert_eq!(done.code, 0, "it is the same directory: {done:?}");
    assert!(place.read("v/a") == "2\n" && stages(&place).is_empty());

    // Dropping needs no workspace.
    assert_eq!(place.call(["exec", "--stage", "-C", "v", "--", "sh", "-c", "echo 3 > a"]).code, 0);
    fs::remove_dir_all(at("v")).unwrap();
    assert_eq!(place.call(["stage", "drop", &only(&place)]).code, 0);
    assert!(stages(&place).is_empty());
}

#[test]
fn stages_over_one_workspace() {
    let place = Place::unproven().with("a", "1").with("b", "1");
    for script in ["echo one > a; echo one > new1", "echo two > b; cat a", "echo three > a"] {
        let done = staged(&place, &[], script);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(!done.out.contains("one"), "stages do not see each other: {done:?}");
    }
    let ids: Vec<_> = stages(&place).iter().map(|stage| stage["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(place.call(["stage", "commit", &ids[0]]).code, 0);
    assert_eq!(place.call(["stage", "commit", &ids[1]]).code, 0, "it changes something else");
    let done = place.call(["stage", "commit", &ids[2]]);
    assert!(done.code == 3 && done.err.contains("since the stage began: a;"), "{done:?}");
    assert_eq!((place.read("a"), place.read("b")), ("one\n".into(), "two\n".into()));
    assert_eq!(only(&place), ids[2]);
    place.verify();
}

#[test]
fn without_mounts_there_is_no_stage() {
    let place = Place::unproven().with("a", "1");
    let done = staged(&place, &["--profile", "landlock"], "echo 2 > a");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("nothing was run") && done.err.contains("--stage"), "{}", done.err);
    assert!(place.read("a") == "1" && stages(&place).is_empty());
}

#[test]
fn ten_thousand_files() {
    let place = Place::unproven();
    let make = "import os\n\
        for d in range(100):\n\
        \x20   os.mkdir(f'd{d}')\n\
        \x20   for f in range(100): open(f'd{d}/f{f}', 'w').write(f'{d} {f}')\n";
    let done = place.call(["exec", "--stage", "--commit", "--", "python3", "-c", make]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("Committed: 10100 new, 0 changed, 0 deleted."), "{}", done.err);
    assert!(done.err.contains("... and 10040 more") && done.err.lines().count() < 100, "{}", done.err);
    assert_eq!((place.read("d0/f0"), place.read("d99/f99")), ("0 0".into(), "99 99".into()));
    let done = staged(
        &place,
        &["--commit"],
        "for d in d*; do for f in $d/f?; do echo x > $f; done; done; rm -r d1*",
    );
    assert!(done.err.contains("Committed: 0 new, 890 changed, 1111 deleted."), "{}", done.err);
    assert!(!place.has("d1") && place.read("d0/f0") == "x\n" && place.read("d99/f99") == "99 99");
    place.verify();
}

#[test]
fn files_of_secrets_are_hidden_there_too() {
    let place =
        Place::unproven().with(".env", "HIDDEN").with("app/.env", "HIDDEN").with("keys/k.pem", "HIDDEN");
    let script = "cat .env app/.env keys/k.pem; cp .env copy; cp -r app app2; mv app app3; cp -r . /tmp/all
        cat copy app2/.env app3/.env /tmp/all/.env; echo x > .env; rm -f .env; ln .env hard; cat hard; ls -a";
    let done = staged(&place, &[], script);
    assert!(!done.out.contains("HIDDEN") && !done.err.contains("HIDDEN"), "{done:?}");
    let id = only(&place);
    let shown = show(&place, &id);
    assert!(!shown.to_string().contains("HIDDEN"), "{shown}");
    assert!(!signs(&shown).iter().any(|sign| sign == "-.env" || sign == "~.env"), "{shown}");
    let done = place.call(["stage", "commit", &id]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!((place.read(".env"), place.read("keys/k.pem")), ("HIDDEN".into(), "HIDDEN".into()));
    // It could neither read nor destroy it, under whatever name it is now.
    let kept = ["app/.env", "app3/.env"].iter().any(|path| place.has(path) && place.read(path) == "HIDDEN");
    assert!(kept, "{:?}", tree(place.work.path()));
}

#[test]
fn it_works_without_privileges() {
    if !rustix::process::getuid().is_root() {
        return; // Then every other test shows it.
    }
    // As nobody, from a copy of the program that nobody can reach.
    let place =
        Place::unproven().with("a.txt", "here").with("d/x", "1").with("e/x", "1").with(".env", "HIDDEN");
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("varvel");
    fs::copy(env!("CARGO_BIN_EXE_varvel"), &program).unwrap();
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(place.home.path(), Some(65534), Some(65534)).unwrap();
    chown(place.work.path(), Some(65534), Some(65534)).unwrap();
    for (path, _) in tree(place.work.path()) {
        chown(place.work.path().join(path), Some(65534), Some(65534)).unwrap();
    }
    let call = |args: &[&str]| {
        let mut command = place.program(&program);
        command.env("PATH", "/usr/bin:/bin").uid(65534).gid(65534);
        finish(command.args(args))
    };
    let script =
        "cat a.txt .env; id -u; echo new > a.txt; rm -r d; rm -r e; mkdir e; echo 2 > e/y; chmod 500 e";
    let done = call(&["exec", "--stage", "--", "sh", "-c", script]);
    assert_eq!((done.code, done.out.as_str()), (0, "here65534\n"), "{done:?}");
    assert!(place.read("a.txt") == "here" && place.has("d/x"));
    let listed: Value = serde_json::from_str(&call(&["stage", "list", "--json"]).out).unwrap();
    let done = call(&["stage", "commit", listed["id"].as_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    let names: Vec<_> = tree(place.work.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [".env", "a.txt", "e", "e/y"]);
    assert_eq!((place.read("a.txt"), place.read(".env")), ("new\n".into(), "HIDDEN".into()));
    assert_eq!(call(&["stage", "list"]).out, "");
    // Its work directory belongs to the kernel; it is removed nevertheless.
    assert_eq!(fs::read_dir(place.state().join("stage")).unwrap().count(), 0);
    assert_eq!(call(&["audit", "verify"]).code, 0);
}

/// `varvel exec --stage` at a terminal.
fn at_terminal(script: &str) -> (Place, Terminal) {
    let place = Place::unproven().with("a.txt", "old\n");
    let mut command = place.varvel();
    command.args(["exec", "--stage", "--", "sh", "-c", script]);
    let terminal = Terminal::start(&command, &place);
    (place, terminal)
}

#[test]
fn a_person_decides() {
    let (place, mut terminal) = at_terminal("echo new > a.txt");
    terminal.see("[c] commit  [d] drop  [k] keep for later: ");
    assert!(terminal.text().contains("-old") && terminal.text().contains("+new"), "{}", terminal.text());
    assert_eq!(place.read("a.txt"), "old\n", "nothing happens before the answer");
    terminal.type_in("what\n");
    eventually("it asks again", || terminal.text().matches("[c] commit").count() == 2);
    terminal.type_in("c\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(place.read("a.txt") == "new\n" && stages(&place).is_empty());
    place.verify();

    let (place, mut terminal) = at_terminal("echo new > a.txt; exit 9");
    terminal.see("[d] drop");
    terminal.type_in("d\n");
    assert_eq!(terminal.end(), 9, "{}", terminal.text());
    assert!(place.read("a.txt") == "old\n" && stages(&place).is_empty());

    // Keeping it; the end of the input and Ctrl-C are the same.
    for (keys, code) in [("k\n", 0), ("\u{4}", 0), ("\u{3}", 130)] {
        let (place, mut terminal) = at_terminal("echo new > a.txt");
        terminal.see("[k] keep");
        terminal.type_in(keys);
        assert_eq!(terminal.end(), code, "{}", terminal.text());
        assert!(terminal.text().contains("Kept as stage"), "{}", terminal.text());
        assert_eq!(place.read("a.txt"), "old\n");
        assert_eq!(place.records("session-end")[0]["about"]["exit"], code);
        assert_eq!(place.call(["stage", "commit", &only(&place)]).code, 0);
        assert_eq!(place.read("a.txt"), "new\n");
        place.verify();
    }
}

#[test]
fn a_person_is_asked_only_what_is_possible() {
    let (place, mut terminal) = at_terminal("echo new > a.txt; ln -s /etc/passwd out");
    terminal.see("[c] commit without what is refused");
    terminal.type_in("c\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(place.read("a.txt") == "new\n" && place.work.path().join("out").symlink_metadata().is_err());

    let (place, mut terminal) =
        at_terminal("echo new > a.txt; printf '\\033[2J\\n' > \"$(printf 'b\\033[2J')\"; echo go; read line");
    terminal.see("go");
    fs::write(place.work.path().join("a.txt"), "host\n").unwrap();
    terminal.type_in("\n");
    terminal.see("[d] drop  [k] keep for later: ");
    let text = terminal.text();
    assert!(text.contains("conflict  a.txt") && !text.contains("[c]"), "{text}");
    assert!(!text.contains("\u{1b}[2J"), "what is staged does not reach the terminal: {text:?}");
    terminal.type_in("c\n");
    eventually("it asks again", || terminal.text().matches("[d] drop").count() == 2);
    terminal.type_in("d\n");
    assert_eq!(terminal.end(), 0);
    assert!(place.read("a.txt") == "host\n" && stages(&place).is_empty());
}

#[test]
fn ctrl_c_keeps_what_was_staged() {
    for (option, left) in [("--keep", 1), ("--commit", 1), ("--drop", 0)] {
        let place = Place::unproven().with("a", "1");
        let mut command = place.varvel();
        command.args(["exec", "--stage", option, "--", "sh", "-c", "echo 2 > a; echo; sleep 60"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
            .unwrap();
        assert_eq!(wait(&mut child, Duration::from_secs(20)), 130);
        assert_eq!(place.read("a"), "1");
        let stages = stages(&place);
        assert_eq!(stages.len(), left, "{option}: {stages:?}");
        assert!(stages.iter().all(|stage| stage["state"] == "pending"), "{stages:?}");
        place.verify();
    }
}
