//! Ctrl-C, and kill -9 at any moment.

use std::collections::HashSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scripted::{Server, Turn, Wire};
use serde_json::json;

use crate::support::{Place, alive, eventually, wait};

fn signal(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn ctrl_c_stops_the_whole_tree_of_a_command() {
    let command = "sleep 515151 & (sleep 515151 &) ; setsid sleep 515151 & sleep 515151";
    let server = Server::start(vec![Turn::call("run", json!({ "command": command }))]).unwrap();
    let place = Place::new();
    let mut child = place
        .run_command(&server, Wire::OpenAi, &["hi"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the command runs", || alive("515151"));
    signal(&child, Signal::INT);
    assert_eq!(wait(&mut child, Duration::from_secs(10)), 130);
    eventually("everything is gone", || !alive("515151"));
    place.verify();
    let outcomes = place.records("outcome");
    assert_eq!(outcomes.last().unwrap()["status"], "stopped");
    assert_eq!(place.records("session-end")[0]["about"]["exit"], 130);
}

#[test]
fn ctrl_c_stops_a_model_call() {
    let server = Server::start(vec![Turn::Stall(Duration::from_secs(60), "late".into())]).unwrap();
    let place = Place::new();
    let mut child = place
        .run_command(&server, Wire::OpenAi, &["hi"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the model is asked", || !server.requests().is_empty());
    signal(&child, Signal::TERM);
    assert_eq!(wait(&mut child, Duration::from_secs(10)), 143);
    place.verify();
    assert_eq!(place.records("outcome").last().unwrap()["status"], "stopped");
}

#[test]
fn ctrl_c_stops_an_exec() {
    let place = Place::new();
    let mut child =
        place.varvel().args(["exec", "--", "sh", "-c", "trap '' INT; sleep 616161 & wait"]).spawn().unwrap();
    eventually("the command runs", || alive("616161"));
    signal(&child, Signal::INT);
    assert_eq!(wait(&mut child, Duration::from_secs(10)), 130);
    eventually("everything is gone", || !alive("616161"));
    place.verify();
}

#[test]
fn kill_9_at_any_moment() {
    for delay in [0, 20, 40, 60, 80, 110, 140, 180, 240, 320] {
        let mut turns = Vec::new();
        for n in 0..200 {
            turns.push(Turn::Calls(vec![
                ("write".into(), json!({ "path": format!("w{n}"), "content": "x" })),
                ("run".into(), json!({ "command": format!("touch r{n}; sleep 0.0{n}") })),
            ]));
        }
        let server = Server::start(turns).unwrap();
        let place = Place::new();
        let mut child = place
            .run_command(&server, Wire::OpenAi, &["hi"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        signal(&child, Signal::KILL);
        wait(&mut child, Duration::from_secs(5));
        let marker = place.work.path().display().to_string();
        eventually("nothing of it is left", || !alive(&marker));
        let done = place.call(["audit", "verify"]);
        // Killed before its first entry there is no ledger to verify.
        if done.code != 0 {
            assert!(delay == 0 && !place.state().join("ledger/entries.jsonl").exists(), "{delay}: {done:?}");
            continue;
        }
        // Every effect that happened is recorded.
        let text = fs::read_to_string(place.state().join("ledger/entries.jsonl")).unwrap();
        let effects: HashSet<String> = fs::read_dir(place.work.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        for effect in effects.iter().filter(|name| !name.starts_with('.')) {
            let recorded =
                text.contains(&format!("\"{effect}\"")) || text.contains(&format!("touch {effect};"));
            assert!(recorded, "{delay}: {effect} is not in the ledger");
        }
        // And the next run goes on with the same ledger.
        assert_eq!(place.sh("true").code, 0);
        place.verify();
    }
}
