//! Bad input of every kind: a clear message, the right exit status, nothing lost, nothing hanging.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use scripted::{Server, Turn, Wire};
use serde_json::json;

use crate::support::{Done, Place, finish, sent};

/// One tool call, then the end. Returns how it ended and what the model was told.
fn tool(place: &Place, name: &str, args: serde_json::Value) -> (Done, String) {
    let server = Server::start(vec![Turn::call(name, args), Turn::text("ok")]).unwrap();
    let done = place.run(&server, &["Do it."]);
    let told = server.requests().get(1).map(|request| request.raw.clone()).unwrap_or_default();
    place.verify();
    (done, told)
}

#[test]
fn unreachable_server() {
    let place = Place::new();
    let done =
        finish(place.varvel().args(["run", "--base-url", "http://127.0.0.1:1/v1", "--model", "m", "hi"]));
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("cannot reach 127.0.0.1:1"), "{}", done.err);
    place.verify();
}

#[test]
fn name_that_does_not_resolve() {
    let place = Place::new();
    let mut command = place.varvel();
    command
        .args(["run", "--base-url", "https://model.invalid/v1", "--model", "m", "hi"])
        .env("VARVEL_API_KEY", "k");
    let done = finish(&mut command);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("cannot reach model.invalid"), "{}", done.err);
}

#[test]
fn wrong_key() {
    let body = json!({ "error": { "message": "Incorrect API key provided" } }).to_string();
    for wire in Wire::ALL {
        let server = Server::start(vec![Turn::Status(401, body.clone(), None)]).unwrap();
        let place = Place::new();
        let done =
            finish(place.run_command(&server, wire, &["hi"]).env("VARVEL_API_KEY", "sk-wrong-key-0815"));
        assert_eq!(done.code, 4, "{wire:?}: {done:?}");
        assert!(
            done.err.contains("refused the key") && done.err.contains("Incorrect API key"),
            "{wire:?}: {}",
            done.err
        );
        assert_eq!(server.requests().len(), 1, "{wire:?}: not tried again");
        let ledger = fs::read_to_string(place.state().join("ledger/entries.jsonl")).unwrap();
        assert!(!ledger.contains("sk-wrong-key-0815") && !done.err.contains("sk-wrong-key-0815"));
    }
}

#[test]
fn busy_server_is_tried_again() {
    let server = Server::start(vec![
        Turn::Status(429, "{}".into(), Some(0)),
        Turn::Status(503, "{}".into(), Some(0)),
        Turn::text("at last"),
    ])
    .unwrap();
    let done = Place::new().run(&server, &["hi"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("trying again") && done.out.contains("at last"), "{done:?}");
}

#[test]
fn broken_server_is_given_up() {
    let server = Server::start(vec![Turn::Status(500, "oops".into(), Some(0))]).unwrap();
    let done = Place::new().run(&server, &["hi"]);
    assert_eq!((done.code, server.requests().len()), (4, 4), "{done:?}");
    assert!(done.err.contains("answered 500: oops"), "{}", done.err);
}

#[test]
fn truncated_answers_are_not_used() {
    for wire in Wire::ALL {
        for args in [&["hi"][..], &["--no-stream", "hi"]] {
            // A whole answer that breaks off is a connection that failed, and tried again: slow, so one format does.
            if args.len() > 1 && wire != Wire::OpenAi {
                continue;
            }
            let server = Server::start(vec![Turn::Truncated("one two three four five six".into())]).unwrap();
            let place = Place::new();
            let done = finish(place.run_command(&server, wire, args).env("VARVEL_API_KEY", "k"));
            assert_eq!(done.code, 4, "{wire:?} {args:?}: {done:?}");
            assert!(!done.out.contains("one two"), "{wire:?} {args:?}: {done:?}");
            place.verify();
        }
    }
}

#[test]
fn answers_that_end_without_an_end_are_not_used() {
    for wire in Wire::ALL {
        let server = Server::start(vec![Turn::Cut("one two three four five six".into())]).unwrap();
        let done = finish(Place::new().run_command(&server, wire, &["hi"]).env("VARVEL_API_KEY", "k"));
        assert_eq!(done.code, 4, "{wire:?}: {done:?}");
        assert!(done.err.contains("broke off") && !done.out.contains("one two"), "{wire:?}: {done:?}");
    }
}

#[test]
fn garbage_is_not_an_answer() {
    for wire in Wire::ALL {
        for args in [&["hi"][..], &["--no-stream", "hi"]] {
            let server = Server::start(vec![Turn::Garbage]).unwrap();
            let done = finish(Place::new().run_command(&server, wire, args).env("VARVEL_API_KEY", "k"));
            assert_eq!(done.code, 4, "{wire:?} {args:?}: {done:?}");
        }
    }
}

#[test]
fn closed_and_endless_connections() {
    let server = Server::start(vec![Turn::Close]).unwrap();
    assert_eq!(Place::new().run(&server, &["hi"]).code, 4);
    let server = Server::start(vec![Turn::Endless]).unwrap();
    let done = Place::new().run(&server, &["-o", "json", "hi"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.out.contains("more than 8 MB"), "{}", done.out);
}

#[test]
fn malformed_arguments_are_told_to_the_model() {
    for wire in [Wire::OpenAi, Wire::Responses] {
        let broken = Turn::RawCall("read".into(), "{\"path\": \"a.txt\"".into());
        let server = Server::start(vec![broken, Turn::text("ok")]).unwrap();
        let place = Place::new().with("a.txt", "x");
        let done = finish(place.run_command(&server, wire, &["hi"]).env("VARVEL_API_KEY", "k"));
        assert_eq!(done.code, 0, "{wire:?}: {done:?}");
        assert!(
            server.requests()[1].raw.contains("the arguments of read are not usable"),
            "{wire:?}: {}",
            server.requests()[1].raw
        );
    }
}

#[test]
fn unknown_tools_and_wrong_arguments_are_told_to_the_model() {
    let place = Place::new();
    let (done, told) = tool(&place, "teleport", json!({}));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(told.contains("there is no tool") && told.contains("search"), "{told}");
    let (done, told) = tool(&place, "read", json!({ "file": "a" }));
    assert_eq!(done.code, 0);
    assert!(told.contains("path"), "{told}");
}

#[test]
fn files_that_cannot_be_read() {
    let place = Place::new().with("binary", b"\x7fELF\0\0\0").with("d/x", "");
    fs::File::create(place.work.path().join("huge")).unwrap().set_len(5 << 30).unwrap();
    for (path, sign) in [
        ("huge", "more than the limit"),
        ("binary", "binary"),
        ("d", "a directory"),
        ("absent", "does not exist"),
        ("../outside", "outside the workspace"),
        ("/etc/passwd", "outside the workspace"),
        ("a\u{0}b", "not a usable path"),
    ] {
        let (done, told) = tool(&place, "read", json!({ "path": path }));
        assert_eq!(done.code, 0, "{path}: {done:?}");
        assert!(told.contains(sign), "{path}: {told}");
        assert!(!told.contains("root:"), "{path}");
    }
}

#[test]
fn symbolic_links_lead_nowhere() {
    let place = Place::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "SENTINEL-OUTSIDE").unwrap();
    symlink(outside.path(), place.work.path().join("link")).unwrap();
    symlink(outside.path().join("secret"), place.work.path().join("file")).unwrap();
    symlink("loop", place.work.path().join("loop")).unwrap();
    for (name, args) in [
        ("read", json!({ "path": "link/secret" })),
        ("read", json!({ "path": "file" })),
        ("read", json!({ "path": "loop" })),
        ("write", json!({ "path": "link/new", "content": "x" })),
        ("write", json!({ "path": "file", "content": "x" })),
        ("delete", json!({ "path": "link/secret" })),
        ("search", json!({ "pattern": "SENTINEL", "path": "link" })),
        ("run", json!({ "command": "cat link/secret file; echo x > link/new" })),
    ] {
        let (done, told) = tool(&place, name, args.clone());
        assert_eq!(done.code, 0, "{args}: {done:?}");
        assert!(!told.contains("SENTINEL-OUTSIDE"), "{name} {args}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "SENTINEL-OUTSIDE");
    // What was tried outside the workspace is on record.
    assert!(place.records("refused").iter().any(|record| record["decision"]["rule"] == "workspace.outside"));
}

#[test]
fn a_command_that_never_ends() {
    let place = Place::new();
    let (done, told) = tool(&place, "run", json!({ "command": "sleep 424243 & sleep 424243", "timeout": 1 }));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        told.contains("time limit") || told.contains("timed out") || told.contains("longer than"),
        "{told}"
    );
    assert!(done.time < Duration::from_secs(15), "{:?}", done.time);
    assert!(!crate::support::alive("424243"), "the whole tree is gone");
}

#[test]
fn a_command_that_prints_a_gigabyte() {
    let place = Place::new();
    let (done, told) = tool(
        &place,
        "run",
        json!({ "command": "echo first; head -c 1000000000 /dev/zero | tr '\\0' x; echo; echo last" }),
    );
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(told.len() < 100_000, "{} bytes were sent", told.len());
    assert!(
        told.contains("first") && told.contains("last") && told.contains("left out"),
        "both ends are kept"
    );
    assert!(done.err.len() < 10_000);
}

#[test]
fn names_that_are_not_utf8() {
    let place = Place::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
    fs::write(place.work.path().join(name), "needle in latin\n").unwrap();
    let (done, told) = tool(&place, "list", json!({}));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(told.contains("caf") && told.contains(".txt"), "{told}");
    let (done, told) = tool(&place, "search", json!({ "pattern": "needle" }));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(told.contains("needle in latin"), "{told}");
    let (done, _) = tool(&place, "run", json!({ "command": "rm caf*" }));
    assert_eq!(done.code, 0);
    assert_eq!(fs::read_dir(place.work.path()).unwrap().count(), 0);
}

#[test]
fn searching_names_finds_contents_when_no_name_matches() {
    let place = Place::new().with("src/core.py", "class Group:\n").with("group.txt", "");
    let (_, told) = tool(&place, "search", json!({ "pattern": "class Group", "names": true }));
    assert!(told.contains("no path matches") && told.contains("src/core.py:1: class Group"), "{told}");
    let (_, told) = tool(&place, "search", json!({ "pattern": "group", "names": true }));
    assert!(told.contains("group.txt") && !told.contains("core.py"), "{told}");
}

/// Runs the program with something mounted first, in a namespace of its own.
fn with_mounts(place: &Place, mounts: &str, server: &Server) -> Done {
    let inner = place.run_command(server, Wire::OpenAi, &["hi"]);
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &format!("{mounts} && cd \"$PWD\" && exec \"$@\""),
        "sh",
    ]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(place.work.path()).env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    finish(&mut command)
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    let place = Place::new();
    let work = place.work.path().display().to_string();
    let old = "old content\n";
    let write = Turn::call("write", json!({ "path": "a.txt", "content": "new ".repeat(100_000) }));
    let server =
        Server::start(vec![write, Turn::call("read", json!({ "path": "a.txt" })), Turn::text("ok")]).unwrap();
    let mounts =
        format!("mount -t tmpfs -o size=64k none {work} && printf '{}' > {work}/a.txt", old.trim_end());
    let done = with_mounts(&place, &mounts, &server);
    assert_eq!(done.code, 0, "{done:?}");
    let told = &server.requests()[1].raw;
    assert!(told.contains("No space left"), "{told}");
    assert!(server.requests()[2].raw.contains("old content"), "the old content is still there");
    place.verify();
}

#[test]
fn no_record_no_action() {
    // The ledger's disk is full: the write must not happen.
    let place = Place::new();
    let state = place.state();
    let mounts = format!(
        "proof=$(cat {0}/proof.json) && mount -t tmpfs -o size=68k none {0} && echo \"$proof\" > {0}/proof.json && \
         mkdir -m 700 {0}/ledger && head -c 45056 /dev/zero > {0}/filler",
        state.display()
    );
    let content = "x".repeat(100);
    let calls = (0..200)
        .map(|n| ("write".to_owned(), json!({ "path": format!("f{n}"), "content": content })))
        .collect();
    let server = Server::start(vec![Turn::Calls(calls)]).unwrap();
    let done = with_mounts(&place, &mounts, &server);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("ledger") && done.err.contains("No space left"), "{}", done.err);
    let written = fs::read_dir(place.work.path()).unwrap().count();
    assert!(
        (1..200).contains(&written),
        "{written} files: it went on until nothing could be recorded, and no further"
    );
    assert_eq!(
        server.requests().len(),
        1,
        "and the model was not told, because that could not be recorded either"
    );
}

#[test]
fn a_read_only_home() {
    let place = Place::new();
    let server = Server::start(vec![Turn::text("ok")]).unwrap();
    let home = place.home.path().display().to_string();
    let done = with_mounts(
        &place,
        &format!("mount --bind {home} {home} && mount -o remount,bind,ro {home}"),
        &server,
    );
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("ledger") && done.err.contains("Read-only file system"), "{}", done.err);
    assert!(done.err.contains("VARVEL_HOME"), "it says what to do: {}", done.err);
    assert!(server.requests().is_empty(), "nothing was done");
}

#[test]
fn workspaces_that_cannot_be() {
    let place = Place::new();
    let server = Server::start(vec![Turn::text("ok")]).unwrap();
    let home = place.home.path().display().to_string();
    for (directory, sign) in [
        ("absent", "does not exist"),
        ("/", "cannot be"),
        ("/etc", "cannot be"),
        (home.as_str(), "cannot be"),
    ] {
        let done = place.run(&server, &["-C", directory, "hi"]);
        assert_eq!(done.code, 2, "{directory}: {done:?}");
        assert!(done.err.contains(sign), "{directory}: {}", done.err);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn the_state_cannot_be_in_the_workspace() {
    let place = Place::new();
    let server = Server::start(vec![Turn::text("ok")]).unwrap();
    let mut command = place.run_command(&server, Wire::OpenAi, &["hi"]);
    command.env("VARVEL_HOME", place.work.path().join("state"));
    let done = finish(&mut command);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("VARVEL_HOME") && sent(&server).is_empty(), "{}", done.err);
}
