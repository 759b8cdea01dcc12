//! What can go wrong with a file.

use std::io;

use gate::Report;
use ledger::{Outcome, Status};

/// Why a file effect failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not a regular file.
    #[error("{path} is {what}, not a file{}", if *.what == "a directory" { "; use `list`" } else { "" })]
    NotAFile {
        /// The file.
        path: String,
        /// What it is instead.
        what: &'static str,
    },
    /// It is not a directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// It is too large to be handled as a whole.
    #[error(
        "{path} has {size} bytes, more than the limit of {limit}; use `search`, or `run` with head, tail or sed"
    )]
    TooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It changed since the change was worked out.
    #[error("{path} has changed since it was read; read it again and repeat the change")]
    Conflict {
        /// The file.
        path: String,
    },
    /// The search pattern is not a valid regular expression.
    #[error("the pattern is not a valid regular expression: {why}")]
    Pattern {
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}{}", hint(.source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (the file is as it was)",
        _ => "",
    }
}

impl FileError {
    pub(crate) fn io(what: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

impl Report for FileError {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed).with("error", self.to_string())
    }
}
