//! The vocabulary of Varvel: what can be done ([`Action`]), who does it ([`Actor`]), how far its data may
//! travel ([`Label`]) and what was decided ([`Verdict`]).
//!
//! Everything here is a value. Nothing in this crate has an effect, except that [`Root`] opens path handles
//! (`O_PATH`), which neither reads nor changes a file.

mod actions;
mod digest;
mod label;
mod target;
mod verdict;

pub use actions::{
    Action, Command, Commit, Connect, Destination, Effect, FileDelete, FileList, FileRead, FileSearch,
    FileWrite, ModelCall, Network, Outside, Reach, StagedChange, StagedKind, Via,
};
pub use digest::{Digest, Digester};
pub use label::{Confidentiality, Integrity, Label, Labelled};
pub use target::{FileKind, ResolveError, Root, Target, printable};
pub use verdict::{Actor, Autonomy, Decision, SessionId, Verdict};
