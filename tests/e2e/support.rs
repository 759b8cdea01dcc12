//! A home and a workspace of its own for each test, and the program run in them with a bounded time.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use scripted::{Server, Wire};
use serde_json::Value;
use tempfile::TempDir;

/// Longest that one run of the program may take.
const LONGEST: Duration = Duration::from_secs(90);

/// A home and a workspace.
pub(crate) struct Place {
    pub(crate) home: TempDir,
    pub(crate) work: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) time: Duration,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self::unproven();
        fs::create_dir(place.state()).unwrap();
        fs::set_permissions(place.state(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::copy(proof(), place.state().join("proof.json")).unwrap();
        place
    }

    /// A home in which the sandbox was not proven yet.
    pub(crate) fn unproven() -> Self {
        Self { home: TempDir::new().unwrap(), work: TempDir::new().unwrap() }
    }

    /// Puts a file into the workspace.
    pub(crate) fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.work.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Content of a file of the workspace.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.work.path().join(path)).unwrap()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.work.path().join(path).exists()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The program, in the workspace, with nothing in its environment but a path and a home.
    pub(crate) fn varvel(&self) -> Command {
        self.program(Path::new(env!("CARGO_BIN_EXE_varvel")))
    }

    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.work.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("VARVEL_HOME", self.state())
            .stdin(Stdio::null());
        command
    }

    /// `varvel run` in auto mode against `server`.
    pub(crate) fn run_command(&self, server: &Server, wire: Wire, args: &[&str]) -> Command {
        let mut command = self.varvel();
        command.args(["run", "--mode", "auto", "--provider", wire.provider(), "--model", "scripted"]);
        command.arg("--base-url").arg(server.url(wire)).args(args);
        command
    }

    /// The same with the usual wire format, to its end.
    pub(crate) fn run(&self, server: &Server, args: &[&str]) -> Done {
        finish(&mut self.run_command(server, Wire::OpenAi, args))
    }

    /// Any command of the program, to its end.
    pub(crate) fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        finish(self.varvel().args(args))
    }

    /// `varvel exec -- sh -c script`.
    pub(crate) fn sh(&self, script: &str) -> Done {
        self.call(["exec", "--", "sh", "-c", script])
    }

    /// The entries of the ledger.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state().join("ledger/entries.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The records of one type.
    pub(crate) fn records(&self, kind: &str) -> Vec<Value> {
        self.ledger()
            .into_iter()
            .map(|mut entry| entry["record"].take())
            .filter(|record| record["type"] == kind)
            .collect()
    }

    /// Fails unless the ledger holds.
    pub(crate) fn verify(&self) {
        let done = self.call(["audit", "verify"]);
        assert_eq!(done.code, 0, "{done:?}");
    }
}

/// The record of a proof by this very program: made once, and used by all tests that run something unattended.
fn proof() -> PathBuf {
    let program = fs::metadata(env!("CARGO_BIN_EXE_varvel")).unwrap();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "proof-{}-{}-{}",
        program.ino(),
        program.len(),
        program.mtime()
    ));
    let lock = fs::File::create(kept.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !kept.exists() {
        let place = Place::unproven();
        let done = place.call(["doctor", "--prove"]);
        assert_eq!(done.code, 0, "{done:?}");
        fs::copy(place.state().join("proof.json"), &kept).unwrap();
    }
    kept
}

/// Runs to the end, however it ends, and not longer than is sensible.
pub(crate) fn finish(command: &mut Command) -> Done {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let code = wait(&mut child, LONGEST);
    Done { code, out: out.join().unwrap(), err: err.join().unwrap(), time: started.elapsed() }
}

/// Exit status; 128 + N after signal N.
pub(crate) fn wait(child: &mut Child, longest: Duration) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let until = Instant::now() + longest;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process with this in its command line is alive.
pub(crate) fn alive(sign: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let name = entry.file_name();
        let own = name.to_string_lossy() == std::process::id().to_string();
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        !own && String::from_utf8_lossy(&line).split('\0').any(|argument| argument == sign)
    })
}

/// Everything that a server was sent, in one text.
pub(crate) fn sent(server: &Server) -> String {
    server.requests().iter().map(|request| format!("{:?}\n{}\n", request.headers, request.raw)).collect()
}
