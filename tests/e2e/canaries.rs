//! `varvel doctor --prove`: the canaries hold here, say so, and leave nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Done, Place, finish};

/// Names of all canaries.
fn names() -> BTreeSet<&'static str> {
    sandbox::canaries().map(|canary| canary.name).collect()
}

/// What proofs leave in shared places, if they do.
fn debris() -> Vec<String> {
    let shared = ["/", "/tmp", "/dev/shm", "/usr", "/etc", "/var/tmp"];
    let entries = shared.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    let paths = entries.map(|entry| entry.path().display().to_string());
    paths.filter(|path| path.contains("varvel-canary-written")).collect()
}

fn all_held(done: &Done) {
    let whole: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let canaries = whole["canaries"].as_array().unwrap();
    let open: Vec<_> = canaries.iter().filter(|canary| canary["result"] != "held").collect();
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(whole["held"] == true && whole["ms"].is_u64() && whole["kernel"].is_string());
    for profile in sandbox::PROVEN {
        let tried = canaries.iter().filter(|canary| canary["profile"] == profile);
        let tried: BTreeSet<_> = tried.map(|canary| canary["name"].as_str().unwrap()).collect();
        assert_eq!(tried, names(), "{profile}");
    }
}

fn nothing_is_left(state: &Path) {
    let left: Vec<_> =
        fs::read_dir(state.join("canary")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty() && !state.join("canary-file").exists(), "{left:?}");
    assert_eq!(debris(), Vec::<String>::new());
}

#[test]
fn the_proof_holds_and_leaves_nothing_behind() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::unproven();
    let mut command = place.varvel();
    // Things that a command must not see.
    command
        .env("ANTHROPIC_API_KEY", "canary")
        .env("SSH_AUTH_SOCK", "/tmp/agent")
        .env("LD_LIBRARY_PATH", "/x");
    command.args(["doctor", "--prove", "--json"]);
    fs::create_dir(place.home.path().join(".ssh")).unwrap();
    fs::write(place.home.path().join(".ssh/id_ed25519"), "canary").unwrap();
    all_held(&finish(&mut command));
    nothing_is_left(&place.state());
    let record = place.state().join("proof.json");
    assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert_eq!(record["digest"].as_str().unwrap().len(), 64);
    place.verify();
}

#[test]
fn the_proof_names_everything_that_was_tried() {
    let place = Place::unproven();
    let done = place.call(["doctor", "--prove"]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    for canary in sandbox::canaries() {
        assert!(done.out.contains(canary.name) && done.out.contains(canary.tried), "{}", canary.name);
    }
    assert!(done.out.lines().last().unwrap().contains("none did"), "{}", done.out);
}

#[test]
fn the_proof_holds_without_privileges() {
    if !rustix::process::getuid().is_root() {
        return; // Then the others show it.
    }
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let place = Place::unproven();
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("varvel");
    fs::copy(env!("CARGO_BIN_EXE_varvel"), &program).unwrap();
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for path in [place.home.path(), place.work.path()] {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut command = place.program(&program);
    command.env("PATH", "/usr/bin:/bin").uid(65534).gid(65534).args(["doctor", "--prove", "--json"]);
    all_held(&finish(&mut command));
    nothing_is_left(&place.state());
}
