//! Files of the workspace. Every effect takes an authorised action and works on the handles that were decided on.
//!
//! Writes are atomic: a temporary file in the same directory, synced, then renamed. A crash or a full disk leaves
//! the old content.
#![allow(clippy::disallowed_methods, reason = "an enforcement crate: files are written here")]

mod diff;
mod error;
mod list;
mod read;
mod search;
mod stage;
mod state;
mod write;

pub use diff::unified;
pub use error::FileError;
pub use list::{Entry, Listing, list, paths};
pub use read::{Content, MAX_FILE, read};
pub use search::{Hit, Hits, Query, search};
pub use stage::{
    Change as StagedPath, Changes, Committed, Object, Recovered, Refusal, Stage, StageError, StageInfo,
    StageState,
};
pub use state::{StateFile, create_private_dir, remove_state};
pub use write::{Change, Deleted, delete, write};
