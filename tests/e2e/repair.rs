//! The repair strategy, with a model that says what it is told to say.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scripted::{Server, Turn, Wire};

use crate::support::{Place, eventually, sent, wait};

const CODE: &str = "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return add(a, a)\n";
const TEST: &str = "import unittest\nfrom calc import double\n\n\nclass Calc(unittest.TestCase):\n    def test_double(self):\n        self.assertEqual(double(4), 8)\n";

fn place() -> Place {
    Place::new().with("calc.py", CODE).with("test_calc.py", TEST)
}

fn fenced(code: &str) -> Turn {
    Turn::Text(format!("Here it is:\n```python\n{code}\n```\nI changed the operator."))
}

#[test]
fn suspects_are_tried_one_after_the_other_until_the_tests_pass() {
    let server = Server::start(vec![
        fenced("def double(a):\n    return add(a, a) + 1"),
        fenced("def add(a, b):\n    return a + b"),
    ])
    .unwrap();
    let place = place();
    let done = place.run(&server, &["--strategy", "repair", "Doubling gives 0."]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("Fixed `add` in calc.py"), "{}", done.out);
    assert_eq!(place.read("calc.py"), CODE.replace("a - b", "a + b"));
    let first = &server.requests()[0].raw;
    assert!(
        first.contains("Doubling gives 0.") && first.contains("def double") && !first.contains("def add"),
        "{first}"
    );
    assert!(first.len() < 3000, "one function and the failure: {} bytes", first.len());
    place.verify();
}

#[test]
fn answers_that_are_no_answer_are_rejected_and_the_file_stays() {
    let server = Server::start(vec![
        fenced("def double(a):\n    return add(a, a)"),
        fenced("def other(a):\n    return 1"),
        fenced("def double(a):\n    return ((("),
        Turn::text("I am sorry, I cannot help with that."),
        fenced("import os\ndef double(a):\n    return a"),
        fenced("def double(a):\n    return 7"),
    ])
    .unwrap();
    let place = place();
    let done = place.run(&server, &["--strategy", "repair", "--attempts", "12", "Fix it."]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("Every file is as it was"), "{}", done.out);
    assert_eq!(place.read("calc.py"), CODE);
    assert!(
        place.records("intent").iter().any(|record| record["action"]["kind"] == "file-write"),
        "something was tried"
    );
    place.verify();
}

#[test]
fn an_attempt_that_is_interrupted_is_taken_back() {
    for (signal, args) in [(Some(Signal::INT), &["--max-time", "60"][..]), (None, &["--max-time", "4"])] {
        // The tests hang with this attempt in place.
        let server =
            Server::start(vec![fenced("def double(a):\n    import time\n    time.sleep(818181)")]).unwrap();
        let place = place();
        let mut args = args.to_vec();
        args.extend(["--strategy", "repair", "Fix it."]);
        let mut child = place
            .run_command(&server, Wire::OpenAi, &args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the attempt is in the file", || place.read("calc.py").contains("818181"));
        let expected = match signal {
            Some(signal) => {
                kill_process(Pid::from_child(&child), signal).unwrap();
                130
            }
            None => 3,
        };
        assert_eq!(wait(&mut child, Duration::from_secs(20)), expected);
        assert_eq!(place.read("calc.py"), CODE);
        place.verify();
    }
}

#[test]
fn what_cannot_be_repaired_is_said() {
    let server = Server::start(vec![]).unwrap();
    let done = Place::new().with("a.txt", "").run(&server, &["--strategy", "repair", "Fix it."]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("--test"), "{}", done.err);
    let passing = Place::new().with("a.txt", "");
    let done = passing.run(&server, &["--strategy", "repair", "--test", "true", "Fix it."]);
    assert!(done.code == 0 && done.out.contains("pass already"), "{done:?}");
    let done = passing.run(&server, &["--strategy", "repair", "--test", "false", "Fix it."]);
    assert!(done.code == 1 && done.out.contains("leads to no function"), "{done:?}");
    assert!(sent(&server).is_empty());
}
