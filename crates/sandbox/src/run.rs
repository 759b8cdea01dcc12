//! Running one authorised command, confined, with a time limit.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
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
use crate::cgroup::{Controllers, Groups};
use crate::cut;
use crate::hide::{Found, look};
use crate::init::receive_fds;
use crate::launcher::{LAUNCHER_ARG, Message, PLAN_FD, STATUS_FD, WORKSPACE_FD};
use crate::network::{Doors, Listeners};
use crate::plan::{Mount, MountKind, Plan, StageDirs, Wanted};
use crate::profile::{Isolation, Profile, Profiles};

/// How long a stopped command may take to disappear before the launcher is killed outright.
const GRACE: Duration = Duration::from_secs(2);

/// Where a command's input and output go.
#[derive(Default)]
pub enum Io<'a> {
    /// No input; output is captured, at most about `limit` bytes of it, and shown to `tap` as it comes.
    Captured {
        /// Bytes to keep.
        limit: usize,
        /// Sees everything.
        tap: Option<Tap<'a>>,
    },
    /// Ours: for a command that a person typed.
    #[default]
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
    /// Names that it was not allowed to create or change, because the host runs or trusts them later; at most 100.
    pub refused: Vec<String>,
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
        let outcome = if self.refused.is_empty() {
            outcome
        } else {
            outcome.with("refused", self.refused.clone()).with("refused_by", "builtin.host-trusted-file")
        };
        match &self.exit {
            Exit::Code(_) => outcome,
            Exit::TimedOut(limit) => {
                outcome.with("stopped_by", format!("time limit of {} s", limit.as_secs()))
            }
            Exit::Exceeded(what) => outcome.with("stopped_by", format!("limit of {what}")),
        }
    }
}

/// What a command is run with, beside itself.
#[derive(Default)]
pub struct Setup<'a> {
    /// Where its input and output go.
    pub io: Io<'a>,
    /// The profiles that its name is looked up in.
    pub profiles: Profiles,
    /// The proxy's doors; needed when the profile's network is `proxy`.
    pub doors: Option<Doors>,
    /// Where its writes land instead of in the workspace.
    pub stage: Option<StageDirs>,
    /// Further files that it sees, read-only.
    pub visible: Vec<PathBuf>,
    /// Where the caches of profiles are kept; without it there are none.
    pub cache: Option<PathBuf>,
    /// Control groups that were seen to work.
    pub controllers: Controllers,
}

/// A command that has been started.
///
/// If it is dropped, the command and everything it started are killed.
pub struct Running<'a> {
    launched: Launched,
    listeners: Option<Listeners>,
    output: Option<(io::PipeReader, usize, Option<Tap<'a>>)>,
    timeout: Option<Duration>,
    started: Instant,
    memory_mb: u64,
    groups: Groups,
    _scratch: Option<Scratch>,
}

/// Runs an authorised command in the sandbox.
///
/// If the returned future is dropped, the command and everything it started are killed.
///
/// # Errors
/// If the sandbox could not be built or the program not started: then nothing ran.
pub async fn run(authorized: Authorized<Command>, io: Io<'_>) -> Result<CommandOutput, SandboxError> {
    start(authorized, Setup { io, ..Setup::default() })?.finish().await
}

/// Starts an authorised command in the sandbox.
///
/// # Errors
/// If the sandbox could not be built: then nothing runs.
pub fn start<'a>(authorized: Authorized<Command>, setup: Setup<'a>) -> Result<Running<'a>, SandboxError> {
    let command = authorized.into_action();
    let profile = setup.profiles.named(&command.profile)?;
    let root = command.directory.root();
    let Found { hidden, trusted } = look(root.path())?;
    let caches = caches(&profile, root, setup.cache.as_deref())?;
    let directory = command.directory.absolute();
    let wanted = Wanted {
        workspace: Some(root),
        argv: command.argv,
        directory: &directory,
        visible: &setup.visible,
        hidden: &hidden,
        trusted: &trusted,
        stage: setup.stage.as_ref(),
        caches: &caches,
        doors: setup.doors,
    };
    let mut plan = Plan::new(&profile, wanted)?;
    plan.lock = lock(root, setup.cache.as_deref())?.map(|path| path.as_path().into());
    let scratch = match profile.isolation {
        Isolation::Namespaces => None,
        Isolation::Landlock => Some(Scratch::fit(&mut plan, &hidden)?),
    };
    let groups = Groups::create(&setup.controllers, &plan.limits).map_err(|error| SandboxError::Setup {
        what: "making a control group".into(),
        why: format!("{error}; run `varvel doctor --prove` again"),
    })?;
    plan.cgroups = groups.directories().iter().map(|directory| directory.as_path().into()).collect();
    let started = Instant::now();
    let (stdin, stdout, stderr, output) = match setup.io {
        Io::Captured { limit, tap } => {
            let (reader, writer) = io::pipe().map_err(SandboxError::Launcher)?;
            let copy = writer.try_clone().map_err(SandboxError::Launcher)?;
            (Stdio::null(), Stdio::from(writer), Stdio::from(copy), Some((reader, limit, tap)))
        }
        Io::Inherited => {
            plan.detach = false;
            (Stdio::inherit(), Stdio::inherit(), Stdio::inherit(), None)
        }
    };
    let mut launched = launch(&plan, Some(root.handle()), [stdin, stdout, stderr])?;
    let listeners = match &plan.doors {
        None => None,
        Some(doors) => launched.doors(doors.ports.len() + 2)?,
    };
    let timeout = command.timeout;
    let memory_mb = plan.limits.memory_mb;
    Ok(Running { launched, listeners, output, timeout, started, memory_mb, groups, _scratch: scratch })
}

impl Running<'_> {
    /// The doors to the proxy, once.
    pub fn listeners(&mut self) -> Option<Listeners> {
        self.listeners.take()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If the sandbox could not be built or the program not started: then nothing ran.
    pub async fn finish(mut self) -> Result<CommandOutput, SandboxError> {
        let (reader, limit, tap) = match self.output.take() {
            Some((reader, limit, tap)) => (Some(reader), limit, tap),
            None => (None, 0, None),
        };
        let mut output = Captured::new(limit);
        let ended = {
            let both = async {
                let (read, code) = tokio::join!(drain(reader, &mut output, tap), self.launched.child.wait());
                read.and(code)
            };
            match self.timeout {
                Some(limit) => tokio::time::timeout(limit, both).await.map_err(|_| limit),
                None => Ok(both.await),
            }
        };
        let (exit, refused) = match ended {
            Err(limit) => {
                self.launched.stop().await;
                (Exit::TimedOut(limit), self.launched.refused())
            }
            Ok(status) => self.launched.explain(status.map_err(SandboxError::Launcher)?)?,
        };
        let exit = match exit {
            Exit::Code(_) if self.groups.ran_out_of_memory() => {
                Exit::Exceeded(format!("{} MB of memory", self.memory_mb))
            }
            exit => exit,
        };
        Ok(CommandOutput { exit, output, refused, duration: self.started.elapsed() })
    }
}

/// The file by which the brokers of one workspace take turns, made when it is not there.
fn lock(root: &action::Root, state: Option<&Path>) -> Result<Option<PathBuf>, SandboxError> {
    let Some(state) = state else { return Ok(None) };
    let digest = action::Digest::of(root.path().as_os_str().as_encoded_bytes()).to_string();
    let path = state.join("locks").join(digest);
    let make = || -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state.join("locks"))?;
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map(drop)
    };
    make().map_err(|error| SandboxError::Setup {
        what: format!("making {}", path.display()),
        why: error.to_string(),
    })?;
    Ok(Some(path))
}

/// The private directories of a profile's caches, made when they are not there: path beneath the home, directory.
fn caches(
    profile: &Profile,
    root: &action::Root,
    state: Option<&Path>,
) -> Result<Vec<(String, PathBuf)>, SandboxError> {
    let Some(state) = state else { return Ok(Vec::new()) };
    // Each workspace its own: what one project's packages do to them does not reach the next.
    let digest = action::Digest::of(root.path().as_os_str().as_encoded_bytes()).to_string();
    let place = state.join(&profile.name).join(digest.get(..16).unwrap_or(&digest));
    let mut all = Vec::new();
    for path in &profile.cache {
        let directory = place.join(path);
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(&directory)
            .map_err(|error| SandboxError::Setup {
                what: format!("making the cache {}", directory.display()),
                why: error.to_string(),
            })?;
        all.push((path.clone(), directory));
    }
    Ok(all)
}

/// A private directory for temporary files, where no file system of its own can be mounted.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes a plan without mounts of one with them: scratch places become one private directory, and what would be
    /// hidden is a reason to refuse.
    fn fit(plan: &mut Plan, hidden: &[PathBuf]) -> Result<Self, SandboxError> {
        if plan.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Staged { .. })) {
            return Err(SandboxError::Setup {
                what: "the stage".into(),
                why:
                    "the profile `landlock` mounts nothing, so writes would land in the workspace; leave out \
                      --stage, or use another profile"
                        .into(),
            });
        }
        if let Some(path) = hidden.first() {
            return Err(SandboxError::Setup {
                what: "hiding secrets".into(),
                why: format!(
                    "the profile `landlock` cannot hide {} from the command; move it out of the workspace, or use \
                     another profile",
                    action::printable(path)
                ),
            });
        }
        let name = format!("varvel-{}-{}", std::process::id(), plan.argv.len());
        let failed = |error: io::Error| SandboxError::Setup {
            what: "making a private directory".into(),
            why: error.to_string(),
        };
        let mut place = None;
        for attempt in 0..64 {
            let path = std::env::temp_dir().join(format!("{name}-{attempt}"));
            let made =
                std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
            match made {
                Ok(()) => {
                    place = Some(path);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let path = place.ok_or_else(|| failed(io::Error::other("all names are taken")))?;
        plan.mounts.retain(|mount| !matches!(mount.kind, MountKind::Scratch | MountKind::Protected));
        plan.mounts.push(Mount {
            path: path.as_path().into(),
            kind: MountKind::Cache { from: path.as_path().into() },
        });
        for (name, value) in &mut plan.environment {
            if name == "HOME" || name == "TMPDIR" {
                *value = path.to_string_lossy().into_owned();
            }
        }
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It does not follow links. What cannot be removed is the person's to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
    status: UnixStream,
    /// What it said while the doors were waited for.
    said: Vec<u8>,
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

    /// Waits for the sockets of the doors. `None` when the launcher ended before, which [`Launched::explain`] explains.
    fn doors(&mut self, count: usize) -> Result<Option<Listeners>, SandboxError> {
        let (fds, said) = receive_fds(&self.status, count).map_err(SandboxError::Launcher)?;
        self.said = said;
        Ok(if fds.is_empty() { None } else { Listeners::from_fds(fds) })
    }

    /// Turns the launcher's exit status and messages into how the command ended, and what it was refused.
    fn explain(&mut self, status: std::process::ExitStatus) -> Result<(Exit, Vec<String>), SandboxError> {
        let (mut exit, mut refused) = (None, Vec::new());
        for message in self.messages() {
            match message {
                Message::Setup { what, why } => return Err(SandboxError::Setup { what, why }),
                Message::Exec { program, why, not_found } => {
                    return Err(SandboxError::Exec { program, why, not_found });
                }
                Message::Exceeded { what } => exit = Some(Exit::Exceeded(what)),
                Message::Refused { paths } => refused = paths,
                Message::Broken { why } => {
                    return Err(SandboxError::Broken { why });
                }
                Message::Doors => {}
            }
        }
        match exit.or(status.code().map(Exit::Code)) {
            Some(exit) => Ok((exit, refused)),
            None => Err(SandboxError::Setup {
                what: "the launcher".into(),
                why: format!("it ended with {status}"),
            }),
        }
    }

    /// What a command that was stopped had been refused.
    fn refused(&mut self) -> Vec<String> {
        let refused = |message| if let Message::Refused { paths } = message { Some(paths) } else { None };
        self.messages().into_iter().find_map(refused).unwrap_or_default()
    }

    /// What the launcher said. Every writer is gone when this is called, so it cannot block.
    pub(crate) fn messages(&mut self) -> Vec<Message> {
        let mut text = std::mem::take(&mut self.said);
        // A message that cannot be read leaves the exit status to speak.
        let _ = (&mut self.status).take(1 << 20).read_to_end(&mut text);
        String::from_utf8_lossy(&text).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Starts the launcher with `plan`.
pub(crate) fn launch(
    plan: &Plan,
    workspace: Option<BorrowedFd<'_>>,
    [stdin, stdout, stderr]: [Stdio; 3],
) -> Result<Launched, SandboxError> {
    let failed = SandboxError::Launcher;
    if let Some(unknown) = cut::unknown() {
        return Err(SandboxError::Setup {
            what: "leaving out a wall".into(),
            why: format!("{unknown:?} is none of {}", cut::WIRES.join(", ")),
        });
    }
    let (plan_reader, mut lifeline) = io::pipe().map_err(failed)?;
    let (status, status_writer) = UnixStream::pair().map_err(failed)?;
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
        .envs(cut::variable())
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true);
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
    Ok(Launched { child, lifeline: Some(lifeline), status, said: Vec::new() })
}
