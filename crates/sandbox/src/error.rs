//! What can go wrong before and while a confined process runs.

use std::io;
use std::path::PathBuf;

use gate::Report;
use ledger::{Outcome, Status};

/// Why a command did not run. When it ran and failed, that is an [`crate::Exit`], not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A wall could not be built. Nothing ran.
    #[error("the sandbox cannot be set up, so nothing was run: {what} failed: {why}{}", fix(.what))]
    Setup {
        /// The step.
        what: String,
        /// The operating system's answer.
        why: String,
    },
    /// The watch over a running command failed; it was ended.
    #[error("the watch over the command failed, so it was ended: {why}")]
    Broken {
        /// The operating system's answer.
        why: String,
    },
    /// The program to run could not be started inside.
    #[error("cannot run {program}: {why}")]
    Exec {
        /// As it was asked for.
        program: String,
        /// Not found, not executable, ...
        why: String,
        /// `true` when there is no such program in the sandbox.
        not_found: bool,
    },
    /// No profile has this name.
    #[error("there is no sandbox profile {name:?}; there are: {known}")]
    NoSuchProfile {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A profile is not usable.
    #[error("the sandbox profile {name:?} is not usable: {why}")]
    Profile {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// This directory cannot be given to a confined command.
    #[error("{} cannot be a workspace: {why}", .path.display())]
    Workspace {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: &'static str,
    },
    /// Starting the launcher or talking to it failed.
    #[error("cannot start the sandbox launcher: {0}")]
    Launcher(#[source] io::Error),
}

/// What a person can do about a failed step.
fn fix(what: &str) -> &'static str {
    match what {
        "creating namespaces" | "mapping the user" => {
            "\n  unprivileged user namespaces seem to be switched off. On Ubuntu: \
             `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`; on hardened kernels: \
             `sudo sysctl kernel.unprivileged_userns_clone=1` and `user.max_user_namespaces` above 0; \
             in a container: allow the syscalls unshare, mount and pivot_root. See `varvel doctor`"
        }
        "mounting /proc" => {
            "\n  /proc is partly hidden, as in most containers; start the container with an unmasked /proc \
             (for example `--security-opt systempaths=unconfined`). See `varvel doctor`"
        }
        "Landlock" => {
            "\n  it needs Linux 5.19 or later with Landlock switched on (lsm=...,landlock). See `varvel doctor`"
        }
        _ => "",
    }
}

impl Report for SandboxError {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed).with("error", self.to_string())
    }
}
