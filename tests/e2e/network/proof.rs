//! Before anything runs unattended, the sandbox has been seen to hold on this kernel, with this program.

use std::fs;

use scripted::{Server, Turn, Wire};
use serde_json::{Value, json};

use crate::support::{Done, Place, finish};

/// What is said while it is proven.
const LINE: &str = "proving the sandbox on this kernel";

fn run(place: &Place, mode: &str) -> Done {
    let server = Server::start(vec![
        Turn::call("run", json!({ "command": "echo confined > out.txt" })),
        Turn::text("finished"),
    ])
    .unwrap();
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
    finish(&mut command)
}

fn record(place: &Place) -> Value {
    serde_json::from_str(&fs::read_to_string(place.state().join("proof.json")).unwrap()).unwrap()
}

/// Runs once more; whether the sandbox was proven again.
fn proves_again(place: &Place) -> bool {
    let done = run(place, "auto");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.err.matches(LINE).count(), usize::from(done.err.contains(LINE)));
    done.err.contains(LINE)
}

#[test]
fn the_first_unattended_run_proves_the_sandbox() {
    let place = Place::unproven();
    // Reading needs no proof, and neither does what a person starts by hand.
    let done = run(&place, "observe");
    assert!(done.code == 3 && !done.err.contains(LINE), "{done:?}");
    let done = place.call(["exec", "--", "true"]);
    assert!(done.code == 0 && !done.err.contains(LINE), "{done:?}");
    assert!(!place.state().join("proof.json").exists());

    assert!(proves_again(&place));
    assert_eq!(place.read("out.txt"), "confined\n");
    let first = record(&place);
    assert!(!proves_again(&place), "once is enough");
    assert_eq!(record(&place), first);

    // Another kernel, another user, another program: nothing is known about those.
    let write = |record: &Value| fs::write(place.state().join("proof.json"), record.to_string()).unwrap();
    let mut other = first.clone();
    other["machine"]["kernel"] = json!("1.0.0");
    write(&other);
    assert!(proves_again(&place));
    assert_eq!(record(&place)["machine"], first["machine"]);
    let mut other = first.clone();
    other["program"]["inode"] = json!(1);
    write(&other);
    assert!(!proves_again(&place), "the same program in another file");
    other["digest"] = json!("0".repeat(64));
    write(&other);
    assert!(proves_again(&place));
    assert_eq!(record(&place)["digest"], first["digest"]);
    fs::write(place.state().join("proof.json"), "{").unwrap();
    assert!(proves_again(&place), "what cannot be read proves nothing");
    place.verify();
}
