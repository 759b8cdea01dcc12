//! What an entry says.

use action::{Action, Actor, Decision, Digest, Label};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Sequence;

/// What a person answered when asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Who answered.
    pub by: String,
    /// `once`, `session` or `always`.
    pub scope: String,
}

/// How an effect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It happened.
    Done,
    /// It was tried and failed.
    Failed,
    /// It was stopped half-way: by the person, a limit, or a crash of the executor.
    Stopped,
}

/// What came of an effect: numbers and digests, never content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Facts about it: exit status, bytes, tokens, digests.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

impl Outcome {
    /// An outcome without facts.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status, facts: Map::new() }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a digest as a fact.
    #[must_use]
    pub fn with_digest(self, name: &str, digest: Digest) -> Self {
        self.with(name, digest.to_string())
    }
}

/// One entry's content.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Record {
    /// A session began.
    SessionStart {
        /// Who.
        actor: Actor,
        /// Version of Varvel.
        version: String,
        /// Where it works, and how (mode, provider, limits).
        about: Value,
    },
    /// An effect is about to happen.
    Intent {
        /// Who.
        actor: Actor,
        /// What.
        action: Action,
        /// Which rule let it.
        decision: Decision,
        /// Who said yes, where somebody was asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        approval: Option<Approval>,
        /// Label of the context that it was decided in.
        context: Label,
    },
    /// An effect ended.
    Outcome {
        /// The intent that it belongs to.
        intent: Sequence,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// An action was refused; nothing happened.
    Refused {
        /// Who.
        actor: Actor,
        /// What.
        action: Action,
        /// Which rule refused it.
        decision: Decision,
        /// Label of the context that it was decided in.
        context: Label,
    },
    /// A session ended.
    SessionEnd {
        /// Who.
        actor: Actor,
        /// Why, and its totals.
        about: Value,
    },
    /// The end of the file was half an entry (crash or full disk while writing) and was cut off.
    Recovered {
        /// Bytes removed.
        discarded_bytes: u64,
        /// Their digest.
        discarded_sha256: Digest,
    },
}
