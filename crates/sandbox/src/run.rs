//! Running one authorised command, confined, with a time limit.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use action::Command;
use gate::{Authorized, Report};
use ledger::{Outcome, Status};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Child;

use crate::SandboxError;
use crate::capture::{Captured, Tap};
use crate::cut;
use crate::launcher::{LAUNCHER_ARG, Message, PLAN_FD, STATUS_FD, WORKSPACE_FD};
use crate::plan::Plan;
use crate::profile::Profile;

/// How long a stopped command may take to disappear before the launcher is killed outright.
const GRACE: Duration = Duration::from_secs(2);
/// Entries looked at when searching the workspace for files of secrets.
const SECRET_SCAN: usize = 4096;

/// Where a command's input and output go.
pub enum Io<'a> {
    /// No input; output is captured, at most about `limit` bytes of it, and shown to `tap` as it comes.
    Captured {
        /// Bytes to keep.
        limit: usize,
        /// Sees everything.
        tap: Option<Tap<'a>>,
    },
    /// Ours: for a command that a person typed.
    Inherited,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this status; 128 + N when signal N killed it.
    Code(i32),
    /// It ran longer than this and was killed with everything it had started.
    TimedOut(Duration),
    /// It used more than this and was killed with everything it had started.
    Exceeded(String),
}

/// What came of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// How it ended.
    pub exit: Exit,
    /// What it printed; empty for [`Io::Inherited`].
    pub output: Captured,
    /// How long it took.
    pub duration: Duration,
}

impl CommandOutput {
    /// Exit status as a shell would give it: 124 after a time-out, 137 when a limit killed it.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self.exit {
            Exit::Code(code) => code,
            Exit::TimedOut(_) => 124,
            Exit::Exceeded(_) => 137,
        }
    }
}

impl Report for CommandOutput {
    fn outcome(&self) -> Outcome {
        let status = match self.exit {
            Exit::Code(0) => Status::Done,
            Exit::Code(_) => Status::Failed,
            Exit::TimedOut(_) | Exit::Exceeded(_) => Status::Stopped,
        };
        let outcome = Outcome::new(status)
            .with("exit", self.code())
            .with("output_bytes", self.output.total())
            .with("ms", u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX));
        match &self.exit {
            Exit::Code(_) => outcome,
            Exit::TimedOut(limit) => {
                outcome.with("stopped_by", format!("time limit of {} s", limit.as_secs()))
            }
            Exit::Exceeded(what) => outcome.with("stopped_by", format!("limit of {what}")),
        }
    }
}

/// Runs an authorised command in the sandbox.
///
/// If the returned future is dropped, the command and everything it started are killed.
///
/// # Errors
/// If the sandbox could not be built or the program not started: then nothing ran.
pub async fn run(authorized: Authorized<Command>, io: Io<'_>) -> Result<CommandOutput, SandboxError> {
    let command = authorized.into_action();
    let profile = Profile::named(&command.profile)?;
    let root = command.directory.root();
    let hidden = secrets(root.path());
    let mut plan =
        Plan::new(&profile, Some(root), command.argv, &command.directory.absolute(), &[], &hidden)?;
    let started = Instant::now();
    let (stdin, stdout, stderr, reader) = match &io {
        Io::Captured { .. } => {
            let (reader, writer) = io::pipe().map_err(SandboxError::Launcher)?;
            let copy = writer.try_clone().map_err(SandboxError::Launcher)?;
            (Stdio::null(), Stdio::from(writer), Stdio::from(copy), Some(reader))
        }
        Io::Inherited => {
            plan.detach = false;
            (Stdio::inherit(), Stdio::inherit(), Stdio::inherit(), None)
        }
    };
    let mut launched = launch(&plan, Some(root.handle()), [stdin, stdout, stderr])?;
    let (limit, tap) = match io {
        Io::Captured { limit, tap } => (limit, tap),
        Io::Inherited => (0, None),
    };
    let mut output = Captured::new(limit);
    let ended = {
        let both = async {
            let (read, code) = tokio::join!(drain(reader, &mut output, tap), launched.child.wait());
            read.and(code)
        };
        match command.timeout {
            Some(limit) => tokio::time::timeout(limit, both).await.map_err(|_| limit),
            None => Ok(both.await),
        }
    };
    let exit = match ended {
        Err(limit) => {
            launched.stop().await;
            Exit::TimedOut(limit)
        }
        Ok(status) => {
            let status = status.map_err(SandboxError::Launcher)?;
            launched.explain(status)?
        }
    };
    Ok(CommandOutput { exit, output, duration: started.elapsed() })
}

async fn drain(
    reader: Option<io::PipeReader>,
    output: &mut Captured,
    mut tap: Option<Tap<'_>>,
) -> io::Result<()> {
    let Some(reader) = reader else { return Ok(()) };
    let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let mut chunk = vec![0u8; 65536];
    loop {
        let n = reader.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        output.push(&chunk[..n]);
        if let Some(tap) = tap.as_mut() {
            tap(&chunk[..n]);
        }
    }
}

/// A launcher that has been started.
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// Closing it ends everything inside.
    lifeline: Option<io::PipeWriter>,
    status: io::PipeReader,
}

impl Launched {
    /// Ends everything inside and waits until it is gone.
    async fn stop(&mut self) {
        self.lifeline.take();
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            // The launcher is stuck; init dies with it.
            let _ = self.child.kill().await;
        }
    }

    /// Turns the launcher's exit status and messages into how the command ended.
    fn explain(&mut self, status: std::process::ExitStatus) -> Result<Exit, SandboxError> {
        match self.messages().into_iter().next() {
            Some(Message::Setup { what, why }) => return Err(SandboxError::Setup { what, why }),
            Some(Message::Exec { program, why, not_found }) => {
                return Err(SandboxError::Exec { program, why, not_found });
            }
            Some(Message::Exceeded { what }) => return Ok(Exit::Exceeded(what)),
            None => {}
        }
        match status.code() {
            Some(code) => Ok(Exit::Code(code)),
            None => Err(SandboxError::Setup {
                what: "the launcher".into(),
                why: format!("it ended with {status}"),
            }),
        }
    }

    /// What the launcher said. Every writer is gone when this is called, so it cannot block.
    pub(crate) fn messages(&mut self) -> Vec<Message> {
        let mut text = String::new();
        // A message that cannot be read leaves the exit status to speak.
        let _ = (&mut self.status).take(65536).read_to_string(&mut text);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Starts the launcher with `plan`.
pub(crate) fn launch(
    plan: &Plan,
    workspace: Option<BorrowedFd<'_>>,
    [stdin, stdout, stderr]: [Stdio; 3],
) -> Result<Launched, SandboxError> {
    let failed = SandboxError::Launcher;
    let (plan_reader, mut lifeline) = io::pipe().map_err(failed)?;
    let (status, status_writer) = io::pipe().map_err(failed)?;
    let workspace = match workspace {
        Some(handle) => handle.try_clone_to_owned().map_err(failed)?,
        None => OwnedFd::from(std::fs::File::open("/").map_err(failed)?),
    };
    // Out of the way of the numbers that they will have in the launcher.
    let high = [plan_reader.as_fd(), status_writer.as_fd(), workspace.as_fd()]
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 16));
    let [plan_fd, status_fd, workspace_fd] = high;
    let errno = |errno: rustix::io::Errno| SandboxError::Launcher(errno.into());
    let handles = [
        (plan_fd.map_err(errno)?, PLAN_FD),
        (status_fd.map_err(errno)?, STATUS_FD),
        (workspace_fd.map_err(errno)?, WORKSPACE_FD),
    ];
    let numbers: [(RawFd, RawFd); 3] = [0, 1, 2].map(|i: usize| (handles[i].0.as_raw_fd(), handles[i].1));
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command
        .arg0("varvel-sandbox")
        .arg(LAUNCHER_ARG)
        .env_clear()
        .env("PATH", path)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true);
    if let Some(unknown) = cut::unknown() {
        return Err(SandboxError::Setup {
            what: "leaving out a wall".into(),
            why: format!("{unknown:?} is none of {}", cut::WIRES.join(", ")),
        });
    }
    command.envs(cut::variable());
    // SAFETY: between fork and exec this only calls dup2, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (from, to) in numbers {
                if libc::dup2(from, to) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let child = command.spawn().map_err(failed)?;
    drop((handles, plan_reader, status_writer));
    let mut text = serde_json::to_vec(plan).map_err(|error| SandboxError::Launcher(error.into()))?;
    text.push(b'\n');
    lifeline.write_all(&text).map_err(failed)?;
    Ok(Launched { child, lifeline: Some(lifeline), status })
}

/// Files of secrets in the workspace and its immediate subdirectories, relative to it.
fn secrets(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut budget = SECRET_SCAN;
    let mut look = |directory: &Path, into: &mut Vec<PathBuf>| {
        for entry in std::fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            if budget == 0 {
                return;
            }
            budget -= 1;
            let path = directory.join(entry.file_name());
            if policy::is_secret(&path) {
                found.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                into.push(path);
            }
        }
    };
    let mut directories = Vec::new();
    look(Path::new(""), &mut directories);
    let mut deeper = Vec::new();
    for directory in directories.iter().filter(|directory| !directory.starts_with(".git")) {
        look(directory, &mut deeper);
    }
    found
}
