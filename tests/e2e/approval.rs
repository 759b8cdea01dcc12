//! Autonomy levels, protected files, and asking a person at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use scripted::{Server, Turn, Wire};
use serde_json::json;

use crate::support::{Place, eventually, finish, wait};

fn write_turns() -> Vec<Turn> {
    vec![Turn::call("write", json!({ "path": "a.txt", "content": "new\n" })), Turn::text("finished")]
}

fn in_mode(mode: &str, turns: Vec<Turn>) -> (Place, crate::support::Done) {
    let server = Server::start(turns).unwrap();
    let place = Place::new();
    let mut command = place.varvel();
    command.args([
        "run",
        "--mode",
        mode,
        "--model",
        "scripted",
        "--base-url",
        &server.url(Wire::OpenAi),
        "hi",
    ]);
    let done = finish(&mut command);
    place.verify();
    (place, done)
}

#[test]
fn nobody_to_ask() {
    let (place, done) = in_mode("ask", write_turns());
    assert_eq!(done.code, 3, "{done:?}");
    assert!(!place.has("a.txt"));
    assert!(done.err.contains("nobody was there") && done.err.contains("level.ask.write"), "{}", done.err);
    assert_eq!(place.records("refused")[0]["decision"]["rule"], "level.ask.write");
}

#[test]
fn observing_changes_nothing() {
    let (place, done) = in_mode("observe", write_turns());
    assert_eq!(done.code, 3, "{done:?}");
    assert!(!place.has("a.txt"));
    let (place, done) =
        in_mode("observe", vec![Turn::call("run", json!({ "command": "touch x" })), Turn::text("ok")]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(!place.has("x"));
}

#[test]
fn editing_without_commands() {
    let (place, done) = in_mode("edit", write_turns());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(place.read("a.txt"), "new\n");
    let (place, done) =
        in_mode("edit", vec![Turn::call("run", json!({ "command": "touch x" })), Turn::text("ok")]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(!place.has("x"));
}

#[test]
fn what_the_host_runs_later_needs_a_person() {
    for path in [
        ".git/hooks/pre-commit",
        ".vscode/tasks.json",
        ".envrc",
        ".github/workflows/x.yml",
        "AGENTS.md",
        "a/.mcp.json",
    ] {
        let (place, done) = in_mode(
            "auto",
            vec![Turn::call("write", json!({ "path": path, "content": "x" })), Turn::text("ok")],
        );
        assert_eq!(done.code, 3, "{path}: {done:?}");
        assert!(!place.has(path), "{path}");
    }
}

/// A terminal with the program in it.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: std::process::Child,
}

impl Terminal {
    pub(crate) fn start(command: &Command, place: &Place) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = || {
            Stdio::from(OwnedFd::from(
                File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap(),
            ))
        };
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        inside.current_dir(place.work.path()).env_clear().env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap());
        }
        let child = inside.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..n]));
            }
        });
        Self { keyboard, screen, child }
    }

    pub(crate) fn see(&self, text: &str) {
        eventually(&format!("{text:?} on the screen: {}", self.text()), || self.text().contains(text));
    }

    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn end(&mut self) -> i32 {
        wait(&mut self.child, Duration::from_secs(30))
    }
}

fn at_terminal(turns: Vec<Turn>, mode: &str) -> (Place, Server, Terminal) {
    let server = Server::start(turns).unwrap();
    let place = Place::new().with("a.txt", "old\n").with(".env", "TOKEN=abc\n");
    let mut command = place.varvel();
    command.args([
        "run",
        "--mode",
        mode,
        "--model",
        "scripted",
        "--base-url",
        &server.url(Wire::OpenAi),
        "hi",
    ]);
    let terminal = Terminal::start(&command, &place);
    (place, server, terminal)
}

#[test]
fn a_person_says_yes() {
    let (place, _server, mut terminal) = at_terminal(write_turns(), "ask");
    terminal.see("[y] yes");
    assert!(
        terminal.text().contains("-old") && terminal.text().contains("+new"),
        "the diff is shown: {}",
        terminal.text()
    );
    assert_eq!(place.read("a.txt"), "old\n", "nothing happens before the answer");
    terminal.type_in("y\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert_eq!(place.read("a.txt"), "new\n");
    let approved =
        place.records("intent").into_iter().find(|record| record["action"]["kind"] == "file-write").unwrap();
    assert_eq!(approved["approval"]["scope"], "once");
    place.verify();
}

#[test]
fn a_person_says_what_to_do_instead() {
    let (place, server, mut terminal) = at_terminal(write_turns(), "ask");
    terminal.see("[y] yes");
    terminal.type_in("put it into b.txt\n");
    assert_eq!(terminal.end(), 3, "{}", terminal.text());
    assert_eq!(place.read("a.txt"), "old\n");
    assert!(server.requests()[1].raw.contains("put it into b.txt"));
}

#[test]
fn a_yes_for_the_session_is_remembered_and_no_more() {
    let run = |command: &str| Turn::call("run", json!({ "command": command }));
    let turns =
        vec![run("echo a >> log"), run("echo a >> log"), run("echo b >> log"), Turn::text("finished")];
    let (place, _server, mut terminal) = at_terminal(turns, "ask");
    terminal.see("[y] yes");
    terminal.type_in("s\n");
    eventually("the second question", || terminal.text().matches("[y] yes").count() == 2);
    assert_eq!(place.read("log"), "a\na\n", "the same command was not asked about again, the other one is");
    terminal.type_in("n\n");
    assert_eq!(terminal.end(), 3);
    assert_eq!(place.read("log"), "a\na\n");
}

#[test]
fn a_secret_file_is_read_only_with_a_yes() {
    let read = Turn::call("read", json!({ "path": ".env" }));
    let (_place, server, mut terminal) = at_terminal(vec![read, Turn::text("finished")], "auto");
    terminal.see("[y] yes");
    terminal.type_in("y\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(server.requests()[1].raw.contains("TOKEN="), "a model on this machine may see it then");
}

#[test]
fn ctrl_c_at_a_question() {
    let (place, _server, mut terminal) = at_terminal(write_turns(), "ask");
    terminal.see("[y] yes");
    terminal.type_in("\u{3}");
    assert_eq!(terminal.end(), 130, "{}", terminal.text());
    assert_eq!(place.read("a.txt"), "old\n");
    place.verify();
    assert!(!place.records("session-end").is_empty());
}

#[test]
fn hostile_output_does_not_reach_the_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2Jgone\u{202e}";
    let turns = vec![
        Turn::call("run", json!({ "command": "printf '\\033[2Jcleared\\033]0;owned\\007'" })),
        Turn::text(evil),
    ];
    let (_place, _server, mut terminal) = at_terminal(turns, "auto");
    assert_eq!(terminal.end(), 0);
    let text = terminal.text();
    assert!(text.contains("cleared") && text.contains("gone"), "{text}");
    assert!(
        !text.contains("\u{1b}[2J") && !text.contains("\u{1b}]0") && !text.contains('\u{202e}'),
        "{text:?}"
    );
}
