//! Long-lived helper processes of Varvel, confined like commands but talked to over pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use action::ModelCall;
use gate::Authorized;
use tokio::net::unix::pipe;

use crate::SandboxError;
use crate::plan::{Plan, Wanted};
use crate::profile::{Profiles, WORKER};
use crate::run::{Launched, launch};

/// A running helper. Dropping it ends the process and everything it started.
pub struct Worker {
    launched: Launched,
}

/// Both ends of the conversation with a worker: what it reads, and what it prints. Its standard error goes to ours
/// only with `VARVEL_WORKER_LOG=1`.
pub type Pipes = (pipe::Sender, pipe::Receiver);

impl Worker {
    /// Why it ended, once its output has ended.
    pub async fn post_mortem(&mut self) -> String {
        let status = self.launched.child.wait().await;
        match (self.launched.messages().first(), status) {
            (Some(message), _) => format!("{message:?}"),
            (None, Ok(status)) => status.to_string(),
            (None, Err(error)) => error.to_string(),
        }
    }
}

/// Starts `program` in the worker profile: it sees itself, `data` and the system's libraries; no network, no
/// home, no workspace, no environment. The model call that needs it is the authority for it.
///
/// # Errors
/// If the sandbox could not be built.
pub fn spawn_worker(
    _for: &Authorized<ModelCall>,
    program: &Path,
    args: &[String],
    data: &[PathBuf],
) -> Result<(Worker, Pipes), SandboxError> {
    let failed = SandboxError::Launcher;
    let profile = Profiles::default().named(WORKER)?;
    let mut argv = vec![program.to_string_lossy().into_owned()];
    argv.extend_from_slice(args);
    let mut visible = data.to_vec();
    visible.push(program.to_owned());
    let wanted = Wanted {
        workspace: None,
        argv,
        directory: Path::new("/"),
        visible: &visible,
        hidden: &[],
        trusted: &[],
        stage: None,
        caches: &[],
        doors: None,
    };
    let plan = Plan::new(&profile, wanted)?;
    let (child_input, input) = io::pipe().map_err(failed)?;
    let (output, child_output) = io::pipe().map_err(failed)?;
    let log = std::env::var_os("VARVEL_WORKER_LOG").is_some_and(|value| value == "1");
    let stderr = if log { Stdio::inherit() } else { Stdio::null() };
    let launched = launch(&plan, None, [child_input.into(), child_output.into(), stderr])?;
    let input = pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(failed)?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(failed)?;
    Ok((Worker { launched }, (input, output)))
}
