//! Confined processes. Every program that Varvel starts is started here.
//!
//! [`run`] takes an authorised command, re-executes this program as a small launcher ([`launcher_main`]), and the
//! launcher builds the walls before it turns into the command: user, mount, pid, network, ipc, uts and cgroup
//! namespaces, a root file system of its own, Landlock, seccomp, no capabilities, resource limits. If any wall
//! cannot be built the command does not run; there is no weaker mode to fall into.
//!
//! Architecture Invariant: no other crate contains `unsafe` or starts a process.

mod canary;
mod capture;
mod cut;
mod error;
mod landlock;
mod launcher;
mod plan;
mod probe;
mod profile;
mod root;
mod run;
mod seccomp;
mod worker;

pub use canary::{
    Brief, CANARY_ARG, Canary, Evidence, Line, Outcome, Playground, Verdict, canaries, canary_main, lines,
    plant_canary,
};
pub use capture::{Captured, Tap};
pub use cut::{WIRES, any as any_cut, is as is_cut};
pub use error::SandboxError;
pub use launcher::{LAUNCHER_ARG, launcher_main};
pub use plan::check_workspace;
pub use probe::{Check, probe};
pub use profile::{PROFILES, Profile};
pub use run::{CommandOutput, Exit, Io, run};
pub use worker::{Pipes, Worker, spawn_worker};
