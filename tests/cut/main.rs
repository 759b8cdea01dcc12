//! Every wall of the sandbox left out once: the canaries must notice. Needs the feature `cut`.

#![allow(clippy::disallowed_methods, reason = "tests start the program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics fails")]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A wall, and canaries that must not hold without it. (More may fail.)
const TABLE: &[(&str, &[&str])] = &[
    ("root", &["outside-read", "state-read", "scratch-private", "home-secret"]),
    ("pid-namespace", &["namespaces"]),
    ("network-namespace", &["tcp", "udp", "namespaces"]),
    ("ipc-namespace", &["ipc", "namespaces"]),
    ("landlock", &["kernel-files"]),
    (
        "seccomp",
        &[
            "ptrace",
            "process-vm",
            "unix-path",
            "netlink",
            "mount",
            "user-namespace",
            "setns",
            "chroot",
            "io-uring",
            "bpf",
            "keyctl",
            "perf",
            "open-by-handle",
            "administration",
            "rare-calls",
            "tiocsti",
            "capabilities",
        ],
    ),
    ("unix-filter", &["unix-path"]),
    ("environment", &["environment-secret"]),
    ("close-range", &["inherited-fd"]),
    ("capabilities", &["capabilities"]),
    ("protect", &["trusted-create", "trusted-rename", "trusted-change"]),
    ("hide", &["hidden-secret"]),
    ("proxy-addresses", &["proxy-loopback"]),
];

/// `varvel doctor --prove --json` with these walls left out: exit status, whether all held, what did not.
fn prove(cut: &str) -> (i32, bool, BTreeSet<String>) {
    let home = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_varvel"))
        .args(["doctor", "--prove", "--json"])
        .current_dir(home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home.path())
        .env("VARVEL_HOME", home.path().join("state"))
        .env("VARVEL_CUT", cut)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let whole: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{cut}: {error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    let failed = whole["canaries"].as_array().unwrap().iter().filter(|canary| canary["result"] != "held");
    let names = failed.map(|canary| canary["name"].as_str().unwrap().to_owned()).collect();
    assert!(cut.is_empty() || !home.path().join("state/proof.json").exists(), "{cut}: a proof was recorded");
    (done.status.code().unwrap(), whole["held"] == true, names)
}

#[test]
fn with_every_wall_standing_everything_holds() {
    assert_eq!(prove(""), (0, true, BTreeSet::new()));
}

#[test]
fn without_a_wall_the_canaries_notice() {
    let mut quiet = Vec::new();
    for (wall, canaries) in TABLE {
        let (code, held, failed) = prove(wall);
        let silent: Vec<_> = canaries.iter().filter(|canary| !failed.contains(**canary)).collect();
        if code != 1 || held || !silent.is_empty() {
            quiet.push(format!("{wall}: exit {code}, {silent:?} noticed nothing; failed: {failed:?}"));
        }
    }
    assert!(quiet.is_empty(), "{}", quiet.join("\n"));
}

#[test]
fn every_wall_is_in_the_table() {
    let here: BTreeSet<_> = TABLE.iter().map(|(wall, _)| *wall).collect();
    assert_eq!(here, sandbox::WIRES.iter().copied().collect());
}

#[test]
fn a_wall_that_does_not_exist_is_an_error() {
    let (home, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let done = Command::new(env!("CARGO_BIN_EXE_varvel"))
        .args(["exec", "--", "true"])
        .current_dir(work.path())
        .env("HOME", home.path())
        .env("VARVEL_HOME", home.path().join("state"))
        .env("VARVEL_CUT", "no-such-wall")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("no-such-wall"), "{said}");
}
