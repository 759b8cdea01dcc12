//! Real work: programs as people use them, unmodified, in the sandbox. Where a program or its registry cannot be had,
//! the test says so and ends.

#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Done, Place, finish};

/// Most rounds of running, reading what was refused, and allowing it.
const ROUNDS: usize = 8;

/// Whether all of these programs are here.
pub(crate) fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let there = |name: &&&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(|name| !there(name)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} not installed");
    }
    missing.is_empty()
}

/// The program with the real home directory, where toolchains are, and files of its own elsewhere.
fn varvel(place: &Place) -> Command {
    let mut command = place.varvel();
    command.env("XDG_CONFIG_HOME", place.home.path().join(".config"));
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    command
}

/// `varvel exec OPTIONS -- WORDS`.
fn exec(place: &Place, options: &[&str], words: &[&str]) -> Done {
    finish(varvel(place).arg("exec").args(options).arg("--").args(words))
}

/// The same, and it must succeed.
fn works(place: &Place, words: &[&str]) -> Done {
    let done = exec(place, &[], words);
    assert_eq!(done.code, 0, "{words:?}: {done:?}");
    done
}

/// A command outside the sandbox, in a directory.
fn outside(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(directory).stdin(Stdio::null()).env_remove("CARGO_TARGET_DIR");
    command
}

fn must(command: &mut Command) -> Done {
    let done = finish(command);
    assert_eq!(done.code, 0, "{command:?}: {done:?}");
    done
}

/// Whether the same command succeeds outside the sandbox, with empty caches: then its registry can be reached.
fn reachable(place: &Place, words: &[&str]) -> bool {
    let copy = tempfile::tempdir().unwrap();
    must(&mut outside(place.work.path(), &["cp", "-r", ".", copy.path().to_str().unwrap()]));
    let mut command = outside(copy.path(), &["timeout", "60"]);
    command.args(words);
    command.env("CARGO_HOME", copy.path().join(".cargo-home"));
    command.env("npm_config_cache", copy.path().join(".npm-cache"));
    command.env("PIP_NO_CACHE_DIR", "1").env_remove("PIP_FIND_LINKS");
    let done = finish(&mut command);
    if done.code != 0 {
        eprintln!("skipped: {words:?} does not work outside the sandbox either: {}", done.err);
    }
    done.code == 0
}

/// What would have let through the connections that were refused, as options.
fn wanted(place: &Place) -> Vec<[String; 2]> {
    let mut options = Vec::new();
    for record in place.records("refused") {
        let action = &record["action"];
        if action["kind"] != "connect" {
            continue;
        }
        let (host, port) = (action["destination"]["host"].as_str().unwrap(), &action["destination"]["port"]);
        let option = match record["decision"]["rule"].as_str().unwrap() {
            // As on machines whose way to a registry is a mirror in their own network.
            "network.private-address" => ["--allow-private".to_owned(), host.to_owned()],
            _ => ["--allow".to_owned(), format!("{host}:{port}")],
        };
        if !options.contains(&option) {
            options.push(option);
        }
    }
    options
}

/// Runs `words` with no rule, allows what was refused, and so on until it works: what a person does who knows nothing
/// but the refusals.
fn by_refusals(place: &Place, profile: &str, words: &[&str]) {
    let mut allowed: Vec<[String; 2]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut options = vec!["--profile", profile];
        options.extend(allowed.iter().flatten().map(String::as_str));
        let done = exec(place, &options, words);
        if done.code == 0 {
            assert!(!allowed.is_empty(), "it reached the network without a rule: {done:?}");
            return;
        }
        let new: Vec<_> = wanted(place).into_iter().filter(|option| !allowed.contains(option)).collect();
        assert!(!new.is_empty(), "it fails, and nothing was refused: {done:?}");
        for [_, destination] in &new {
            assert!(
                done.err.contains(destination),
                "the refusal of {destination} is not shown: {}",
                done.err
            );
        }
        allowed.extend(new);
    }
    panic!("{words:?} still fails with {allowed:?}");
}

#[test]
fn make_builds() {
    if !have(&["make"]) {
        return;
    }
    let place = Place::new().with(
        "Makefile",
        "all: sum.txt\n\nsum.txt: a.txt b.txt\n\tcat $^ > $@\n\ttest \"$$(wc -l < $@)\" -eq 2\n\n.PHONY: all\n",
    );
    let place = place.with("a.txt", "a\n").with("b.txt", "b\n");
    works(&place, &["make", "-j2"]);
    assert_eq!(place.read("sum.txt"), "a\nb\n");
    assert!(works(&place, &["make"]).out.contains("Nothing to be done"));
}

#[test]
fn python_tests_run() {
    if !have(&["python3"]) {
        return;
    }
    let place = Place::new().with("twice.py", "def twice(n):\n    return 2 * n\n").with(
        "test_twice.py",
        "import tempfile, unittest\nfrom twice import twice\n\n\nclass TestTwice(unittest.TestCase):\n    \
         def test_twice(self):\n        self.assertEqual(twice(2), 4)\n\n    def test_temporary_file(self):\n        \
         with tempfile.TemporaryFile() as file:\n            file.write(b'x')\n",
    );
    let done = works(&place, &["python3", "-m", "unittest", "-v"]);
    assert!(done.err.contains("Ran 2 tests"), "{done:?}");
    if exec(&place, &[], &["python3", "-c", "import pytest"]).code == 0 {
        let done = works(&place, &["python3", "-m", "pytest", "-q"]);
        assert!(done.out.contains("2 passed"), "{done:?}");
    } else {
        eprintln!("skipped: pytest not installed");
    }
}

#[test]
fn a_server_and_its_client() {
    if !have(&["python3"]) {
        return;
    }
    let script = "python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 &\n\
        exec python3 -c '\n\
        import time, urllib.request\n\
        for _ in range(200):\n\
        \x20   try:\n\
        \x20       print(urllib.request.urlopen(\"http://127.0.0.1:8123/a.txt\").read().decode()); break\n\
        \x20   except OSError: time.sleep(0.05)'\n";
    // With the proxy as well: what is meant for 127.0.0.1 does not go there.
    for profile in ["workspace", "workspace+net"] {
        let place = Place::new().with("a.txt", "served");
        let done = exec(&place, &["--profile", profile], &["sh", "-c", script]);
        assert_eq!((done.code, done.out.as_str()), (0, "served\n"), "{profile}: {done:?}");
        assert!(wanted(&place).is_empty(), "{profile}");
    }
}

/// A repository with one commit.
fn repository(place: &Place) {
    let script = "git init -q . && git config user.name A && git config user.email a@example.org && \
        git add -A && git commit -q -m one";
    must(outside(place.work.path(), &["sh", "-c", script]).env("GIT_CONFIG_NOSYSTEM", "1"));
}

#[test]
fn git_commits() {
    if !have(&["git"]) {
        return;
    }
    let place = Place::new().with("a.txt", "a\n");
    repository(&place);
    let place = place.with("b.txt", "b\n");
    let done = works(&place, &["git", "status", "--porcelain"]);
    assert_eq!(done.out, "?? b.txt\n");
    works(&place, &["git", "add", "b.txt"]);
    works(&place, &["git", "commit", "-q", "-m", "two"]);
    works(&place, &["git", "checkout", "-q", "-b", "branch"]);
    works(&place, &["git", "stash", "list"]);
    let log = must(&mut outside(place.work.path(), &["git", "log", "--format=%s"]));
    assert_eq!(log.out, "two\none\n");
    must(&mut outside(place.work.path(), &["git", "fsck", "--strict"]));
}

/// A crate with one test.
fn package(dependencies: &str, body: &str) -> Place {
    let manifest = format!(
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n{dependencies}"
    );
    let code = format!(
        "pub fn text(n: u32) -> String {{\n    {body}\n}}\n\n#[test]\nfn three() {{\n    assert_eq!(text(3), \"3\");\n}}\n"
    );
    Place::new().with("Cargo.toml", manifest).with("src/lib.rs", code)
}

#[test]
fn cargo_builds_without_a_network() {
    if !have(&["cargo"]) {
        return;
    }
    let place = package("", "n.to_string()");
    works(&place, &["cargo", "build", "--offline"]);
    let done = works(&place, &["cargo", "test", "--offline"]);
    assert!(done.out.contains("1 passed"), "{done:?}");
}

#[test]
fn cargo_builds_with_a_dependency() {
    if !have(&["cargo"]) {
        return;
    }
    let place = package("itoa = \"1\"\n", "itoa::Buffer::new().format(n).to_owned()");
    let build = ["cargo", "--config", "net.retry=0", "build"];
    if !reachable(&place, &build) {
        return;
    }
    by_refusals(&place, "cargo", &build);
    // What was fetched is in the profile's own cache: no rule is needed now.
    let done = exec(&place, &["--profile", "cargo"], &["cargo", "test", "--offline"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("1 passed"), "{done:?}");
    place.verify();
}

#[test]
fn npm_installs() {
    if !have(&["npm", "node"]) {
        return;
    }
    let place = Place::new()
        .with("package.json", "{ \"name\": \"small\", \"version\": \"1.0.0\", \"private\": true }");
    let install = ["npm", "install", "--fetch-retries=0", "is-odd"];
    if !reachable(&place, &install) {
        return;
    }
    by_refusals(&place, "npm", &install);
    let done = works(&place, &["node", "-e", "console.log(require('is-odd')(3))"]);
    assert_eq!(done.out, "true\n");
    place.verify();
}

#[test]
fn pip_installs() {
    if !have(&["python3"]) {
        return;
    }
    let place = Place::new();
    let line = "python3 -m venv --clear env && env/bin/pip install --retries 0 --quiet iniconfig";
    let install = ["sh", "-c", line];
    if !reachable(&place, &install) {
        return;
    }
    by_refusals(&place, "pip", &install);
    let done = works(&place, &["env/bin/python", "-c", "import iniconfig; print('imported')"]);
    assert_eq!(done.out, "imported\n");
    place.verify();
}

/// A web server with a certificate of its own, for one directory; it ends with its owner.
pub(crate) struct WebServer {
    child: Child,
    pub(crate) port: u16,
}

impl WebServer {
    /// `files` are served; the certificate is written to `certificate`.
    pub(crate) fn start(files: &Path, certificate: &Path) -> Self {
        let private = tempfile::tempdir().unwrap();
        let key: PathBuf = private.path().join("key");
        let mut command =
            outside(private.path(), &["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"]);
        command.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        must(command.arg("-keyout").arg(&key).arg("-out").arg(certificate));
        let script = "import functools, http.server, ssl, sys\n\
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain(sys.argv[2], sys.argv[3])\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print(server.server_port, flush=True)\n\
            server.serve_forever()\n";
        let mut child = outside(files, &["python3", "-c", script])
            .arg(files)
            .arg(certificate)
            .arg(&key)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn git_clones_over_https() {
    if !have(&["git", "openssl", "python3"]) {
        return;
    }
    let source = Place::new().with("a.txt", "a\n");
    repository(&source);
    let served = tempfile::tempdir().unwrap();
    must(outside(served.path(), &["git", "clone", "-q", "--bare"]).arg(source.work.path()).arg("repo.git"));
    must(&mut outside(&served.path().join("repo.git"), &["git", "update-server-info"]));
    let place = Place::new();
    let server = WebServer::start(served.path(), &place.work.path().join("server-certificate.crt"));

    // A server on this machine is reached through the proxy only when a program is told that it may be.
    let clone = format!(
        "unset no_proxy NO_PROXY; export GIT_SSL_CAINFO=$PWD/server-certificate.crt; \
         git clone -q https://localhost:{}/repo.git copy",
        server.port
    );
    let words = ["sh", "-c", clone.as_str()];
    let rule = format!("localhost:{}", server.port);

    let done = exec(&place, &["--profile", "git-clone"], &words);
    assert!(done.code != 0 && !place.has("copy"), "no rule: {done:?}");
    assert_eq!(wanted(&place), [["--allow", rule.as_str()]]);
    let done = exec(&place, &["--profile", "git-clone", "--allow", &rule], &words);
    assert!(done.code != 0 && !place.has("copy"), "not to this machine: {done:?}");

    let options = ["--profile", "git-clone", "--allow", &rule, "--allow-private", "localhost"];
    let done = exec(&place, &options, &words);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(place.read("copy/a.txt"), "a\n");
    let done = works(&place, &["git", "-C", "copy", "log", "--format=%s"]);
    assert_eq!(done.out, "one\n");
    place.verify();
}
