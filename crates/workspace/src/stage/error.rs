//! What can go wrong with a stage.

use std::io;

use gate::Report;
use ledger::{Outcome, Status};

/// Paths that an error message names; the rest are counted.
const NAMED: usize = 8;

/// Why something with a stage did not happen. Unless it says otherwise, the workspace and the stage are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// There is no stage of that name.
    #[error("there is no stage {id}; `varvel stage list` shows those that there are")]
    NoSuchStage {
        /// As it was asked for.
        id: String,
    },
    /// Another process has it open.
    #[error("stage {id} is in use by another process of Varvel; wait until its command has ended")]
    InUse {
        /// The stage.
        id: String,
    },
    /// A commit of this workspace is under way in another process.
    #[error("another process of Varvel is committing to this workspace; try again when it is done")]
    Busy,
    /// The stage was made over another directory.
    #[error("stage {id} was made over {made_over}, which is not the directory that is open now")]
    OtherWorkspace {
        /// The stage.
        id: String,
        /// The workspace that it belongs to.
        made_over: String,
    },
    /// A commit was cut short and has to be recovered first.
    #[error(
        "a commit of stage {id} was cut short; it has to be recovered before anything else is done with it"
    )]
    Interrupted {
        /// The stage.
        id: String,
    },
    /// The upper layer holds something that Varvel does not read.
    #[error("{path} has the overlay attribute {attribute}, which is not expected; drop the stage")]
    Unsupported {
        /// Relative to the workspace.
        path: String,
        /// The attribute.
        attribute: String,
    },
    /// The stage is larger than what is handled.
    #[error("the stage has more than {limit} {what}; have the command write less, or drop the stage")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Some of it must not come into the workspace.
    #[error("{} cannot be committed; leave them out or drop the stage", some(.paths))]
    Refused {
        /// Relative to the workspace, printable.
        paths: Vec<String>,
    },
    /// What is staged is not what was decided on.
    #[error("stage {id} holds something else than what was decided on; look at it again")]
    NotDecided {
        /// The stage.
        id: String,
    },
    /// The workspace changed underneath.
    #[error(
        "the workspace has changed since the stage began: {}; drop the stage and run the command again",
        some(.paths)
    )]
    Conflict {
        /// Relative to the workspace, printable.
        paths: Vec<String>,
    },
    /// The file system cannot swap two names in one step.
    #[error("the file system of the workspace cannot exchange or create {path} in one step: {source}")]
    NoExchange {
        /// Relative to the workspace.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// Taking back a commit did not succeed everywhere.
    #[error(
        "the commit failed ({why}), and taking it back did not succeed for {}; what was there before is in {kept} of the workspace",
        some(.paths)
    )]
    Incomplete {
        /// Why it was taken back.
        why: String,
        /// Relative to the workspace, printable.
        paths: Vec<String>,
        /// Directory in the workspace that holds what could not be put back.
        kept: String,
    },
    /// One of the stage's own files does not make sense.
    #[error("{file} of the stage is damaged: {why}; drop the stage")]
    Damaged {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

impl StageError {
    /// For `map_err`.
    pub(super) fn io<E: Into<io::Error>>(
        what: &'static str,
        path: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source: source.into() }
    }
}

impl Report for StageError {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed).with("error", self.to_string())
    }
}

/// The first of some paths.
fn some(paths: &[String]) -> String {
    let mut text = paths.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        text.push_str(&format!(" and {} more", paths.len() - NAMED));
    }
    text
}
