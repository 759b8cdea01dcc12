#![allow(clippy::disallowed_methods, reason = "the ledger writes its own two files and nothing else")]
//! The record of what was asked, decided and done.
//!
//! One file, `entries.jsonl`: one JSON object a line. Each line holds the hash of the line before it (`prev`)
//! and ends with its own hash: SHA-256 over the bytes of the line that come before `,"hash":`. So an entry
//! cannot be changed, removed or moved without every later hash failing. A second file, `head`, names the last
//! entry known to be on disk, so that cutting the end off is noticed too.
//!
//! An intent is on disk (`fdatasync`) before its effect starts: no record, no action.

mod append;
mod head;
mod line;
mod record;
mod verify;

pub use append::{Ledger, LedgerError};
pub use record::{Approval, Outcome, Record, Status};
pub use verify::{Entries, Problem, Report, verify};

/// Position of an entry, counted from 1.
pub type Sequence = u64;

/// File with the entries, in the ledger's directory.
pub const ENTRIES: &str = "entries.jsonl";
/// File that names the last durable entry.
pub const HEAD: &str = "head";
