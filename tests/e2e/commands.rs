//! The command line as a whole.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use scripted::{Server, Turn, Wire};
use serde_json::{Value, json};

use crate::support::{Place, finish};

#[test]
fn help_and_version() {
    let place = Place::new();
    let done = place.call(["--help"]);
    assert_eq!(done.code, 0);
    for word in ["run", "exec", "audit", "model", "vault", "doctor", "completions", "130"] {
        assert!(done.out.contains(word), "{word}: {}", done.out);
    }
    assert!(!done.out.contains('\u{1b}'), "no colours in a pipe");
    assert_eq!(place.call(["--version"]).out.trim(), concat!("varvel ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage() {
    let place = Place::new();
    for args in [
        &["fly"][..],
        &["run", "--mode", "wild", "x"],
        &["run", "--provider", "nobody", "x"],
        &["run", ""],
        &["run", "--base-url", "ftp://x", "--model", "m", "x"],
        &["run", "--base-url", "http://u:p@127.0.0.1/", "--model", "m", "x"],
        &["run", "--provider", "anthropic", "x"],
        &["run", "--model", "no-such-weights", "x"],
        &["exec"],
        &["exec", "--profile", "none", "--", "true"],
        &["model", "pull", "nothing"],
        &["model", "pull", "--from", "somewhere"],
        &["vault", "set", "nobody"],
    ] {
        let done = place.call(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert!(!done.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_configuration_with_a_mistake_is_named() {
    let place = Place::new();
    let config = place.home.path().join(".config/varvel");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("varvel.toml"), "providr = 'openai'\n").unwrap();
    let done = place.call(["run", "hi"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("varvel.toml") && done.err.contains("providr"), "{}", done.err);
}

#[test]
fn no_vendor_variable_turns_a_cloud_model_on() {
    let place = Place::new();
    let mut command = place.varvel();
    command.args(["run", "hi"]).env("OPENAI_API_KEY", "k").env("ANTHROPIC_API_KEY", "k");
    let done = finish(&mut command);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("varvel model pull"), "the default is the embedded model: {}", done.err);
    let mut command = place.varvel();
    command.args(["run", "--provider", "openai", "hi"]).env("OPENAI_API_KEY", "k");
    let done = finish(&mut command);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("varvel vault set openai"), "{}", done.err);
}

#[test]
fn a_prompt_from_standard_input() {
    let server = Server::start(vec![Turn::text("read")]).unwrap();
    let place = Place::new();
    let mut child = place
        .run_command(&server, Wire::OpenAi, &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a prompt from a pipe").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "read\n", "the answer and nothing else");
    assert!(server.requests()[0].raw.contains("a prompt from a pipe"));
}

#[test]
fn the_trail() {
    let server = Server::start(vec![
        Turn::call("write", json!({ "path": "b.txt", "content": "x" })),
        Turn::call("run", json!({ "command": "exit 7" })),
        Turn::text("the answer"),
    ])
    .unwrap();
    let place = Place::new();
    let done = place.run(&server, &["hi"]);
    assert_eq!(done.out, "the answer\n");
    for sign in [
        "changed   b.txt",
        "ran       exit 7 (exit 7)",
        "network   127.0.0.1:",
        "3 steps, 300 + 30 tokens, $0.0000",
        "ledger    entries 1 to ",
    ] {
        assert!(done.err.contains(sign), "{sign}: {}", done.err);
    }
    assert!(!done.err.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn an_answer_that_reaches_the_output_limit_is_gone_on_with() {
    let server = Server::start(vec![Turn::Length("one two ".into()), Turn::text("three")]).unwrap();
    let done = Place::new().run(&server, &["hi"]);
    assert_eq!((done.code, done.out.as_str()), (0, "one two three\n"), "{done:?}");
    assert!(server.requests()[1].raw.contains("Go on where it stopped"));
}

#[test]
fn words_that_are_not_the_answer_are_progress() {
    let server = Server::start(vec![
        Turn::Mixed("I will look first.".into(), "list".into(), json!({})),
        Turn::text("There is nothing."),
    ])
    .unwrap();
    let done = Place::new().run(&server, &["hi"]);
    assert_eq!(done.out, "There is nothing.\n");
    assert!(
        done.err.contains("I will look first.") && !done.err.contains("There is nothing."),
        "{}",
        done.err
    );
}

#[test]
fn stream_json() {
    let server =
        Server::start(vec![Turn::call("run", json!({ "command": "echo hi" })), Turn::text("two words")])
            .unwrap();
    let done = Place::new().run(&server, &["-o", "stream-json", "hi"]);
    let lines: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["session", "turn", "tool", "tool-done", "text", "text", "turn", "result"],
        "{}",
        done.out
    );
    assert_eq!(lines[7]["answer"], "two words");
    assert!(done.err.is_empty(), "{}", done.err);
}

#[test]
fn instructions_of_the_project_are_read_and_the_first_one_counts() {
    let server = Server::start(vec![Turn::text("ok")]).unwrap();
    let place = Place::new().with("AGENTS.md", "Always use tabs.").with("CLAUDE.md", "Always use spaces.");
    place.run(&server, &["hi"]);
    let first = &server.requests()[0].raw;
    assert!(first.contains("Always use tabs.") && !first.contains("Always use spaces."));
}

#[test]
fn completions_and_man_pages() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.call(["completions", shell]).out.contains("stream-json"), "{shell}");
    }
    let pages = tempfile::tempdir().unwrap();
    assert_eq!(place.call(["man", pages.path().to_str().unwrap()]).code, 0);
    let page = fs::read_to_string(pages.path().join("varvel-run.1")).unwrap();
    assert!(page.contains("max\\-cost"), "{page}");
}

#[test]
fn the_vault_keeps_keys_and_does_not_show_them() {
    let place = Place::new();
    let mut child = place.varvel().args(["vault", "set", "openai"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"key-from-vault-1\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(place.call(["vault", "list"]).out, "openai\n");
    let server = Server::start(vec![Turn::text("ok")]).unwrap();
    place.run(&server, &["hi"]);
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer key-from-vault-1"));
    assert_eq!(place.call(["vault", "rm", "openai"]).code, 0);
    assert_eq!(place.call(["vault", "rm", "openai"]).code, 1);
}

#[test]
fn doctor() {
    let place = Place::new();
    let done = place.call(["doctor", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let findings: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    let sandbox = findings.iter().find(|finding| finding["name"] == "sandbox").unwrap();
    assert_eq!(sandbox["good"], true);
    assert!(sandbox["detail"].as_str().unwrap().contains("could not get out"), "{sandbox}");
}

#[test]
fn a_reader_that_goes_away() {
    let place = Place::new();
    let mut child = place
        .varvel()
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"));
}

#[test]
fn weights_from_a_mirror_must_have_the_right_digest() {
    let server = Server::start(vec![]).unwrap();
    let name = "smollm2-135m-instruct-q4_1.gguf";
    server.file(&format!("/models/{name}"), vec![7; 98_362_432]);
    let place = Place::new();
    let mirror = format!("{}/models", server.origin());
    let done = place.call(["model", "pull", "smollm2-135m", "--from", &mirror]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("is not smollm2-135m") && done.err.contains("thrown away"), "{}", done.err);
    assert!(!place.state().join("models").join(name).exists());
    assert!(!place.state().join("models").join(format!("{name}.part")).exists());
    // Too short: kept, and gone on with.
    server.file("/short/smollm2-135m-instruct-q4_1.gguf", vec![7; 1000]);
    let done = place.call(["model", "pull", "smollm2-135m", "--from", &format!("{}/short", server.origin())]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(fs::metadata(place.state().join("models").join(format!("{name}.part"))).unwrap().len(), 1000);
    let done = place.call(["model", "pull", "smollm2-135m", "--from", &mirror]);
    assert_eq!(done.code, 1);
    assert!(server.requests().last().unwrap().header("range") == Some("bytes=1000-"), "resumed");
    // Every hop of a redirect is an action of its own; leaving encryption, or this machine without it, is refused.
    server.redirect(&format!("/moved/{name}"), &format!("{mirror}/{name}"));
    server.redirect(&format!("/away/{name}"), "http://model.invalid/x");
    let moved = |place: &str| format!("{}/{place}", server.origin());
    let done = place.call(["model", "pull", "smollm2-135m", "--from", &moved("moved")]);
    assert!(done.code == 1 && done.err.contains("is not smollm2-135m"), "{done:?}");
    let done = place.call(["model", "pull", "smollm2-135m", "--from", &moved("away")]);
    assert!(done.code == 1 && done.err.contains("away from encryption"), "{done:?}");
    assert!(place.call(["model", "list"]).out.contains("qwen2.5-coder-1.5b"));
    assert_eq!(place.call(["model", "verify"]).code, 1, "none are here");
    // Every fetch was recorded before it was made.
    assert_eq!(
        place.records("intent").iter().filter(|record| record["action"]["kind"] == "network").count(),
        6
    );
    place.verify();
}

#[test]
fn the_reference_is_what_the_program_says() {
    let place = Place::new();
    let mut text = String::from(
        "# Command line\n\nWhat `varvel COMMAND --help` prints. `UPDATE=1 cargo nextest run the_reference` renews it.\n",
    );
    for command in [
        "",
        "run",
        "exec",
        "audit",
        "audit log",
        "audit verify",
        "model",
        "model pull",
        "model list",
        "model verify",
        "vault",
        "vault set",
        "vault list",
        "vault rm",
        "doctor",
        "completions",
        "man",
    ] {
        let done = place.call(command.split_whitespace().chain(["--help"]));
        assert_eq!(done.code, 0, "{command}");
        let help: String = done.out.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        text.push_str(&format!("\n## {}\n\n```text\n{help}```\n", format!("varvel {command}").trim_end()));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/reference/cli.md is not what the program says; UPDATE=1 renews it");
}
