//! Secrets do not reach a model, a command or the record.

use std::fs;

use scripted::{Server, Turn, Wire};
use serde_json::json;

use crate::support::{Place, finish, sent};

// Made up, in the shape of the real thing; put together here so that scanners do not trip over this file.
fn aws() -> String {
    format!("AKIA{}", "Q3EGRPLNBV7YTWZ2")
}

fn github() -> String {
    format!("ghp_{}", "a8Fk2LmQ9xZr4TbN7cVy1WdE5sGh3JpU6oKi")
}

#[test]
fn in_files_and_output_they_become_placeholders_and_come_back_on_writing() {
    let (aws, github) = (aws(), github());
    let place = Place::new()
        .with("deploy.py", format!("KEY = \"{aws}\"\nREGION = \"eu\"\n"))
        .with("out.txt", &github);
    let server = Server::start(vec![
        Turn::call("read", json!({ "path": "deploy.py" })),
        Turn::call("run", json!({ "command": "cat out.txt" })),
        Turn::call("search", json!({ "pattern": "KEY|ghp" })),
        Turn::call("edit", json!({ "path": "deploy.py", "old": "\"eu\"", "new": "\"us\"" })),
        Turn::text("done"),
    ])
    .unwrap();
    let done = place.run(&server, &[&format!("Use {github} to deploy.")]);
    assert_eq!(done.code, 0, "{done:?}");
    let all = sent(&server);
    assert!(!all.contains(&aws) && !all.contains(&github), "nothing secret was sent");
    assert!(all.contains("secret:"), "a placeholder stands for it");
    assert_eq!(
        place.read("deploy.py"),
        format!("KEY = \"{aws}\"\nREGION = \"us\"\n"),
        "the file keeps the real one"
    );
    let ledger = fs::read_to_string(place.state().join("ledger/entries.jsonl")).unwrap();
    assert!(!ledger.contains(&aws) && !ledger.contains(&github));
}

#[test]
fn a_file_of_secrets_is_not_read_without_a_person() {
    for path in [".env", "config/.env.production", ".ssh/id_ed25519", "server.pem", ".aws/credentials"] {
        let place = Place::new().with(path, "PLAIN-SENTINEL");
        let server = Server::start(vec![
            Turn::call("read", json!({ "path": path })),
            Turn::call("run", json!({ "command": format!("cat {path}") })),
            Turn::call("search", json!({ "pattern": "PLAIN" })),
            Turn::text("done"),
        ])
        .unwrap();
        let done = place.run(&server, &["hi"]);
        assert_eq!(done.code, 3, "{path}: {done:?}");
        assert!(!sent(&server).contains("PLAIN-SENTINEL"), "{path}");
        assert!(done.err.contains("builtin.secret-file"), "{path}: {}", done.err);
    }
}

#[test]
fn commands_do_not_see_the_environment() {
    let place = Place::new();
    let server = Server::start(vec![
        Turn::call("run", json!({ "command": "env; cat /proc/*/environ | tr '\\0' '\\n'" })),
        Turn::text("done"),
    ])
    .unwrap();
    let mut command = place.run_command(&server, Wire::OpenAi, &["-v", "hi"]);
    command
        .env("VARVEL_API_KEY", "model-key-SENTINEL")
        .env("AWS_SECRET_ACCESS_KEY", "cloud-SENTINEL")
        .env("SSH_AUTH_SOCK", "/sock-SENTINEL");
    let done = finish(&mut command);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(server.requests()[1].raw.contains("VARVEL_SANDBOX=1"), "it ran");
    assert!(!server.requests()[1].raw.contains("SENTINEL") && !done.err.contains("SENTINEL"), "{}", done.err);
    assert!(!fs::read_to_string(place.state().join("ledger/entries.jsonl")).unwrap().contains("SENTINEL"));
}

#[test]
fn the_key_is_not_in_the_arguments_of_any_process() {
    // It could only be there if somebody had put it there: there is no such option.
    let done = Place::new().call(["run", "--api-key", "k", "hi"]);
    assert_eq!(done.code, 2);
}
