//! Confined processes. Every program that Varvel starts is started here.
//!
//! [`run`] takes an authorised command, re-executes this program as a small launcher ([`launcher_main`]), and the
//! launcher builds the walls before it turns into the command: user, mount, pid, network, ipc, uts and cgroup
//! namespaces, a root file system of its own, Landlock, seccomp, no capabilities, resource limits. If any wall
//! cannot be built the command does not run; there is no weaker mode to fall into.
//!
//! Architecture Invariant: no other crate contains `unsafe` or starts a process.

mod broker;
mod canary;
mod capture;
mod cgroup;
mod cut;
mod error;
mod hide;
mod init;
mod landlock;
mod launcher;
mod limits;
mod network;
mod plan;
mod probe;
mod profile;
mod root;
mod run;
mod seccomp;
mod syscalls;
mod worker;

pub use canary::{
    Brief, CANARY_ARG, Canary, Evidence, Line, Outcome, Playground, Verdict, canaries, canary_main, lines,
    plant_canary,
};
pub use capture::{Captured, Tap};
pub use cgroup::{Controllers, probe as probe_cgroups};
pub use cut::{WIRES, any as any_cut, is as is_cut};
pub use error::SandboxError;
pub use launcher::{LAUNCHER_ARG, launcher_main};
pub use network::{Doors, Listeners, PROXY_PORT};
pub use plan::{StageDirs, check_workspace};
pub use probe::{Check, probe};
pub use profile::{
    Isolation, NetworkAccess, PROVEN, Profile, Profiles, ResourceLimits, Syscalls, WorkspaceAccess,
};
pub use run::{CommandOutput, Exit, Io, Running, Setup, run, start};
pub use worker::{Pipes, Worker, spawn_worker};
