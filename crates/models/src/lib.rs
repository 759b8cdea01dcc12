//! Weights of embedded models on this machine: pulled, verified, found.
//!
//! A file gets its name only when its digest is right, and is used only while it is unchanged since then.
//!
//! Architecture Invariant: every download is an action that went through the gate.

mod pull;
mod store;

pub use pull::{Progress, PullError, Source, pull};
pub use store::{Store, StoreError};
