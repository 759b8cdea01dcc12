//! The embedded model, for real: the worker, the smallest weights, the whole path.
//!
//! They need what `scripts/test` builds and pulls: `VARVEL_LLM_WORKER` names the worker, `VARVEL_TEST_MODELS` a
//! directory with weights. `scripts/test` runs them with `--run-ignored`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Place, alive, eventually, finish, wait};

const WEIGHTS: &str = "smollm2-135m-instruct-q4_1.gguf";

fn place() -> Place {
    let models =
        PathBuf::from(std::env::var_os("VARVEL_TEST_MODELS").expect("VARVEL_TEST_MODELS names a directory"));
    let place = Place::new();
    fs::create_dir_all(place.state().join("models")).unwrap();
    fs::hard_link(models.join(WEIGHTS), place.state().join("models").join(WEIGHTS))
        .or_else(|_| fs::copy(models.join(WEIGHTS), place.state().join("models").join(WEIGHTS)).map(drop))
        .unwrap();
    place
}

fn varvel(place: &Place, args: &[&str]) -> Command {
    let mut command = place.varvel();
    command.env(
        "VARVEL_LLM_WORKER",
        std::env::var_os("VARVEL_LLM_WORKER").expect("VARVEL_LLM_WORKER names the worker"),
    );
    command.args(["run", "--mode", "auto", "--model", "smollm2-135m"]).args(args);
    command
}

#[test]
#[ignore = "needs the worker and weights; scripts/test has them"]
fn answers_and_calls_tools_by_grammar() {
    let place = place().with("notes.txt", "one\n");
    let done =
        finish(varvel(&place, &["--max-steps", "2", "-o", "json", "List the files."]).stdin(Stdio::null()));
    // What so small a model does is its own affair; that its words are well-formed calls is ours.
    assert!(done.code == 0 || done.code == 3, "{done:?}");
    let result: Value = serde_json::from_str(&done.out).unwrap();
    assert!(
        result["output_tokens"].as_u64().unwrap() > 0 && result["network"] == serde_json::json!([]),
        "{result}"
    );
    assert!(!place.records("intent").is_empty());
    place.verify();
}

#[test]
#[ignore = "needs the worker and weights; scripts/test has them"]
fn a_repair_that_fails_leaves_every_file_as_it_was() {
    let code = "def f(x):\n    return x + 1\n";
    let test = "import unittest\nfrom m import f\n\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(2), 'impossible: %s' % object())\n";
    let place = place().with("m.py", code).with("test_m.py", test);
    let done = finish(&mut varvel(&place, &["--attempts", "2", "Fix it."]));
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("Every file is as it was"), "{}", done.out);
    assert_eq!(place.read("m.py"), code);
    place.verify();
}

#[test]
#[ignore = "needs the worker and weights; scripts/test has them"]
fn ctrl_c_ends_the_worker_too() {
    let place = place();
    let mut child = varvel(&place, &["--strategy", "tools", "Write a very long story."])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let weights = place.state().join("models").join(WEIGHTS).display().to_string();
    eventually("the worker runs", || alive(&weights));
    std::thread::sleep(Duration::from_millis(500));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(wait(&mut child, Duration::from_secs(10)), 130);
    eventually("it is gone", || !alive(&weights));
    place.verify();
}

#[test]
#[ignore = "needs the worker and weights; scripts/test has them"]
fn wrong_weights_are_not_used() {
    let place = place();
    let path = place.state().join("models").join(WEIGHTS);
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![0; 98_362_432]).unwrap();
    let done = finish(&mut varvel(&place, &["hi"]));
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("SHA-256") && done.err.contains("varvel model pull"), "{}", done.err);
}

#[test]
#[ignore = "needs the worker and weights; scripts/test has them"]
fn the_worker_locks_itself_in() {
    let worker = std::env::var_os("VARVEL_LLM_WORKER").unwrap();
    let output = Command::new(worker).arg("prove").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("no socket"));
}
