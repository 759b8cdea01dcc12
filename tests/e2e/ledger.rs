//! The record: what it holds, and that changing it is noticed.

use std::fs;

use scripted::{Server, Turn};
use serde_json::json;

use crate::support::Place;

fn with_history() -> Place {
    let server = Server::start(vec![
        Turn::call("write", json!({ "path": "a.txt", "content": "CONTENT-SENTINEL" })),
        Turn::call("run", json!({ "command": "cat a.txt" })),
        Turn::text("done"),
    ])
    .unwrap();
    let place = Place::new();
    assert_eq!(place.run(&server, &["hi"]).code, 0);
    place
}

#[test]
fn says_what_was_done_and_not_what_was_in_it() {
    let place = with_history();
    let ledger = fs::read_to_string(place.state().join("ledger/entries.jsonl")).unwrap();
    assert!(!ledger.contains("CONTENT-SENTINEL"), "digests, not content");
    let log = place.call(["audit", "log"]).out;
    for sign in [
        "session",
        "ask openai scripted",
        "write a.txt",
        "run cat a.txt",
        "allow: level.auto.write",
        "session ended",
    ] {
        assert!(log.contains(sign), "{sign}: {log}");
    }
    assert_eq!(place.call(["audit", "log", "-n", "2"]).out.lines().count(), 2);
    let session = place.ledger()[0]["record"]["actor"]["session"].as_str().unwrap().to_owned();
    let chosen = place.call(["audit", "log", "--json", "--session", &session]).out;
    assert_eq!(chosen.lines().count(), place.ledger().len());
    assert_eq!(place.call(["audit", "log", "--session", "none"]).out, "");
    for entry in place.ledger() {
        assert!(entry["time"].is_string() && entry["seq"].is_u64());
    }
}

#[test]
fn every_change_is_noticed() {
    let place = with_history();
    let path = place.state().join("ledger/entries.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let join = |lines: Vec<&str>| lines.join("\n") + "\n";
    let changes = [
        ("an edited entry", whole.replacen("a.txt", "b.txt", 1)),
        (
            "a removed entry",
            join(lines.iter().enumerate().filter(|(n, _)| *n != 3).map(|(_, line)| *line).collect()),
        ),
        ("a cut end", join(lines[..lines.len() - 2].to_vec())),
        ("a repeated entry", join([&lines[..], &lines[lines.len() - 1..]].concat())),
        ("an emptied ledger", String::new()),
    ];
    for (what, text) in changes {
        fs::write(&path, text).unwrap();
        let done = place.call(["audit", "verify"]);
        assert_eq!(done.code, 1, "{what}: {done:?}");
        let json = place.call(["audit", "verify", "--json"]);
        assert!(json.code == 1 && json.out.contains("\"holds\":false"), "{what}: {json:?}");
    }
    fs::write(&path, &whole).unwrap();
    place.verify();
}

#[test]
fn a_damaged_ledger_stops_everything() {
    let place = with_history();
    let path = place.state().join("ledger/entries.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(&path, lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    let done = place.sh("touch made");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("ledger"), "{}", done.err);
    assert!(!place.has("made"));
}

#[test]
fn no_ledger_is_not_a_ledger_that_holds() {
    let done = Place::new().call(["audit", "verify"]);
    assert_eq!(done.code, 1, "{done:?}");
}
