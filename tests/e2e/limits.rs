//! Every limit stops a run, with exit status 3 and a word about how to raise it.

use std::fs;
use std::time::Duration;

use scripted::{Server, Turn, Wire};
use serde_json::{Value, json};

use crate::support::{Place, finish};

fn busy() -> Vec<Turn> {
    (0..100).map(|n| Turn::call("run", json!({ "command": format!("echo {n}") }))).collect()
}

fn stopped(args: &[&str], sign: &str) {
    let server = Server::start(busy()).unwrap();
    let place = Place::new();
    let mut all = vec!["-o", "json"];
    all.extend_from_slice(args);
    all.push("hi");
    let done = place.run(&server, &all);
    assert_eq!(done.code, 3, "{done:?}");
    let result: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(result["outcome"], "stopped");
    assert!(result["reason"].as_str().unwrap().contains(sign), "{result}");
    place.verify();
}

#[test]
fn steps() {
    stopped(&["--max-steps", "3"], "--max-steps");
}

#[test]
fn tokens() {
    stopped(&["--max-tokens", "250"], "--max-tokens");
}

#[test]
fn time() {
    let server = Server::start(vec![Turn::Stall(Duration::from_secs(60), "late".into())]).unwrap();
    let done = Place::new().run(&server, &["--max-time", "1", "hi"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.err.contains("--max-time") && done.time < Duration::from_secs(10), "{done:?}");
}

#[test]
fn cost() {
    let server = Server::start(busy()).unwrap();
    let place = Place::new();
    let config = place.home.path().join(".config/varvel");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("varvel.toml"), "[prices.scripted]\ninput = 1000.0\noutput = 1000.0\n").unwrap();
    let done = place.run(&server, &["--max-cost", "0.2", "-o", "json", "hi"]);
    assert_eq!(done.code, 3, "{done:?}");
    let result: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(result["cost_usd"], 0.22, "two calls of 110 tokens at $1000 a million");
    assert!(result["reason"].as_str().unwrap().contains("--max-cost"), "{result}");
}

#[test]
fn a_cost_limit_that_cannot_hold_is_refused() {
    let place = Place::new();
    let mut command = place.varvel();
    command.args([
        "run",
        "--base-url",
        "https://model.invalid/v1",
        "--model",
        "unheard-of",
        "--max-cost",
        "1",
        "hi",
    ]);
    let done = finish(command.env("VARVEL_API_KEY", "k"));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("price") && done.err.contains("--max-tokens"), "{}", done.err);
}

#[test]
fn a_model_that_repeats_itself() {
    let server = Server::start(vec![Turn::call("run", json!({ "command": "echo hi" }))]).unwrap();
    let done = Place::new().run(&server, &["hi"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.err.contains("again and again"), "{}", done.err);
    let requests = server.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests[3].raw.contains("several times"), "it was told first");
}

#[test]
fn a_long_conversation_is_compacted() {
    let place = Place::new().with("big.txt", "lorem ipsum dolor sit amet\n".repeat(500));
    let mut turns: Vec<Turn> =
        (1..40).map(|n| Turn::call("read", json!({ "path": "big.txt", "start": n }))).collect();
    turns.push(Turn::text("read it all"));
    let server = Server::start(turns).unwrap();
    let mut command = place.run_command(&server, Wire::Ollama, &["Read on."]);
    let done = finish(&mut command);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("made smaller"), "{}", done.err);
    let largest = server.requests().iter().map(|request| request.raw.len()).max().unwrap();
    assert!(largest < 8192 * 4, "{largest} bytes for a window of 8192 tokens");
}
